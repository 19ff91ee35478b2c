"""Models, experts and consensus on test data: tables, comparisons, pictures."""
