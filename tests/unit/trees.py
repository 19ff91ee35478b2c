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


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and all statements in it, at any depth. Expressions, ten times as many, are left out: no import and no
    definition is in one."""
    yield node
    for block in BLOCKS:
        for child in getattr(node, block, ()):
            yield from statements(child)
