"""Figures of predictions against truth: scores, intervals, costs; they merge exactly."""
