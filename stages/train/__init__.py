"""How a network is taught: optimizer, loop, checkpoints, workers."""
