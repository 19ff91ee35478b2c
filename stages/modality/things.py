"""Things: several in a picture, each of a class, in rows of which those that are not used lie at the end."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from hyperloom.stages.modality.base import Modality
from hyperloom.stages.modality.choice import distinct, numbered
from hyperloom.stages.modality.geometry import SidedClasses, Symmetry
from hyperloom.stages.modality.knowledge import whole


class Things(SidedClasses, Modality):
    """Base of boxes and instances."""

    classes: tuple[str, ...] = Field(min_length=1)
    most: int = Field(ge=1)
    """Things that one sample can have."""

    _numbered = field_validator("classes", mode="before", json_schema_input_type=tuple[str, ...] | int)(numbered)
    _distinct = field_validator("classes")(distinct)

    @property
    def codec(self) -> str:
        return "native"

    @property
    def averaged(self) -> bool:
        return False

    @property
    def place(self) -> Symmetry:
        return "known"

    def grid(self, patch: int) -> tuple[int, ...]:
        return (self.most,)

    def given(self, values: Any) -> Any:
        return whole(values)  # that there is none is an answer too
