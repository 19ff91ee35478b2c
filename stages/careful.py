"""The careful attempt: sample by sample, when the process may have died of one.

A process that dies says nothing, and a whole partition is lost with it. From the third attempt on each sample is noted
in storage before it begins; a sample on which the process died twice is not tried again. What to do with it is the
worker's business (quarantine).

Processes also die of what is no sample's fault: a machine that goes, memory that another takes, somebody's kill. Such a
death falls on whatever is at work, so the samples on which a process died come last in the next attempt. A sample is
blamed when the process lived through all the others and died on it once more; where it is alone in its unit and no
others speak for it, one death more is asked for. What ends an attempt and leaves its process alive (a service that is
away, a machine that gives notice) is no death: the note is taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from hyperloom.pipeline.commits.units import Output
from hyperloom.pipeline.errors import StorageError

FIRST_ATTEMPT = 3
DEADLY = 2
"""Deaths on one sample that are no accident of the machine, in a unit of several samples."""


def is_due(out: Output) -> bool:
    """Is this attempt to go sample by sample?"""
    return out.attempt >= FIRST_ATTEMPT


@contextmanager
def one_by_one(out: Output, keys: Sequence[str]) -> Iterator[Iterator[tuple[int, str]]]:
    """For each sample, just before it is worked on: its place in `keys`, and why it is to be left out (empty where it
    is not). In the order of `keys`, but for those on which a process died, which come last."""
    died = [key for key in (out.last_crumb() or "").split("\n") if key]
    deaths = Counter(died)
    most = DEADLY if len(keys) > 1 else DEADLY + 1

    def each() -> Iterator[tuple[int, str]]:
        for place in sorted(range(len(keys)), key=lambda at: deaths[keys[at]]):
            if (count := deaths[keys[place]]) >= most:
                yield place, f"the process died on this sample, {count} times"
            else:
                out.crumb("\n".join([*died, keys[place]]))
                yield place, ""

    try:
        yield each()
    except Exception:
        with suppress(StorageError):  # what goes wrong in the attempt itself is what is said
            out.crumb("\n".join(died))
        raise
    out.crumb("\n".join(died))
