"""Legends: which colour of a picture means what, without the classes that none of the shown values has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hyperloom.stages.base import modality_of

Legend = tuple[tuple[str, tuple[int, ...]], ...]
"""Name and RGB of each colour."""
ShownRow = Mapping[str, Any]
"""Column -> value, None where it is missing."""


def legends(modalities: Mapping[str, Any], rows: Iterable[ShownRow]) -> dict[str, Legend]:
    """By modality what its colours mean, of those whose pictures have such: all channels, and the classes that occur in
    `rows`."""
    shown: dict[str, list[Any]] = {}
    for row in rows:
        for column, value in row.items():
            of = shown.setdefault(modality_of(column), [])
            of += [] if value is None else [value]
    known = {name: values for name, values in shown.items() if name in modalities}
    whole = {name: _occurring(modalities[name], values) for name, values in known.items()}
    return {name: legend for name, legend in whole.items() if legend}


def _occurring(kind: Any, values: list[Any]) -> Legend:
    legend: Legend = kind.legend
    if not legend or not kind.counted:
        return legend
    ids = {int(i) for value in values for i in np.unique(kind.tallied(np.asarray(value)[None]))}
    return tuple(entry for number, entry in enumerate(legend) if number in ids)
