"""Parsed sources, each once a process: the tests that read the house's own code share them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where statements hold statements."""


def tree(path: Path) -> ast.Module:
    """The syntax tree of a file; not to be changed."""
    return _parsed(path.read_text(encoding="utf-8"))


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def nodes(module: ast.Module) -> list[ast.AST]:
    """All nodes of a tree but the contexts of names, from the root on; not to be changed. What `ast.walk` gives, in a
    third of its time and once."""
    seen: list[ast.AST] = [module]
    for node in seen:
        for field in node._fields:
            if field == "ctx":
                continue
            value = getattr(node, field, None)
            if isinstance(value, ast.AST):
                seen.append(value)
            elif isinstance(value, list):
                seen += [child for child in value if isinstance(child, ast.AST)]
    return seen


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and all statements in it, at any depth. Expressions, ten times as many, are left out: no import and no
    definition is in one."""
    yield node
    for block in BLOCKS:
        for child in getattr(node, block, ()):
            yield from statements(child)
