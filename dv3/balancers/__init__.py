"""Ways to weigh the losses into one number."""
