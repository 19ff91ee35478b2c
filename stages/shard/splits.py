"""Splits: which groups (flights, drives, patients) train, validate and test.

A group's place is a pure function of its name, so new data never moves an old group: a stable hash puts the name on
0..1, the first `test` of that line is the test split, the next `val` the validation split, the rest trains. Groups may
be pinned by name instead. Shares are of groups, and met only on average: with few groups, pin.

`stratify` meets the shares within strata, but for rounding: groups of one majority class, of like mean, or of like size
(within a power of two). That has a price: a new group moves up to one old group of its own stratum over each border
between neighbouring splits (test, val, train); groups of other strata stay. A group is dealt anew only when its own
data change so much that it belongs to another stratum. `apart` has one too: a new group moves those with copies of it
to one side.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import RecipeError

if TYPE_CHECKING:
    from hyperloom.stages.modality import Modality

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class Split(Config):
    """`{by: flight, test: 0.2, val: 0.1, pin: {test: [flight_03, "night*"]}}`. `by` is the grouping that ingest made;
    `pin` names groups, or patterns of them with `*`, `?` and `[..]`."""

    by: str = ""
    test: float = Field(0.0, ge=0, lt=1)
    val: float = Field(0.0, ge=0, lt=1)
    pin: dict[SplitName, tuple[str, ...]] = {}
    stratify: str = ""
    """`size`, or a column of the shards."""
    salt: str = ""
    """Another salt deals the groups anew."""
    apart: str = ""
    """Groups that share copies lie on one side: by `duplicates` (equal bytes, or pictures that look alike), or by
    `embedding`, the one column of that type, or a column's name (see stages.shard.together)."""

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
        """The split of a group by its name alone."""
        place = self._place(group)
        return self.pinned(group) or ("test" if place < self.test else "val" if place < self._held else "train")

    def without(self, unread: Collection[str], groups: Collection[str]) -> Split:
        """This split with no pin that only groups fit which could not be read; those of `groups` could."""
        if not unread:
            return self
        pin = {n: tuple(p for p in ps if present(p, groups) or not present(p, unread)) for n, ps in self.pin.items()}
        return self.model_copy(update={"pin": pin})

    def assign(self, groups: Iterable[str] | Mapping[str, str]) -> dict[str, SplitName]:
        """The split of each group; a mapping says the stratum of each, within which shares are met.

        Raises RecipeError when a wanted split stays empty, a pinned group is unknown, or one is pinned twice.
        """
        if isinstance(groups, Mapping):
            splits = self._within(groups)
        else:
            splits = {group: self.of(group) for group in sorted(set(groups))}
        return self._filled_by(splits)

    def _filled_by(self, splits: dict[str, SplitName]) -> dict[str, SplitName]:
        """`splits`, where what is pinned is there and no wanted split is empty. Raises RecipeError."""
        named = {g for pinned in self.pin.values() for g in pinned}
        unknown = sorted(g for g in named if not present(g, splits))
        if unknown:
            raise RecipeError(f"split.pin: no group {', '.join(unknown)}; there are: {', '.join(splits)}")
        filled: dict[SplitName, bool] = {"train": True, "val": self.val > 0, "test": self.test > 0}
        for name in SPLITS:
            if filled[name] and name not in splits.values():
                example = next(iter(splits), "name")
                if len(splits) < 1 + sum(filled[n] for n in SPLITS[1:]):
                    raise RecipeError(
                        f"split: {counted(len(splits), 'group')} ({', '.join(splits)}) cannot fill {_filled(filled)}: "
                        "a group lies in one split as a whole. Next: let the source make more of them (its field "
                        "`group`), or leave out the split"
                    )
                raise RecipeError(
                    f"split: of {counted(len(splits), 'group')} ({', '.join(splits)}) none fell into {name!r}. "
                    f"Next: pin some by name, as in split: {{pin: {{{name}: [{example}]}}}}, or give another salt"
                )
        return splits

    def joined(self, groups: Mapping[str, str]) -> dict[str, SplitName]:
        """The split of each group, where a mapping says which group it goes with (the first by name of those that share
        copies): all of a set lie where a pinned one does, else where that first one would lie.

        Raises RecipeError where two of a set are pinned to different splits, or a split stays empty.
        """
        sets: dict[str, list[str]] = {}
        for group in sorted(groups):
            sets.setdefault(groups[group], []).append(group)
        places: dict[str, SplitName] = {}
        for first, mine in sets.items():
            pinned = {place: group for group in mine if (place := self.pinned(group))}
            if len(pinned) > 1:
                which = ", ".join(f"{group} to {place}" for place, group in sorted(pinned.items()))
                raise RecipeError(f"split.apart: groups with copies of each other are pinned apart: {which}")
            place = next(iter(pinned), None) or self.of(first)
            places |= dict.fromkeys(mine, place)
        try:
            return self._filled_by(places)
        except RecipeError as error:
            largest = max(sets.values(), key=len)
            hint = f" (split.apart holds {len(largest)} of {len(places)} groups together)" if len(largest) > 1 else ""
            raise RecipeError(f"{error}{hint}") from error

    def _within(self, strata: Mapping[str, str]) -> dict[str, SplitName]:
        """In each stratum the first groups on the line test, the next validate; how many of n, follows from the share,
        rounded up or down by the stratum's own place on the line, so that small strata are not all cut off."""
        splits = {group: self.pinned(group) for group in sorted(strata)}
        for kind in sorted(set(strata.values())):
            mine = [group for group in splits if strata[group] == kind and not self.pinned(group)]
            line = sorted(mine, key=lambda group: (self._place(group), group))
            rounding = self._place(f"stratum/{kind}")
            tests = math.floor(self.test * len(line) + rounding)
            held = max(tests, math.floor(self._held * len(line) + rounding))
            splits |= {g: "test" if i < tests else "val" if i < held else "train" for i, g in enumerate(line)}
        return {group: place or "train" for group, place in splits.items()}

    @property
    def _held(self) -> float:
        return self.test + self.val

    def pinned(self, group: str) -> SplitName | None:
        """Where a group is pinned, by its name or by a pattern. Raises RecipeError where patterns of two splits fit."""
        exact = [name for name, groups in self.pin.items() if group in groups]
        named = exact or [n for n, groups in self.pin.items() if any(fnmatchcase(group, p) for p in _patterns(groups))]
        if len(named) > 1:
            raise RecipeError(
                f"split.pin: the group {group} fits patterns of {' and '.join(named)}. Next: name it in one of them"
            )
        return named[0] if named else None

    def _place(self, name: str) -> float:
        """Where a name lies on 0..1."""
        digest = hashlib.sha256(f"{self.salt}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


def present(pinned: str, groups: Collection[str]) -> bool:
    """Is there the group that is pinned, or one that the pattern stands for? Quick for many of a set or a mapping."""
    return pinned in groups or any(fnmatchcase(group, p) for p in _patterns((pinned,)) for group in groups)


@lru_cache(maxsize=64)
def _patterns(pinned: tuple[str, ...]) -> tuple[str, ...]:
    """Those that stand for groups of other names."""
    return tuple(group for group in pinned if any(letter in group for letter in "*?["))


def _filled(filled: Mapping[SplitName, bool]) -> str:
    return " and ".join(name for name in SPLITS if filled[name])


def stratum(modality: Modality, statistics: Mapping[str, Any]) -> str:
    """The stratum of a group, from its merged statistics of the column: the most frequent class, or for numbers the
    part of the known range (a quarter of it), else the power of four, in which their mean lies; what is near zero
    beside the group's own numbers is one stratum. Nothing here depends on other groups, so new data changes no old
    group's stratum."""
    from hyperloom.stages.shard.statistics import edges

    if modality.counted:
        counts = statistics.get("classes", {})
        return max(counts, key=lambda name: counts[name]) if any(counts.values()) else "none"
    if "mean" not in statistics:
        return "none"
    mean = math.fsum(statistics["mean"]) / len(statistics["mean"])
    bins = edges(modality)
    borders = bins[:: (len(bins) - 1) // 4] if modality.limits else bins
    if not modality.limits:
        near, far = min(b for b in bins if b > 0), bins[-2]
        size = math.hypot(*statistics["mean"], *statistics["std"]) / math.sqrt(len(statistics["mean"]))
        if 0 < size < near or size >= far:  # a small unit, or a large one: what is near zero follows from the size
            return f"{'-' if mean < 0 else ''}{_power(mean) if abs(mean) >= near * size else 'near 0'}"
    return str(sum(mean >= border for border in borders[1:-1]))


def _power(mean: float) -> str:
    return f"4^{(math.frexp(mean)[1] - 1) // 2}"
