"""How a network is taught: losses, balancers, optimizer, loop, checkpoints, workers."""
