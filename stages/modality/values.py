"""Between a modality's arrays and the plain values that people, services and pipelines speak: text, numbers, lists.

A modality's `fit` makes one value of what a person would write; `words` goes the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def fitted(modality: Any, values: Any) -> Any:
    """A column's answers, plain ones brought into the modality's form; None and exceptions stay as they are, and arrays
    but for their dtype, where the numbers are the same in the modality's.

    One that does not fit becomes the error that says why.
    """
    if isinstance(values, np.ndarray):
        return same_numbers(modality, values)
    if not isinstance(values, Sequence) or isinstance(values, str):
        return values
    return [fit(modality, value) for value in values]


def fit(modality: Any, value: Any) -> Any:
    """One answer in the modality's form, or the ValueError that says why it has none."""
    if value is None or isinstance(value, Exception):
        return value
    if isinstance(value, np.ndarray):
        return same_numbers(modality, value)
    try:
        return modality.fit(_named(modality, value))
    except (ValueError, TypeError) as error:
        return ValueError(f"{_short(value)}: {error}")


def same_numbers(modality: Any, array: Any) -> Any:
    """An array in the modality's dtype where that holds each of its numbers, else as it is: the check says why."""
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype == modality.dtype or array.dtype.kind not in "biuf" or modality.dtype.kind not in "iuf":
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        other = array.astype(modality.dtype)
    return other if (other == array).all() else array


def to_strings(modality: Any, rows: np.ndarray) -> list[str]:
    """Rows (N, length) of a text modality as strings."""
    return [modality.words(row) for row in rows]


def _named(modality: Any, value: Any) -> Any:
    """Of a choice, the name that is meant, whatever its case and the punctuation around it: `"Sunny."` is sunny."""
    names = getattr(modality, "names", None)
    if not isinstance(value, str) or not names or value in names:
        return value
    bare = value.strip(" \t\n.,;:!?\"'`*").casefold()
    return next((name for name in names if name.casefold() == bare), value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
