"""Training: one step loop, and the stages that use it."""
