"""Training: examples to batches, the loop, its state, its folder."""
