"""What a shard step reads and gives: rows from an ingest step, one maker for each column, splits that can be filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hyperloom.pipeline.errors import HyperloomError, RecipeError
from hyperloom.pipeline.planning.check import Listed, StepCheck
from hyperloom.stages.schema import Column, Listing, SamplesSchema, ShardsSchema, choosing, defined, inputs_of
from hyperloom.stages.shard.splits import present

if TYPE_CHECKING:
    from hyperloom.stages.shard.splits import Split, SplitName
    from hyperloom.stages.shard.stage import Shard

SIZE = "size"
"""Strata by how many samples a group has."""


def checked(stage: Shard, step: StepCheck) -> ShardsSchema:
    """The columns that are kept, and the splits that may hold rows."""
    offered, schemas = inputs_of(stage.data, step)
    raw = [s for s in schemas.values() if s and s.raw]
    if offered.complete and not raw:
        step.mistake(("data",), "data needs an ingest step, whose samples become the rows")
    for group in {s.group for s in raw if s.group}:
        if stage.split.by and stage.split.by != group:
            step.mistake(("split", "by"), f"split by {stage.split.by!r}, but ingest groups by {group!r}")
    _one_maker(stage, step, schemas)
    for i, column in enumerate(stage.columns):
        if offered.want(step, ("columns", i), column):
            defined(column, step, ("columns", i))
    columns = {c: offered.columns.get(c) or Column(c, "raw", lambda: "") for c in stage.columns or offered.columns}
    if stage.keep and offered.want(step, ("keep",), stage.keep):
        choosing(stage.keep, step, ("keep",), "keep")
    by = stage.split.stratify
    if by and by != SIZE and by not in columns and offered.complete:
        step.unknown(
            ("split", "stratify"), by, f"split.stratify: neither {SIZE!r} nor a column of the shards is", columns
        )
    _apart(stage, step, columns, offered.complete)
    complete = offered.complete and not step.mistakes
    groups = Groups(stage.split, [listing for s in raw for listing in s.listings], complete)
    step.later(lambda listed: groups.check(step, listed))
    splits = frozenset(n for n in ("train", "val", "test") if n == "train" or may_hold(stage.split, n))
    return ShardsSchema(columns, splits, groups.most, complete=offered.complete or bool(stage.columns))


def _apart(stage: Shard, step: StepCheck, columns: Mapping[str, Column], complete: bool) -> None:
    """Note what copies cannot be told by."""
    by = stage.split.apart
    if by and stage.split.stratify:
        step.mistake(("split", "apart"), "split: apart and stratify both say where groups lie: give one")
    if by in ("", "duplicates", "embedding") or not complete:
        return
    if by not in columns:
        step.unknown(("split", "apart"), by, "split.apart: neither duplicates, embedding nor a column is", columns)


def may_hold(split: Split, name: SplitName) -> bool:
    """Can rows fall into the split `val` or `test`?"""
    return bool(split.pin.get(name)) or getattr(split, name) > 0


class Groups:
    """The groups of the samples and the splits that they fall into, once their sources are listed."""

    def __init__(self, split: Split, listings: list[Listing], complete: bool):
        self._split, self._listings, self._complete = split, listings, complete

    def check(self, step: StepCheck, listed: Listed) -> None:
        """Note groups that are pinned and not there, and splits that stay empty."""
        names = self._names(listed)
        if not names:
            return
        pinned = [(split, i, group) for split, names_ in self._split.pin.items() for i, group in enumerate(names_)]
        groups = dict.fromkeys(names)
        unknown = [(split, i, group) for split, i, group in pinned if not present(group, groups)]
        unread = {g for listing in self._listings for g in listing.unread(listed)} if unknown else set()
        unknown = [(split, i, group) for split, i, group in unknown if not present(group, unread)]
        for split, i, group in unknown:
            step.unknown(("split", "pin", split, i), group, "split.pin: there is no group", names)
        if not unknown:
            try:
                dealt = self._split.without(unread, groups)
                dealt.assign(names if not dealt.stratify else dict.fromkeys(names, ""))
            except RecipeError as error:
                if not (self._split.stratify or self._split.apart) or all(map(self._split.pinned, names)):
                    step.mistake(("split",), str(error))

    def most(self, listed: Listed, split: str, enough: int) -> int | None:
        """The most rows that a split can have, counted until they are `enough`; None where only a run can tell."""
        names = self._names(listed)
        if names is None:
            return None
        if self._split.stratify or self._split.apart:
            mine = [name for name in names if self._split.pinned(name) in (None, split)]
        else:
            mine = [name for name in names if self._split.of(name) == split]
        return self._counted(listed, mine, enough)

    def _names(self, listed: Listed) -> list[str] | None:
        if not self._complete:
            return None
        try:
            names = [listing.groups(listed) for listing in self._listings]
        except HyperloomError:
            return None  # the plan or the run says what is wrong with the source
        return (
            None if any(names is None for names in names) else list(dict.fromkeys(n for ns in names for n in ns or ()))
        )

    def _counted(self, listed: Listed, groups: Iterable[str], enough: int) -> int | None:
        total = 0
        try:
            for group in groups:
                for listing in self._listings:
                    for rows in listing.rows(listed, group):
                        total += rows
                        if total >= enough:
                            return total
        except HyperloomError:
            return None
        return total


def _one_maker(stage: Shard, step: StepCheck, schemas: Mapping[str, SamplesSchema | None]) -> None:
    """Note columns that two inputs offer with different values."""
    makers: dict[str, tuple[str, Column]] = {}
    for i, (name, schema) in enumerate(schemas.items()):
        for column, mine in schema.columns.items() if schema else ():
            if stage.columns and column not in stage.columns:
                continue
            other, first = makers.setdefault(column, (name, mine))
            if first is not mine and first.identity() != mine.identity():
                step.mistake(
                    ("data", i),
                    f"both {other!r} and {name!r} offer {column}, and not the same. Next: give one of them another "
                    "source name, or leave one of the steps out of data",
                )
