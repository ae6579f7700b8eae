"""Cores: the latent dynamics of the world model."""
