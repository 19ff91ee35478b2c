"""Which lines moved since a record was written.

A record keeps what each step of its verdict was: the lines that bear meaning, plug-ins with their revisions, and of
long facts (the files of a source, the code of a function) a digest. Steps that they read are called by name, so one
that changed is named once and not again by all that rest on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hyperloom.pipeline.fingerprint import canonical, fingerprint
from hyperloom.pipeline.plan import StepMeaning, changes
from hyperloom.pipeline.recipe import RecipeFile

LONGEST = 200
"""Characters of facts that are kept as they are."""
NAMED = 3
"""Steps that share a change and are named."""
OUTSIDE = "what the environment or files outside of the recipe give has changed"


def outline(loaded: RecipeFile, known: Mapping[str, StepMeaning]) -> dict[str, Any]:
    """What each of these steps is, for a record; `${NAME}` stands for what the environment gave."""
    names = {meaning.fingerprint: name for name, meaning in known.items()}
    return {name: _short(loaded.as_written(meaning.value), names) for name, meaning in known.items()}


def moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each line that differs, with the steps that have it. Where none does, a stale record is of other
    values for what both outlines call by name."""
    where: dict[str, list[str]] = {}
    for name in (*now, *(gone for gone in before if gone not in now)):
        if name not in before or name not in now:
            where.setdefault("is new" if name in now else "is gone", []).append(name)
            continue
        for change in changes(before[name], now[name]):
            outside = change.startswith("facts")
            text = "what it reads from outside the recipe changed (data, code or weights)" if outside else change
            steps = where.setdefault(text.removeprefix("config."), [])
            steps += [name] if name not in steps else []
    if not where:
        yield OUTSIDE
    for change, steps in where.items():
        more = f" and {len(steps) - NAMED} more" if len(steps) > NAMED else ""
        yield f"{', '.join(steps[:NAMED])}{more}: {change}"


def _short(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict) and set(value) == {"step"}:
        return {"step": names.get(value["step"], value["step"])}
    if isinstance(value, dict):
        return {key: _facts(part) if key == "facts" else _short(part, names) for key, part in value.items()}
    return [_short(part, names) for part in value] if isinstance(value, list | tuple) else value


def _facts(value: Any) -> Any:
    return value if len(canonical(value)) <= LONGEST else fingerprint(value)[:16]
