"""Splits: which groups (flights, drives, patients) train, validate and test.

A group's place is a pure function of its name, so new data never moves an old group: a stable hash puts the name on
0..1, the first `test` of that line is the test split, the next `val` the validation split, the rest trains. Groups may
be pinned by name instead. Shares are of groups, and met only on average: with few groups, pin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from pydantic import Field, model_validator

from pipeline.config import Config
from pipeline.errors import RecipeError

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class Split(Config):
    """`{by: flight, test: 0.2, val: 0.1, pin: {test: [flight_03]}}`. `by` is the grouping that ingest made."""

    by: str = ""
    test: float = Field(0.0, ge=0, lt=1)
    val: float = Field(0.0, ge=0, lt=1)
    pin: dict[SplitName, tuple[str, ...]] = {}
    salt: str = ""
    """Another salt deals the groups anew."""

    @model_validator(mode="after")
    def _possible(self) -> Split:
        if self.test + self.val >= 1:
            raise ValueError(f"test and val leave nothing to train on: {self.test} + {self.val}")
        pinned = [group for groups in self.pin.values() for group in groups]
        twice = sorted({group for group in pinned if pinned.count(group) > 1})
        if twice:
            raise ValueError(f"pin: a group has one place, but {', '.join(twice)} is pinned more than once")
        return self

    def of(self, group: str) -> SplitName:
        """The split of a group."""
        for name, groups in self.pin.items():
            if group in groups:
                return name
        digest = hashlib.sha256(f"{self.salt}/{group}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        return "test" if place < self.test else "val" if place < self.test + self.val else "train"

    def assign(self, groups: Iterable[str]) -> dict[str, SplitName]:
        """The split of each group. Raises RecipeError when a wanted split stays empty or a pinned group is unknown."""
        found = {group: self.of(group) for group in sorted(set(groups))}
        unknown = sorted({g for pinned in self.pin.values() for g in pinned} - set(found))
        if unknown:
            raise RecipeError(f"split.pin: no group {', '.join(unknown)}; there are: {', '.join(found)}")
        wanted: dict[SplitName, bool] = {"train": True, "val": self.val > 0, "test": self.test > 0}
        for name in SPLITS:
            if wanted[name] and name not in found.values():
                example = next(iter(found), "name")
                raise RecipeError(
                    f"split: of {len(found)} groups ({', '.join(found)}) none fell into {name!r}. "
                    f"Next: pin some by name, as in split: {{pin: {{{name}: [{example}]}}}}, or give another salt"
                )
        return found
