"""Parts: groups for samples that no field groups, dealt by a hash of their key, so that some can be held out."""

from __future__ import annotations

import hashlib


def part_of(key: str, parts: int) -> str:
    """The group of the sample `key` among so many."""
    place = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) * parts >> 32
    return f"part-{place:0{len(str(parts - 1))}}"
