"""Transforms: they change the steps of an episode before replay has them."""
