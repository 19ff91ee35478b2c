"""The careful attempt: sample by sample, when the process may have died of one.

A process that dies says nothing, and a whole partition is lost with it. From the third attempt on each sample is noted
in storage before it begins; a sample on which the process died twice is not tried again. What to do with it is the
worker's business (quarantine).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hyperloom.pipeline.units import Output

FIRST_ATTEMPT = 3
DEADLY = 2
"""Deaths on one sample that are no accident of the machine."""


def is_due(out: Output) -> bool:
    """Is this attempt to go sample by sample?"""
    return out.attempt >= FIRST_ATTEMPT


def one_by_one(out: Output, keys: Iterable[str]) -> Iterator[str]:
    """For each sample, just before it is worked on: empty, or why it is to be left out. Go through it to its end: the
    note of the last sample is taken back there."""
    died = [key for key in (out.last_crumb() or "").split("\n") if key]
    for key in keys:
        if died.count(key) >= DEADLY:
            yield f"the process died on this sample, {died.count(key)} times"
        else:
            out.crumb("\n".join([*died, key]))
            yield ""
    out.crumb("\n".join(died))
