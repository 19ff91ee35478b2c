"""From the losses of several tasks to one step: weights, learned weights, gradients of each task."""
