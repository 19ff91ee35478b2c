"""What the stages share: columns `modality@source`, partitions, and who makes a column.

A *partition* is a run of consecutive samples of one group (a flight, a drive, a patient), made by ingest. Its id `pid`
is a fingerprint of where it came from. Ingest, label and consensus all keep one Parquet file per partition and column
producer, in a unit whose id is the pid; rows have the same keys in the same order everywhere, and a sample that is in
quarantine for a producer is a null there. So joining is looking up a pid.

Ingest files hold `key: string`, `group: string`, `index: int64`, of videos `time: double`, and the raw columns; label
and consensus files hold `key` and their columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hyperloom.pipeline.errors import RecipeError

KEY, GROUP, INDEX = "key", "group", "index"
TIME = "time"
"""Seconds from the first frame of a video on; a column of the files whose source knows it, and of no others."""
VALID = "?"
"""Ends the name of the (N,) bool array of a batch that says which samples have the column: `depth@midas?`."""
UNKNOWN = 255
"""The class id, of one byte, of what nobody labelled."""
ORDER = "order"
"""Of what the maker of a raw column says: how its samples follow one another, where they may not be consecutive."""
TRUTH = "truth"
"""The source name of human or rendered ground truth. Only `evaluate`, and what a recipe names, may read it."""


HUMAN = "human"
"""The source name of what people said of samples that this pipeline showed them; it outranks experts."""


def is_human(column: str) -> bool:
    """Is it a column of people?"""
    return column.partition("@")[2] == HUMAN


def modality_of(column: str) -> str:
    """`depth` of `depth@midas`. Raises RecipeError when there is no `@`."""
    modality, at, source = column.partition("@")
    if not (at and modality and source):
        raise RecipeError(f"{column!r} is no column: write modality@source, as in rgb@camera")
    return modality


def defined(modalities: Mapping[str, Any], columns: Iterable[str]) -> list[Any]:
    """The modalities of these columns, of those that the recipe defines: what it does not, its check says."""
    return [kind for column in columns if (kind := modalities.get(modality_of(column))) is not None]


def source_of(column: str) -> str:
    """`midas` of `depth@midas`."""
    modality_of(column)
    return column.partition("@")[2]


class Partition(NamedTuple):
    """One run of consecutive samples of one group. `first` is the index of its first sample in the group. In a
    manifest's body it is the list of these four."""

    pid: str
    group: str
    first: int
    rows: int


@dataclass
class Producer:
    """Who made a column: the folder (`space`) of its units and what to say of it (expert type, revision, weights)."""

    column: str
    space: str
    fingerprint: str
    about: dict[str, Any] = field(default_factory=dict)
