"""Raw files become samples: partitions of groups, with keys and raw columns."""
