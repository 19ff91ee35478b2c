"""A paper's recipe cut small: the same steps over few samples and updates, to see that it runs to its verdict.

What it ends with means nothing, and nobody writes a record of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from hyperloom.pipeline import recipe
from hyperloom.pipeline.recipe import RecipeFile

SMALL: dict[str, int] = {"updates": 3, "batch": 8, "seeds": 2, "members": 2, "flights": 6, "frames": 2, "count": 64}
"""Numbers of a recipe that are made no larger than these, wherever they stand."""
FOLDS = 2
"""Values of each name of the matrix, and those that a step names."""
LIMIT = 48
"""Samples of an ingest step."""


def cut(path: Path, root: str) -> RecipeFile:
    """The recipe at `path` with small numbers, its steps kept in `root`. A training that is open-ended or counts epochs
    or minutes gets updates. Raises RecipeError for what the recipe has wrong."""
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    small = _cut(written)
    wanted = json.dumps([step for step in small["steps"].values() if step.get("stage") != "ingest"])
    small["matrix"] = {
        name: [v for i, v in enumerate(values) if i < FOLDS or f'-{v}"' in wanted]
        for name, values in small.get("matrix", {}).items()
    }
    for step in small["steps"].values():
        if step.get("stage") == "ingest":
            step["limit"] = min(LIMIT, step.get("limit", LIMIT))
        if step.get("stage") in ("train", "distill") or any(k in step for k in ("epochs", "minutes")):
            step.pop("epochs", None)
            step.pop("minutes", None)
            step["updates"] = SMALL["updates"]
    loaded = recipe.load(path)  # enters its project
    return recipe.parse(json.dumps({**small, "root": root}), loaded.path)  # JSON: a bare 0016E5 is a number to a recipe


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _smaller(v, SMALL[k]) if k in SMALL else _cut(v) for k, v in value.items()}
    return [_cut(v) for v in value] if isinstance(value, list) else value


def _smaller(value: Any, most: int) -> Any:
    """A number, or the `${name}` of one in the matrix, made no larger than `most`."""
    if isinstance(value, str) and value.startswith("${"):
        return most
    return min(value, most) if isinstance(value, int) and not isinstance(value, bool) else _cut(value)
