"""Four-legged robots that follow velocity commands or stand on their hind legs, on batched physics."""
