"""Labelling where the frames go to a device as bytes and come back as decoded maps.

A batch is copied from pinned memory, scaled and put through the network, and its maps are decoded
(`stages.label.decode.tensors`), all asked of the device at once; what comes back lies in pinned memory and is waited
for in another thread. So the device always has the next batch before the last one is looked at. A decoder without torch
operations gets the network's scores on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from hyperloom.stages.label.decode.decoders import Decoder, of_tile, shared_out, tensors_of
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.label.runtimes.trial import check_counts
from hyperloom.stages.label.steps import Steps

if TYPE_CHECKING:
    from hyperloom.stages.label.runtimes.network import Network
    from hyperloom.stages.label.runtimes.preprocess import TileGrid


class DeviceSession(Protocol):
    """A network on a device. `layout` and `channels` (None: any) are those of its input."""

    device: str
    layout: str
    channels: int | None

    def tensors(self, images: torch.Tensor, tensors: Sequence[str | int]) -> list[torch.Tensor]:
        """The outputs asked for of `images` float32 on the device, batch first; what is no integer as float32."""


class Given(NamedTuple):
    """What is on a device of one output: values of the column (`ready`), or the network's own tensor. Of values,
    `spans` (N, 2) has the least and the greatest score of each frame, for the check that those decoded here lack."""

    values: torch.Tensor
    ready: bool
    spans: torch.Tensor | None = None


class Landed(NamedTuple):
    """The same on the host."""

    values: np.ndarray
    ready: bool
    spans: np.ndarray | None


class Landing:
    """What a batch leaves on a device, on its way to the host."""

    def __init__(self, given: Sequence[Given]):
        self._ready = [one.ready for one in given]
        self._host = [(_asked(one.values), None if one.spans is None else _asked(one.spans)) for one in given]
        self._event = torch.cuda.Event() if any(one.values.is_cuda for one in given) else None
        if self._event is not None:
            self._event.record()

    def arrays(self) -> list[Landed]:
        """All of it, once it is there."""
        if self._event is not None:
            self._event.synchronize()
        both = [(values.numpy(), None if spans is None else spans.numpy()) for values, spans in self._host]
        return [Landed(values, ready, spans) for (values, spans), ready in zip(both, self._ready, strict=True)]


def _asked(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_cuda:
        return tensor.contiguous()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def decoded(decoder: Decoder, maps: torch.Tensor, layout: str, target: Any) -> Given:
    """The values (N, *shape) of the maps of whole frames, in the network's layout, or the maps themselves as (N, h, w)
    or (N, h, w, C)."""
    planes = maps.permute(0, 3, 1, 2) if layout == "nhwc" and maps.ndim == 4 else maps
    values = decoder.on_device(planes, target) if planes.ndim in (3, 4) and decoder.spatial else None
    if values is not None:
        spans = torch.stack(torch.aminmax(planes.flatten(1), dim=1), 1).float() if decoder.spanned else None
        return Given(values, True, spans)
    return Given(planes.permute(0, 2, 3, 1) if planes.ndim == 4 and decoder.spatial else maps, False)


def landed(given: Landed, decoder: Decoder, target: Any) -> np.ndarray | list[Any]:
    """Values of `target` of what `decoded` gave; in the place of a frame whose scores cannot be, the ValueError."""
    if not given.ready:
        return np.stack([decoder.finish(one, target) for one in given.values])
    values = [decoder.landed(value, target) for value in given.values.astype(target.dtype, copy=False)]
    errors: dict[int, ValueError] = {}
    for i, (low, high) in enumerate(() if given.spans is None else given.spans.tolist()):
        try:
            decoder.within(low, high)
        except ValueError as error:
            errors[i] = error
    return [errors.get(i, value) for i, value in enumerate(values)] if errors else np.stack(values)


class OnDevice(Steps):
    """The steps of a network whose tensors are torch's."""

    device = True

    def __init__(self, expert: Network, session: DeviceSession, grid: TileGrid, targets: Sequence[Any]):
        self._expert, self._session, self._grid, self._targets = expert, session, grid, targets
        self._layout = expert.preprocess.layout or session.layout
        self._layouts = [d.layout or self._layout for d in expert.decode]
        self._grey = session.channels == 1
        channels = 1 if self._grey else expert.preprocess.seen(3)
        mean, scale = (torch.from_numpy(a).to(session.device) for a in expert.preprocess.statistics(channels))
        self._mean, self._scale = mean, scale

    def prepare(self, batch: Batch) -> torch.Tensor:
        """(tiles, h, w, 3) uint8."""
        shape, frames = self._expert.preprocess, batch[self._expert.in_[0]]
        same = len(self._grid) == 1 and frames.shape[1:3] == self._grid.size
        plain = same and shape.channels == "rgb" and not self._grey
        pixels = frames if plain else np.stack([t for f in frames for t in shape.pixels(f, self._grid, self._grey)])
        tensor = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        return tensor.pin_memory() if self._session.device == "cuda" else tensor

    @torch.inference_mode()
    def compute(self, prepared: torch.Tensor) -> Landing:
        pixels = prepared.to(self._session.device, non_blocking=True)
        x = (pixels.float() - self._mean) * self._scale
        if self._layout == "nchw":
            x = x.permute(0, 3, 1, 2)  # channels last in memory, as convolutions are quickest
        tensors = tensors_of(self._expert.decode)
        outputs = self._session.tensors(x, tensors)
        check_counts(self._expert.path, outputs, tensors, len(x))
        given: list[Given] = []
        each = shared_out(self._expert.decode, outputs)
        for decoder, maps, layout, target in zip(self._expert.decode, each, self._layouts, self._targets, strict=True):
            if decoder.spatial:
                given.append(decoded(decoder, self._whole(maps[0], layout), layout, target))
            else:
                given += [Given(one, False) for one in maps]
        return Landing(given)

    def finish(self, computed: Landing) -> Batch:
        outputs: Batch = {}
        expert, each = self._expert, shared_out(self._expert.decode, computed.arrays())
        for given, column, decoder, target in zip(each, expert.out, expert.decode, self._targets, strict=True):
            if decoder.spatial:
                outputs[column] = landed(given[0], decoder, target)  # type: ignore[assignment]
                continue
            arrays, layout = [one.values for one in given], decoder.layout or self._layout
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
