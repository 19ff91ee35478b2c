"""The root: its files on any file system, what changes there, who works on what, what happened."""
