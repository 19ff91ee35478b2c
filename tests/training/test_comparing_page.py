"""The page "Is my change better?": its recipe runs as it stands, on a table of one's own, and its verdict is right."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.host import project
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.stages.verdict.conclusion import Concluded

PAGE = (Path(__file__).parents[2] / "docs/comparing.md").read_text(encoding="utf-8")
RECIPE = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
STATES = ("idle", "busy", "worn")


def _readings(path: Path, hum: bool) -> None:
    """Heat tells idle machines from the others; their hum alone, where it means anything, tells which are worn."""
    draw = np.random.default_rng(4)
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["day", "heat", "hum", "state"])
        for i in range(1200):
            state = int(draw.integers(3))
            heat = (state > 0) * 4 + draw.normal()
            noise = (state == 2) * 4 * hum + draw.normal()
            rows.writerow([f"day-{i // 60:02d}", f"{heat:.3f}", f"{noise:.3f}", STATES[state]])


@pytest.mark.parametrize(("hum", "word"), [(True, "holds"), (False, "not shown")])
def test_the_recipe_of_the_page_gives_the_verdict_that_the_data_deserve(
    hum: bool, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _readings(tmp_path / "readings.csv", hum)
    path = tmp_path / "second-sensor.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    loaded = recipe.load(path)
    outcome = runner.run(loaded, None, None, None, track=False)
    assert outcome.ok, outcome.problems
    storage = Storage(loaded.recipe.root)
    made = {step.name: step.manifest for step in plan(loaded, storage, Digests(storage))}
    verdict = made["verdict"]
    assert verdict is not None
    concluded = Concluded.from_manifest(verdict)
    assert concluded.word == word, concluded.claims
    assert concluded.samples == 240 and len(concluded.claims["second"].seeds) == 3
    assert set(re.findall(r"(\w+):", RECIPE)) >= {"limit", "pin", "seeds", "like", "claims"}
    project.enter()
