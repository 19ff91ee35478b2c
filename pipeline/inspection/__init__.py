"""A root and a machine seen from outside of a run: status, logs, lineage, integrity, quarantine."""
