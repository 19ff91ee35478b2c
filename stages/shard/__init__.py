"""Columns joined into training files with splits and statistics; the loader that reads them."""
