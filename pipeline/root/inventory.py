"""The inventory: every kind of file that lies under a root, who writes it, what a torn one means, and who mends it.

`verify` goes by it, and the table in docs/design.md is made of it. A pattern names a place relative to the root, a part
in braces standing for one name. Stages add their own kinds (`add`) where their plug-ins are listed. What is of no kind
(an MLflow store beside the data, what somebody put there) is nobody's business here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Form = Literal["manifest", "sealed", "events", "named", "passing"]
"""How a file is known to be whole: by the digest in its last line (manifest, events), by its seal
(pipeline.root.sealed), by what a manifest, a record or a pointer says of it (named). A passing one is not: its being
there says all."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file. `torn`: what one that is torn, foreign or gone means; `mends`: who makes it good again."""

    pattern: str
    form: Form
    writer: str
    torn: str
    mends: str


_KINDS = [
    FileKind("{stage}/{step}/manifest.json", "manifest", "driver", "the step is damaged", "the next run, from records"),
    FileKind(
        "{stage}/{space}/units/{unit}.json", "sealed", "slot", "the unit is not done", "the next run that needs it"
    ),
    FileKind("{stage}/{space}/packs/{digest}.json", "sealed", "driver", "records are read one by one", "a later run"),
    FileKind("{stage}/{space}/data/{file}", "named", "slot", "the unit and its step are damaged", "the next run"),
    FileKind("{stage}/{space}/quarantine/{unit}.json", "sealed", "slot", "who was left out is not known", "--replay"),
    FileKind("{stage}/{space}/failures/{unit}.json", "sealed", "driver, rank", "the traceback is lost", "the next run"),
    FileKind("{stage}/{space}/attempts/{number}.json", "sealed", "driver", "starts are not counted", "the next run"),
    FileKind(
        "{stage}/{space}/crumbs/{unit}.json", "sealed", "slot", "who was at work is not known", "the next attempt"
    ),
    FileKind("{stage}/{space}/beats/{unit}", "passing", "slot", "nothing: it has only to change", "the next beat"),
    FileKind("steps/{recipe}/{step}.json", "sealed", "driver", "what changed is not said", "the step's next run"),
    FileKind("costs/{recipe}.json", "sealed", "driver", "a forecast says no hours", "the next run"),
    FileKind("digests.json", "sealed", "plan", "raw files are read again", "the next plan"),
    FileKind(
        "claims/owners/{owner}.json", "passing", "driver", "its owner is dead, once it has stood still", "a driver"
    ),
    FileKind("claims/dead/{owner}.json", "passing", "driver", "nothing: it has only to be there", "a driver"),
    FileKind("claims/root/{number}.json", "sealed", "driver", "nobody's, once it has stood still", "a driver"),
    FileKind("claims/{what}/{stage}/{step}/{number}.json", "sealed", "driver", "the same", "a driver"),
    FileKind("claims/{what}/{name}/{number}.json", "sealed", "driver", "the same", "a driver"),
    FileKind("events/{run}/cancel.json", "passing", "hyperloom cancel", "nothing: it has only to be there", "a person"),
    FileKind("schedules/{name}/{number}.json", "sealed", "tick", "it is decided again", "--repair takes it away"),
    FileKind(
        "events/{run}/{writer}/{number}.jsonl",
        "events",
        "driver, slot, rank",
        "these events are lost, and said",
        "--repair takes it away",
    ),
    FileKind(
        "events/{run}/tracked.at/{number}.json",
        "sealed",
        "tracker",
        "the run is shown again from its start",
        "the next tracker",
    ),
]
_inside: dict[str, list[tuple[re.Pattern[str], FileKind]]] = {}
"""What may lie in a folder, for each folder that was asked about: names, and what they are."""


def add(*kinds: FileKind) -> None:
    """Take further kinds in."""
    _KINDS.extend(kinds)
    _inside.clear()


def kinds() -> list[FileKind]:
    return list(_KINDS)


def kind(path: str) -> FileKind | None:
    """Of what kind the file at `path` (relative to the root) is; the first one whose pattern fits."""
    folder, _, name = path.rpartition("/")
    inside = _inside.get(folder)
    if inside is None:
        splits = ((each, *each.pattern.rpartition("/")[::2]) for each in _KINDS)
        inside = [(_compiled(last), each) for each, first, last in splits if _compiled(first).fullmatch(folder)]
        _inside[folder] = inside
    return next((each for pattern, each in inside if pattern.fullmatch(name)), None)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(pattern)))
