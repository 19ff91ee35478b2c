"""Remarks: what a reader leaves out or takes for granted, counted where it happens and said once for a step.

A reader calls `remark(text)` with the same text each time; whoever works on many samples collects the counts. Nothing
is kept where nobody collects. A remark is no error: what is wrong with a sample is a ValueError.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_collected: ContextVar[Counter[str] | None] = ContextVar("remarks", default=None)


def remark(text: str) -> None:
    """Count `text` once more."""
    counter = _collected.get()
    if counter is not None:
        counter[text] += 1


@contextmanager
def collected() -> Iterator[Counter[str]]:
    """Collect the remarks of this thread until the block ends."""
    counter: Counter[str] = Counter()
    token = _collected.set(counter)
    try:
        yield counter
    finally:
        _collected.reset(token)
