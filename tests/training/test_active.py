"""Active learning as a recipe: it runs to its verdict, and its rounds choose what they say."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.stages.results import Samples, Shards
from hyperloom.stages.table import read_table
from hyperloom.stages.verdict.conclusion import Concluded
from tests.real.test_street_experts import SHARED

HERE = Path(__file__).parents[2]


def chosen(storage: Storage, manifest: Any) -> set[str]:
    """Keys of the samples that a select step has chosen, now or in a round before."""
    ((column, producer),) = Samples.from_manifest(manifest).columns.items()
    tables = [read_table(storage, r.file.path) for r in manifest.records if r.space == producer.space]
    rows = [pair for t in tables for pair in zip(t["key"].to_pylist(), t[column].to_pylist(), strict=True)]
    return {key for key, value in rows if value}


def small(root: Path) -> str:
    """The recipe with two rounds of two digits, of one digit a block."""
    text = (HERE / "recipes/active.yaml").read_text()
    for i in range(7):
        text = text.replace(f"n: {30 * i}}}", f"n: {2 * i}}}")
    written = yaml.safe_load(text.replace("n: 30", "n: 2"))
    steps = {name: step for name, step in written["steps"].items() if name[-1] not in "345"}
    steps["scans"]["limit"] = 50
    steps["drawn"]["data"] = ["scans", "draw0", "draw1", "draw2"]
    steps["drawn0"] |= {"updates": 2, "batch": 2}
    steps["report"]["models"] = {k: v for k, v in steps["report"]["models"].items() if k[-1] not in "345"}
    steps["verdict"] |= {"claims": {"round2": steps["verdict"]["beside"]["round2"]}, "beside": {}}
    return json.dumps({**written, "root": str(root), "matrix": {"seed": [0]}, "steps": steps})


def test_rounds_add_up_and_end_in_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut small it says nothing of which arm is better."""
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("HYPERLOOM_SHARED", str(SHARED))
    loaded = recipe.parse(small(tmp_path), str(HERE / "recipes/active.yaml"))
    try:
        outcome = runner.run(loaded, None, None, None, track=False)
    except SourceError as error:
        pytest.skip(f"its data is not here: {error}")
    assert outcome.ok, outcome.problems
    storage = Storage(str(tmp_path))
    steps: dict[str, Any] = {step.name: step.manifest for step in plan(loaded, storage, Digests(storage))}
    drawn = [chosen(storage, steps[f"draw{i}-0"]) for i in range(3)]
    asked = [drawn[0], *(chosen(storage, steps[f"sure{i}-0"]) for i in (1, 2))]
    for arm in (drawn, asked):
        assert [len(p) for p in arm] == [2, 4, 6] and all(a < b for a, b in pairwise(arm))
    trained = set(Shards.from_manifest(steps["digits"]).splits["train"].groups)
    groups = {key: record.meta["group"] for record in steps["digits"].records for key in _keys(storage, record)}
    assert {groups[key] for key in drawn[-1] | asked[-1]} <= trained
    assert Concluded.from_manifest(steps["verdict"]).word in ("holds", "reversed", "not shown")


def _keys(storage: Storage, record: Any) -> list[str]:
    return [str(key) for key in read_table(storage, record.file.path, ["key"])["key"].to_pylist()]
