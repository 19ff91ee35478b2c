"""Steps that are variants of others: `like`, and the recipe's `matrix`.

    matrix: {size: [40k, 160k]}
    steps:
      student: {stage: distill, model: "${size}", ...}        # becomes student-40k and student-160k
      plain:   {like: student, losses: null}                  # student's lines but for these, so two steps as well
      report:  {stage: evaluate, models: [student-*], ...}    # reads them all, and is one step

`like: STEP` takes over the lines of another step: mappings merge key by key, but one with another `type` replaces the
whole, as lists and scalars do; `null` takes a line away; `stage` stays.

A step that mentions a name of the matrix, by itself or through what it reads, is made once for each value; all others
are shared. `NAME-*` gathers the variants of a step: in a list each takes a place, in a mapping each gets an entry
(`student: student-*` becomes `student-40k: student-40k`, ...). Names of the matrix are lower case, and come before
variables of the environment.

Both are resolved when a recipe is read. Names of steps mean nothing, so variants that say the same are the same step.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from operator import is_
from typing import Any

from pydantic import BaseModel, ValidationError

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.pipeline.fields import SCALARS, deep, step_refs
from hyperloom.pipeline.recipes.document import SourceLines
from hyperloom.pipeline.recipes.merging import merged
from hyperloom.pipeline.recipes.written import Where
from hyperloom.pipeline.spelling import near

Error = Callable[[Where, str], RecipeError]
Binding = dict[str, Any]
"""Name of the matrix -> the value that a variant has of it."""
NAME = re.compile(r"[a-z][a-z0-9_]*")
_MENTION = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
_UNFIT = re.compile(r"[^a-zA-Z0-9_]+")


def expanded(
    recipe: dict[str, Any], lines: SourceLines, error: Error, numerals: Mapping[Where, str] | None = None
) -> dict[str, Any]:
    """The recipe with `like` and `matrix` resolved; `lines` learns where the lines of each new step stand, `numerals`
    are the numbers as somebody wrote them. Raises RecipeError."""
    steps = recipe.get("steps")
    if not isinstance(steps, dict):
        return recipe
    steps = _Alike(steps, lines, error).resolved()
    matrix = recipe.get("matrix")
    if not matrix:
        return {**recipe, "steps": steps}
    checked = _matrix(matrix, error)
    _same_in_texts(checked, steps, numerals or {}, error)
    for section, value in recipe.items():
        if section not in ("steps", "matrix") and (names := _mentions(value) & set(checked)):
            raise error((section,), f"${{{min(names)}}} is a name of the matrix, which only steps may mention")
    return {**recipe, "steps": _Matrix(checked, steps, lines, error).variants()}


def _same_in_texts(
    matrix: dict[str, list[Any]], steps: dict[str, Any], numerals: Mapping[Where, str], error: Error
) -> None:
    """Refuse numbers that would stand in a text (`data/v${v}`) otherwise than they are written: 1.10 as 1.1, true as
    True. It may be the name of another folder."""
    for name in sorted(_mentions(steps, within=True) & set(matrix)):
        for place, value in enumerate(matrix[name]):
            where = ("matrix", name, place)
            written = str(value).lower() if isinstance(value, bool) else numerals.get(where, str(value))
            if not isinstance(value, str) and written != str(value):
                raise error(
                    where, f'matrix: {name}: {written} would become {value} within a text. Next: quote it, "{written}"'
                )


def _matrix(matrix: Any, error: Error) -> dict[str, list[Any]]:
    """The matrix, checked."""
    if not isinstance(matrix, dict):
        raise error(("matrix",), "matrix: give names with their values, such as {fold: [a, b]}")
    for name, values in matrix.items():
        where = ("matrix", name)
        if not NAME.fullmatch(name):
            raise error(where, f"matrix: {name!r} must be in lower case (letters, digits, _)")
        if not isinstance(values, list) or not values:
            raise error(where, f"matrix: {name}: give a list of values")
        ends = [ending(value) for value in values if isinstance(value, str | int | float)]
        if len(ends) != len(values) or "" in ends:
            raise error(where, f"matrix: {name}: values are words or numbers, since they become part of names")
        if len(set(ends)) != len(ends):
            raise error(where, f"matrix: {name}: two values give the same name: {', '.join(ends)}")
    return matrix


def ending(value: Any) -> str:
    """What a value adds to the name of a step: `0.5` gives `0-5`."""
    return _UNFIT.sub("-", str(value).lower() if isinstance(value, bool) else str(value)).strip("-")


class _Alike:
    """Resolves `like`."""

    def __init__(self, steps: dict[str, Any], lines: SourceLines, error: Error):
        self.steps, self.lines, self.error = steps, lines, error
        self.done: dict[str, Any] = {}
        self.places = StepLines(lines)

    def resolved(self) -> dict[str, Any]:
        return {name: self._step(name, ()) for name in self.steps}

    def _step(self, name: str, path: tuple[str, ...]) -> Any:
        own = self.steps[name]
        if name in self.done or not isinstance(own, dict) or "like" not in own:
            return self.done.get(name, own)
        where: Where = ("steps", name, "like")
        if name in path:
            raise self.error(where, f"the steps are like each other in a circle: {' -> '.join((*path, name))}")
        base = own["like"]
        if base not in self.steps:
            known = near(str(base), self.steps)
            raise self.error(where, f"step {name!r} is like {base!r}, which is no step of this recipe{known}")
        if "stage" in own:
            raise self.error(("steps", name, "stage"), f"step {name!r} has the stage of {base!r}, which it is like")
        original = self._step(base, (*path, name))
        if not isinstance(original, dict):
            return original  # a mistake of its own, which is reported there
        self.done[name] = merged(original, {k: v for k, v in own.items() if k != "like"})
        self.places.borrow(base, name)
        return self.done[name]


class StepLines:
    """The lines of a recipe, known by step: a hundred variants borrow them."""

    def __init__(self, lines: SourceLines):
        self.lines = lines
        self._of: dict[str, SourceLines] = {}
        for where, line in lines.items():
            if len(where) > 1 and where[0] == "steps":
                self._of.setdefault(str(where[1]), {})[where[2:]] = line

    def borrow(self, base: str, name: str) -> None:
        """Let the lines of a step be those of another, where it has none of its own."""
        if name == base:
            return
        own = self._of.setdefault(name, {})
        for rest, line in self._of.get(base, {}).items():
            if rest not in own:
                own[rest] = self.lines["steps", name, *rest] = line


class _Matrix:
    """Makes the variants of all steps that depend on the matrix."""

    def __init__(self, matrix: dict[str, list[Any]], steps: dict[str, Any], lines: SourceLines, error: Error):
        self.matrix, self.steps, self.lines, self.error = matrix, steps, lines, error
        first = {name: values[0] for name, values in matrix.items()}
        mentions = {name: _mentions(step) & set(matrix) for name, step in steps.items()}
        self.plain: dict[str, Any] = {}
        """Steps that mention nothing themselves, checked: all their variants are made of these."""
        self.reads = {name: self._reads(name, first if mentions[name] else None) for name in steps}
        self.names = mentions
        moved = True
        while moved:  # until what is read has told all that reads it
            moved = False
            for name, reads in self.reads.items():
                more = set().union(*(self.names[r] for r in reads)) - self.names[name]
                self.names[name] |= more
                moved = moved or bool(more)
        if unused := [n for n in matrix if not any(n in names for names in self.names.values())]:
            raise error(("matrix", unused[0]), f"matrix: no step mentions ${{{unused[0]}}}")

    def variants(self) -> dict[str, Any]:
        """All steps: variants in the places of those that they are made of."""
        out: dict[str, Any] = {}
        places = StepLines(self.lines)
        for name, step in self.steps.items():
            for values in self._values(name):
                variant = self._name(name, values)
                if variant in out or (variant != name and variant in self.steps):
                    raise self.error(("steps", name), f"the matrix makes a second step {variant!r}. Next: rename one")
                places.borrow(name, variant)
                out[variant] = self._variant(name, step, values)
        return out

    def _variant(self, name: str, step: Any, values: Binding) -> Any:
        names = {r: self._name(r, values) for r in self.reads[name] if self.names[r]}
        if name in self.plain:
            return renamed(self.plain[name], names) if names else self.plain[name]
        raw = self._gathered(_filled(step, values), values)
        if not names:
            return raw
        stage = _parsed(raw)
        return raw if stage is None else renamed(stage, names)  # None: a mistake, which is reported of this step

    def _values(self, name: str) -> Iterator[Binding]:
        """What a step's variants have of the matrix; one that has nothing for a step that is shared."""
        names = [n for n in self.matrix if n in self.names[name]]
        for values in itertools.product(*(self.matrix[n] for n in names)):
            yield dict(zip(names, values, strict=True))

    def _name(self, name: str, values: Binding) -> str:
        return "-".join([name, *(ending(values[n]) for n in self.matrix if n in self.names[name])])

    def _reads(self, name: str, first: Binding | None) -> list[str]:
        """Steps that a step reads one of; not those whose variants it gathers. `first`: a value for each name that it
        mentions, None for a step that mentions none."""
        step = self.steps[name]
        if not isinstance(step, dict):
            return []
        gathers: set[str] = set()
        stage = _parsed(self._single(_filled(step, first) if first else step, gathers))
        if stage and not first and not gathers:
            self.plain[name] = stage
        return [r for r in step_refs(stage) if r in self.steps and r not in gathers] if stage else []

    def _single(self, value: Any, gathers: set[str]) -> Any:
        """A step as if each family had one member, so that it can be parsed; `gathers` learns the families."""
        if isinstance(value, dict):
            return {k: self._single(v, gathers) for k, v in value.items()}
        if isinstance(value, list):
            return [self._single(v, gathers) for v in value]
        if (family := self._family(value)) is None:
            return value
        gathers.add(family)
        return family

    def _family(self, value: Any) -> str | None:
        """The step whose variants `NAME-*` means; None where it means nothing, which is refused as no step."""
        name = value.removesuffix("-*") if isinstance(value, str) and value.endswith("-*") else None
        return name if name in self.steps else None

    def _gathered(self, value: Any, values: Binding) -> Any:
        """With each `NAME-*` replaced by the names of the variants that agree with `values`."""
        if isinstance(value, list):
            return [v for item in value for v in (self._members(item, values) or [item])]
        if not isinstance(value, dict):
            return value
        out: dict[str, Any] = {}
        for key, item in value.items():
            inner = item.get("model") if isinstance(item, dict) else item
            members = self._members(inner, values)
            if members is None:
                out[key] = self._gathered(item, values)
                continue
            family = str(self._family(inner))
            for member in members:
                out[key + member.removeprefix(family)] = {**item, "model": member} if isinstance(item, dict) else member
        return out

    def _members(self, value: Any, values: Binding) -> list[str] | None:
        family = self._family(value)
        if family is None or not self.names[family]:
            return None
        return [
            self._name(family, theirs)
            for theirs in self._values(family)
            if all(values.get(n, theirs[n]) == theirs[n] for n in theirs)
        ]


def renamed(config: Any, names: Mapping[str, str]) -> Any:
    """A checked stage that reads other steps: `names` gives the new name by the old one."""

    def swap(value: Any, ref: bool) -> Any:
        if isinstance(value, SCALARS):
            return names.get(value, value) if ref and isinstance(value, str) else value
        if isinstance(value, BaseModel):
            changed = {}
            for field in deep(type(value)):
                old = getattr(value, field.name)
                if not (field.quiet and old is field.default) and (new := swap(old, field.refers)) is not old:
                    changed[field.name] = new
            return value.model_copy(update=changed) if changed else value
        if isinstance(value, dict):
            items = {key: swap(item, ref) for key, item in value.items()}
            return value if all(item is value[key] for key, item in items.items()) else items
        if isinstance(value, list | tuple):
            listed = [swap(item, ref) if ref or not isinstance(item, SCALARS) else item for item in value]
            return value if all(map(is_, listed, value)) else type(value)(listed)
        return value

    return swap(config, False)


def _parsed(step: Any) -> Any:
    """The stage that a step's lines mean; None where they are not right, which is reported elsewhere."""
    try:
        return plugins.load("stage", step["stage"]).model_validate(step)
    except (ValidationError, PluginError, KeyError, TypeError, AttributeError):
        return None


def _mentions(value: Any, within: bool = False) -> set[str]:
    """Names in `${...}` anywhere in a step; `within`: those alone that are a part of a text or of a key."""
    if isinstance(value, dict):
        keys = set().union(*(_MENTION.findall(key) for key in value if isinstance(key, str)))
        return keys.union(*(_mentions(v, within) for v in value.values()))
    if isinstance(value, list):
        return set().union(*(_mentions(v, within) for v in value))
    if not isinstance(value, str) or (within and _MENTION.fullmatch(value)):
        return set()
    return set(_MENTION.findall(value))


def _filled(value: Any, values: Binding) -> Any:
    """With each `${name}` replaced; a scalar that is nothing else becomes the value itself."""
    if isinstance(value, dict):
        return {str(_filled(k, values)): _filled(v, values) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, values) for v in value]
    if not isinstance(value, str):
        return value
    whole = _MENTION.fullmatch(value)
    if whole and whole[1] in values:
        return values[whole[1]]
    return _MENTION.sub(lambda m: str(values[m[1]]) if m[1] in values else m[0], value)
