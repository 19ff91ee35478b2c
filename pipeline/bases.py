"""A recipe that builds on another one.

    base: study.yaml
    name: longer
    steps:
      teacher: {updates: 800}     # study.yaml's teacher, but for this line
      student: null               # and no student

All that the other file says is taken over but its `name` and its `paper`; what is written beside changes it by the
rules of `like` (`pipeline.merging`). The path counts from the folder of the file that says it, and a base may have one
of its own. It is resolved before `like` and `matrix` are, so what is like a changed step changes with it. Files have no
meaning: a step that says the same as one of the base is the same step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

from hyperloom.pipeline import document
from hyperloom.pipeline.document import Document
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.merging import merged, merged_steps
from hyperloom.pipeline.spelling import near
from hyperloom.pipeline.written import Written

OWN = ("name", "paper", "base")
"""What a recipe has for itself."""


def read(text: str, path: str) -> Document:
    """The whole document of a recipe: `text`, and what it builds on. Raises RecipeError, with file and line."""
    chain = list(_chain(text, path))
    names = tuple(dict.fromkeys(name for one in chain for name in one.matrix()))
    whole = chain[-1].built(names)
    for one in reversed(chain[:-1]):
        whole = _over(one.built(names), whole)
    _all_bound(whole, names)
    return whole


def _chain(text: str, path: str) -> Iterator[document.Composed]:
    """The recipe, its base, the base of that, ..."""
    paths: list[str] = []
    while True:
        paths.append(os.path.realpath(path))
        one = document.compose(text, path)
        yield one
        if (base := one.scalar("base")) is None:
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
        path = other


def _over(own: Document, base: Document) -> Document:
    """What `own` makes of its base."""
    taken = {section: value for section, value in base.value.items() if section not in OWN}
    _changes_what_is_there(own, taken)
    value = merged(taken, {section: part for section, part in own.value.items() if section != "steps"})
    if isinstance(steps := own.value.get("steps"), dict):
        value["steps"] = merged_steps(taken.get("steps") or {}, steps)
    shown = f"{own.shown.rstrip()}\n\n# {own.value['base']}:\n{indent(base.shown, '# ', lambda _: True)}"
    written = Written(
        own.written.text,
        {**base.written.given, **own.written.given},
        {**base.written.variables, **own.written.variables},
        {**base.written.numerals, **own.written.numerals},
        own.written.matrix,
    )
    return Document(
        value, {**base.lines, **own.lines}, written, shown, tuple(dict.fromkeys((*own.folders, *base.folders)))
    )


def _changes_what_is_there(own: Document, taken: dict[str, Any]) -> None:
    """Raise RecipeError for a change of a step or a modality that the base has not."""
    for section, noun in (("steps", "step"), ("modalities", "modality")):
        known, changes = taken.get(section) or {}, own.value.get(section)
        for name, value in changes.items() if isinstance(changes, dict) else ():
            bare = isinstance(value, dict) and not {"stage", "like", "type"} & set(value)
            if name not in known and (value is None or bare):
                which = f"{own.value['base']} has no {noun} {name!r} that could be changed{near(name, known)}"
                raise own.error((section, name), which)


def _all_bound(whole: Document, names: tuple[str, ...]) -> None:
    """Raise RecipeError for a step of a base that mentions a name that is no longer in the matrix."""
    gone = set(names) - set(whole.value.get("matrix") or {})
    for name, step in (whole.value.get("steps") or {}).items() if gone else ():
        text = json.dumps(step)
        if lost := next((one for one in sorted(gone) if f"${{{one}}}" in text), None):
            what = f"step {name!r} mentions ${{{lost}}}, which is no longer in the matrix"
            raise whole.error(("steps", name), f"{what}. Next: keep {lost} in it, or take the step away ({name}: null)")
