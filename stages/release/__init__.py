"""A gate decides whether a model becomes the champion; card, lineage, package."""
