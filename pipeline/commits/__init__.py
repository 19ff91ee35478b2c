"""What is committed: units and their records, one by one and in packs, and the manifests of steps."""
