"""Experts behind HTTP: what is asked, where in the answer the values are, and what is kept of paid answers."""
