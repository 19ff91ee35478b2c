"""Borders: what reaches one exactly is beyond it, though float32 says a little less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline import plugins
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.consensus.stage import ConsensusStage
from hyperloom.stages.data.difference import difference
from hyperloom.stages.expect.evidence import stated
from tests.unit import inline

SIDE = 1000
"""Pixels of a picture's side."""
KNOWN: dict[str, Any] = inline.modalities(
    kind={"type": "category", "classes": ["a", "b"]},
    objects={"type": "boxes", "classes": ["car", "dog"], "most": 4},
    joints={"type": "keypoints", "points": ["head", "foot"]},
    depth={"type": "dense", "size": [1, 2], "storage": "float32"},
    spread={"type": "dense", "size": [1, 2], "storage": "float32"},
    sure={"type": "dense", "size": [1, 2], "storage": "float32"},
)


def outcome(tmp_path: Path, sample: dict[str, Any], **fields: Any) -> tuple[dict[str, Any], Any]:
    """The columns that a consensus makes of one sample, and its manifest."""
    storage = Storage(str(tmp_path))
    values = {c: None if v is None else KNOWN[c.partition("@")[0]].fit(v) for c, v in sample.items()}
    stage = ConsensusStage(stage="consensus", data="labels", **fields)
    made = inline.finish(inline.step(stage, storage, KNOWN, labels=inline.ingested(storage, KNOWN, {"g": [values]})))
    return {c: inline.column(storage, KNOWN, made, c)["g/000"] for c in made.body["columns"]}, made


def in_pixels(x0: int, y0: int, x1: int, y1: int) -> list[dict[str, Any]]:
    return [{"x0": x0 / SIDE, "y0": y0 / SIDE, "x1": x1 / SIDE, "y1": y1 / SIDE, "class": "car"}]


HALVES = [(in_pixels(x, 7, x + 60, 47), in_pixels(x + 20, 7, x + 80, 47)) for x in range(3, 120, 13)]
"""Two boxes, 60 pixels wide, of which 40 are in both and 80 in one."""


@pytest.mark.parametrize(("one", "other"), HALVES)
def test_boxes_that_overlap_by_half_exactly_are_one(tmp_path: Path, one: Any, other: Any) -> None:
    columns, made = outcome(tmp_path, {"objects@a": one, "objects@b": other}, out="objects@all", method="match")
    assert np.isfinite(columns["objects@all"]).all(1).sum() == 1
    report = made.body["agreement"]["objects@all"]
    assert report["f1"][0][1] == 1
    assert stated(made).agreement["objects@all"] == {"objects@a": 1.0, "objects@b": 1.0}, "for `expect`"
    storage = Storage(str(tmp_path / "versions"))
    old, new = (inline.ingested(storage, KNOWN, {"g": [{"objects@a": KNOWN["objects"].fit(v)}]}) for v in (one, other))
    (column,) = difference(storage, old, new, KNOWN).columns
    assert column.as_json()["boxes"] == {"moved": 1}


@pytest.mark.parametrize("votes", [7, 9])
def test_a_share_of_votes_that_is_the_least_exactly_is_enough(tmp_path: Path, votes: int) -> None:
    """Seven of ten are .69999999 as they are kept: the sample had no class."""
    sample = {f"kind@{i}": int(i >= votes) for i in range(10)}
    method = {"type": "vote", "least": votes / 10}
    columns, _ = outcome(tmp_path, sample, out="kind@vote", method=method)
    assert columns["kind@vote"] == 0
    more, _ = outcome(tmp_path / "more", sample, out="kind@vote", method={**method, "least": votes / 10 + 0.01})
    assert more["kind@vote"] is None


@pytest.mark.parametrize("type_", ["vote", "dawid-skene"])
def test_only_leasts_that_are_rounded_down_are_made_anew(type_: str) -> None:
    revisions = [plugins.parse("consensus", {"type": type_, "least": least}).revised() for least in (0, 0.5, 0.6, 0.7)]
    assert [revision - revisions[0] for revision in revisions] == [0, 0, 0, 1]


@pytest.mark.parametrize("scale", [1.0, 1e-14, 1e-20])
def test_a_mean_does_not_depend_on_how_small_all_weights_are(tmp_path: Path, scale: float) -> None:
    """Likelihoods are such weights: with 1e-14 the mean of 2 and 5 was .04."""
    sample = {
        "depth@a": np.full((1, 2, 1), 2, np.float32),
        "depth@b": np.full((1, 2, 1), 5, np.float32),
        "sure@a": np.full((1, 2, 1), 2 * scale, np.float32),
        "sure@b": np.full((1, 2, 1), scale, np.float32),
    }
    method = {"type": "mean", "spread": "spread@all", "confidence": {"a": "sure@a", "b": "sure@b"}}
    columns, _ = outcome(tmp_path, sample, out="depth@all", method=method)
    assert columns["depth@all"].ravel().tolist() == pytest.approx([3, 3])
    assert columns["spread@all"].ravel().tolist() == pytest.approx([np.sqrt(2), np.sqrt(2)])


def test_a_point_that_a_person_hides_is_hidden(tmp_path: Path) -> None:
    """The expert's stayed."""
    sample = {"joints@net": {"head": [0.25, 0.5], "foot": [0.5, 0.75]}, "joints@human": {"head": [0.125, 0.5]}}
    columns, _ = outcome(tmp_path, sample, out="joints@all", method="copy")
    assert columns["joints@all"].tolist() == [[0.125, 0.5, 1], [0, 0, 0]]
    equal, _ = outcome(tmp_path / "equal", sample, out="joints@all", of=["joints@net", "joints@human"],
                       method={"type": "copy", "people": "equal"})  # fmt: skip
    assert equal["joints@all"].tolist() == [[0.25, 0.5, 1], [0.5, 0.75, 1]]
    steps = [
        ConsensusStage(stage="consensus", data="labels", out="joints@all", method="copy", of=of)
        for of in ((), ("joints@a", "joints@b"))
    ]
    assert ["hidden points" in one.revised_for(KNOWN) for one in steps] == [True, False]


@pytest.mark.parametrize("method", ["mean", "inverse-variance"])
def test_where_a_person_decides_nothing_is_spread(tmp_path: Path, method: str) -> None:
    """Of experts weighed by their errors it was 1: what a person says was the least sure."""
    random = np.random.default_rng(0)
    sample: dict[str, Any] = {f"depth@{who}": random.normal(3, 0.1, (1, 2, 1)).astype(np.float32) for who in "abc"}
    sample["depth@human"] = np.full((1, 2, 1), 7, np.float32)
    columns, _ = outcome(tmp_path, sample, out="depth@all", method={"type": method, "spread": "spread@all"})
    assert columns["depth@all"].ravel().tolist() == [7, 7] and columns["spread@all"].ravel().tolist() == [0, 0]


def test_only_spreads_beside_people_are_made_anew() -> None:
    fields: dict[str, Any] = {"stage": "consensus", "data": "labels", "out": "depth@all"}
    spread = {"type": "inverse-variance", "spread": "spread@all"}
    assert ConsensusStage(**fields, method=spread).revised_for(KNOWN) == {"spread of people": 2}
    assert ConsensusStage(**fields, method=spread, of=("depth@a", "depth@b")).revised_for(KNOWN) == {}
    assert ConsensusStage(**fields, method="inverse-variance").revised_for(KNOWN) == {}
