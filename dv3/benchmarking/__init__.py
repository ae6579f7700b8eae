"""Measurements of the library: what `dv3-bench` prints."""
