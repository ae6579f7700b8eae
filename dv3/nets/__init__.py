"""Nets: layers and activations that the parts of the model share."""
