"""Every paper of the shelf: nothing that a verdict judges was taught by truth of the test split.

A new recipe with `paper:` is held without a line here. The walk is `tests.leaks`: by what the recipe says, from each
column that a training reads back to its source.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.host import project
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.recipes import recipe
from tests.leaks import leaks, taught, trainings

FOLDER = Path(__file__).parents[2] / "recipes/papers"
PAPERS = sorted(p for p in FOLDER.rglob("*.yaml") if "\npaper:" in p.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PAPERS, ids=lambda p: p.stem)
def test_no_truth_of_the_test_split_teaches_anything(path: Path) -> None:
    loaded = recipe.load(path)
    check(loaded)
    steps = loaded.recipe.steps
    assert all(any(taught(steps, name)) for name in trainings(steps)), "every column has a source"
    assert leaks(steps) == []


LOOKS = "ssl-joint/013-jigen.yaml"
DIGITS = "balancing-optimisation/005-pcgrad.yaml"
FLIGHTS = "scene-consensus/001-phg-mae-masks.yaml"
BASE = "flights.yaml"
"""What it builds on, which says what its labels are made of."""
NEW = "\n  whole: {stage: shard, data: scans, split: {by: look}}\n  report:\n"


@pytest.mark.parametrize(
    ("name", "there", "put", "who"),
    [
        (LOOKS, "jigsaw:   {like: plain,", "jigsaw:   {like: plain, data: whole,", "jigsaw"),
        (DIGITS, "pcgrad-ink:  {like: sum-ink,", "pcgrad-ink:  {like: sum-ink, data: other,", "pcgrad-ink"),
        (FLIGHTS, "{type: hsv, in: rgb@camera,", "{type: hsv, in: semantic@truth,", "teacher"),
        (FLIGHTS, "depth@consensus: {method: copy,", "depth@consensus: {truth: depth@truth, method: copy,", ""),
        (FLIGHTS, "semantic@consensus: {method", "semantic@consensus: {truth: semantic@truth, method", "picture"),
    ],
)
def test_truth_that_teaches_is_seen(name: str, there: str, put: str, who: str, tmp_path: Path) -> None:
    shutil.copytree((FOLDER / name).parent, tmp_path, dirs_exist_ok=True)
    path = tmp_path / Path(name).name
    changed = tmp_path / BASE if name == FLIGHTS else path
    text = changed.read_text(encoding="utf-8")
    assert text.count(there) == 1
    text = text.replace(there, put).replace("\n  report:\n", NEW if name == LOOKS else "\n  report:\n")
    if name == DIGITS:  # another step that reads the same file
        again = text[text.index("  scans:\n") : text.index("  shards:")].replace("  scans:", "  again:")
        text = text.replace(
            "\n  report:\n", f"\n{again}  other: {{stage: shard, data: again, split: {{by: block}}}}\n  report:\n"
        )
    changed.write_text(text, encoding="utf-8")
    sentences = leaks(recipe.load(path).recipe.steps)
    assert bool(sentences) == bool(who), sentences
    assert not who or any(line.startswith(f"{who}:") for line in sentences), sentences
    project.enter()
