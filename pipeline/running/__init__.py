"""A run: its steps side by side, the units of each, claims on both, failures, how it ended."""
