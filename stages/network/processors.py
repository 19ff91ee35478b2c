"""Processors: how the columns of each type of modality look to a network, and how a network's predictions look to
people. The network's side of a modality.

What the form of a value is, the modality says itself (`stages.modality.layout`); a processor says what becomes of
tensors: how raw values become planes or ids (`reader`), how they become targets (`target`), and how raw predictions
become values (`finish`, the way back of `reader`). It is found by the name in the modality's `processor` (a name of
`stages.PLUGINS["processor"]`, or "module:Class" for a modality of one's own), else by the name of its class or of a
class it derives from, else it is `Processor`, which goes by the modality's shape: channels last, numbers. Imports no
torch: what runs on tensors imports it when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hyperloom.pipeline import plugins, registry
from hyperloom.stages.transfer import constant

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.meaning import Translation

Reader = Callable[["torch.Tensor"], "torch.Tensor"]
LEAST = 1e-6
"""Of a deviation, as a share of the mean, from which on numbers vary; and what stands for one of those that do not."""


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each channel; empty where values are not standardised (classes, directions)."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def of(self, how: Translation, channels: int) -> Scale:
        """The scale of numbers in another unit that `how` brings into the unit of this one."""
        if how.factor == 1.0:
            return self
        mean, std = self.mean or (0.0,) * channels, self.std or (1.0,) * channels
        return Scale(tuple(m / how.factor for m in mean), tuple(s / how.factor for s in std))

    def translated(self, how: Translation) -> Scale:
        """This scale in the unit that `how` leads to."""
        return Scale(how.scaled(self.mean), how.scaled(self.std)) if how.factor != 1.0 else self


class Processor:
    """Numbers of any shape, channels last. `colours`: are they a picture's?"""

    colours: ClassVar[bool] = False

    def __init__(self, modality: Any):
        self.modality = modality

    @property
    def encoder(self) -> str:
        """The encoder that makes tokens of it where the recipe names none."""
        return {1: "steps", 2: "patches"}.get(self.axes, "whole")

    @property
    def axes(self) -> int:
        """Axes of its sites: 0 for a whole sample, 1 over time, 2 for a raster."""
        return max(0, len(self.modality.shape) - 1)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels, if it is a raster."""
        return self.modality.height_width or (self.modality.shape[:2] if self.axes == 2 else None)

    @property
    def in_planes(self) -> bool:
        """Can a trunk that reads planes take it? Numbers of whole samples are one plane each."""
        return self.axes in (0, 2)

    @property
    def not_in_graph(self) -> str:
        """Why an ONNX file cannot take its values as they are, and what to do; empty where `reader` is of tensor
        operations alone."""
        return ""

    def pixels(self, patch: int) -> tuple[int, ...]:
        """Squares of `patch` pixels in each plane; (1,) where it is no raster."""
        return (1,) if self.size is None else tuple(-(-n // patch) for n in self.size)

    def scale(self, statistics: Mapping[str, Any]) -> Scale:
        """How values are standardised, by a column's statistics: numbers are, unless the modality says otherwise."""
        if not self.modality.standardised or not statistics.get("mean"):
            return Scale()
        pairs = zip(statistics["mean"], statistics["std"], strict=True)
        return Scale(tuple(map(float, statistics["mean"])), tuple(_deviation(float(m), float(s)) for m, s in pairs))

    # -- tensors ----------------------------------------------------------------------------------------------------
    def reader(self, scale: Scale) -> torch.nn.Module:
        """From raw values (N, *shape) to (N, channels, *sites) float32, or ids as they are; without parameters."""
        from hyperloom.stages.network.reading import Standardised

        return Standardised(self, scale)

    def planes_of(self, values: torch.Tensor) -> torch.Tensor:
        """Raw values (N, *shape) with channels second."""
        return values.movedim(values.ndim - 1, 1) if values.ndim > 2 else values.reshape(values.shape[0], -1)

    def shown(self, planes: torch.Tensor, limit: float, training: bool = False) -> torch.Tensor:
        """What the network is given of what `reader` made: the mean for numbers that are unknown, and none wilder than
        `limit`. In `training` a picture that an augmentation turned has unknown corners, whatever its type says; the
        padding of boxes and series stays, for their stems ask where it is."""
        if not planes.is_floating_point():
            return planes
        turned = training and self.modality.height_width is not None
        planes = planes.nan_to_num() if self.modality.holes or turned else planes
        return planes.clamp(-limit, limit)

    def target(self, scale: Scale) -> Reader:
        """From raw values to what objectives compare predictions with."""
        return self.reader(scale)

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        """From a head's raw predictions (N, C, *sites) to values as people take them, (N, *sites, C): probabilities,
        or numbers in their units within the modality's range (a regression may overshoot)."""
        return in_units(raw.movedim(1, raw.ndim - 1), scale, getattr(self.modality, "range", None))


def _deviation(mean: float, deviation: float) -> float:
    """What numbers are divided by: their deviation, however small their unit makes it; a constant of its own where they
    do not vary but for the rounding of sums."""
    varies = deviation > LEAST * abs(mean) and deviation > LEAST**4
    return deviation if varies else max(deviation, LEAST)


def in_units(values: torch.Tensor, scale: Scale, limits: tuple[float, float] | None = None) -> torch.Tensor:
    """Standardised numbers (..., C) in their units, within `limits`."""
    if scale.mean:
        values = values * constant(scale.std, values.dtype, values.device) + constant(
            scale.mean, values.dtype, values.device
        )
    return values.clamp(*limits) if limits else values


def processor_of(modality: Any) -> Processor:
    """The processor of a modality. Raises PluginError when the one it names cannot be found."""
    named = modality.processor
    known = registry.known("processor")
    types = (k.__name__.lower() for k in type(modality).__mro__)
    named = named or next((t for t in types if t in known), "")
    kind = plugins.load("processor", named) if named else Processor
    return kind(modality)
