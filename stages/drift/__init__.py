"""Newer samples against those that the champion learned from: distances, chance, an alarm, what moved most."""
