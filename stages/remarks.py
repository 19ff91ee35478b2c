"""Remarks: what a reader leaves out or takes for granted, counted where it happens and said once for a step.

A reader calls `remark(text)` with the same text each time; whoever works on many samples collects the counts. Nothing
is kept where nobody collects. A remark is no error: what is wrong with a sample is a ValueError. What a step has to say
of its data (`announce`) is a line at the terminal, a tag of its run in MLflow, and stays in its manifest, from where
shards take it along to the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyperloom.pipeline.stage import StepRun

_collected: ContextVar[Counter[str] | None] = ContextVar("remarks", default=None)


def remark(text: str) -> None:
    """Count `text` once more."""
    counter = _collected.get()
    if counter is not None:
        counter[text] += 1


def announce(step: StepRun, sentences: Sequence[str], before: Sequence[str] = ()) -> None:
    """Say each once, at the terminal and in MLflow; `before` was said at the terminal already."""
    for sentence in sentences:
        if sentence not in before:
            step.events.emit("note", step.name, text=sentence)
    if sentences:
        step.events.emit("tag", step.name, values={f"remark.{i}": text for i, text in enumerate(sentences)})


@contextmanager
def collected() -> Iterator[Counter[str]]:
    """Collect the remarks of this thread until the block ends."""
    counter: Counter[str] = Counter()
    token = _collected.set(counter)
    try:
        yield counter
    finally:
        _collected.reset(token)
