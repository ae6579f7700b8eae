"""Loggers: where metrics, scores and videos go."""
