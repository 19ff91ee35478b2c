"""Things: several in a picture, each of a class, in rows of which those that are not used lie at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from hyperloom.stages.modality.base import Modality
from hyperloom.stages.modality.choice import distinct, numbered
from hyperloom.stages.modality.geometry import SidedClasses, Symmetry
from hyperloom.stages.modality.knowledge import whole


def things_in_words(ids: np.ndarray, crowd: np.ndarray, classes: Sequence[str]) -> str:
    """How many things there are of each class, of (n,) ids, and which of them are crowds, (n,) bool, which nobody has
    counted."""
    counts = [
        (name, int(((ids == i) & ~crowd).sum()), bool(((ids == i) & crowd).any())) for i, name in enumerate(classes)
    ]
    words = [
        [*([f"{count} {name}"] if count else []), *([f"a crowd of {name}"] if many else [])]
        for name, count, many in counts
    ]
    return ", ".join(one for listed in words for one in listed) or "none"


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
