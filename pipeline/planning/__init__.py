"""Before a run: is each step right, is it done, and what will the rest cost."""
