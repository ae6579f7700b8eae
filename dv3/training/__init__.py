"""Training: the update, the loop around it, checkpoints and evaluation."""
