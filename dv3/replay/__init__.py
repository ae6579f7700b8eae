"""Replay: steps in host memory, sequences drawn from them, files."""
