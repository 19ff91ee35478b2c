"""Segmenters without training: class maps by colour, by texture, by relief, or from other class maps.

The recipe says what classes look like; nothing is learned and no truth is read. Each sees only its own kind of
evidence, so they err in different places, which is what a consensus lives on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.procedural import each, takes

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.planning.check import StepCheck
    from hyperloom.pipeline.recipes.recipe import Where
    from hyperloom.pipeline.root.storage import Storage

FEATURES = ("light", "green", "warm", "rough", "lines", "above", "rise", "slope")
PICTURE_FEATURES = FEATURES[:5]


def _named(value: dict[str, float]) -> dict[str, float]:
    unknown = set(value) - set(FEATURES)
    if unknown or not value:
        raise ValueError(
            f"expected some of the features {', '.join(FEATURES)}, got {', '.join(sorted(unknown)) or 'none'}"
        )
    return value


Look = Annotated[dict[str, float], AfterValidator(_named)]
"""What a class may look like: feature -> typical value (see algorithms.features)."""


class ColorClasses(Expert):
    """`{type: color-classes, in: rgb@camera, out: semantic@color, colors: {water: ["#204060"], ...}}`.

    The class of the nearest colour in CIE Lab, brightness evened out over the frame; see algorithms.rules.color_scores
    for `softness`, `light` and `sigma`. 255 where no colour of any class is nearer than `reject` (a score, 0..1).
    """

    colors: dict[str, tuple[str, ...]]
    softness: float = Field(8.0, gt=0)
    light: float = Field(0.5, ge=0)
    sigma: float = Field(1.5, ge=0)
    reject: float = Field(0.0, ge=0, lt=1)

    @field_validator("colors")
    @classmethod
    def _hex(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for class_, colors in value.items():
            if not colors:
                raise ValueError(f"{class_}: give at least one colour")
            for color in colors:
                _rgb(color)
        return value

    @model_validator(mode="after")
    def _columns(self) -> ColorClasses:
        return takes(self, 1, 1)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        import numpy as np

        from hyperloom.stages.base import UNKNOWN
        from hyperloom.stages.label.algorithms.rules import color_scores

        ids = np.array(class_ids(self, self.out[0], self.colors, modalities), np.uint8)
        prototypes = [np.array([_rgb(c) for c in colors], np.uint8) for colors in self.colors.values()]

        def classes(rgb: np.ndarray) -> np.ndarray:
            scores = color_scores(rgb, prototypes, self.softness, self.light, self.sigma)
            return np.where(scores.max(0) > self.reject, ids[scores.argmax(0)], UNKNOWN).astype(np.uint8)

        return each(self, classes)


class TextureClasses(Expert):
    """`{type: texture-classes, in: rgb@camera, out: semantic@texture, looks: {forest: [{rough: -2.9}], ...}}`.

    Groups the pixels of a frame into `clusters` by their picture features over windows of `sigma` pixels (k-means),
    and gives each group the class of the nearest look. 255 where the distance is more than `reject`.
    """

    looks: dict[str, tuple[Look, ...]]
    clusters: int = Field(16, ge=2, le=256)
    sigma: float = Field(2.0, gt=0)
    reject: float = Field(10.0, gt=0)

    @model_validator(mode="after")
    def _columns(self) -> TextureClasses:
        used = {name for looks in self.looks.values() for look in looks for name in look}
        if used - set(PICTURE_FEATURES):
            raise ValueError(
                f"looks: a picture alone shows {', '.join(PICTURE_FEATURES)}; for more, see relief-classes"
            )
        return takes(self, 1, 1)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from hyperloom.stages.base import UNKNOWN
        from hyperloom.stages.label.algorithms.features import picture_features
        from hyperloom.stages.label.algorithms.rules import clustered, nearest_description

        ids = class_ids(self, self.out[0], self.looks, modalities)
        looks = dict(zip(ids, self.looks.values(), strict=True))

        def classes(rgb: np.ndarray) -> np.ndarray:
            labels, means = clustered(picture_features(rgb, self.sigma), self.clusters)
            winners, distances = nearest_description(means, looks)
            winners[distances > self.reject] = UNKNOWN
            return winners[labels]

        return each(self, classes)


class ReliefClasses(Expert):
    """`{type: relief-classes, in: [rgb@camera, depth@motion, pose@telemetry], out: semantic@relief, looks: {...}}`.

    The class of the nearest look by height above the ground nearby and above the lowest ground in sight, slope, and
    the picture's features. `reach` in pixels is how far off ground may be, `sigma` the window, `reject` as above.
    """

    looks: dict[str, tuple[Look, ...]]
    reach: int = Field(14, ge=1)
    sigma: float = Field(2.5, gt=0)
    reject: float = Field(10.0, gt=0)

    @model_validator(mode="after")
    def _columns(self) -> ReliefClasses:
        return takes(self, 3, 1)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from hyperloom.stages.base import UNKNOWN
        from hyperloom.stages.label.algorithms.features import picture_features, relief_features
        from hyperloom.stages.label.algorithms.pose import Pose
        from hyperloom.stages.label.algorithms.rules import nearest_description

        ids = class_ids(self, self.out[0], self.looks, modalities)
        looks = dict(zip(ids, self.looks.values(), strict=True))

        def classes(rgb: np.ndarray, depth: np.ndarray, pose: np.ndarray) -> np.ndarray:
            seen = picture_features(rgb, self.sigma)
            seen |= relief_features(depth[..., 0], Pose.of(pose), self.reach, self.sigma)
            winners, distances = nearest_description(seen, looks)
            winners[distances > self.reject] = UNKNOWN
            return winners

        return each(self, classes)


class Remap(Expert):
    """`{type: remap, in: semantic@net, out: landuse@net, table: {road: ground, car: null}}`: classes to other classes.

    What the table leaves out keeps its name where the new modality has it, and is 255 otherwise; null is 255. Several
    inputs vote (ties go to the one listed first): so modalities are derived from the class maps of several experts.
    """

    table: dict[str, str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _columns(self) -> Remap:
        return takes(self, (1, 64), 1)

    def checked(self, step: StepCheck, where: Where) -> Remap:
        classes = [getattr(step.modalities.get(modality_of(c)), "classes", None) for c in self.in_]
        known = {name for names in classes for name in names or ()}
        for name in self.table if all(classes) else ():
            if name not in known:
                step.unknown((*where, "table", name), name, f"no class of {', '.join(self.in_)} is called", known)
        target = getattr(step.modalities.get(modality_of(self.out[0])), "classes", None)
        for name, new in self.table.items():
            if target and new is not None and new not in target:
                step.unknown((*where, "table", name), new, f"{self.out[0]} has no class", target)
        return self

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from hyperloom.stages.label.algorithms.majority import vote

        target = modalities[modality_of(self.out[0])].classes
        luts = [self._lut(modalities[modality_of(column)].classes, target) for column in self.in_]

        def call(batch: Batch) -> Batch:
            maps = [lut[batch[column]] for lut, column in zip(luts, self.in_, strict=True)]
            return {self.out[0]: maps[0] if len(maps) == 1 else vote(maps, [1.0] * len(maps), len(target))[0]}

        return call

    def _lut(self, source: tuple[str, ...], target: tuple[str, ...]) -> np.ndarray:
        import numpy as np

        lut = np.full(256, 255, np.uint8)
        for i, name in enumerate(source):
            new = self.table.get(name, name if name in target else None)
            if new is not None and new not in target:
                raise RecipeError(f"{self.out[0]}: the table gives {new!r}, but its classes are {', '.join(target)}")
            lut[i] = 255 if new is None else target.index(new)
        return lut


def class_ids(expert: Expert, column: str, names: Any, modalities: dict[str, Any]) -> list[int]:
    """Ids of the classes `names` in the column's modality. Raises RecipeError for one it does not have."""
    classes = modalities[modality_of(column)].classes
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise RecipeError(
            f"the expert {expert.type!r} knows {', '.join(unknown)}, but {column} has {', '.join(classes)}"
        )
    return [classes.index(name) for name in names]


def _rgb(color: str) -> tuple[int, int, int]:
    digits = color.removeprefix("#")
    try:
        if len(digits) != 6:
            raise ValueError
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    except ValueError:
        raise ValueError(f"expected a colour as #rrggbb, got {color!r}") from None
