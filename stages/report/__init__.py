"""One page on a run, and what changed between two of them (`hyperloom report`, `diff`)."""
