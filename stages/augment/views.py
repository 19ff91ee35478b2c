"""Augmentations: changed views of a batch that keep its labels true.

Each draws for the whole global batch and keeps its rank's part, so that a batch looks the same however many workers
share it. What is random is drawn on the host, an update ahead (`stages.train.draws`), and applied where the batch lies,
without a question to the device. Geometry moves all columns alike, and what points somewhere turns with the picture;
colour touches images only. An augmentation changes training batches, never what is validated or stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.modality import Modality
from hyperloom.stages.modality.sides import exchange
from hyperloom.stages.modality.things import Things

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

Drawn: TypeAlias = Mapping[str, Any]
"""What an augmentation drew for its part of a batch: tensors, and numbers that the host wants to know. To `apply`
tensors come where the batch lies."""
SIDES_HOLD = 45
"""Degrees up to which what is to the left in a picture is rather to the left in the turned one."""
ALIKE = 0.02
"""By how much the proportions of two pictures may differ."""


class Augment(Plugin):
    """Base of augmentations."""

    light: ClassVar[bool] = False
    """Does it change what pictures look like and leave everything where it is?"""

    def draw(self, columns: Mapping[str, Modality], count: int, part: slice, generator: torch.Generator) -> Drawn:
        """All that is random, of samples `part` of the `count` of the global batch, for all of which it is drawn. It
        may run in another thread, before the batch is there; nothing by default."""
        return {}

    def apply(self, batch: Tensors, columns: Mapping[str, Modality], drawn: Drawn) -> Tensors:
        """`batch` with its columns, (n, *shape) as the loader gives them, changed as was drawn."""
        raise TypeError(f"the augmentation {self.type!r} has no apply()")

    def check(self, columns: Mapping[str, Modality]) -> None:
        """Raises ValueError when this augmentation would make a column untrue."""


class Flip(Augment):
    """Mirror left and right in all that has sides (see `Modality.mirrored`): rasters, clips, boxes, points.
    Displacements and directions change the sign of their x; classes, points and words whose names differ in left and
    right alone are exchanged. What has no sides (other classes, sounds) stays. What nobody knows the sides of is
    refused: vectors and series without `mirror:`, points whose names tell none, a class `left lane` without a `right
    lane`, and the pictures of a left and a right camera beside each other."""

    revision: ClassVar[int] = 2
    probability: float = Field(0.5, ge=0, le=1)

    def check(self, columns: Mapping[str, Modality]) -> None:
        reasons = [f"{column}: {m.sideless}" for column, m in columns.items() if m.sides == "unknown"]
        if reasons:
            raise ValueError(f"flip cannot mirror {'; '.join(reasons)}")
        pictures = [column for column, m in columns.items() if m.rgb or m.times > 1]
        other = [pictures[place] for place in exchange(pictures)]
        if pair := [one for one, its in zip(pictures, other, strict=True) if one != its]:
            raise ValueError(
                f"flip cannot mirror {pair[0]} beside {other[pictures.index(pair[0])]}: in a mirror the one camera is "
                "the other, and what belongs to one of them alone would lie elsewhere. Next: leave flip out, or call "
                "their sources otherwise where they are no pair"
            )

    def draw(self, columns: Mapping[str, Modality], count: int, part: slice, generator: torch.Generator) -> Drawn:
        import torch

        return {"rows": (torch.rand(count, generator=generator) < self.probability)[part].nonzero()[:, 0]}

    def apply(self, batch: Tensors, columns: Mapping[str, Modality], drawn: Drawn) -> Tensors:
        changed, rows = dict(batch), drawn["rows"]
        for column, modality in columns.items():
            if modality.sides == "none":
                continue
            values = batch[column]
            changed[column] = values.index_put((rows,), modality.mirrored(values[rows]))
        return changed


def _moved(
    batch: Tensors,
    columns: Mapping[str, Modality],
    rows: torch.Tensor,
    move: Callable[[Modality, torch.Tensor], torch.Tensor],
) -> Tensors:
    """The batch with these rows of what lies on the frame moved."""
    changed = dict(batch)
    for column, modality in columns.items():
        if modality.place == "none" or not len(rows):
            continue
        values = batch[column]
        moved = move(modality, values[rows])
        changed[column] = values.to(moved.dtype).index_put((rows,), moved)
    return changed


def _renumbering(what: str, columns: Mapping[str, Modality]) -> None:
    """Raises ValueError where a graph names things by their rows, of which those that are not shown leave."""
    things = [column for column, m in columns.items() if isinstance(m, Things)]
    graphs = [column for column, m in columns.items() if hasattr(m, "nodes")]
    if things and graphs:
        raise ValueError(
            f"{what} leaves out what is not shown of {things[0]}, so that the numbers in {graphs[0]} would be those of "
            f"others. Next: leave {what} out, or one of the two columns"
        )


class Crop(Augment):
    """Show a window of the picture, at least `smallest` of each side, in the full size, and of all that lies on the
    frame the same: displacements and disparities grow with it, boxes are cut, points outside are hidden. What belongs
    to the sample as a whole stays; what nobody knows the place of (vectors, series) is refused."""

    revision: ClassVar[int] = 1
    probability: float = Field(1.0, ge=0, le=1)
    smallest: float = Field(0.5, gt=0, le=1)

    def check(self, columns: Mapping[str, Modality]) -> None:
        reasons = [f"{column}: {m.placeless}" for column, m in columns.items() if m.place == "unknown"]
        if reasons:
            raise ValueError(f"crop cannot show a window of {'; '.join(reasons)}")
        _renumbering("crop", columns)

    def draw(self, columns: Mapping[str, Modality], count: int, part: slice, generator: torch.Generator) -> Drawn:
        import torch

        drawn = torch.rand(count, 4, generator=generator)[part]
        share = self.smallest + (1 - self.smallest) * drawn[:, 1:2]
        windows = torch.cat([drawn[:, 2:] * (1 - share), share], 1)
        rows = (drawn[:, 0] < self.probability).nonzero()[:, 0]
        return {"rows": rows, "windows": windows[rows]}

    def apply(self, batch: Tensors, columns: Mapping[str, Modality], drawn: Drawn) -> Tensors:
        return _moved(batch, columns, drawn["rows"], lambda m, values: m.windowed(values, drawn["windows"]))


class Rotate(Augment):
    """Turn the picture about its middle, by up to `degrees` either way, and with it all that lies on the frame:
    classes by the nearest pixel, numbers linearly, the x and y of directions, vectors and displacements with the
    picture, points, and boxes as the ellipse in each turns. What comes from outside the picture is unknown there (black
    in images), so it teaches and counts nothing. What belongs to the sample as a whole stays.

    Refused by name: what nobody knows the turn of (vectors, series, angles, disparities), pictures of different
    proportions, and beyond 45 degrees names of left and right, unless these are `sides: object`, those of a thing that
    keeps its left arm however it lies."""

    revision: ClassVar[int] = 1
    probability: float = Field(1.0, ge=0, le=1)
    degrees: float = Field(15.0, gt=0, le=180)
    sides: Literal["picture", "object"] = "picture"

    def check(self, columns: Mapping[str, Modality]) -> None:
        reasons = [f"{column}: {m.unturned}" for column, m in columns.items() if m.unturned]
        if reasons:
            raise ValueError(f"rotate cannot turn {'; '.join(reasons)}")
        _renumbering("rotate", columns)
        sided = [column for column, m in columns.items() if m.sided]
        if sided and self.degrees > SIDES_HOLD and self.sides == "picture":
            raise ValueError(
                f"rotate cannot turn {', '.join(sided)} by {self.degrees:g} degrees: left and right may change places. "
                f"Next: degrees: {SIDES_HOLD} or less, or sides: object where they are a thing's, not the picture's"
            )
        self._aspect(columns)

    def draw(self, columns: Mapping[str, Modality], count: int, part: slice, generator: torch.Generator) -> Drawn:
        import torch

        drawn = torch.rand(count, 2, generator=generator)[part]
        angles = (2 * drawn[:, 1] - 1) * math.radians(self.degrees)
        rows = (drawn[:, 0] < self.probability).nonzero()[:, 0]
        return {"rows": rows, "angles": angles[rows]}

    def apply(self, batch: Tensors, columns: Mapping[str, Modality], drawn: Drawn) -> Tensors:
        aspect = self._aspect(columns)
        return _moved(batch, columns, drawn["rows"], lambda m, values: m.turned(values, drawn["angles"], aspect))

    @staticmethod
    def _aspect(columns: Mapping[str, Modality]) -> float:
        """Height by width of all pictures, as the largest says it. Raises ValueError where they differ, or where
        something lies on a frame and no picture says what form that has."""
        sizes = {column: m.height_width for column, m in columns.items() if m.height_width is not None}
        if not sizes:
            lying = [column for column, m in columns.items() if m.place != "none"]
            if lying:
                raise ValueError(
                    f"rotate cannot turn {lying[0]}: no picture beside it says how high and wide its frame is"
                )
            return 1.0
        first = max(sizes, key=lambda column: (math.prod(sizes[column]), column))
        height, width = sizes[first]
        for column, (high, wide) in sizes.items():
            if abs(high * width - height * wide) > max(height * wide * ALIKE, height / 2, width / 2):
                sides = f"{first} has {height} x {width} pixels and {column} {high} x {wide}"
                raise ValueError(f"rotate needs pictures of equal proportions: {sides}")
        return height / width


class Colour(Augment):
    """Another light on images and clips, the same on all of a sample: contrast, brightness and the balance of the
    colours change by up to these shares. `brightness` is a shift of all shades by up to this share of 255, `exposure` a
    factor of the light from 1 / (1 + exposure) to 1 + exposure, so that dark frames keep what they show. What else a
    camera may do is there when it is named (as in Cubuk et al. 2020 and torchvision's ColorJitter, whose `brightness`
    is `exposure` here): `saturation` and `gamma` change by up to these shares, `hue` turns by up to this share of the
    circle; `grey` is the chance of a picture without colours, `blur` the largest deviation of a Gaussian
    in pixels, `noise` the largest deviation of noise in shades of 0..255. All but the answers change: labels and
    stored answers of a teacher stay what they were for the picture as it was."""

    revision: ClassVar[int] = 1
    light: ClassVar[bool] = True
    contrast: float = Field(0.2, ge=0, lt=1)
    brightness: float = Field(0.15, ge=0, lt=1)
    balance: float = Field(0.08, ge=0, lt=1)
    exposure: float = Field(0.0, ge=0, le=4)
    saturation: float = Field(0.0, ge=0, le=1)
    gamma: float = Field(0.0, ge=0, le=1)
    hue: float = Field(0.0, ge=0, le=0.5)
    grey: float = Field(0.0, ge=0, le=1)
    blur: float = Field(0.0, ge=0, le=5)
    noise: float = Field(0.0, ge=0, le=64)

    def draw(self, columns: Mapping[str, Modality], count: int, part: slice, generator: torch.Generator) -> Drawn:
        import torch

        drawn = (torch.rand(count, 5, generator=generator) * 2 - 1)[part]
        light = {
            "contrast": 1 + self.contrast * drawn[:, :1],
            "shift": 255 * self.brightness * drawn[:, 1:2],
            "gain": 1 + self.balance * drawn[:, 2:],
            "further": self._further(count, part, generator),
        }
        if self.exposure:  # drawn last: trainings without it keep what they drew
            exposed = (1 + self.exposure) ** (2 * torch.rand(count, 1, generator=generator) - 1)
            light["exposed"] = exposed[part]
        return light

    def apply(self, batch: Tensors, columns: Mapping[str, Modality], drawn: Drawn) -> Tensors:
        from hyperloom.stages.augment.light import lit

        changed, further = dict(batch), drawn["further"]
        for column, modality in columns.items():
            if modality.rgb or modality.times > 1:
                values = batch[column].float()
                axes = [1] * (values.ndim - 2)
                by, plus, times = (drawn[name].view(len(values), *axes, -1) for name in ("contrast", "shift", "gain"))
                if "exposed" in drawn:
                    values = values * drawn["exposed"].view(len(values), *axes, 1)
                mean = values.mean(tuple(range(1, values.ndim)), keepdim=True)
                other = (((values - mean) * by + mean + plus) * times).clamp(0, 255)
                changed[column] = lit(other, further) if further else other
        return changed

    def _further(self, count: int, part: slice, generator: torch.Generator) -> Drawn:
        """What `lit` does to pictures beside another light; nothing where nothing was named."""
        amounts = (self.saturation, self.gamma, self.hue, self.grey, self.blur, self.noise)
        if not any(amounts):
            return {}
        import torch

        from hyperloom.stages.augment.light import drawn_light

        drawn, seeds = torch.rand(count, 6, generator=generator), torch.randint(2**62, (count,), generator=generator)
        saturation, gamma, hue, grey, blur, noise = drawn[part].unbind(1)
        return drawn_light(
            saturation=1 + self.saturation * (2 * saturation - 1),
            gamma=(1 + self.gamma) ** (2 * gamma - 1),
            hue=self.hue * (2 * hue - 1),
            grey=grey < self.grey,
            blur=self.blur * blur,
            noise=self.noise * noise,
            seeds=seeds[part].tolist(),
        )
