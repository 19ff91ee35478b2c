"""A recipe that builds on another one.

    base: study.yaml
    name: longer
    steps:
      teacher: {updates: 800}     # study.yaml's teacher, but for this line
      student: null               # and no student

All that the other file says is taken over but its `name` and its `paper`; what is written beside changes it by the
rules of `like` (`pipeline.recipes.merging`). The path counts from the folder of the file that says it, and a base may
have one of its own. It is resolved before `like` and `matrix` are, so what is like a changed step changes with it.
Files have no meaning: a step that says the same as one of the base is the same step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.recipes import document
from hyperloom.pipeline.recipes.document import Base, Document, SourceLine, refuse_missing
from hyperloom.pipeline.recipes.merging import merged, merged_steps, stays
from hyperloom.pipeline.recipes.written import Where
from hyperloom.pipeline.spelling import near

OWN = ("name", "paper", "base")
"""What a recipe has for itself."""


def read(text: str, path: str) -> Document:
    """The whole document of a recipe: `text`, and what it builds on. Raises RecipeError, with file and line."""
    bases: list[Base] = []
    chain = list(_chain(text, path, bases))
    names = tuple(dict.fromkeys(name for one in chain for name in one.matrix()))
    whole = chain[-1].built(names)
    for one in reversed(chain[:-1]):
        whole = _over(one.built(names), whole)
    _all_bound(whole, names)
    refuse_missing(whole.written, whole.lines, path)
    return replace(whole, bases=tuple(bases))


def _chain(text: str, path: str, bases: list[Base]) -> Iterator[document.Composed]:
    """The recipe, its base, the base of that, ...; `bases` learns how each is said."""
    paths, head = list[str](), path
    while True:
        paths.append(os.path.realpath(path))
        one = document.compose(text, path)
        yield one
        if (base := one.scalar("base", head)) is None:
            return
        value, line = base
        if not isinstance(value, str) or not value:
            raise RecipeError(f"{path}:{line}: base: give the path of the recipe that this one builds on")
        other = os.path.join(os.path.dirname(path), os.path.expanduser(value))
        if os.path.realpath(other) in paths:
            names = " -> ".join(map(os.path.basename, [*paths, other]))
            raise RecipeError(f"{path}:{line}: base: the recipes build on each other in a circle: {names}")
        try:
            text = Path(other).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = f"base: cannot read {other}: {error}"
            raise RecipeError(f"{path}:{line}: {what}. Next: give its path from the folder of this recipe") from error
        bases.append(Base(other, value, SourceLine(path, line)))
        path = other


def _over(own: Document, base: Document) -> Document:
    """What `own` makes of its base."""
    for one in (own, base):
        _names_its_parts(one)
    taken = {section: value for section, value in base.value.items() if section not in OWN}
    _changes_what_is_there(own, taken)
    value = merged(taken, {section: part for section, part in own.value.items() if section != "steps"})
    if steps := own.value.get("steps"):
        value["steps"] = merged_steps(taken.get("steps") or {}, steps)
    shown = f"{own.shown.rstrip()}\n\n# {own.value['base']}:\n{indent(base.shown, '# ', lambda _: True)}"

    def kept(where: Where) -> bool:
        return (where[0] if where else "") not in OWN and stays(where, own.value, taken)

    lines = {**{where: line for where, line in base.lines.items() if kept(where)}, **own.lines}
    folders = tuple(dict.fromkeys((*own.folders, *base.folders)))
    return Document(value, lines, own.written.over(base.written, kept), shown, folders)


def _names_its_parts(one: Document) -> None:
    """Raise RecipeError for a section that cannot be laid over another, or be under it."""
    for section, example in (("modalities", "rgb: {...}"), ("steps", "teacher: {...}"), ("matrix", "fold: [a, b]")):
        value = one.value.get(section, {})
        if not isinstance(value, dict) and (value is not None or section == "steps"):
            got = "nothing" if value is None else "a list" if isinstance(value, list) else "no mapping"
            what = f"{section}: names are expected, such as {{{example}}}, and what stands here is {got}"
            raise one.error((section,), f"{what}. Next: write them, or take the line away")


def _changes_what_is_there(own: Document, taken: dict[str, Any]) -> None:
    """Raise RecipeError for a change of a step or a modality that the base has not."""
    for section, noun in (("steps", "step"), ("modalities", "modality")):
        known, changes = taken.get(section) or {}, own.value.get(section)
        for name, value in changes.items() if isinstance(changes, dict) else ():
            bare = isinstance(value, dict) and not {"stage", "like", "type"} & set(value)
            if name not in known and (value is None or bare):
                which = f"{own.value['base']} has no {noun} {name!r} that could be changed{near(name, known)}"
                raise own.error((section, name), which)
            if section == "steps" and isinstance(value, dict) and value.get("stage") and "like" not in value:
                _has_another_stage(own, name, known)


def _has_another_stage(own: Document, name: str, steps: dict[str, Any]) -> None:
    """Raise RecipeError for a step that says the stage which the base's step has by `like`: is it that one changed?"""
    path = [name]
    while isinstance(step := steps.get(path[-1]), dict) and "like" in step and step["like"] not in path:
        path.append(step["like"])
    if len(path) > 1 and isinstance(step, dict) and step.get("stage") == own.value["steps"][name]["stage"]:
        what = f"in {own.value['base']} step {name!r} is like {path[1]!r} and has this stage by that"
        raise own.error(("steps", name, "stage"), f"{what}. Next: take the line away to change it, or rename the step")


def _all_bound(whole: Document, names: tuple[str, ...]) -> None:
    """Raise RecipeError for a step of a base that mentions a name that is no longer in the matrix."""
    gone = set(names) - set(whole.value.get("matrix") or {})
    for name, step in (whole.value.get("steps") or {}).items() if gone else ():
        text = json.dumps(step)
        if lost := next((one for one in sorted(gone) if f"${{{one}}}" in text), None):
            what = f"step {name!r} mentions ${{{lost}}}, which is no longer in the matrix"
            raise whole.error(("steps", name), f"{what}. Next: keep {lost} in it, or take the step away ({name}: null)")
