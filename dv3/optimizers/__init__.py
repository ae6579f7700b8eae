"""Optimizers that any Keras model can train with, and their schedules."""
