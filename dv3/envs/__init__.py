"""Environments and their wrappers; this package never loads TensorFlow."""
