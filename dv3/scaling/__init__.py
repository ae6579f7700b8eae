"""Scaling rules: how numbers grow with the replicas; no TensorFlow."""
