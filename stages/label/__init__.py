"""Experts map columns to columns: algorithms, networks from files, services, trained models."""
