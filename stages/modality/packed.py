"""Packed instances: the bytes of one value of `instances`, and the same as arrays that one can compute with.

A row is HEAD bytes (id, class plus one, score, crowd, box) and then the mask, row by row, eight pixels a byte, the
first in the highest bit. A row of zeros is not used; those that are used come first. Overlapping masks are kept, which
a map of ids could not do, at a bit a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

HEAD = [("id", "<i8"), ("kind", "<i4"), ("score", "<f4"), ("crowd", "<i4"), ("spare", "<i4"), ("box", "<f4", 4)]
"""`kind` is the class's id plus one, 0 in a row that is not used; `box` is x0, y0, x1, y1 in shares of the picture."""
BYTES = 40
"""Of a head."""
KIND, BOX = 2, slice(6, 10)
"""Where `kind` and `box` are among the head's words of four bytes."""


def width(size: tuple[int, int]) -> int:
    """Bytes of a row for masks of this height and width."""
    return BYTES + -(-size[0] * size[1] // 8)


@dataclass(frozen=True)
class Unpacked:
    """n instances of one picture: `ids` int64, `classes` int64, `scores` float32, `crowd` bool, `boxes` (n, 4) float32,
    `masks` (n, H, W) bool."""

    ids: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def taken(self, which: np.ndarray) -> Unpacked:
        """Those at these places, in this order."""
        return Unpacked(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


def unpack(value: np.ndarray, size: tuple[int, int]) -> Unpacked:
    """The instances of one value (most, bytes) uint8."""
    head = np.ascontiguousarray(value[:, :BYTES]).view(HEAD)[:, 0]
    used = head["kind"] > 0
    head, rows = head[used], value[used, BYTES:]
    bits = np.unpackbits(rows, axis=1, count=size[0] * size[1]).reshape(len(rows), *size).astype(bool)
    kinds = head["kind"].astype(np.int64) - 1
    crowd = head["crowd"] != 0
    return Unpacked(head["id"].copy(), kinds, head["score"].copy(), crowd, head["box"].copy(), bits)


def pack(instances: Unpacked, most: int, size: tuple[int, int]) -> np.ndarray:
    """(most, bytes) uint8 of at most `most` instances."""
    value = np.zeros((most, width(size)), np.uint8)
    head = np.zeros(len(instances), HEAD)
    head["id"], head["kind"], head["score"] = instances.ids, instances.classes + 1, instances.scores
    head["crowd"], head["box"] = instances.crowd, instances.boxes
    value[: len(head), :BYTES] = head.view(np.uint8).reshape(len(head), BYTES)
    value[: len(head), BYTES:] = np.packbits(instances.masks.reshape(len(head), size[0] * size[1]), axis=1)
    return value


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """(n, 4) float32: the smallest box around each mask (n, H, W) in shares of the picture; zeros for an empty one."""
    sides = []
    for axis, count in ((1, masks.shape[2]), (2, masks.shape[1])):
        along = np.asarray(masks.any(axis))
        first, last = along.argmax(1), count - along[:, ::-1].argmax(1)
        sides.append(np.where(along.any(1), [first / count, last / count], 0))
    (x0, x1), (y0, y1) = sides
    return np.stack([x0, y0, x1, y1], 1).astype(np.float32)


def masks_of(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, most, H, W) bool of values (N, most, bytes)."""
    import torch

    places = torch.arange(7, -1, -1, device=values.device, dtype=torch.uint8)
    bits = (values[..., BYTES:, None] >> places) & 1
    return bits.flatten(2)[..., : size[0] * size[1]].unflatten(2, size).bool()


def with_masks(values: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Values (N, most, bytes) with other masks (N, most, H, W), boxes after them; those whose mask is empty become
    unused, and the used ones come first."""
    import torch

    bits = masks.flatten(2)
    bits = torch.nn.functional.pad(bits.to(torch.uint8), (0, -bits.shape[2] % 8)).unflatten(2, (-1, 8))
    places = torch.arange(7, -1, -1, device=values.device, dtype=torch.uint8)
    words = values[..., :BYTES].contiguous().view(torch.float32).clone()
    words[..., BOX] = _boxes(masks)
    rows = torch.cat([words.view(torch.uint8), (bits << places).sum(-1).to(torch.uint8)], -1)
    used = masks.flatten(2).any(2) & (kinds_of(values) >= 0)
    rows = rows * used[..., None]
    order = (~used).to(torch.uint8).argsort(dim=1, stable=True)
    return rows.gather(1, order[..., None].expand_as(rows))


def kinds_of(values: torch.Tensor) -> torch.Tensor:
    """(N, most) int64 classes of values, -1 where a row is not used."""
    import torch

    return values[..., :BYTES].contiguous().view(torch.int32)[..., KIND].long() - 1


def crowds_of(values: torch.Tensor) -> torch.Tensor:
    """(N, most) bool: which are many things drawn as one."""
    import torch

    return values[..., :BYTES].contiguous().view(torch.int32)[..., KIND + 2] != 0


def with_kinds(values: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """Values with other classes (N, most), -1 for none."""
    import torch

    words = values[..., :BYTES].contiguous().view(torch.int32).clone()
    words[..., KIND] = kinds.to(torch.int32) + 1
    return torch.cat([words.view(torch.uint8), values[..., BYTES:]], -1)


def _boxes(masks: torch.Tensor) -> torch.Tensor:
    import torch

    sides = []
    for axis, count in ((2, masks.shape[3]), (3, masks.shape[2])):
        along = masks.any(axis)
        places = torch.arange(count, device=masks.device)
        first = torch.where(along, places, count).amin(2)
        last = torch.where(along, places + 1, 0).amax(2)
        sides.append((first / count, last / count))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], -1) * masks.flatten(2).any(2)[..., None]
