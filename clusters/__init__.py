"""Where Ray runs: the recipe's `cluster:` section, the one place that connects, and job submission.

The engine and the stages never import this package; the command composes (`pipeline/commands` hands `connect` in).
"""
