"""Legends: which colour of a picture means what, without the classes that none of the pictures shows."""

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
    """By modality what its colours mean, of those whose pictures have such: all channels, and the classes and points
    that the pictures of `rows` show."""
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
    shown = {int(i) for value in values for i in kind.pictured(np.asarray(value))} if legend else set()
    return tuple(entry for number, entry in enumerate(legend) if number in shown)
