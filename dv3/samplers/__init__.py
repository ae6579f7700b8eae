"""Samplers: which stored sequences to train on."""
