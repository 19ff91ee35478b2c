"""How events are worded for MLflow: names it allows, flat parameters, Markdown tables, run states."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from hyperloom.pipeline import plain
from hyperloom.pipeline.counting import figure

LONGEST_NAME = 250
GAP = "&emsp;"
_DIGEST = re.compile(r"-[0-9a-f]{8}$")
_STATES = {"running": "RUNNING", "interrupted": "KILLED", "cancelled": "KILLED", "killed": "KILLED"}
_STATES |= dict.fromkeys(("done", "finished", "reused"), "FINISHED")


def state(event: dict[str, Any]) -> str:
    """MLflow's word for how a step or run ended; any status it does not know is a failure."""
    return _STATES.get(str(event.get("status", "finished")).lower(), "FAILED")


@lru_cache(10_000)
def allowed(key: str) -> str:
    """A name that MLflow takes. `semantic@color` becomes `semantic.color`; whatever else must change (`road#1`, `a//b`,
    250 characters and more) gets a digest of the key behind it, and so does a key that looks as if it had one. So only
    `a@b` and `a.b` meet, which `apart` keeps apart."""
    name = re.sub(r"[^\w.\- /]", "_", key.replace("@", "."))
    same = name == key.replace("@", ".") and not _DIGEST.search(key) and len(name) <= LONGEST_NAME
    return name if same and _is_path(name) else _with_digest(key, name)


def apart(keys: Iterable[str]) -> dict[str, str]:
    """A name for each key, another one for each: of two that would meet, the first has the plain name."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for key in dict.fromkeys(keys):
        name = allowed(key)
        names[key] = _with_digest(key, name) if name in taken else name
        taken.add(names[key])
    return names


def _with_digest(key: str, name: str) -> str:
    return f"{_as_path(name)}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _is_path(name: str) -> bool:
    """MLflow takes no name that would be another one as a path."""
    return posixpath.normpath(name) == name and name != "." and not name.startswith(("..", "/"))


def _as_path(name: str) -> str:
    parts = [part for part in name[: LONGEST_NAME - 9].split("/") if part.strip(".")]
    return "/".join(parts) or "_"


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters by dotted names; a list stays one value, as JSON."""
    out: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value if isinstance(value, str) else plain.dumps(value, default=str)
    return out


def markdown(columns: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; floats with four digits, missing values empty."""

    def cell(value: Any) -> str:
        return "" if value is None else figure(value) if isinstance(value, float) else str(value).replace("|", "/")

    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cut(text: str, most: int) -> str:
    """At most `most` characters of a text; of a longer one whole words or numbers, and a sign that it goes on."""
    if len(text) <= most:
        return text
    head = text[: most - 1]
    return f"{head.rpartition(' ')[0].rstrip() or head}…"


def cut_lines(text: str, most: int, rest: str) -> str:
    """At most `most` characters of a Markdown text; of a longer one whole lines, and then `rest`."""
    return text if len(text) <= most else text[: most - len(rest)].rpartition("\n")[0] + rest


def spaced(text: str) -> str:
    """Markdown whose tables have room between their columns. MLflow's pages have none there, so that a word and the
    figure beside it would read as one number."""
    return "\n".join(line.replace(" | ", f"{GAP}| ") if _is_row(line) else line for line in text.split("\n"))


def _is_row(line: str) -> bool:
    return line.startswith("| ") and not line.startswith("| ---")
