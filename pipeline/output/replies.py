"""Replies: the form of what commands answer to programs (`--json`), one class a command. Not every command has one:
what has none is described in docs/command.md alone.

Not here yet: commands that docs/command.md alone describes (`run`, `plan`, `status`, `data`, `experts`, ..). A class
here is the promise: its fields are all that the JSON object has, always, with null where something does not exist.
`hyperloom schema --replies` prints them as one JSON Schema, docs/command.md lists them, and a test holds both
against what the commands answer. Commands fill plain dictionaries of these types; nothing here costs a command that
answers people any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from typing_extensions import TypedDict


class FailureReply(TypedDict):
    """Any command that ends with an error."""

    error: str
    exit_code: int


class CurvePoint(TypedDict):
    """One size of the step: its figure, the mean of so many `seeds`, with the bounds of its 95 % interval, and what one
    training costs."""

    name: str
    figure: float
    low: float | None
    high: float | None
    parameters: int
    milliseconds: float | None
    minutes: float | None
    seeds: int
    runtime: str


class CurveReply(TypedDict):
    """`curve`: a step trained at several sizes. `rivals`: the same figure of experts, consensus and teacher. `picture`
    and `table` lie under the root. Where a training failed, an `error` with the exit code stands in its place."""

    step: str
    report: str
    figure: str
    higher_is_better: bool
    split: str
    samples: int
    points: Sequence[CurvePoint]
    rivals: Mapping[str, float]
    sentence: str
    picture: str
    table: str


class TableReply(TypedDict):
    """A table of a page: a row is column -> value; an estimate is `{"value", "low", "high"}`."""

    title: str
    rows: Sequence[Mapping[str, Any]]


class SectionReply(TypedDict):
    """A section of a page: its tables, and sentences beside them."""

    title: str
    tables: Sequence[TableReply]
    sentences: Sequence[str]


class ReportReply(TypedDict):
    """`report`: the page as data, without pictures and charts. `outcome` is its first sentence, `verdict` how to take
    it: `good`, `bad` or `plain`. `doubts` are what makes figures prove nothing, `missing` what could not be read.
    `sections` by name: results, steps, experts, training, ..."""

    path: str
    recipe: str
    outcome: str
    verdict: Literal["plain", "good", "bad"]
    doubts: Sequence[str]
    facts: Mapping[str, str]
    sections: Mapping[str, SectionReply]
    missing: Sequence[str]


class DiffReply(TypedDict):
    """`diff`: `before` and `after` as they were given, whether they are the same steps, and the sections recipe, data,
    labels, figures, where something differs. `path` is the HTML page of `--to`."""

    before: str
    after: str
    same: bool
    outcome: str
    sections: Mapping[str, SectionReply]
    missing: Sequence[str]
    path: str | None


class InitReply(TypedDict):
    """`init`: the recipe that was written, what the folder has in one line, what was left out or assumed, and the
    command that runs it."""

    recipe: str
    summary: str
    remarks: Sequence[str]
    next: str


class SubmitReply(TypedDict):
    """`submit`: the job, whether it ran already, and the exit code of the recipe's run; null with `--detach`."""

    job: str
    address: str
    already_running: bool
    exit_code: int | None


class RenderReply(TypedDict):
    """`cluster render`: the file, as text."""

    profile: str
    recipe: str
    text: str


class WaitReply(TypedDict):
    """`cluster wait`: how many nodes have joined."""

    nodes: int


class LeaveReply(TypedDict):
    """`cluster leave`: what was done on the way out, in words."""

    notes: Sequence[str]


class CompletionReply(TypedDict):
    """`completion`: what the shell is to run."""

    shell: str
    script: str


class UiReply(TypedDict):
    """`ui`, at once, since it goes on: the server, and pages by name: of the last run, of all runs, of models."""

    server: str
    pages: Mapping[str, str]


class LookReply(TypedDict):
    """`look`, at once, since it goes on: the page with its token, and how many samples it has."""

    url: str
    samples: int


REPLIES: Mapping[str, type] = {
    "curve": CurveReply,
    "report": ReportReply,
    "diff": DiffReply,
    "init": InitReply,
    "submit": SubmitReply,
    "cluster render": RenderReply,
    "cluster wait": WaitReply,
    "cluster leave": LeaveReply,
    "completion": CompletionReply,
    "ui": UiReply,
    "look": LookReply,
}
"""Command -> the type of its JSON."""


def schema() -> dict[str, Any]:
    """All replies as one JSON Schema: a definition for each command, by its name."""
    from pydantic import TypeAdapter

    adapters: Any = [(name, "serialization", TypeAdapter(of)) for name, of in REPLIES.items()]
    by_name, whole = TypeAdapter.json_schemas(adapters, title="What hyperloom commands answer with --json")
    return {"properties": {name: form for (name, _), form in by_name.items()}, **whole}
