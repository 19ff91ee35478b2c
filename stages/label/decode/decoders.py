"""From a network's output tensors to values of a modality: the protocol, and dense maps of numbers.

A decoder reads one output tensor (`tensor`: its name or number) in two steps: `tile` turns the tensor of one tile into
a map (h, w) or (h, w, C) at the network's resolution, and `finish` turns the map of the whole frame into a value of
the modality, size included. Decoders are plug-ins of kind `decoder`. Classes are in `scores`; detections, which are no
maps, in `boxes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.label.decode.activation import ScoreKind, sigmoid
from hyperloom.stages.label.runtimes.preprocess import resize
from hyperloom.stages.modality import Size

if TYPE_CHECKING:
    import torch


Raw: TypeAlias = "np.ndarray | tuple[np.ndarray, ...]"
"""What a decoder reads of one tile, without batch axis: a tensor, or several where it reads several."""


class Decoder(Plugin):
    """Base of every decoder."""

    spatial: ClassVar[bool] = True
    """Is the tensor a map, so that the maps of tiles can be put together?"""
    spanned: ClassVar[bool] = False
    """Does `within` look at them?"""
    tensor: str | int = 0
    layout: Literal["nchw", "nhwc"] | None = None
    """Order of the tensor's axes where it is another than that of the network's input."""

    @property
    def whole(self) -> bool:
        """Do its tensors lack an axis for frames, so that the network must see one at a time?"""
        return False

    @property
    def tensors(self) -> tuple[str | int, ...]:
        """The outputs that it reads."""
        return (self.tensor,)

    def meant(self, modality: Any, column: str) -> Decoder:
        """This decoder, or the one that it stands for where a value of `modality` is to be made. Raises RecipeError."""
        return self

    def ready(self, modality: Any, column: str) -> None:
        """Raise ValueError unless this decoder can make values of `modality`."""

    def tile(self, raw: np.ndarray, layout: str, size: Size) -> np.ndarray:
        """The map of one tile from its tensor without batch axis; `size` is the tile's height and width in pixels."""
        return as_map(raw, layout)

    def tried(self, whole: np.ndarray, ending: ScoreKind | None, modality: Any) -> tuple[Decoder, str]:
        """This decoder with what the map (h, w) or (h, w, C) of a trial frame tells (the tensors, of a decoder that
        makes no map), and what is to be said of that.
        `ending`: what the network's last operation makes, where its file shows that. Raises RecipeError for a map that
        this decoder cannot read."""
        return self, ""

    def finish(self, whole: np.ndarray, modality: Any) -> np.ndarray:
        """A value of `modality` from the map of the whole frame. Raises ValueError where the map makes none."""
        raise TypeError(f"the decoder {self.type!r} has no finish()")

    def on_device(self, maps: torch.Tensor, modality: Any) -> torch.Tensor | None:
        """What `finish` makes, (N, *shape), of the maps (N, C, h, w) or (N, h, w) of N whole frames, where these are:
        the same up to rounding, once each has gone through `landed`. None where this decoder works on the host alone.
        Probabilities may come in the width that is kept of them."""
        return None

    def landed(self, value: np.ndarray, modality: Any) -> np.ndarray:
        """A value (*shape) of `modality` of one that was decoded on a device and lies on the host."""
        return value

    def within(self, low: float, high: float) -> None:
        """Look at the least and the greatest score of a frame that was decoded on a device, as `finish` looks at the
        map. Raises ValueError for the frame, RecipeError for all."""


class DenseDecoder(Decoder):
    """Numbers: depth, disparity, edges. First activation, then `scale * x + offset`, normalisation by frame, inversion.

    `normalise: range` maps the frame's least to greatest value onto 0..1; `percentiles` does so with the 2nd and 98th
    percentile and clips. `invert: flip` is 1 - x, `reciprocal` is 1 / x (inverse depth to depth; not below 1e-6).
    Pixels whose number comes to mean unknown (`unknown` of the modality) are no part of those beside them.
    """

    activation: Literal["none", "sigmoid"] = "none"
    scale: float = 1.0
    offset: float = 0.0
    normalise: Literal["none", "range", "percentiles"] = "none"
    invert: Literal["none", "flip", "reciprocal"] = "none"

    def ready(self, modality: Any, column: str) -> None:
        need(len(modality.shape) == 3 and not modality.soft, column, "a dense modality", modality)

    def tried(self, whole: np.ndarray, ending: ScoreKind | None, modality: Any) -> tuple[Decoder, str]:
        channels = 1 if whole.ndim == 2 else whole.shape[-1]
        if channels != modality.channels:
            raise ValueError(
                f"the network gives {channels} channels, and the modality has {modality.channels}. Next: tensor or "
                "layout in decode, or channels of the modality"
            )
        return self, ""

    def finish(self, whole: np.ndarray, modality: Any) -> np.ndarray:
        x: np.ndarray = np.atleast_3d(whole).astype(np.float32)
        if self.activation == "sigmoid":
            x = sigmoid(x)
        x = x * np.float32(self.scale) + np.float32(self.offset)
        if modality.holes and (silent := self._silent(x, modality)).any():
            return modality.fit(self._read(modality.around(x, silent)))
        if modality.moves == "angle":  # never mixed, as it fits them
            return modality.fit(self._read(x))
        x = resize(x, modality.shape[:2])
        x = modality.stretched(x, *(new / old for new, old in zip(modality.shape[:2], np.shape(whole), strict=False)))
        return modality.fit(self._read(x).astype(np.float32))

    def _silent(self, x: np.ndarray, modality: Any) -> np.ndarray:
        """(h, w) bool: the pixels of a map (h, w, C) whose number means unknown. Of a frame that is normalised some
        pixel is always 0, so that no number can."""
        silent = modality.silent(self._read(x)) if self.normalise == "none" else ~np.isfinite(x).all(-1)
        return np.asarray(silent)

    def _read(self, x: np.ndarray) -> np.ndarray:
        """Numbers of a frame after normalisation and inversion; NaN stays NaN and counts for nothing."""
        if self.normalise != "none" and (known := x[~np.isnan(x)]).size:
            lo, hi = (known.min(), known.max()) if self.normalise == "range" else np.percentile(known, (2, 98))
            x = np.clip((x - lo) / max(float(hi - lo), 1e-6), 0, 1)
        if self.invert != "none":
            x = 1 - x if self.invert == "flip" else 1 / np.maximum(x, 1e-6)
        return x

    def on_device(self, maps: torch.Tensor, modality: Any) -> torch.Tensor | None:
        from hyperloom.stages.label.decode import tensors

        if modality.dtype.kind != "f" or modality.holes or modality.unit_vectors or modality.moves != "scalar":
            return None
        return tensors.numbers(maps, modality.shape, modality.limits, self)


def tensors_of(decoders: Iterable[Decoder]) -> list[str | int]:
    """The outputs that all of them read, decoder after decoder."""
    return [tensor for decoder in decoders for tensor in decoder.tensors]


def shared_out(decoders: Iterable[Decoder], outputs: Sequence[Any]) -> Iterator[list[Any]]:
    """Outputs in the order of `tensors_of`, as each decoder reads them."""
    at = 0
    for decoder in decoders:
        yield list(outputs[at : at + len(decoder.tensors)])
        at += len(decoder.tensors)


def of_tile(outputs: Sequence[Any], at: int) -> Any:
    """What a decoder reads of the tile `at` of a batch."""
    return outputs[0][at] if len(outputs) == 1 else tuple(output[at] for output in outputs)


def as_map(raw: np.ndarray, layout: str) -> np.ndarray:
    """(h, w) or (h, w, C) from a tensor without batch axis: (C, h, w) for `nchw`, (h, w, C) for `nhwc`."""
    if raw.ndim == 2:
        return raw
    if raw.ndim != 3:
        raise ValueError(f"expected a map with 2 or 3 axes beyond the batch, got shape {raw.shape}")
    return raw.transpose(1, 2, 0) if layout == "nchw" else raw


def need(good: bool, column: str, expected: str, modality: Any) -> None:
    """Raise ValueError for a modality that a decoder makes no values of."""
    if not good:
        type_ = modality.type or type(modality).__name__
        raise ValueError(f"{column}: this decoder makes {expected}, but the modality's type is {type_}")
