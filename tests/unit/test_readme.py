"""The README's examples are run as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  (registers the plug-ins)
from hyperloom.pipeline import plugins
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_recipe_is_valid() -> None:
    loaded = recipe.parse(blocks("yaml")[0], "README.md")
    assert list(loaded.recipe.steps)[-1] == "student"


def test_the_expert_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    (tmp_path / "brightness.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = blocks("yaml")[1].replace("modalities:\n", "modalities:\n  rgb: {type: image, size: [2, 3]}\n")
    text = text.replace("steps:\n", "steps:\n  frames: {stage: ingest, source: {type: files, path: x}}\n")
    loaded = recipe.parse(f"name: readme\n{text}", "README.md")
    expert = loaded.recipe.steps["labels"].experts[0]
    batch = {"rgb@camera": np.full((1, 2, 3, 3), 255, np.uint8)}
    made = expert.build(loaded.recipe.modalities, Storage(str(tmp_path)))(batch)["brightness@mean"]
    assert made.shape == (1, 2, 3, 1)
    for value in made:
        loaded.recipe.modalities["brightness"].check(value)
    assert "brightness" in sys.modules and plugins.load("expert", "brightness:Brightness") is type(expert)
