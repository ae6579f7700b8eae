"""Encoders: from observations to the tokens that a core reads."""
