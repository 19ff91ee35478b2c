"""Examples: one good value of any modality, drawn at random, with all that real values may have: unknown pixels, ids
and numbers, padding, rows that are not used. What the values say means nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.modality import (
    Boxes,
    Choice,
    Clip,
    Dense,
    Graph,
    Image,
    Keypoints,
    Multilabel,
    Segmentation,
    Series,
    Soft,
    Tags,
    Text,
)
from hyperloom.stages.network.architecture import Input

LETTERS = (ord("a") + 1, ord("z") + 2)
"""Ids of the bytes of small letters, as texts have them in memory."""


def examples(inputs: Sequence[Input], samples: int) -> list[np.ndarray]:
    """For each input (samples, *shape) in its dtype, the same each time; numbers have the statistics of the training
    data. Raises RecipeError for a type of one's own that refuses numbers of its own shape, dtype and limits."""
    random = np.random.default_rng(0)
    return [np.stack([_checked(item, random) for _ in range(samples)]) for item in inputs]


def _checked(item: Input, random: np.random.Generator) -> np.ndarray:
    value = np.asarray(_value(item, random)).astype(item.modality.dtype)
    try:
        item.modality.check(value)
    except ValueError as error:
        raise RecipeError(
            f"no example of {item.column} could be made to test {type(item.modality).__name__} with: {error}. "
            "Next: derive the type from the one whose values it has, or give it `limits`"
        ) from error
    return value


def _value(item: Input, random: np.random.Generator) -> Any:
    modality, shape = item.modality, item.modality.shape
    if isinstance(modality, Image | Clip):
        return random.integers(0, 256, shape)
    if isinstance(modality, Segmentation):
        return random.choice([*range(modality.channels), UNKNOWN], shape)
    if isinstance(modality, Multilabel):
        return random.choice([0, 1, UNKNOWN], shape)
    if isinstance(modality, Choice):
        return random.integers(-1, modality.channels, shape)
    if isinstance(modality, Text):
        return _padded(random.integers(*LETTERS, (_count(random, modality.length),)), shape, 0)
    if isinstance(modality, Tags):
        return _padded(random.integers(0, modality.channels, (_count(random, modality.length),)), shape, -1)
    if isinstance(modality, Graph):
        return _padded(random.integers(0, modality.nodes, (_count(random, modality.edges), 2)), shape, -1)
    if isinstance(modality, Boxes):
        return _padded(_boxes(modality, _count(random, modality.most), random), shape, np.nan)
    if isinstance(modality, Keypoints):
        visible = random.random((shape[0], 1)) < 0.7
        return np.concatenate([random.random((shape[0], 2)) * visible, visible], 1)
    if isinstance(modality, Soft):
        return random.dirichlet(np.ones(shape[-1]), shape[:-1])
    if modality.dtype.kind != "f":
        return np.zeros(shape)  # ids of a type of one's own: the first is there for sure
    return _numbers(item, random)


def _numbers(item: Input, random: np.random.Generator) -> np.ndarray:
    modality = item.modality
    values = random.normal(item.scale.mean or 0.0, item.scale.std or 1.0, modality.shape)
    if isinstance(modality, Dense) and modality.direction:
        values = values / np.linalg.norm(values, axis=-1, keepdims=True)
    if modality.limits is not None:
        values = values.clip(*modality.limits)
    if isinstance(modality, Dense) and modality.unknown is not None:
        values[random.random(values.shape) < 0.1] = np.nan
    if isinstance(modality, Series):
        values[_count(random, modality.steps) :] = np.nan
    return values


def _boxes(modality: Boxes, count: int, random: np.random.Generator) -> np.ndarray:
    corners = np.sort(random.random((count, 2, 2)), 1).reshape(count, 4)
    kinds, scores = random.integers(0, len(modality.classes), (count, 1)), random.random((count, 1))
    return np.concatenate([corners, kinds, scores], 1)


def _count(random: np.random.Generator, most: int) -> int:
    """How many of `most` rows are used."""
    return int(random.integers(1, most + 1))


def _padded(rows: np.ndarray, shape: Sequence[int], rest: float) -> np.ndarray:
    full = np.full(shape, rest, rows.dtype)
    full[: len(rows)] = rows
    return full
