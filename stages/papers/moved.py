"""Which lines moved since a record was written.

A record keeps what each step of its verdict was: the lines that bear meaning, plug-ins with their revisions, and of
long facts (the files of a source, the code of a function) a digest. Steps that they read are called by name, so one
that changed is named once and not again by all that rest on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hyperloom.pipeline.fingerprint import canonical, fingerprint
from hyperloom.pipeline.output import remarking
from hyperloom.pipeline.planning.plan import StepMeaning, changes
from hyperloom.pipeline.recipes.recipe import RecipeFile

LONGEST = 200
"""Characters of facts that are kept as they are."""
FACTS = "what it reads from outside the recipe changed (data, code or weights)"
OUTSIDE = "what the environment or files outside of the recipe give has changed"


def outline(loaded: RecipeFile, known: Mapping[str, StepMeaning]) -> dict[str, Any]:
    """What each of these steps is, for a record; `${NAME}` stands for what the environment gave."""
    names = {meaning.fingerprint: name for name, meaning in known.items()}
    return {name: _short(loaded.as_written(meaning.value), names) for name, meaning in known.items()}


def moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A sentence for each line that differs, with the steps that have it. Where none does, a stale record is of other
    values for what both outlines call by name."""
    return remarking.lines(_changed(before, now)) or [OUTSIDE]


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each step with what is to be said of it."""
    for name in (*now, *(gone for gone in before if gone not in now)):
        if name not in before or name not in now:
            yield name, "is new" if name in now else "is gone"
            continue
        old, new = dict(before[name]), dict(now[name])
        if canonical(old.pop("facts", None)) != canonical(new.pop("facts", None)):
            yield name, FACTS
        yield from ((name, change) for change in changes(old, new))


def _short(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict) and set(value) == {"step"}:
        return {"step": names.get(value["step"], value["step"])}
    if isinstance(value, dict):
        return {key: _facts(part) if key == "facts" else _short(part, names) for key, part in value.items()}
    return [_short(part, names) for part in value] if isinstance(value, list | tuple) else value


def _facts(value: Any) -> Any:
    return value if len(canonical(value)) <= LONGEST else fingerprint(value)[:16]
