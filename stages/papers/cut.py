"""A paper's recipe cut small: the same steps over few samples and updates, to see that it runs to its verdict.

What it ends with means nothing, and nobody writes a record of it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.recipes import bases, recipe
from hyperloom.pipeline.recipes.recipe import RecipeFile

ConfigT = TypeVar("ConfigT", bound=Config)
SMALL: dict[str, int] = {"updates": 3, "batch": 2, "seeds": 1, "members": 2, "flights": 4, "frames": 2, "count": 64}
"""Numbers of a recipe that are made no larger than these, wherever they stand."""
FOLDS, FEW = 2, 4
"""Values of each name of the matrix in a recipe of few trainings, one in others; those that a step names
(`student-128`) are kept besides."""
LIMIT = 48
"""Samples of an ingest step."""
DRAWS = 100
"""Of a report's intervals."""
PARAMETERS = "8k"
"""Of each network whose recipe gives a number of them."""
LEAST = 64
"""Pixels of a side from which pictures are halved."""


def cut(path: Path, root: str) -> RecipeFile:
    """The recipe at `path` with small numbers, its steps kept in `root`. A training that is open-ended or counts epochs
    or minutes gets updates. Raises RecipeError for what the recipe has wrong."""
    small = _cut(bases.read(path.read_text(encoding="utf-8"), str(path)).value)
    small.pop("base", None)
    names = json.dumps(small["steps"])
    folds = FOLDS if sum("updates" in step or "like" in step for step in small["steps"].values()) <= FEW else 1
    small["matrix"] = {
        name: [v for i, v in enumerate(values) if i < folds or f'-{v}"' in names]
        for name, values in small.get("matrix", {}).items()
    }
    for modality in small["modalities"].values():
        if _large(modality.get("size")):
            modality["size"] = [side // 2 for side in modality["size"]]
    for step in small["steps"].values():
        if step.get("stage") == "ingest":
            step["limit"] = min(LIMIT, step.get("limit", LIMIT))
        if step.get("stage") in ("train", "distill") or any(k in step for k in ("epochs", "minutes")):
            step.pop("epochs", None)
            step.pop("minutes", None)
            if not isinstance(step.get("updates"), str):  # else the matrix gives it
                step["updates"] = SMALL["updates"]
        if step.get("stage") == "evaluate":
            step["intervals"] = {**(step.get("intervals") or {}), "draws": DRAWS}
    loaded = recipe.load(path)  # enters its project
    text = json.dumps({**small, "root": root})  # JSON: a bare 0016E5 is a number to a recipe
    parsed = recipe.parse(text, loaded.path)
    steps = {name: _smaller(step) for name, step in parsed.recipe.steps.items()}
    return replace(parsed, recipe=parsed.recipe.model_copy(update={"steps": steps}))


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        smaller = {
            k: min(v, SMALL[k]) if k in SMALL and isinstance(v, int) and not isinstance(v, bool) else _cut(v)
            for k, v in value.items()
        }
        return smaller | ({"parameters": PARAMETERS} if value.get("parameters") else {})
    return [_cut(v) for v in value] if isinstance(value, list) else value


def _large(size: Any) -> bool:
    """Is it a picture's [height, width] that loses nothing which the steps need when it is halved?"""
    return isinstance(size, list) and len(size) == 2 and min(size) >= LEAST


def _smaller(config: ConfigT) -> ConfigT:
    """A step or a part of one, with the numbers cut that a matrix gave it."""
    changed = {
        name: min(value, SMALL[name]) if isinstance(value, int) else _smaller(value)
        for name, value in vars(config).items()
        if isinstance(value, Config) or (name in SMALL and isinstance(value, int) and not isinstance(value, bool))
    }
    return config.model_copy(update=changed)
