"""The recipe of a table: rows with features and a field to learn, of which some rows may have no value.

A teacher learns from the rows that have one and labels the rest, a student learns from both and is exported; both are
judged on held-out groups of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline import plugins
from hyperloom.pipeline.counting import counted
from hyperloom.stages.augment.views import Flip
from hyperloom.stages.ingest.rows import TableRow
from hyperloom.stages.ingest.source import path_safe
from hyperloom.stages.starter.dealing import held_rows
from hyperloom.stages.starter.draft import AUGMENT
from hyperloom.stages.starter.fields import FILED, TableField, TableLook
from hyperloom.stages.starter.given_split import GivenPin, pinned, place
from hyperloom.stages.starter.lines import block, comment, flow
from hyperloom.stages.starter.times import period, word

PARTS = 20
"""Groups into which rows are dealt that say no group."""
FEW = 20
"""Held-out rows with a value below which figures say little."""
UPDATES = {"teacher": 300, "student": 400}
NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {
        "model": {"trunk": "unet", "parameters": "280k"},
        "augment": AUGMENT,
        "optimizer": {"lr": 0.005},
    },
    "vit": {"model": {"trunk": "vit", "parameters": "200k"}, "optimizer": {"lr": 0.002}},
}


@dataclass
class TableDraft:
    """What `init` has decided of a table."""

    folder: str
    name: str
    table: TableLook
    target: TableField
    sides: tuple[int, int] = (96, 96)
    sound: tuple[int, float] = (16000, 1.0)
    remarks: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """Groups that are held out by name; without any a share of all groups is."""
    pin: GivenPin = field(default_factory=dict)
    """What the table itself holds out."""
    owner: str = ""
    """The field that says what rows belong to, where something else deals them."""
    twins: list[str] = field(default_factory=list)
    """Fields that are the one to learn by other names."""
    period: str = ""
    """Of rows with dates and no other group: how these group them, `when[:7]` by the month."""

    def hold_out(self) -> None:
        """Choose the groups, the newest where rows have dates and nothing else says what belongs together, and say how
        many rows with a value to learn are among them, where these are few. Where rows are to be grouped by time and no
        period will do, each date is a group."""
        table = self.table
        if self.pin:
            self.held = self.pin["test"]
            if table.time:
                self.remarks.append(f"{table.time} holds dates, from which nothing is learned; {table.split} holds out")
            self._warn_of_few(sum(path_safe(str(row[table.split])) in self.held for row in self._rows_with_a_value))
            return
        when = table.named(table.time) if table.time else None
        newest = period(list(table.content.values()), when, self.target) if when else ""
        if table.by_time and isinstance(newest, str):
            table.group = table.time
        if not table.group and not isinstance(newest, str):
            self.period, self.held, count = newest
        else:
            self.held, count = held_rows(self.table, self.target, PARTS)
        if table.time:
            self.remarks.append(_dated(table, self.period, newest if isinstance(newest, str) else ""))
        if self.held:
            self._warn_of_few(count)

    def take_given_split(self) -> None:
        """Hold out what the table itself holds out, and say which groups of another field lie on both sides."""
        table = self.table
        if lacking := len(table.content) - sum(table.splits(row) for row in table.content.values()):
            self.remarks.append(f"not used: {table.split}, which says nothing of {counted(lacking, 'row')}")
            return
        words = {str(number): str(row[table.split]) for number, row in table.content.items()}
        labelled = [str(n) for n, row in table.content.items() if self.target.among(row)]
        self.pin = pinned(words, labelled)
        if not self.pin:
            self.remarks.append(
                f"not used: {table.split}, as not both its training and what it holds out have rows with "
                f"{self.target.name}"
            )
            return
        for owner in [f for f in table.owners() if f is not self.target]:
            sides: dict[str, set[str]] = {}
            for row in table.content.values():
                if owner.among(row):
                    sides.setdefault(str(row[owner.name]), set()).add(place(str(row[table.split])) or "")
            if both := sorted(value for value, places in sides.items() if len(places) > 1):
                self.remarks.append(
                    f"{len(both)} of {len(sides)} {owner.name}, such as {both[0]}, lie on both sides of {table.split}: "
                    f"where rows of one are alike, figures flatter (--group {owner.name} holds out whole ones)"
                )
        self.owner, table.group = table.group, table.split
        if self.owner:
            self.remarks.append(f"nothing is learned from {self.owner}, which says what belongs together")
        self.remarks.append(
            f"{table.split} says which rows are for training and which are held out: taken as it is, and nothing is "
            "learned from it; --group with another field deals them anew"
        )

    def _warn_of_few(self, count: int) -> None:
        if count < FEW:
            self.remarks.append(
                f"only {count} of the {self.labelled} rows with {self.target.name} are held out: figures of so few "
                "say little, so give more rows a value before you believe them"
            )

    @property
    def _rows_with_a_value(self) -> list[TableRow]:
        return [row for row in self.table.content.values() if self.target.among(row)]

    @property
    def split(self) -> dict[str, Any]:
        pin = self.pin or ({"test": self.held} if self.held else {})
        return {"by": "group", "pin": pin} if pin else {"by": "group", "test": 0.2}

    @property
    def features(self) -> list[TableField]:
        kinds = ("", "time")
        others = [f for f in self.table.fields if f.kind not in kinds and f is not self.target]
        others = [f for f in others if f.name not in (self.table.group, self.table.split, self.owner, *self.twins)]
        return [f for f in others if f.name != self.table.key or f.kind in FILED]

    @property
    def truth(self) -> str:
        return f"{self.target.modality}@truth"

    @property
    def labelled(self) -> int:
        return len(self.target.cells)

    @property
    def pictures(self) -> bool:
        """Are pictures among the features, and nothing that only a transformer reads?"""
        kinds = {f.kind for f in self.features}
        return "image" in kinds and not kinds & {"text", "audio", "document"}

    @property
    def inputs(self) -> list[str]:
        return [f"{f.modality}@table" for f in self.features]

    @property
    def sideless(self) -> str:
        """Why pictures cannot be mirrored with all that is beside them, such as numbers; empty where they can."""
        fields = zip((*self.inputs, self.truth), (*self.features, self.target), strict=True)
        kinds = {column: plugins.parse("modality", f.definition(self.sides, self.sound)) for column, f in fields}
        try:
            Flip(type="flip").check(kinds)
        except ValueError as error:
            return str(error).split(". Next: ")[0]
        return ""


def _dated(table: TableLook, period: str, why: str) -> str:
    """What the dates of a table are taken for; `why` they hold out nothing, where they cannot."""
    if period:
        return (
            f"{table.time} holds dates: the newest {word(period)} are held out, as a model is asked about what comes "
            "next; nothing is learned from the dates themselves. Rows that come later are learned from, unless they "
            "are added to pin"
        )
    instead = why or f"--group {table.time} holds out the newest"
    how = f"rows are held out by {table.group}" if table.group else "rows are held out by chance"
    return f"{table.time} holds dates, from which nothing is learned; {how}, whenever they are from: {instead}"


def written(draft: TableDraft) -> str:
    """The recipe's text."""
    what = f"a table: a teacher learns {draft.target.name} from {draft.labelled} rows that have it and labels the rest"
    still = [f"Pictures are not mirrored: {why}."] if draft.pictures and (why := draft.sideless) else []
    lines = comment([f"Of {what}; a small student learns from both.", "Judged on rows that no training sees.",
                     *draft.remarks, *still, "Paths are absolute: correct them when the folder moves."])  # fmt: skip
    lines += [f"name: {draft.name}", f"root: {flow(f'{draft.folder}/.hyperloom')}", ""]
    definitions = {f.modality: f.definition(draft.sides, draft.sound) for f in (*draft.features, draft.target)}
    lines += [*block("modalities", definitions, 0), "", "steps:", *_rows(draft), *_trainings(draft)]
    return "\n".join(lines) + "\n"


def _rows(draft: TableDraft) -> list[str]:
    table = draft.table
    cells: dict[str, Any] = {}
    for one, column in zip(draft.features, draft.inputs, strict=True):
        cells[column] = {"file": one.name, "folder": one.folder} if one.kind in FILED else table.cell(one)
    cells[draft.truth] = table.cell(draft.target)
    source: dict[str, Any] = {"type": "table", "path": table.path, **table.dialect}
    source |= {"key": table.key} if table.key else {}
    group = draft.period or table.group
    source |= {"group": group} if group else {"parts": PARTS}
    why = "rows are dealt into so many groups by their key: no field says what belongs together"
    why = "whole groups are held out" if table.group else why
    why = f"{table.split} says what is held out" if draft.pin else why
    why = f"groups are {word(group)} of {table.time}, of which the newest are held out" if draft.period else why
    ingest = {"stage": "ingest", "group": "group", "rows": 64, "source": {**source, "columns": cells}}
    lines = block("rows", ingest, 2, {"source": [why]})
    return [*lines, "", *block("shards", {"stage": "shard", "data": "rows", "split": draft.split}, 2)]


def _trainings(draft: TableDraft) -> list[str]:
    task, truth = draft.target.modality, draft.truth
    common = {
        **NETWORKS["unet" if draft.pictures else "vit"],
        **({"augment": AUGMENT[1:]} if draft.pictures and draft.sideless else {}),
        "batch": min(32, max(1, draft.labelled // 3)),
        "ema": 0.98,
    }
    teacher = {"stage": "train", "data": "shards", "in": draft.inputs, "targets": {task: truth}}
    expert = {"type": "model", "model": "teacher", "out": f"{task}@teacher"}
    columns = [*draft.inputs, f"{task}@teacher", truth]
    student = {"stage": "distill", "data": "lessons", "teacher": "teacher", "in": draft.inputs}
    both = {task: {f"{task}@teacher": 1.0, truth: 1.0}}
    steps: dict[str, dict[str, Any]] = {
        "teacher": {**teacher, "updates": UPDATES["teacher"], **common},
        "labels": {"stage": "label", "data": "rows", "experts": [expert]},
        "lessons": {"stage": "shard", "data": ["rows", "labels"], "columns": columns, "split": draft.split},
        "student": {**student, "targets": both, "updates": UPDATES["student"], **common},
        "report": {"stage": "evaluate", "data": "shards", "models": ["teacher", "student"], "truth": {task: truth}},
    }  # fmt: skip
    if [f.kind for f in draft.features] == ["image"]:  # what a release takes
        steps["release"] = {"stage": "release", "model": "student", "report": "report", "name": draft.name}
    return [line for name, step in steps.items() for line in ("", *block(name, step, 2))]
