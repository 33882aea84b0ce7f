"""The trunk: turns request graphs into batches over the block cache and runs the model."""
