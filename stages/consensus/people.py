"""What people say outranks what experts vote: place by place where they say something (also that a point is hidden), as
a whole where a value ends with its padding (a text, tags, a series)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperloom.stages.base import modality_of
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.modality.knowledge import spread

if TYPE_CHECKING:
    from hyperloom.stages.consensus.methods import Method, MethodOutput


def decided(
    make: Callable[[Batch], MethodOutput], batch: Batch, method: Method, modalities: dict[str, Any]
) -> MethodOutput:
    """What `make` makes of the experts, with what people say in its place. Of several columns of people the first
    counts. A sample about which people said something is kept whatever the experts' agreement."""
    labels, score = _of_experts(make, batch, method, modalities)
    kind = modalities[modality_of(method.out[0])]
    for column in reversed(method.human):
        values, present = batch[column], batch[f"{column}?"]
        given = np.asarray(present if kind.ended else kind.given(values) | kind.teaching(values))
        given = given & present.reshape(-1, *(1,) * (given.ndim - 1))
        outcome = labels[method.out[0]]
        labels[method.out[0]] = np.where(spread(given, outcome), values, outcome).astype(outcome.dtype)
        for further in method.out[1:]:
            labels[further] = _certain(labels[further], given, values, modalities[modality_of(further)], method.certain)
        if score is not None:
            score[given.reshape(len(given), -1).any(1)] = np.inf
    return labels, score


def _of_experts(
    make: Callable[[Batch], MethodOutput], batch: Batch, method: Method, modalities: dict[str, Any]
) -> MethodOutput:
    """The experts' columns for all samples of the batch, also those of which only people said something."""
    some = np.any([batch[f"{c}?"] for c in method.sources], axis=0)
    labels, score = make({c: v[some] for c, v in batch.items()}) if some.any() else ({}, None)
    whole: Batch = {}
    for column in method.out:
        kind = modalities[modality_of(column)]
        empty = np.nan if kind.dtype.kind == "f" and column == method.out[0] else kind.missing
        answers = labels.get(column)
        shape = (len(some), *(kind.shape if answers is None else answers.shape[1:]))
        whole[column] = np.full(shape, empty, kind.dtype if answers is None else answers.dtype)
        if answers is not None:
            whole[column][some] = answers
    if score is None:
        return whole, None if some.any() else np.full(len(some), np.inf)
    scores = np.zeros(len(some))
    scores[some] = score
    return whole, scores


def _certain(numbers: np.ndarray, given: np.ndarray, values: np.ndarray, kind: Any, certain: float) -> np.ndarray:
    """A further column where people decide: how sure that is, or all of the probability for their class."""
    if kind.soft and numbers.shape[:-1] == values.shape:
        sure = (values[..., None] == np.arange(numbers.shape[-1])).astype(numbers.dtype)
        return np.where(given[..., None], sure, numbers)
    places = given.reshape(*given.shape, *(1,) * (numbers.ndim - given.ndim))
    return np.where(np.broadcast_to(places, numbers.shape), numbers.dtype.type(certain), numbers)
