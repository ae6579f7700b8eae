"""Heads: distributions of reward, continuation, value and action."""
