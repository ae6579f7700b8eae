"""Collectors: they step environments with a policy and fill a replay."""
