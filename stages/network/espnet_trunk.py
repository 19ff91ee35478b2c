"""The trunk `espnet`: the recipe's side of `stages.network.espnet`. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.spelling import near
from hyperloom.stages.network.trunks import PlanesTrunk

if TYPE_CHECKING:
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture, Input, Task
    from hyperloom.stages.network.features import Sizes

LEAST = 5
"""Its pyramids split the classes into so many dilated filters."""


class EspNetTrunk(PlanesTrunk):
    """ESPNet (Mehta et al. 2018, see `stages.network.espnet`), whose published weights have seen streets: a training
    starts from them by `start`. It reads one picture, whose sides are multiples of 8."""

    revision: ClassVar[int] = 2
    width: int | None = Field(None, ge=1, le=64)
    """Blocks at an eighth of the sides, the paper's q (published: 8); left out, the model's `parameters` choose it.
    Weights of more blocks fit: the first ones are taken."""
    depth: int = Field(2, ge=1, le=64)
    """Blocks at a quarter of the sides, the paper's p."""
    classes: Annotated[int, Field(ge=1, le=1024)] | Annotated[tuple[str | None, ...], Field(min_length=1)] = 20
    """Classes of the published weights, with which its decoder works: how many, or the name of each in this recipe,
    null for what is none of them. With names, classes of one name are scored together, and heads of these names begin
    with the scores."""

    @property
    def sizes(self) -> Sizes:
        from hyperloom.stages.network.features import Sizes

        return Sizes(len(self.named) or self.count, 256, 256)

    @property
    def count(self) -> int:
        """Classes of the published weights."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    @property
    def named(self) -> tuple[str, ...]:
        return () if isinstance(self.classes, int) else tuple(dict.fromkeys(c for c in self.classes if c is not None))

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """For each of the names, the published classes that are scored together."""
        names = () if isinstance(self.classes, int) else self.classes
        return tuple(tuple(i for i, c in enumerate(names) if c == name) for name in self.named)

    @field_validator("classes")
    @classmethod
    def _enough(cls, value: int | tuple[str | None, ...]) -> int | tuple[str | None, ...]:
        count = value if isinstance(value, int) else len(value)
        if count < LEAST:
            raise ValueError(
                f"espnet works with at least {LEAST} classes, got {count}: those of the published weights (20 of "
                "Cityscapes), with null for what is none of yours"
            )
        return value

    def check(self, inputs: Sequence[Input], tasks: Sequence[Task]) -> None:
        super().check(inputs, tasks)
        names = ", ".join(i.column for i in inputs)
        if len(inputs) > 1 or inputs[0].beside or not inputs[0].processor.colours or inputs[0].modality.planes != 3:
            raise ValueError(f"the trunk espnet reads one picture in colours, got {names}; a unet reads more")
        if any(side % 8 for side in inputs[0].processor.size or ()):
            size = inputs[0].processor.size
            raise ValueError(f"the trunk espnet needs a picture whose sides are multiples of 8, got {size} of {names}")
        known = {name for task in tasks for name in task.modality.meaning.names}
        if unknown := [name for name in self.named if name not in known]:
            raise ValueError(
                f"the trunk espnet: classes: no task has a class {unknown[0]!r}{near(unknown[0], known)}. Next: write "
                "null for a published class that is none of yours"
            )

    def fusion(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import espnet

        return espnet.Picture()

    def build(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import espnet

        (picture,), (fold,) = architecture.inputs, architecture.folds
        return espnet.EspTrunk(self.count, self.depth, self.chosen, self.groups, picture.scale, fold)
