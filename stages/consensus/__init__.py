"""Several sources of one column become one, with a measure of their agreement."""
