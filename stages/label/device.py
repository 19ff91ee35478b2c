"""Labelling where the frames go to a device as bytes and come back as decoded maps.

A batch is copied from pinned memory, scaled and put through the network, and its maps are decoded
(`stages.label.tensors`), all asked of the device at once; what comes back lies in pinned memory and is waited for in
another thread. So the device always has the next batch before the last one is looked at. A decoder without torch
operations gets the network's scores on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperloom.stages.label.decoders import Decoder, of_tile, shared_out, tensors_of
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.label.steps import Steps
from hyperloom.stages.label.trial import check_counts

if TYPE_CHECKING:
    from hyperloom.stages.label.preprocess import TileGrid
    from hyperloom.stages.label.torch import Torch, TorchSession

Finish = Callable[[], np.ndarray]


class Landing:
    """What a batch leaves on a device, on its way to the host."""

    def __init__(self, tensors: Sequence[torch.Tensor]):
        self._host = [_asked(t) for t in tensors]
        self._event = torch.cuda.Event() if any(t.is_cuda for t in tensors) else None
        if self._event is not None:
            self._event.record()

    def arrays(self) -> list[np.ndarray]:
        """All of it, once it is there."""
        if self._event is not None:
            self._event.synchronize()
        return [t.numpy() for t in self._host]


def _asked(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_cuda:
        return tensor.contiguous()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def decoded(decoder: Decoder, maps: torch.Tensor, layout: str, target: Any) -> tuple[torch.Tensor, bool]:
    """The values (N, *shape) of the maps of whole frames, in the network's layout, or the maps themselves as (N, h, w)
    or (N, h, w, C); and whether they are values."""
    planes = maps.permute(0, 3, 1, 2) if layout == "nhwc" and maps.ndim == 4 else maps
    values = decoder.on_device(planes, target) if planes.ndim in (3, 4) and decoder.spatial else None
    if values is not None:
        return values, True
    return (planes.permute(0, 2, 3, 1) if planes.ndim == 4 and decoder.spatial else maps), False


def landed(array: np.ndarray, ready: bool, decoder: Decoder, target: Any) -> np.ndarray:
    """Values of `target` of what `decoded` gave."""
    if not ready:
        return np.stack([decoder.finish(one, target) for one in array])
    return array.astype(target.dtype, copy=False)


class OnDevice(Steps):
    """The steps of a torch network."""

    device = True

    def __init__(self, expert: Torch, session: TorchSession, grid: TileGrid, targets: Sequence[Any]):
        self._expert, self._session, self._grid, self._targets = expert, session, grid, targets
        self._layout = expert.preprocess.layout or "nchw"
        self._layouts = [d.layout or self._layout for d in expert.decode]
        channels = expert.preprocess.seen(3)
        mean, scale = (torch.from_numpy(a).to(session.device) for a in expert.preprocess.statistics(channels))
        self._mean, self._scale = mean, scale

    def prepare(self, batch: Batch) -> torch.Tensor:
        """(tiles, h, w, 3) uint8."""
        shape, frames = self._expert.preprocess, batch[self._expert.in_[0]]
        plain = len(self._grid) == 1 and frames.shape[1:3] == self._grid.size and shape.channels == "rgb"
        pixels = frames if plain else np.stack([t for f in frames for t in shape.pixels(f, self._grid)])
        tensor = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        return tensor.pin_memory() if self._session.device == "cuda" else tensor

    @torch.inference_mode()
    def compute(self, prepared: torch.Tensor) -> tuple[Landing, list[bool]]:
        pixels = prepared.to(self._session.device, non_blocking=True)
        x = (pixels.float() - self._mean) * self._scale
        if self._layout == "nchw":
            x = x.permute(0, 3, 1, 2)  # channels last in memory, as convolutions are quickest
        tensors = tensors_of(self._expert.decode)
        outputs = self._session.tensors(x, tensors)
        check_counts(self._expert.path, outputs, tensors, len(x))
        given = []
        each = shared_out(self._expert.decode, outputs)
        for decoder, maps, layout, target in zip(self._expert.decode, each, self._layouts, self._targets, strict=True):
            if decoder.spatial:
                given.append(decoded(decoder, self._whole(maps[0], layout), layout, target))
            else:
                given += [(one, False) for one in maps]
        return Landing([t for t, _ in given]), [ready for _, ready in given]

    def finish(self, computed: tuple[Landing, list[bool]]) -> Batch:
        landing, ready = computed
        outputs: Batch = {}
        expert, each = self._expert, shared_out(self._expert.decode, list(zip(landing.arrays(), ready, strict=True)))
        for given, column, decoder, target in zip(each, expert.out, expert.decode, self._targets, strict=True):
            if decoder.spatial:
                array, is_value = given[0]
                outputs[column] = landed(array, is_value, decoder, target)
                continue
            arrays, layout = [one for one, _ in given], decoder.layout or self._layout
            tiles = [decoder.tile(of_tile(arrays, i), layout, self._grid.tile) for i in range(len(arrays[0]))]
            outputs[column] = np.stack([decoder.finish(tile, target) for tile in tiles])
        return outputs

    def _whole(self, maps: torch.Tensor, layout: str) -> torch.Tensor:
        """The tiles' maps (tiles, ...) as those of whole frames (N, ...)."""
        count = len(self._grid)
        if count == 1:
            return maps
        at = 1 if layout == "nhwc" or maps.ndim == 3 else 2
        size, cells = self._grid.cells((maps.shape[at], maps.shape[at + 1]))
        whole = maps.new_empty(len(maps) // count, *maps.shape[1:at], *size, *maps.shape[at + 2 :])
        before = (slice(None),) * at
        for i, (here, own) in enumerate(cells):
            whole[(*before, *here)] = maps[i::count][(*before, *own)]
        return whole
