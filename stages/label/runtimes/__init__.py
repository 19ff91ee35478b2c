"""Networks from files, each run by its own framework: what a file says of itself, what goes in, a trial."""
