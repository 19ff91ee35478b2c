"""A condition on a column: which samples may be taken."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import field_validator, model_validator

from hyperloom.pipeline.config import Config, as_tuple


class SampleCondition(Config):
    """`{above: 0.5}`, `{below: 0.2}` (numbers; both exclude the border), `{is: [car, bus]}` (classes), `{known: false}`
    (no value). Of several all are to be met."""

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
        if self.known is False and self._about_values:
            raise ValueError("known: false is of samples without a value, which is neither above, below nor a class")
        return self

    @property
    def _about_values(self) -> bool:
        return self.above is not None or self.below is not None or bool(self.among)

    @property
    def rounded(self) -> bool:
        """Is a border one that a stored number is not exactly?"""
        return any(border is not None and float(np.float32(border)) != border for border in (self.above, self.below))

    @property
    def several(self) -> bool:
        """Does it ask for a value and say which?"""
        return self.known is True and self._about_values

    def met(self, values: np.ndarray, valid: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """(N,) bool, of (N,) numbers or ids of `names`. Without a value only `known: false` is met."""
        if self.known is False:
            return np.asarray(~valid)
        met, stored = valid.copy(), np.float32(values)  # a border is as numbers are stored: .1 is not above .1
        if self.above is not None:
            met &= stored > np.float32(self.above)
        if self.below is not None:
            met &= stored < np.float32(self.below)
        if self.among:
            met &= np.isin(values, [names.index(name) for name in self.among])
        return np.asarray(met)
