"""What a network's scores are: logits, or probabilities that it made of them already, or ids that it chose already.

    logit     numbers of any size. One channel: class 1 above 0. Several: softmax
    softmax   logits of classes of which one holds: softmax over the channels
    sigmoid   logits of classes that do not exclude each other: sigmoid of each channel
    none      probabilities: one channel is that of class 1, several are one for each class
    ids       one channel of whole numbers, class ids
    auto      what a trial frame shows (`judge`), and the network's last operation where it can be seen

`auto` is settled once for each expert, before its first sample, from the network alone, so that it is the same for all
samples, partitions and processes. What was settled is held against every answer (`hold`): a probability of 3.2 ends the
step with the field to set.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from hyperloom.pipeline.errors import RecipeError

Activation = Literal["auto", "none", "sigmoid", "softmax", "logit", "ids"]
ScoreKind = Literal["probabilities", "logits", "ids"]
"""What a network's last operation makes, as far as a file shows it."""
SLACK = 2e-3
"""Probabilities of half precision or of eight bits are this far out of 0..1, or their sum from 1."""
BYTES = 255.0
FIELD = "Next: in decode, activation: logit (scores of any size), none (probabilities) or ids says what they are"


def judge(maps: np.ndarray, ending: ScoreKind | None = None) -> tuple[Activation, str]:
    """What the scores (..., C) of a trial frame are, and what is to be said of it; empty for plain logits.

    Raises RecipeError where they can be read in two ways that give other labels.
    """
    channels, low, high = maps.shape[-1], float(maps.min()), float(maps.max())
    span = f"its values on a trial frame are {low:.3g} to {high:.3g}"
    inside = low >= -SLACK and high <= 1 + SLACK
    if ending == "ids" or (channels == 1 and high > 1 and _whole(maps) and low >= 0):
        why = "the network ends in the choice of a class" if ending == "ids" else f"{span}, all whole"
        return "ids", f"{why}, so its values are taken as class ids. Next: activation: ids in decode says so for good"
    if ending == "logits" or not (inside or low >= 0):
        return "logit", ""
    if not inside:
        return _large(high, span)
    if ending is None and low == high:
        return "logit", ""  # nothing can be told of a constant
    why = "the network ends in a sigmoid or softmax" if ending else f"{span}{_sums(maps)}"
    limit = ", class 1 above 0.5" if channels == 1 else ""
    return "none", (
        f"{why}, so its values are taken as probabilities{limit}. Next: activation: none in decode says so for good, "
        "activation: logit if they are scores of any size"
    )


def _large(high: float, span: str) -> tuple[Activation, str]:
    """Of scores that are never below 0 and go beyond 1."""
    if high > BYTES + 1:
        return "logit", ""
    most = BYTES if high > 100 else 100
    raise RecipeError(
        f"{span}: neither logits, which go below 0, nor probabilities. Next: in decode, activation: none with divide: "
        f"{most:g} for probabilities in 0..{most:g}, or activation: logit"
    )


def hold(maps: np.ndarray, activation: Activation) -> None:
    """Raise RecipeError for values that are no probabilities though they are taken for some, ValueError for NaN."""
    if maps.size:
        high = float(np.max(maps))  # NaN where one is: elsewhere the least number says nothing
        hold_span(float(np.min(maps)) if activation == "none" else high, high, activation)


def hold_span(low: float, high: float, activation: Activation) -> None:
    """The same of the least and the greatest value."""
    if np.isnan(low) or np.isnan(high):
        raise ValueError("the network gave NaN as a score: does it overflow (precision), or divide by 0?")
    if activation != "none":
        return
    if low < -SLACK or high > 1 + SLACK:
        worst = low if low < -SLACK else high
        raise RecipeError(f"the network gave {worst:.4g} where probabilities are expected (activation: none). {FIELD}")


def probabilities(scores: np.ndarray, activation: Activation) -> np.ndarray:
    """(..., C) float32 of scores (..., C); of one channel those of the classes 0 and 1, (..., 2)."""
    if activation == "none":
        return scores if scores.shape[-1] > 1 else np.concatenate([1 - scores, scores], -1)
    if activation == "sigmoid" and scores.shape[-1] > 1:
        return sigmoid(scores)
    return softmax(two_sided(scores))


def looks_like_probabilities(maps: np.ndarray, ending: ScoreKind | None) -> bool:
    return ending != "logits" and maps.min() >= -SLACK and maps.max() <= 1 + SLACK and np.ptp(maps) > 0


def check_axes(maps: np.ndarray) -> None:
    """Raise RecipeError for maps (h, w, C) of probabilities that add up to 1 over another axis than the classes'."""
    if maps.shape[-1] == 1 or min(maps.shape) < 2 or _adds_up(maps, 2) or not looks_like_probabilities(maps, None):
        return
    for axis, name in ((0, "rows"), (1, "columns")):
        if _adds_up(maps, axis):
            raise RecipeError(
                f"the network's probabilities add up to 1 over the {name} of the map {maps.shape}, not over "
                "its classes: its axes are in another order, or its softmax is over the wrong one. Next: in decode, "
                "layout: nhwc or nchw, or export it anew"
            )


def judged(maps: np.ndarray) -> Activation:
    """`auto` where nobody could try the network: of one answer. Raises ValueError where that does not tell."""
    low, high = float(maps.min()), float(maps.max())
    if low < -SLACK or (high > 1 + SLACK and not _whole(maps)):
        return "logit"
    raise ValueError(f"the scores are {low:.3g} to {high:.3g}: logits, probabilities or ids? {FIELD}")


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    shifted = np.exp(scores - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(scores, -60, 60)))


def two_sided(scores: np.ndarray) -> np.ndarray:
    """One logit a pixel as the scores of two classes."""
    return scores if scores.shape[-1] > 1 else np.concatenate([np.zeros_like(scores), scores], -1)


def _whole(maps: np.ndarray) -> bool:
    return bool(np.isfinite(maps).all() and (maps == np.rint(maps)).all())


def _sums(maps: np.ndarray) -> str:
    if maps.shape[-1] == 1:
        return ""
    return " and add up to 1" if _adds_up(maps, -1) else ""


def _adds_up(maps: np.ndarray, axis: int) -> bool:
    return bool(np.abs(maps.sum(axis) - 1).max() <= 5 * SLACK)
