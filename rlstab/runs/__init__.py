"""The run directory: configuration, metrics, checkpoints and results of one training, safe against a sudden death."""
