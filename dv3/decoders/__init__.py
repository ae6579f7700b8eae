"""Decoders: from features of the latent state to observations."""
