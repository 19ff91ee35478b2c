"""Class maps derived by rule from what other experts say: safe places to land, near buildings, open water.

    - type: rules
      in: [normals@svd, depth@net, semantic@net]
      out: landing@rules
      rules:
        - {class: safe, when: [{column: normals@svd, towards: [0, -1, 0], within: 20},
                               {column: depth@net, below: 40},
                               {column: semantic@net, classes: [grass, road]}]}
      otherwise: unsafe

The first rule whose conditions all hold gives a pixel its class. A pixel for which that cannot be said, since a class
map, a number or a direction that decides is unknown there, is unknown (255), as is one that no rule covers where
`otherwise` is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.expert import Expert, Function
from hyperloom.stages.label.procedural import each, takes
from hyperloom.stages.label.segmenters import class_ids
from hyperloom.stages.modality.dense import NO_LENGTH
from hyperloom.stages.modality.knowledge import spread

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.root.storage import Storage

    Test = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    """A column's value of one sample -> (H, W) bool: where the condition holds, and where that is known."""


class Condition(Config):
    """What must be so at a pixel. Give one of: `classes` of a class map; `above` and `below` of a channel of numbers;
    `towards`, a direction in camera coordinates (x right, y down, z forward), and the degrees `within` it."""

    column: str
    classes: tuple[str, ...] = ()
    channel: int = Field(0, ge=0)
    above: float | None = None
    below: float | None = None
    towards: tuple[float, float, float] | None = None
    within: float = Field(30.0, gt=0, le=180)

    @model_validator(mode="after")
    def _one(self) -> Condition:
        number = self.above is not None or self.below is not None
        if sum((bool(self.classes), number, self.towards is not None)) != 1:
            raise ValueError(f"{self.column}: give classes, or above and below, or towards and within")
        if self.towards == (0, 0, 0):
            raise ValueError(f"{self.column}: towards has no length")
        return self

    def test(self, modality: Any) -> Test:
        """The condition as a function. Raises RecipeError where the column's modality has no such thing."""
        import numpy as np

        rank = len(modality.shape)
        if self.classes:
            if rank != 2 or not modality.categorical:
                raise RecipeError(f"{self.column}: `classes` is for a segmentation")
            table = np.zeros(256, bool)
            for name in self.classes:
                if name not in modality.classes:
                    raise RecipeError(f"{self.column} has no class {name!r}; it has {', '.join(modality.classes)}")
                table[modality.classes.index(name)] = True
            return lambda value: (table[value], value < len(modality.classes))
        if rank != 3 or self.channel >= modality.shape[-1] or (self.towards is not None and modality.shape[-1] != 3):
            expected = "directions (3 channels)" if self.towards else f"a channel {self.channel} of numbers"
            raise RecipeError(f"{self.column}: the condition needs {expected}, its shape is {modality.shape}")
        if self.towards is not None:
            direction = np.asarray(self.towards, np.float32)
            direction /= np.linalg.norm(direction)
            least = np.float32(np.cos(np.radians(self.within)))
            return lambda value: (value @ direction >= least, _given(modality, value) & _long(value))
        low, high = (-np.inf if self.above is None else self.above), (np.inf if self.below is None else self.below)
        return lambda value: (
            (value[..., self.channel] > low) & (value[..., self.channel] < high),
            _given(modality, value),
        )


def _given(modality: Any, value: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of which a value (H, W, C) says something."""
    import numpy as np

    return np.broadcast_to(spread(modality.given(value[None]), value[None])[0, ..., 0], value.shape[:2])


def _long(value: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels whose vector points somewhere."""
    import numpy as np

    return np.asarray((abs(value) > NO_LENGTH).any(-1))


class Rule(Config):
    """The class of the pixels where all of `when` holds."""

    class_: str = Field(alias="class")
    when: tuple[Condition, ...] = Field(min_length=1)


class Rules(Expert):
    """One class map from any class maps and numbers of the same size."""

    rules: tuple[Rule, ...] = Field(min_length=1)
    otherwise: str | None = None

    def revised(self) -> int:
        numbers = any(not c.classes for rule in self.rules for c in rule.when)
        return super().revised() + numbers

    @model_validator(mode="after")
    def _columns(self) -> Rules:
        unknown = {c.column for rule in self.rules for c in rule.when} - set(self.in_)
        if unknown:
            raise ValueError(f"rules: {', '.join(sorted(unknown))} is not among the inputs {list(self.in_)}")
        return takes(self, (1, 64), 1)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        import numpy as np

        target = modalities[modality_of(self.out[0])]
        ids = class_ids(self, self.out[0], [rule.class_ for rule in self.rules], modalities)
        rest = 255 if self.otherwise is None else class_ids(self, self.out[0], [self.otherwise], modalities)[0]
        for column in self.in_:
            if modalities[modality_of(column)].shape[:2] != target.shape[:2]:
                raise RecipeError(
                    f"{self.out[0]}: {column} has another size; bring it to this one with a resize expert"
                )
        tests = [
            [(self.in_.index(c.column), c.test(modalities[modality_of(c.column)])) for c in rule.when]
            for rule in self.rules
        ]

        def derive(*values: np.ndarray) -> np.ndarray:
            classes = np.full(target.shape[:2], rest, np.uint8)
            open_ = np.ones(classes.shape, bool)
            for id_, conditions in zip(ids, tests, strict=True):
                holds, known, never = open_.copy(), np.ones(classes.shape, bool), np.zeros(classes.shape, bool)
                for at, test in conditions:
                    yes, sure = test(values[at])
                    holds &= yes & sure
                    never |= ~yes & sure
                    known &= sure
                classes[holds] = id_
                doubtful = open_ & ~known & ~never
                classes[doubtful] = 255
                open_ &= ~holds & ~doubtful
            return classes

        return each(self, derive)
