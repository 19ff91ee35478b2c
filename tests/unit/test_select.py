"""Choosing samples: budgets, orders, coverage, classes; and what the choice does in shards, for experts, in splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.stage import Label
from hyperloom.stages.results import Samples, Shards
from hyperloom.stages.select import picks
from hyperloom.stages.select.choice import _features
from hyperloom.stages.select.condition import SampleCondition
from hyperloom.stages.select.picks import covering, evened, uncertainty
from hyperloom.stages.select.stage import Select
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.table import read_table
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": [16, 16]},
    clip={"type": "embedding", "length": 2},
    kind={"type": "category", "classes": ["car", "bus"]},
    note={"type": "vector", "length": 2, "classes": ["car", "bus"]},
    pose={"type": "vector", "length": 2},
    gray={"type": "dense", "size": [16, 16], "range": [0, 1]},
    score={"type": "scalar"},
)


def _rows() -> list[dict[str, Any]]:
    """Twenty samples: their number as a score, every fifth a bus, on a line but for the last."""
    rows = []
    for i in range(20):
        near = (np.float32(i) * 0.01, np.float32(0)) if i < 19 else (np.float32(9), np.float32(9))
        chance = np.array([0.5 + i / 40, 0.5 - i / 40], np.float32)
        rows.append({
            "pose@raw": chance, "note@raw": np.array([-2, 3], np.float32), "note@student": chance,
            "clip@net": np.array(near, np.float32), "score@raw": np.array([i], np.float32),
            "kind@truth": np.int64(i % 5 == 0), "rgb@camera": np.full((16, 16, 3), 10 * i, np.uint8),
        })  # fmt: skip
    return rows


def _select(storage: Storage, **fields: Any) -> tuple[dict[str, float], Any, Any]:
    """Value of each sample's `score@choice`, the ingest's manifest and the choice's."""
    raw = inline.ingested(storage, KNOWN, {"a": _rows()[:12], "b": _rows()[12:]}, 5)
    stage = Select.model_validate({"stage": "select", "data": "frames", "out": "score@choice", **fields})
    made_by_it = inline.finish(inline.step(stage, storage, KNOWN, "choice", frames=raw))
    return _values(storage, made_by_it), raw, made_by_it


def _values(storage: Storage, choice: Any) -> dict[str, float]:
    tables = [
        read_table(storage, record.file.path, ["key", "score@choice"]).to_pydict()
        for record in choice.records
        if record.space == Samples.from_manifest(choice).columns["score@choice"].space
    ]
    return {k: v for t in tables for k, v in zip(t["key"], t["score@choice"], strict=True)}


def _chosen(tmp_path: Any, **fields: Any) -> set[str]:
    values, _, _ = _select(Storage(str(tmp_path)), **fields)
    assert len(values) == 20 and set(values.values()) <= {0.0, 1.0}
    return {key for key, value in values.items() if value}


def test_an_order_a_condition_and_a_budget_choose(tmp_path: Any) -> None:
    assert _chosen(tmp_path, n=3, order={"score@raw": "lowest"}) == {"a/000", "a/001", "a/002"}
    assert _chosen(tmp_path, n=2, order={"score@raw": "highest"}) == {"b/007", "b/006"}
    assert _chosen(tmp_path, n=2, order={"note@student": "highest"}) == {"a/000", "a/001"}, "the least sure"
    assert _chosen(tmp_path, where={"score@raw": {"above": 16}}) == {"b/005", "b/006", "b/007"}
    buses = _chosen(tmp_path, where={"kind@truth": {"is": "bus"}, "score@raw": {"below": 11}})
    assert buses == {"a/000", "a/005", "a/010"}
    first, again, other = (_chosen(tmp_path, n=5, seed=seed) for seed in (0, 0, 1))
    assert len(first) == 5 and first == again != other
    assert len(_chosen(tmp_path, share=0.5)) == 10 and len(_chosen(tmp_path, n=99, seed=1)) == 20


def test_coverage_and_even_classes(tmp_path: Any) -> None:
    assert "b/007" in _chosen(tmp_path, n=3, coverage="clip@net")
    assert "b/007" in _chosen(tmp_path, n=2, coverage="clip@net", method="facility")
    even = _chosen(tmp_path, n=6, balance="kind@truth")
    assert len(even & {"a/000", "a/005", "a/010", "b/003"}) == 3
    rows = np.array([[0.0], [0.1], [5.0], [5.1], [10.0]])
    assert set(covering(rows, np.arange(5), np.array([0]), 2, "k-centre")) == {2, 4}
    assert covering(rows, np.arange(0), np.array([0]), 2, "facility") == [], "nobody is left"
    assert evened(np.array([0, 0, 1, -1]), np.arange(1, 4), np.array([0]), 2) == [2, 1]
    assert uncertainty(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist() == [1.0, 0.0]


def test_shards_keep_what_is_chosen_and_rounds_add_up(tmp_path: Any) -> None:
    storage = Storage(str(tmp_path))
    _, raw, choice = _select(storage, n=4, order={"score@raw": "lowest"})
    stage = Shard(stage="shard", data=("frames", "choice"), columns=("score@raw",), keep="score@choice")
    shards = inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=raw, choice=choice))
    keys = [k for r in shards.records for k in read_table(storage, r.file.path, ["key"])["key"].to_pylist()]
    assert keys == ["a/000", "a/001", "a/002", "a/003"] and Shards.from_manifest(shards).rows("train") == 4
    more = Select.model_validate({
        "stage": "select", "data": ["frames", "choice"], "out": "score@next", "n": 2, "plus": "score@choice",
        "order": {"score@raw": "lowest"},
    })  # fmt: skip
    second = inline.finish(inline.step(more, storage, KNOWN, "next", frames=raw, choice=choice))
    whole = Shard(stage="shard", data=("frames", "next"), columns=("score@raw",), keep="score@next")
    both = inline.finish(inline.step(whole, storage, KNOWN, "shards", frames=raw, next=second))
    assert Shards.from_manifest(both).rows("train") == 6


def test_a_shard_step_beside_the_samples_says_who_is_a_candidate(tmp_path: Any) -> None:
    storage = Storage(str(tmp_path))
    _, raw, _ = _select(storage, n=1)
    stage = Shard(stage="shard", data=("frames",), columns=("score@raw",), split={"pin": {"test": ["b"]}})
    shards = inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=raw))
    fields = {"stage": "select", "data": ["frames", "shards"], "n": 3, "out": "score@choice", "split": "test"}
    first = Select.model_validate({**fields, "order": {"note@student": "highest"}})
    chosen = inline.finish(inline.step(first, storage, KNOWN, "choice", frames=raw, shards=shards))
    best = {key for key, value in _values(storage, chosen).items() if value}
    assert best == {"b/000", "b/001", "b/002"}, "the least sure of the split, though only the frames know how sure"


def test_an_expert_is_asked_about_what_is_chosen_only(tmp_path: Any) -> None:
    storage = Storage(str(tmp_path))
    _, raw, choice = _select(storage, n=4, order={"score@raw": "highest"})
    expert = {"type": "edges", "in": "rgb@camera", "out": "gray@edges", "only": "score@choice"}
    stage = Label.model_validate({"stage": "label", "data": ["frames", "choice"], "experts": [expert]})
    labels = inline.finish(inline.step(stage, storage, KNOWN, "labels", frames=raw, choice=choice))
    answers = [read_table(storage, r.file.path, ["key", "gray@edges"]) for r in labels.records]
    asked_about = {
        k for t in answers for k, v in zip(t["key"].to_pylist(), t["gray@edges"].is_valid().to_pylist()) if v
    }
    assert asked_about == {"b/004", "b/005", "b/006", "b/007"}


def test_groups_with_copies_lie_on_one_side(tmp_path: Any) -> None:
    draw = np.random.default_rng(0)
    groups = {
        f"g{i:02d}": [{"rgb@camera": draw.integers(0, 255, (16, 16, 3)).astype(np.uint8)} for _ in range(2)]
        for i in range(12)
    }
    groups["g11"].append(groups["g00"][0])
    groups["g05"].append(groups["g11"][1])
    storage = Storage(str(tmp_path))
    raw = inline.ingested(storage, KNOWN, groups)
    for salt in "abcd":
        split = {"test": 0.4, "salt": salt, "apart": "duplicates"}
        shards = inline.finish(
            inline.step(Shard(stage="shard", data="frames", split=split), storage, KNOWN, "s", frames=raw)
        )
        places = {s.group: s.split for s in Shards.from_manifest(shards).shards}
        assert places["g00"] == places["g05"] == places["g11"] and set(places.values()) == {"train", "test"}
        assert not any("byte for byte" in text for text in Shards.from_manifest(shards).remarks)
    split = {"pin": {"test": ["g00"], "train": ["g11"]}, "apart": "duplicates"}
    with pytest.raises(RecipeError, match="pinned apart"):
        inline.finish(inline.step(Shard(stage="shard", data="frames", split=split), storage, KNOWN, "s", frames=raw))


def test_a_group_of_which_nothing_is_kept_has_a_place_beside_those_that_share_copies(tmp_path: Any) -> None:
    storage = Storage(str(tmp_path))
    _, raw, choice = _select(storage, n=4, order={"score@raw": "lowest"})
    stage = Shard(stage="shard", data=("frames", "choice"), keep="score@choice", split={"apart": "duplicates"})
    shards = inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=raw, choice=choice))
    assert {s.group for s in Shards.from_manifest(shards).shards} == {"a"}
    assert Shards.from_manifest(shards).splits["train"].groups == ["a", "b"]


def test_numbers_that_are_no_probabilities_are_no_doubt(tmp_path: Any) -> None:
    """A pose is refused before anything runs, and numbers called by classes once they leave 0..1."""
    with pytest.raises(RecipeError, match=r"pose@raw has neither one number nor p.*classes: \[...\] under 'pose'"):
        _select(Storage(str(tmp_path)), n=2, order={"pose@raw": "highest"})
    with pytest.raises(
        Exception, match=r"note@raw is no order of samples: expected probabilities in 0..1, got -2 to 3"
    ):
        _select(Storage(str(tmp_path)), n=2, order={"note@raw": "highest"})


def test_what_nobody_knows_is_no_doubt() -> None:
    """Black borders, experts that say nothing: zeros."""
    sure, even, nothing = np.eye(3)[0], np.array([0.65, 0.35, 0]), np.zeros(3)
    maps = np.array([[sure, sure], [nothing, sure], [even, even], [nothing, nothing], [nothing, even]])
    assert uncertainty(maps) == pytest.approx([0, 0, 0.7, np.nan, 0.7], nan_ok=True)


@pytest.mark.parametrize("method", ["k-centre", "facility"])
def test_coverage_takes_as_many_as_were_asked_for(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picks, "CANDIDATES", 12)
    monkeypatch.setattr(picks, "SEEN", 8)
    rows, order = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60)[::-1]
    few = covering(rows, order, np.array([], int), 5, method)
    many = covering(rows, order, np.array([], int), 30, method)
    assert len(set(few)) == 5 and many[:5] == few
    assert len(set(many)) == 30 and set(many[12:]) == set(order[:30]) - set(many[:12])
    assert len(covering(rows, order, np.array([], int), 99, method)) == 60


def test_what_is_no_choice_is_refused() -> None:
    for fields, text in (
        ({"n": 3, "share": 0.5}, "either n or share"),
        ({"order": {"score@raw": "lowest"}}, "within a budget"),
        ({"n": 3, "coverage": "clip@net", "balance": "kind@truth"}, "give one"),
        ({"where": {"score@raw": {}}}, "above, below"),
    ):
        with pytest.raises(ValidationError, match=text):
            Select.model_validate({"stage": "select", "data": "frames", "out": "score@choice", **fields})


def test_a_border_is_as_numbers_are_stored_and_what_is_known_is_asked_as_well(tmp_path: Any) -> None:
    stored = np.array([0.05, 0.1, 0.7, 0.9], np.float32).astype(np.float64)
    every, kind = np.ones(4, bool), SampleCondition.model_validate
    assert kind({"above": 0.1}).met(stored, every, ()).tolist() == [False, False, True, True]
    assert kind({"below": 0.7}).met(stored, every, ()).tolist() == [True, True, False, False]
    some = np.array([True, False, True, False])
    assert kind({"known": True, "above": 0.5}).met(stored, some, ()).tolist() == [False, False, True, False]
    assert kind({"known": False}).met(stored, some, ()).tolist() == [False, True, False, True]
    with pytest.raises(ValidationError, match="known: false is of samples without a value"):
        kind({"known": False, "above": 0.5})
    fields = {"stage": "select", "data": "frames", "out": "score@choice", "where": {"score@raw": {"above": 16}}}
    stage = Select.model_validate(fields)
    assert stage.revised_for(KNOWN) == {}
    assert stage.model_copy(update={"where": {"score@raw": kind({"above": 0.1})}}).revised_for(KNOWN) == {"borders": 2}


def test_samples_that_lie_nowhere_cover_nothing(tmp_path: Any) -> None:
    """Also where a whole partition has none: the features of the others stay with their samples."""
    storage = Storage(str(tmp_path))
    lying = [np.array([i // 2, 1], np.float32) for i in range(8)]
    rows = [{"clip@net": value, "score@raw": np.array([i], np.float32)} for i, value in enumerate([None] * 4 + lying)]
    rows[5]["clip@net"] = None
    raw = inline.ingested(storage, KNOWN, {"g": rows}, 4)
    fields = {"stage": "select", "data": "frames", "out": "score@choice", "n": 2, "coverage": "clip@net"}
    stage = Select.model_validate(fields)
    chosen = _values(storage, inline.finish(inline.step(stage, storage, KNOWN, "choice", frames=raw)))
    one, other = (rows[int(key[-3:])]["clip@net"] for key, value in chosen.items() if value)
    assert one is not None and other is not None and abs(one[0] - other[0]) >= 2
    many = stage.model_copy(update={"n": 9})
    chosen = _values(storage, inline.finish(inline.step(many, storage, KNOWN, "more", frames=raw)))
    assert sum(chosen[f"g/{i:03d}"] for i, row in enumerate(rows) if row["clip@net"] is not None) == 7
    tables = [pa.table({"key": ["a", "b"]}), pa.table({"key": ["c"], "feature": pa.array([b"\0" * 8], pa.binary(8))})]
    assert np.isnan(_features(tables)).all(1).tolist() == [True, True, False], "of a partition without a file"


@pytest.mark.parametrize("method", ["k-centre", "facility"])
@pytest.mark.parametrize("unit", [1e6, 1e-10])
def test_what_covers_does_not_depend_on_the_unit(method: Any, unit: float) -> None:
    """Beside samples that were chosen before, those of a small unit all seemed as good as any."""
    random = np.random.default_rng(0)
    rows = np.concatenate([random.normal(at, 0.1, (count, 1)) for at, count in ((0, 40), (3, 11), (8, 7))])
    picks = [covering(rows * by, np.arange(1, 58), np.array([0]), 2, method) for by in (1.0, unit)]
    assert picks[1] == picks[0] and {int(i >= 40) + int(i >= 51) for i in picks[0]} == {1, 2}
