"""The record of a paper: what its verdict was, made of which data and which code, kept beside its recipe.

`NAME.json` beside `NAME.yaml`, written when a verdict is finished and never by hand: a seal, the digest of all that it
says, shows where somebody did. A record is stale once the identity of the recipe's verdict step is another one, so
changed recipes, plug-ins and data make it so; it then moves to `before` of the next, and nothing is overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.recipes.paper import Paper
from hyperloom.stages.verdict.conclusion import Concluded, Conclusion


@dataclass
class Cost:
    """What a verdict took over all attempts: seconds that passed, and of CPU time in this process (not in Ray's)."""

    seconds: float = 0.0
    cpu: float = 0.0
    last_seconds: float = 0.0
    last_cpu: float = 0.0
    """Of the verdict before at the same root, whose finished steps a new one reuses."""


@dataclass(frozen=True)
class PaperRecord:
    """`claims` and `beside` are `Conclusion`s as JSON; `seconds` as in `Cost`, on `cores`."""

    paper: int
    verdict: str
    claims: Mapping[str, Mapping[str, Any]]
    beside: Mapping[str, Mapping[str, Any]]
    folds: int
    samples: int
    data: Mapping[str, str]
    """Digest of what each ingest step reads."""
    fingerprint: str
    seconds: float
    cores: int
    departs: Sequence[str]
    steps: Mapping[str, Any]
    """What each step was that the verdict rests on (`stages.papers.moved`)."""
    cpu: float = 0.0
    """Seconds of CPU time, as in `Cost`; 0 where nobody counted."""
    before: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    """Earlier records, the newest last, without theirs and without steps."""
    whole: bool = field(default=True, compare=False)
    """Does its file say what was written? No part of what it says."""


def record_of(
    paper: Paper, concluded: Concluded, fingerprint: str, data: Mapping[str, str], cost: Cost, steps: Mapping[str, Any]
) -> PaperRecord:
    """The record of a finished verdict."""
    return PaperRecord(
        paper=paper.id,
        verdict=concluded.word,
        claims={name: _plain(one) for name, one in concluded.claims.items()},
        beside={name: _plain(one) for name, one in concluded.beside.items()},
        folds=concluded.folds,
        samples=concluded.samples,
        data=dict(data),
        fingerprint=fingerprint,
        seconds=cost.seconds,
        cpu=cost.cpu,
        cores=os.cpu_count() or 1,
        departs=paper.departs,
        steps=dict(steps),
    )


def read(recipe: Path) -> PaperRecord | None:
    """The record beside a recipe, None where there is none. Raises RecipeError when it is damaged."""
    path = recipe.with_suffix(".json")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        seal = given.pop("seal", "")
        return PaperRecord(**given, whole=seal == _seal(given))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{path} is no record of a paper ({error}). Next: restore or remove it") from error


def write(recipe: Path, record: PaperRecord) -> PaperRecord:
    """Put a record beside its recipe, as it is returned; the one that was there goes to `before`, unless it is of the
    same step. Then what that took stays, since a second look at finished steps takes nothing."""
    old, before = read(recipe), []
    if old is not None:
        last = {k: v for k, v in asdict(old).items() if k not in ("before", "steps", "whole")}
        same = old.fingerprint == record.fingerprint
        before = [*old.before, *([] if same else [last])]
        record = replace(record, seconds=old.seconds, cpu=old.cpu) if same else record
    temporary = recipe.with_suffix(".json.tmp")
    fields = {k: v for k, v in {**asdict(record), "before": before}.items() if k != "whole"}
    temporary.write_text(_text({**fields, "seal": _seal(fields)}), encoding="utf-8")
    temporary.replace(recipe.with_suffix(".json"))
    return record


def _seal(fields: Mapping[str, Any]) -> str:
    """The digest in hex of all that a record says, over the values, not over how a file writes them."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _text(fields: dict[str, Any]) -> str:
    """JSON with a line for each step, so that what moved is seen between two versions of the file too."""
    steps = fields.pop("steps")
    lines = [f" {json.dumps(name)}: {json.dumps(steps[name], sort_keys=True)}" for name in sorted(steps)]
    body = json.dumps(fields, indent=1, sort_keys=True).removesuffix("\n}")
    return f'{body},\n "steps": {{\n ' + ",\n ".join(lines) + "\n }\n}\n" if lines else f"{body}\n}}\n"


def _plain(one: Conclusion) -> dict[str, Any]:
    """Rounded to what a reader can use."""

    def number(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.5g}")
        if isinstance(value, Mapping):
            return {k: number(v) for k, v in value.items()}
        return [number(v) for v in value] if isinstance(value, Sequence) and not isinstance(value, str) else value

    return {name: number(value) for name, value in vars(one).items()}
