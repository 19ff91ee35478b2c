"""A condition on a column: which samples may be taken."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import field_validator, model_validator

from hyperloom.pipeline.config import Config, as_tuple


class SampleCondition(Config):
    """`{above: 0.5}`, `{below: 0.2}` (numbers; both exclude the border), `{is: [car, bus]}` (classes), `{known: false}`
    (no value)."""

    above: float | None = None
    below: float | None = None
    among: tuple[str, ...] = ()
    known: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """`is` is a word of Python."""
        if isinstance(value, dict) and "is" in value:
            return {**{k: v for k, v in value.items() if k != "is"}, "among": value["is"]}
        return value

    _list = field_validator("among", mode="before")(as_tuple)

    @model_validator(mode="after")
    def _something(self) -> SampleCondition:
        if self.above is None and self.below is None and not self.among and self.known is None:
            raise ValueError("give above, below, is or known")
        return self

    def met(self, values: np.ndarray, valid: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """(N,) bool, of (N,) numbers or ids of `names`. Without a value only `known: false` is met."""
        if self.known is not None:
            met = valid == self.known
            return np.asarray(met)
        met = valid.copy()
        if self.above is not None:
            met &= values > self.above
        if self.below is not None:
            met &= values < self.below
        if self.among:
            met &= np.isin(values, [names.index(name) for name in self.among])
        return np.asarray(met)
