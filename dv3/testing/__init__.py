"""Checks that a component, wherever it is registered, keeps its contract."""
