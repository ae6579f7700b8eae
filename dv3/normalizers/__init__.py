"""Running statistics and slow copies, the same on every replica."""
