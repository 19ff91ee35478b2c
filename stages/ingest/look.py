"""A look at labels while they are read: what is suspicious about a column, though no single value is wrong.

A worker notes class ids and the range of numbers of each column of a partition (`ColumnLook`); the step adds the
partitions up and says what a person would ask about (`suspicions`): ids that start at 1, 0/255 masks, one class only,
nothing known, a constant. Nothing is changed; each sentence names the option that would mend it. Columns that experts
make are looked at in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from hyperloom.stages.base import UNKNOWN, modality_of

LookedAt = Literal["files", "experts"]
"""Who gave a column: it decides which option mends it."""
MANY = 30
"""Of more classes it is no wonder that the first one does not occur, unless most others do."""
TOGETHER = 1 << 18
"""Numbers that are looked at at a time."""
FEW = 2
"""Samples below which nothing is suspicious: one may well hold a single class."""


class ColumnLook:
    """What was seen of one column: `samples`, class ids, ids that were refused, or the range of numbers."""

    def __init__(self) -> None:
        self.samples = 0
        self.ids = set[int]()
        self.refused = set[int]()
        self.low, self.high = math.inf, -math.inf

    def add(self, values: Iterable[Any], modality: Any) -> None:
        """Count values that were accepted, of which those that stay bytes of files are not looked into."""
        arrays = [np.asarray(v) for v in values if isinstance(v, np.ndarray | np.generic)]
        if modality.rgb or not arrays:
            return
        self.samples += len(arrays)
        alike = all(a.shape == arrays[0].shape for a in arrays)
        together = max(1, TOGETHER // max(1, arrays[0].size)) if alike else 1
        for start in range(0, len(arrays), together):
            rows = np.stack(arrays[start : start + together])
            if modality.counted:
                self.ids |= _ids(modality.tallied(rows))
            elif rows.dtype.kind == "f":
                flat = rows.reshape(len(rows), -1)
                if len(flat := flat[np.isfinite(flat).any(1)]):
                    self.low, self.high = min(self.low, float(np.nanmin(flat))), max(self.high, float(np.nanmax(flat)))

    def refuse(self, value: Any, modality: Any) -> None:
        """Note the class ids of a value that was refused for them."""
        if isinstance(value, np.ndarray) and modality.categorical:
            self.refused |= {i for i in _ids(value) if len(modality.counted) <= i != UNKNOWN}

    def figures(self) -> dict[str, Any]:
        """What was seen, additive, for the partition's record; empty where there is nothing to say of such columns."""
        if not self.samples and not self.refused:
            return {}
        if self.ids or self.refused:
            return {"samples": self.samples, "ids": sorted(self.ids), "refused": sorted(self.refused)}
        return {"samples": self.samples, "low": self.low, "high": self.high} if self.low <= self.high else {}


def _ids(values: np.ndarray) -> set[int]:
    if values.dtype == np.uint8:  # maps: many times faster than sorting them
        return set(_occurring(values).tolist())
    return {int(i) for i in np.unique(values)}


def _occurring(values: np.ndarray) -> np.ndarray:
    """The numbers that occur in uint8 `values`, ascending. OpenCV counts them three times as fast as numpy; its counts
    are float32, exact to 2^24 only, and above nought wherever a number occurs."""
    try:
        import cv2
    except ImportError:
        return np.flatnonzero(np.bincount(values.reshape(-1)))
    if not values.size:
        return np.empty(0, np.intp)
    rows = values.reshape(len(values) if values.ndim > 1 else 1, -1)  # which its threads share
    return np.flatnonzero(cv2.calcHist([rows], [0], None, [256], [0, 256]))


def suspicions(
    looks: Iterable[Mapping[str, Any]], modalities: Mapping[str, Any], maker: LookedAt = "files"
) -> list[str]:
    """What is to be asked about the columns, given the figures of each partition by column."""
    columns: dict[str, list[Any]] = {}
    for look in looks:
        for column, figures in look.items():
            columns.setdefault(column, []).append(figures)
    sentences = []
    for column, figures in sorted(columns.items()):
        samples, modality = sum(f["samples"] for f in figures), modalities[modality_of(column)]
        kinds = [f for f in figures if "ids" in f]
        sentence = _of_classes(kinds, modality, samples, maker) if kinds else _of_numbers(figures, samples, maker)
        sentences += [f"{column}: {sentence}"] if sentence else []
    return sentences


def _of_classes(figures: list[Any], modality: Any, samples: int, maker: LookedAt) -> str:
    names = modality.counted
    seen = {int(i) for f in figures for i in f["ids"]}
    refused = sorted({i for f in figures for i in f["refused"]})
    known = sorted(i for i in seen if 0 <= i < len(names))
    if len(names) < 2 or samples < FEW:
        return ""
    if not known:
        return _of_nothing(samples, maker) if seen == {UNKNOWN} else ""
    telling = refused or len(names) <= MANY or 2 * len(known) >= len(names)
    if 0 not in known and (len(known) > 1 or refused) and telling:
        also = f" and id {', '.join(map(str, refused))} was refused" if refused else ""
        what = f"class 0 ({names[0]}) never occurs{also}: do the ids start at 1? Then set"
        if not modality.categorical:
            return f"{what} classes to the names of the ids from 0"
        remap = ", ".join(f"{i + 1}: {i}" for i in range(min(len(names), MANY)))
        remap += ", ..." if len(names) > MANY else ""
        mend = "remap" if maker == "files" else "map of its decoder, or an expert of type remap, to"
        return f"{what} {mend}: {{{remap}}}" if maker == "files" else f"{what} {mend} {{{remap}}}"
    if len(known) == 1:
        name = names[known[0]]
        if UNKNOWN in seen and known == [0] and maker == "files":
            return (
                f"nothing but class 0 ({name}) and {UNKNOWN}, which means unknown: is it a class here? Then set "
                f"remap: {{{UNKNOWN}: 1}}"
            )
        advice = "" if maker == "files" else ": are its scores read as they are meant (activation, map, preprocess)?"
        return f"all {samples} samples hold the one class {known[0]} ({name}){advice}"
    return ""


def _of_nothing(samples: int, maker: LookedAt) -> str:
    mend = "remap" if maker == "files" else "map or threshold of its decoder"
    return f"all {samples} samples are unknown ({UNKNOWN}) in every place: does {mend} leave all classes out?"


def _of_numbers(figures: list[Any], samples: int, maker: LookedAt) -> str:
    low, high = min(f["low"] for f in figures), max(f["high"] for f in figures)
    if samples < FEW or low != high:
        return ""
    where = "file, array or field" if maker == "files" else "tensor, preprocess or scale"
    return f"every number of all {samples} samples is {low:g}: is it the right {where}?"
