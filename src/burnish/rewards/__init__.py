"""Rewards: what votes say, as pairs to learn from, and the learned reward as a scorer."""
