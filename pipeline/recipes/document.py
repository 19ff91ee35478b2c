"""A document: the YAML of a recipe as plain values, each with its line.

YAML is read by its 1.2 rules (`on` is a key, not True; `1e-3` is a number); a key that stands twice is a mistake.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.recipes.written import Where, Written


class SourceLine(NamedTuple):
    """A line of a file."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


SourceLines = dict[Where, SourceLine]


class Base(NamedTuple):
    """A recipe that another builds on: its `path`, how that is `written` there, and the place of that line."""

    path: str
    written: str
    place: SourceLine


@dataclass(frozen=True)
class Document:
    """`value` is the mapping at the top, `lines` where each part of it stands, `written` what it came from, `shown` the
    text without secrets, `folders` those of its files, `bases` what it builds on."""

    value: dict[str, Any]
    lines: SourceLines
    written: Written
    shown: str
    folders: tuple[str, ...]
    bases: tuple[Base, ...] = ()

    def error(self, where: Where, message: str) -> RecipeError:
        """A RecipeError at the deepest known line of `where`."""
        return RecipeError(f"{place(self.lines, where)}: {message}")


def place(lines: SourceLines, where: Where) -> SourceLine:
    """The deepest known line of `where`."""
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, SourceLine("<recipe>", 1))


def refuse_missing(written: Written, lines: SourceLines, run: str) -> None:
    """Raise RecipeError for a variable of the environment that is not set; `run` is the recipe that needs it."""
    for where, name in written.missing.items():
        matrix = f" and no name of the matrix ({', '.join(written.matrix)})" if written.matrix else ""
        what = f"the environment variable {name} is not set{matrix}. Next: {name}=... hyperloom run {run}"
        raise RecipeError(f"{place(lines, where)}: {what}")


@dataclass(frozen=True)
class Composed:
    """A file whose YAML is understood and not yet read: its scalars may mention names of a matrix elsewhere."""

    node: Any
    text: str
    path: str

    def matrix(self) -> tuple[str, ...]:
        """The names of its matrix, which scalars anywhere may mention."""
        matrix = self._section("matrix")
        return tuple(key.value for key, _ in matrix.value) if isinstance(matrix, yaml.MappingNode) else ()

    def scalar(self, section: str, run: str) -> tuple[Any, int] | None:
        """The value of a section and its line; None where it has none, or null. `run` is the recipe that needs it."""
        node = self._section(section)
        if node is None:
            return None
        lines: SourceLines = {}
        written = Written(self.text)
        value = _build(node, (section,), lines, self.path, written)
        refuse_missing(written, lines, run)
        return None if value is None else (value, node.start_mark.line + 1)

    def built(self, names: tuple[str, ...]) -> Document:
        """The document, in which scalars may mention these names of a matrix. What mentions a variable that is not set
        stands in `written.missing`. Raises RecipeError."""
        lines: SourceLines = {}
        written = Written(self.text, matrix=names)
        value = _build(self.node, (), lines, self.path, written)
        if not isinstance(value, dict):
            raise RecipeError(f"{self.path}:1: a recipe is a mapping with name, modalities and steps")
        folder = os.path.dirname(os.path.abspath(self.path))
        return Document(value, lines, written, written.shown(), (folder,))

    def _section(self, name: str) -> Any:
        entries = self.node.value if isinstance(self.node, yaml.MappingNode) else ()
        return next((value for key, value in entries if key.value == name), None)


def compose(text: str, path: str) -> Composed:
    """The YAML of a text; `path` is only for messages. Raises RecipeError."""
    try:
        node = yaml.compose(text, Loader=RecipeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        what = getattr(error, "problem", None) or error
        raise RecipeError(f"{at}: not valid YAML: {what}{_meant(text, mark, str(what))}") from error
    if node is None:
        raise RecipeError(f"{path}: the recipe is empty. Next: start from recipes/demo.yaml")
    return Composed(node, text, path)


def _meant(text: str, mark: Any, problem: str) -> str:
    """What is often behind YAML that cannot be read, and how to write it."""
    rest = text.splitlines()[mark.line][mark.column :] if mark and mark.line < len(text.splitlines()) else ""
    if rest.startswith("\t"):
        return ". Next: indent by blanks, a tab is none"
    if rest[:1] in ("@", "`", "%"):
        return f'. Next: put what begins with {rest[0]} in quotes: "{rest.split(",")[0].strip(" }]")}"'
    if "mapping values are not allowed" in problem:
        return ". Next: a key needs a blank after its colon; put a text that has ': ' in it in quotes"
    return ""


_TAG = "tag:yaml.org,2002:"


class RecipeLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2's core schema: only true/false are booleans, 1e-3 is a float."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The same as PyYAML's for what a recipe has, at a third of its time: it is asked of every scalar."""
        if kind is not yaml.ScalarNode or not implicit[0]:
            return super().resolve(kind, value, implicit)
        kinds = self.yaml_implicit_resolvers.get(value[:1], ())
        return next((tag for tag, written in kinds if written.match(value)), _TAG + "str")


RecipeLoader.add_implicit_resolver(_TAG + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
RecipeLoader.add_implicit_resolver(_TAG + "int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
RecipeLoader.add_implicit_resolver(
    _TAG + "float", re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")
)
RecipeLoader.add_implicit_resolver(_TAG + "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


def _build(node: Any, where: Where, lines: SourceLines, path: str, written: Written) -> Any:
    lines.setdefault(where, SourceLine(path, node.start_mark.line + 1))
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            at = SourceLine(path, key_node.start_mark.line + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                raise RecipeError(f"{at}: a key must be plain text")
            if key in out:
                raise RecipeError(f"{at}: {key!r} stands twice in the same mapping")
            lines[(*where, key)] = at
            out[key] = _build(value_node, (*where, key), lines, path, written)
        return out
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*where, i), lines, path, written) for i, item in enumerate(node.value)]
    return _scalar(node, where, written)


def _scalar(node: Any, where: Where, written: Written) -> Any:
    kind, text = node.tag.removeprefix(_TAG), node.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind in ("int", "float"):
        written.numerals[where] = text
        return int(text) if kind == "int" else float(text)
    return written.scalar(where, text, node.start_mark.index, node.end_mark.index)
