"""Decoding where the network runs: what `stages.label.decode.decoders` makes of maps, as torch operations on batches.

Maps are (N, C, h, w) or (N, h, w), whatever their dtype; arithmetic is float32. Sizes change as OpenCV changes them:
by area where both sides shrink, else linearly, without smoothing. What goes back to the host is small: class ids and
steps of probabilities, one byte each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, interpolate

from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.modality import Size

if TYPE_CHECKING:
    from hyperloom.stages.label.decode.activation import Activation
    from hyperloom.stages.label.decode.decoders import DenseDecoder


def classes(maps: torch.Tensor, size: Size, threshold: float, activation: Activation = "logit") -> torch.Tensor:
    """(N, *size) uint8: classes of the network."""
    one = maps.ndim == 3 or maps.shape[1] == 1
    if activation != "ids" and (maps.is_floating_point() or not one):
        scores = _given(resized(_planes(maps), size), activation)
        top, ids = scores.max(1)
        if threshold:
            share = top if activation == "none" else 1 / (scores - top[:, None]).exp().sum(1)
            share = top.sigmoid() if activation == "sigmoid" and not one else share
            ids = ids.masked_fill(share < threshold, UNKNOWN)
    else:
        ids = _nearest(maps[:, 0] if maps.ndim == 4 else maps, size)
        ids = (ids.round() if ids.is_floating_point() else ids).long()
        ids = ids.masked_fill((ids < 0) | (ids > UNKNOWN), UNKNOWN)
    return ids.clamp(max=UNKNOWN).to(torch.uint8)


def probabilities(
    maps: torch.Tensor, shape: tuple[int, ...], table: np.ndarray, temperature: float, activation: Activation
) -> torch.Tensor:
    """(N, *shape) float16."""
    planes = _planes(maps)
    several = planes.shape[1] > 1
    given = _given(planes, activation)
    if activation == "sigmoid" and several:
        given = (given / temperature).sigmoid()
    elif activation != "none":
        given = (given / temperature).softmax(1)
    folded = given.new_zeros(len(given), shape[-1], *given.shape[2:])
    for source, target in enumerate(table[: given.shape[1]].tolist()):
        if target < shape[-1]:
            folded[:, target] += given[:, source]
    sized = resized(folded, (shape[0], shape[1]), area=False) + 1e-6
    return (sized / sized.sum(1, keepdim=True)).half().permute(0, 2, 3, 1)


def numbers(
    maps: torch.Tensor, shape: tuple[int, ...], limits: tuple[float, float] | None, decoder: DenseDecoder
) -> torch.Tensor | None:
    """(N, *shape) float32; None where the channels are others, which the host says."""
    x = _planes(maps)
    if x.shape[1] != shape[-1]:
        return None
    if decoder.activation == "sigmoid":
        x = x.clamp(-60, 60).sigmoid()
    x = resized(x * decoder.scale + decoder.offset, (shape[0], shape[1]))
    if decoder.normalise != "none":
        ends = (0.0, 1.0) if decoder.normalise == "range" else (0.02, 0.98)
        lo, hi = (_quantile(x.flatten(1), q).view(-1, 1, 1, 1) for q in ends)
        x = ((x - lo) / (hi - lo).clamp(min=1e-6)).clamp(0, 1)
    if decoder.invert != "none":
        x = 1 - x if decoder.invert == "flip" else 1 / x.clamp(min=1e-6)
    return (x.clamp(*limits) if limits else x).permute(0, 2, 3, 1)


def resized(x: torch.Tensor, size: Size, area: bool = True) -> torch.Tensor:
    """(N, C, h, w) in another height and width."""
    old: Any = x.shape[2:]
    if tuple(old) == tuple(size):
        return x
    if not (area and size[0] <= old[0] and size[1] <= old[1]):
        return interpolate(x, size=size, mode="bilinear", align_corners=False)
    if old[0] % size[0] == 0 and old[1] % size[1] == 0:
        return avg_pool2d(x, (old[0] // size[0], old[1] // size[1]))
    rows, columns = (_shares(n, m, x.device) for n, m in zip(old, size, strict=True))
    return torch.matmul(rows, torch.matmul(x, columns.T))


@lru_cache(maxsize=64)
def _shares(old: int, new: int, device: torch.device) -> torch.Tensor:
    """(new, old): which share of each old pixel is in a new one, rows adding up to one. Sent once, as a copy would make
    the host wait for the device in each batch."""
    with torch.inference_mode(False):  # kept, and asked for under gradients too
        edges = torch.arange(new + 1, dtype=torch.float64) * old / new
        at = torch.arange(old, dtype=torch.float64)
        inside = torch.minimum(at[None] + 1, edges[1:, None]) - torch.maximum(at[None], edges[:-1, None])
        return (inside.clamp(min=0) * new / old).float().to(device)


def _nearest(ids: torch.Tensor, size: Size) -> torch.Tensor:
    for dim, new in enumerate(size, 1):
        old = ids.shape[dim]
        if old != new:
            ids = ids.index_select(dim, _places(old, new, ids.device))
    return ids


@lru_cache(maxsize=64)
def _places(old: int, new: int, device: torch.device) -> torch.Tensor:
    """(new,): the old pixel that each new one is, as OpenCV finds it on the host. Sent once."""
    import cv2

    row = np.arange(old, dtype=np.float32)[None]
    place = cv2.resize(row, (new, 1), interpolation=cv2.INTER_NEAREST_EXACT)[0]
    with torch.inference_mode(False):
        return torch.from_numpy(place).long().to(device)


def _quantile(rows: torch.Tensor, q: float) -> torch.Tensor:
    """As NumPy's percentile, linear between the two nearest; without torch's limit on the size."""
    place = q * (rows.shape[1] - 1)
    low = int(place)
    ordered = rows.sort(1).values
    below, above = ordered[:, low], ordered[:, min(low + 1, rows.shape[1] - 1)]
    return below + (above - below) * (place - low)


def _planes(maps: torch.Tensor) -> torch.Tensor:
    return (maps if maps.ndim == 4 else maps[:, None]).float()


def _given(scores: torch.Tensor, activation: Activation) -> torch.Tensor:
    """One logit or probability a pixel as those of two classes."""
    if scores.shape[1] > 1:
        return scores
    return torch.cat([1 - scores if activation == "none" else torch.zeros_like(scores), scores], 1)
