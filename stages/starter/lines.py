"""Lines of YAML with comments: values in flow style, strings quoted where they must be, comments wrapped."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WIDTH = 110
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_@./+-]*")
WORDS = {"true", "false", "null"}


def flow(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def comment(texts: Iterable[str], indent: int = 0) -> list[str]:
    """Comment lines of sentences."""
    margin = " " * indent + "# "
    return [
        margin + line for text in texts for line in textwrap.wrap(text, WIDTH - len(margin), break_long_words=False)
    ]


def block(
    name: str, fields: dict[str, Any], indent: int, remarks: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """A mapping in block style, a field a line; remarks stand above their field."""
    lines = [f"{' ' * indent}{name}:"]
    for field, value in fields.items():
        lines += comment((remarks or {}).get(field, ()), indent + 2)
        text = f"{' ' * (indent + 2)}{field}: {flow(value)}"
        lines += (
            [text] if len(text) <= WIDTH or not isinstance(value, dict | list) else _broken(field, value, indent + 2)
        )
    return lines


def _broken(name: str, value: dict[str, Any] | list[Any], indent: int) -> list[str]:
    """A long value over several lines."""
    margin = " " * indent
    if isinstance(value, dict):
        return block(name, value, indent)
    inside = " " * (indent + 2)
    if any(isinstance(v, dict) for v in value):  # a break within braces is hard to read
        return [f"{margin}{name}:", *(f"{inside}- {flow(v)}" for v in value)]
    wrapped = textwrap.wrap(
        ", ".join(map(flow, value)), WIDTH - len(inside), break_long_words=False, break_on_hyphens=False
    )
    if any(isinstance(v, str) and " " in v for v in value):  # a blank inside quotes is no place for a break
        wrapped = [", ".join(map(flow, value))]
    return [f"{margin}{name}: [", *(inside + line for line in wrapped), f"{margin}]"]
