"""Transforms: what changes steps before they reach replay; no TensorFlow."""
