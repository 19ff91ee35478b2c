"""Answers: from a model's prediction to a value of the modality, as its columns hold it.

Predictions are what `stages.network.predictor` gives: probabilities of classes, numbers in their units. An answer is
the likeliest class, the middle one of the levels, every label or pair that is likelier than not. Imports no torch.
"""

from __future__ import annotations

import numpy as np

from hyperloom.stages.modality import (
    Boxes,
    Choice,
    Clip,
    Graph,
    Image,
    Keypoints,
    Modality,
    Multilabel,
    Ordinal,
    Segmentation,
    Tags,
    Text,
)

FAINT = 0.05
"""Boxes of a lower score are no answer."""


def answer(modality: Modality, mean: np.ndarray) -> np.ndarray:
    """(N, *shape) in the dtype of `modality`, from predictions (N, ...)."""
    if isinstance(modality, Ordinal):
        return (mean.cumsum(-1) < 0.5).sum(-1).clip(0, modality.channels - 1).astype(np.int64)
    if isinstance(modality, Segmentation | Choice | Tags):
        return mean.argmax(-1).astype(modality.dtype)
    if isinstance(modality, Image | Clip):
        return np.rint(mean).clip(0, 255).astype(np.uint8)
    if isinstance(modality, Multilabel):
        return (mean > 0.5).astype(np.uint8)
    if isinstance(modality, Text):
        ids = mean.argmax(-1).astype(np.int64)
        return np.where(np.maximum.accumulate(ids == 0, axis=1), 0, ids)
    if isinstance(modality, Keypoints):
        visible = mean[..., 2:] > 0.5
        return np.where(visible, np.concatenate([mean[..., :2], visible], -1), 0).astype(np.float32)
    if isinstance(modality, Boxes):
        return _boxes(mean)
    if isinstance(modality, Graph):
        return np.stack([_pairs(modality, chances) for chances in mean])
    return mean


def _boxes(mean: np.ndarray) -> np.ndarray:
    """Faint boxes become unused rows; rows come by falling score, so these are the last."""
    found = mean.copy()
    found[~(found[..., 5] >= FAINT)] = np.nan
    found[..., 4] = np.rint(found[..., 4])
    return found


def _pairs(modality: Graph, chances: np.ndarray) -> np.ndarray:
    """The likeliest pairs (edges, 2) of (nodes, nodes) chances, padded with -1."""
    order = np.argsort(-chances, axis=None, kind="stable")[: modality.edges]
    order = order[chances.reshape(-1)[order] > 0.5]
    pairs = np.full(modality.shape, -1, np.int64)
    pairs[: len(order)] = np.stack(np.unravel_index(order, chances.shape), 1)
    return pairs
