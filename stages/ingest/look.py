"""A look at labels while they are read: what is suspicious about a column, though no single value is wrong.

A worker counts class ids and the range of numbers of each column of a partition (`ColumnLook`); the step adds the
partitions up and says what a person would ask about (`suspicions`): ids that start at 1, 0/255 masks, one class only, a
constant. Nothing is changed; each sentence names the option that would mend it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hyperloom.stages.base import UNKNOWN, modality_of

FEW = 2
"""Samples below which nothing is suspicious: one may well hold a single class."""


class ColumnLook:
    """What was seen of one column: `samples`, class ids with how often they came, ids that were refused, or numbers."""

    def __init__(self) -> None:
        self.samples = 0
        self.ids: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.low, self.high = math.inf, -math.inf

    def add(self, value: Any, modality: Any) -> None:
        """Count one value that was accepted."""
        if not isinstance(value, np.ndarray) or modality.rgb:
            return
        self.samples += 1
        if modality.categorical:
            ids, counts = np.unique(value, return_counts=True)
            self.ids.update(dict(zip(ids.tolist(), counts.tolist())))
        elif value.dtype.kind == "f" and np.isfinite(value).any():
            self.low = min(self.low, float(np.nanmin(value)))
            self.high = max(self.high, float(np.nanmax(value)))

    def refuse(self, value: Any, modality: Any) -> None:
        """Note the class ids of a value that was refused for them."""
        if isinstance(value, np.ndarray) and modality.categorical:
            ids = np.unique(value)
            self.refused.update(int(i) for i in ids if len(modality.counted) <= i != UNKNOWN)

    def figures(self) -> dict[str, Any]:
        """What was seen, additive, for the partition's record; empty where there is nothing to say of such columns."""
        if not self.samples and not self.refused:
            return {}
        if self.ids or self.refused:
            ids = {str(i): n for i, n in sorted(self.ids.items())}
            return {"samples": self.samples, "ids": ids, "refused": sorted(self.refused)}
        return {"samples": self.samples, "low": self.low, "high": self.high} if self.low <= self.high else {}


def suspicions(looks: Iterable[Mapping[str, Any]], modalities: Mapping[str, Any]) -> list[str]:
    """What is to be asked about the columns, given the figures of each partition by column."""
    columns: dict[str, list[Any]] = {}
    for look in looks:
        for column, figures in look.items():
            columns.setdefault(column, []).append(figures)
    sentences = []
    for column, figures in sorted(columns.items()):
        samples, modality = sum(f["samples"] for f in figures), modalities[modality_of(column)]
        kinds = [f for f in figures if "ids" in f]
        sentence = _of_classes(kinds, modality, samples) if kinds else _of_numbers(figures, samples)
        sentences += [f"{column}: {sentence}"] if sentence else []
    return sentences


def _of_classes(figures: list[Any], modality: Any, samples: int) -> str:
    names = modality.counted
    seen = {int(i) for f in figures for i in f["ids"]}
    refused = sorted({i for f in figures for i in f["refused"]})
    known = sorted(i for i in seen if 0 <= i < len(names))
    if len(names) < 2 or samples < FEW or not known:
        return ""
    if 0 not in known and (len(known) > 1 or refused):
        also = f" and id {', '.join(map(str, refused))} was refused" if refused else ""
        remap = ", ".join(f"{i + 1}: {i}" for i in range(len(names)))
        return f"class 0 ({names[0]}) never occurs{also}: do the ids start at 1? Then set remap: {{{remap}}}"
    if len(known) == 1:
        name = names[known[0]]
        if UNKNOWN in seen and known == [0]:
            return (
                f"nothing but class 0 ({name}) and {UNKNOWN}, which means unknown: is it a class here? Then set "
                f"remap: {{{UNKNOWN}: 1}}"
            )
        return f"all {samples} samples hold the one class {known[0]} ({name})"
    return ""


def _of_numbers(figures: list[Any], samples: int) -> str:
    low, high = min(f["low"] for f in figures), max(f["high"] for f in figures)
    if samples < FEW or low != high:
        return ""
    return f"every number of all {samples} samples is {low:g}: is it the right file, array or field?"
