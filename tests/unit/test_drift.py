"""Drift: the distances, what a shift of brightness, of classes and of an expert is found by, and what is no alarm."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.events import read
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import champion as champions
from hyperloom.stages.drift import chance, distances
from hyperloom.stages.drift.measured import cuts
from hyperloom.stages.drift.stage import MEASURES, Drift
from hyperloom.stages.results import Drifted
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.shard.statistics import ColumnCounter
from tests.unit import inline

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


# -- distances ---------------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:divide by zero")
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_distances_are_those_of_a_second_implementation(data: Any) -> None:
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import ks_2samp

    p = data.draw(COUNTS.filter(any))
    q = data.draw(st.lists(st.integers(0, 500), min_size=len(p), max_size=len(p)).filter(any))
    left, right = np.array(p, float), np.array(q, float)
    assert distances.js(left, right) == pytest.approx(jensenshannon(p, q, 2), abs=1e-7)
    samples = (np.repeat(np.arange(len(p)), counts) for counts in (p, q))
    assert distances.ks(left, right) == pytest.approx(ks_2samp(*samples, method="asymp").statistic, abs=1e-12)
    shares = [(max(a / sum(p), 1e-4), max(b / sum(q), 1e-4)) for a, b in zip(p, q, strict=True)]
    assert distances.psi(left, right) == pytest.approx(math.fsum((b - a) * math.log(b / a) for a, b in shares))
    many = np.stack([right, left, 3 * right])
    for measure in (distances.psi, distances.ks, distances.js):
        together = measure(left, many)
        assert together == pytest.approx([float(measure(left, row)) for row in many]), "many at once are each by itself"
        assert float(measure(left, right)) == pytest.approx(float(measure(right, left))) and measure(left, left) == 0
        assert measure(left, 0 * right) == 0, "what is not there has no distance"


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.integers(-50, 50), st.integers(1, 40), min_size=1), st.integers(1, 20))
def test_bins_are_fixed_by_the_reference_and_share_it_evenly(counts: dict[int, int], bins: int) -> None:
    codes, weights = np.array(list(counts)), np.array(list(counts.values()))
    edges = cuts(codes, weights, bins)
    shared = np.bincount(np.searchsorted(edges, codes, "right"), weights, len(edges) + 1)
    assert shared[0] == shared[-1] == 0 and shared[1:-1].all() and len(edges) <= bins + 1
    assert shared.max() < weights.sum() / bins + weights.max() + 1
    order = np.random.default_rng(0).permutation(len(codes))
    assert (cuts(codes[order], weights[order], bins) == edges).all()


def test_summaries_of_parts_add_up_to_those_of_the_whole() -> None:
    random = np.random.default_rng(1)
    known = inline.modalities(
        depth={"type": "dense", "size": [4, 4]}, place={"type": "segmentation", "classes": ["a", "b"], "size": [4, 4]}
    )
    values = random.normal(3, 9, (600, 4, 4, 1)).astype(np.float16)
    values[7] = np.nan
    valid = random.random(600) < 0.9
    whole, parts = ColumnCounter(known["depth"]), [ColumnCounter(known["depth"]) for _ in range(2)]
    whole.add(values, valid)
    for part, rows in zip(parts, (slice(0, 250), slice(250, 600)), strict=True):
        part.add(values[rows], valid[rows])
    samples = whole.figures()["samples"]
    added: dict[int, int] = {}
    for part in parts:
        figures = part.figures()["samples"]
        for code, count in zip(figures["codes"], figures["counts"], strict=True):
            added[code] = added.get(code, 0) + count
    assert added == dict(zip(samples["codes"], samples["counts"], strict=True))
    means = np.where(valid, values.astype(np.float64).mean((1, 2, 3)), np.nan)
    assert samples["high"][0] == [pytest.approx(np.nanmax(means), rel=1e-5), int(np.nanargmax(means))]
    assert samples["low"][0] == [pytest.approx(np.nanmin(means), rel=1e-5), int(np.nanargmin(means))]
    assert sum(samples["counts"]) == int(np.isfinite(means).sum())
    ids = random.integers(0, 2, (50, 4, 4)).astype(np.uint8)
    counter = ColumnCounter(known["place"])
    counter.add(ids, np.ones(50, bool))
    wet = ids.mean((1, 2))
    assert counter.figures()["samples"]["most"] == [
        [0, 1 - wet.min(), int(wet.argmin())], [1, wet.max(), int(wet.argmax())],
    ]  # fmt: skip


# -- the stage ---------------------------------------------------------------------------------------------------------
SIZE = (8, 8)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["land", "water"], "size": list(SIZE)},
    depth={"type": "dense", "size": list(SIZE), "unit": "m"},
    speed={"type": "scalar"},
)
RGB, CLASSES, DEPTH, SPEED = "rgb@camera", "semantic@net", "depth@net", "speed@log"
Change = Callable[[dict[str, Any]], dict[str, Any]]


def frame(random: np.random.Generator, light: float, wet: float) -> dict[str, Any]:
    """One sample of a flight, which has a light of its own and a share of water of its own."""
    rgb = np.clip(random.normal(light, 25, (*SIZE, 3)), 0, 255).astype(np.uint8)
    depth = random.normal(60, 8, (*SIZE, 1)).astype(np.float32)
    classes = (random.random(SIZE) < wet).astype(np.uint8)
    return {RGB: rgb, CLASSES: classes, DEPTH: depth, SPEED: np.array([random.normal(2020, 3)], np.float32)}


def flights(seed: int, names: range, frames: int = 5, change: Change = dict) -> dict[str, list[dict[str, Any]]]:
    made = {}
    for name in names:
        random = np.random.default_rng([seed, name])
        light, wet = random.normal(120, 12), random.uniform(0.3, 0.5)
        made[f"f{name:03d}"] = [change(frame(random, light, wet)) for _ in range(frames)]
    return made


def sharded(
    storage: Storage,
    groups: dict[str, list[dict[str, Any]]],
    known: dict[str, Any] = KNOWN,
    rows: int = 20,
    **fields: Any,
) -> Manifest:
    frames = inline.ingested(storage, known, groups, rows=rows)
    manifests.commit(storage, frames)
    split = {"pin": {"test": [next(iter(groups))]}}
    stage = Shard.model_validate({"stage": "shard", "data": "frames", "split": split, **fields})
    return inline.finish(inline.step(stage, storage, known, "shards", frames=frames))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A root with shards of `flights(3, range(24))`, for tests to copy."""
    root = tmp_path_factory.mktemp("usual")
    return root, sharded(Storage(str(root)), flights(3, range(24)))


def since(
    usual: tuple[Path, Manifest], root: Path, new: dict[str, Any], **config: Any
) -> tuple[Drifted, Manifest, Storage]:
    """What came to the usual flights."""
    shutil.copytree(usual[0], root, dirs_exist_ok=True)
    return compared(Storage(str(root)), usual[1], flights(3, range(24)) | new, **config)


def drifted(root: Path, old: dict[str, Any], new: dict[str, Any], **config: Any) -> tuple[Drifted, Manifest, Storage]:
    storage = Storage(str(root))
    return compared(storage, sharded(storage, old), old | new, **config)


def compared(
    storage: Storage, before: Manifest, groups: dict[str, Any], **config: Any
) -> tuple[Drifted, Manifest, Storage]:
    now = sharded(storage, groups)
    stage = Drift.model_validate({"stage": "drift", "data": "shards", "against": "old", **config})
    made = inline.finish(inline.step(stage, storage, KNOWN, "drift", shards=now, old=before))
    return Drifted.from_manifest(made), made, storage


def alarms(result: Drifted) -> set[tuple[str, str]]:
    return {(s, m) for s, figures in result.figures.items() for m, f in figures.items() if f["alarm"]}


def brighter(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, RGB: np.clip(sample[RGB].astype(int) + 60, 0, 255).astype(np.uint8)}


def wetter(sample: dict[str, Any]) -> dict[str, Any]:
    drawn = np.random.default_rng(sample[RGB].sum()).random(SIZE) < 0.5
    return {**sample, CLASSES: np.where(drawn, 1, sample[CLASSES]).astype(np.uint8)}


def dead(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, DEPTH: None}


def stuck(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, DEPTH: np.full((*SIZE, 1), 60, np.float32)}


def later(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, SPEED: sample[SPEED] + 12}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (brighter, {(RGB, "psi"), (RGB, "ks"), (RGB, "shift")}),
        (wetter, {(CLASSES, "js")}),
        (dead, {(DEPTH, "missing")}),
        (stuck, {(DEPTH, "psi")}),
        (later, {(SPEED, "shift")}),
    ],
)
def test_what_changed_is_found_and_nothing_else(
    usual: Any, tmp_path: Path, change: Change, expected: set[tuple[str, str]]
) -> None:
    result, made, storage = since(usual, tmp_path, flights(3, range(24, 36), change=change))
    assert result.alarm and result.compared and expected <= alarms(result)
    assert {subject for subject, _ in alarms(result)} == {subject for subject, _ in expected}
    assert result.rows == 60 and result.groups == [f"f{i:03d}" for i in range(24, 36)]
    notes = [e["text"] for e in read(storage, "test") if e["kind"] == "note"]
    assert notes[-1].startswith("DRIFT: ") and next(iter(expected))[0] in notes[-1]
    tags = [e for e in read(storage, "test") if e["kind"] == "tag" and "drift" in e["values"]]
    assert [t["step"] for t in tags] == ["drift", ""] and tags[0]["values"]["drift"] == notes[-1]
    picture = cv2.imdecode(np.frombuffer(storage.read(made.files[0].path), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > 7 * 120 and {e["path"] for e in read(storage, "test") if e["kind"] == "artifact"} == {
        made.files[0].path
    }


def test_the_samples_shown_are_those_that_moved_most(
    usual: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = flights(3, range(24, 36), change=brighter)
    flat = {(g, i): float(s[RGB].mean()) for g, samples in new.items() for i, s in enumerate(samples)}
    brightest = sorted(flat, key=lambda k: -flat[k])[:3]
    shown: list[str] = []

    def collage(rows: Any, columns: Any, modalities: Any) -> bytes:
        shown.extend(key for key, _ in rows)
        return b"png"

    monkeypatch.setattr("hyperloom.stages.evaluate.collage.collage", collage)
    since(usual, tmp_path, new, columns=[RGB], pictures=3)
    assert shown[:3] == [f"new: {group}/{at:03d}" for group, at in brightest] and shown[3].startswith("before: ")


def test_classes_in_another_order_are_compared_by_name_and_other_meanings_are_named(tmp_path: Path) -> None:
    old, new = flights(3, range(24)), flights(3, range(24, 36), change=wetter)
    storage, size = Storage(str(tmp_path)), list(SIZE)
    known = KNOWN | inline.modalities(
        semantic={"type": "segmentation", "classes": ["water", "land"], "size": size},
        depth={"type": "dense", "size": size, "unit": "cm"},
        speed={"type": "scalar", "unit": "m"},
    )
    before, plain = sharded(storage, old), sharded(storage, new)
    groups = {g: [{**s, CLASSES: 1 - s[CLASSES]} for s in samples] for g, samples in new.items()}
    turned = sharded(storage, groups, known)

    def compared(now: Manifest, modalities: dict[str, Any], **fields: Any) -> Drifted:
        stage = Drift.model_validate({"stage": "drift", "data": "shards", "against": "old", **fields})
        run = inline.step(stage, storage, modalities, "drift", shards=now, old=before)
        return Drifted.from_manifest(inline.finish(run))

    result = compared(turned, known)
    assert result.figures[CLASSES] == compared(plain, KNOWN).figures[CLASSES]
    assert result.figures[CLASSES]["js"]["value"] > 0 and (CLASSES, "js") in alarms(result)
    (why,) = (reason for reason in result.reasons if reason.startswith("not compared"))
    assert "depth@net (in m before, in cm now)" in why and "speed@log (the unit of before: not given; of now: m" in why
    with pytest.raises(RecipeError, match="in m before, in cm now"):
        compared(turned, known, columns=[DEPTH])


@pytest.mark.parametrize(
    "fields",
    [{"codec": "zstd"}, {"row_group_mb": 0.001}, {"columns": [RGB, CLASSES, DEPTH]}, {"shard_mb": 0.0001, "rows": 2}],
)
def test_shards_that_are_stored_otherwise_hide_no_alarm(usual: Any, tmp_path: Path, fields: dict[str, Any]) -> None:
    shutil.copytree(usual[0], tmp_path, dirs_exist_ok=True)
    storage, new = Storage(str(tmp_path)), flights(9, range(100, 104), change=brighter)
    now = sharded(storage, flights(3, range(24)) | new, **fields)
    assert not {(r.space, r.id) for r in now.records} & {(r.space, r.id) for r in usual[1].records}
    stage = Drift.model_validate({"stage": "drift", "data": "shards", "against": "old", "least": 10})
    run = inline.step(stage, storage, KNOWN, "drift", shards=now, old=usual[1])
    result = Drifted.from_manifest(inline.finish(run))
    assert result.rows == 20 and result.groups == sorted(new)
    assert {(RGB, "psi"), (RGB, "ks"), (RGB, "shift")} <= alarms(result)


def test_a_shard_is_newer_by_the_columns_that_are_compared(usual: Any, tmp_path: Path) -> None:
    groups = flights(3, range(24))
    groups |= {"f003": [wetter(s) for s in groups["f003"]], "f005": groups["f005"] + groups["f006"]}
    for columns, newer in (([RGB], ["f005"]), ([CLASSES], ["f003", "f005"]), ([], ["f003", "f005"])):
        root = tmp_path / "-".join(columns)
        shutil.copytree(usual[0], root, dirs_exist_ok=True)
        result, _, _ = compared(Storage(str(root)), usual[1], groups, columns=columns, least=1)
        assert result.groups == newer, columns


@pytest.mark.parametrize("unit", [1.0, 1e-4, 1e-9, 1e-12, 1e6])
def test_a_spread_that_changes_is_seen_in_any_unit(tmp_path: Path, unit: float) -> None:
    """Currents in amperes were all zero to `ks` and lay in one bin of `psi`, and nothing had moved."""

    def groups(names: range, far: float) -> dict[str, list[dict[str, Any]]]:
        random = np.random.default_rng([*names])
        return {
            f"f{name:03d}": [{SPEED: np.array([unit * random.normal(random.choice([-1, 1]) * far, 0.1)], np.float32)}
                             for _ in range(20)] for name in names
        }  # fmt: skip

    result, _, _ = drifted(tmp_path / "far", groups(range(12), 1), groups(range(12, 24), 3))
    assert {(SPEED, "ks"), (SPEED, "psi")} <= alarms(result) and result.figures[SPEED]["ks"]["value"] == pytest.approx(
        0.5, abs=0.06
    )
    same, _, _ = drifted(tmp_path / "same", groups(range(12), 1), groups(range(12, 24), 1))
    assert not same.alarm


@pytest.mark.parametrize("moved", [0.0, 5.0])
def test_a_run_that_reuses_the_step_has_its_alarm_too(tmp_path: Path, moved: float) -> None:
    """It was said by the run that made the step alone."""
    old, new = ({f"f{i:03d}": [{SPEED: np.float32([i % 12 + j / 20 + add])} for j in range(20)] for i in numbers}
                for numbers, add in ((range(12), 0.0), (range(12, 24), moved)))  # fmt: skip
    result, made, storage = drifted(tmp_path, old, new, thresholds={"shift": 0.5, "ks": 1, "psi": 99})
    (told,) = (e["values"] for e in read(storage, "test") if e["kind"] == "metric" and not e["step"])
    stage = Drift.model_validate({"stage": "drift", "data": "shards", "against": "old"})
    assert stage.figures(made) == told == {"drift.alarm": float(moved > 0)} and result.alarm == (moved > 0)


def test_noise_beside_a_column_of_zeros_is_no_drift(tmp_path: Path) -> None:
    """Zeros say nothing of a unit."""
    still = {f"f{i:03d}": [{SPEED: np.zeros(1, np.float32)} for _ in range(20)] for i in range(12)}
    noise = {f"f{i:03d}": [{SPEED: np.array([1e-12], np.float32)} for _ in range(20)] for i in range(12, 24)}
    result, _, _ = drifted(tmp_path, still, noise)
    assert result.figures[SPEED]["ks"]["value"] == result.figures[SPEED]["psi"]["value"] == 0


def test_shards_that_did_not_say_small_numbers_are_compared_as_before(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    old = {f"f{i:03d}": [{SPEED: np.array([1e-9 * (i + k + 1)], np.float32)} for k in range(10)] for i in range(8)}
    new = {f"f{i:03d}": [{SPEED: np.array([1e-9 * (i + k + 1)], np.float32)} for k in range(10)] for i in range(8, 14)}
    before = sharded(storage, old)
    for record in before.records:
        assert record.meta["statistics"][SPEED]["samples"].pop("small")
        record.meta["statistics"][SPEED]["powers"] = [[]]
    result, _, _ = compared(storage, before, old | new)
    assert result.figures[SPEED]["ks"]["value"] == result.figures[SPEED]["psi"]["value"] == 0


def test_more_of_the_same_is_no_alarm(tmp_path: Path) -> None:
    seed = 1
    result, made, _ = drifted(tmp_path, flights(seed, range(24)), flights(seed, range(24, 36)))
    assert result.compared and not result.alarm, result.reasons
    assert "as before" in result.reasons[0]
    _, again, _ = drifted(tmp_path / "again", flights(seed, range(24)), flights(seed, range(24, 36)))
    assert again.body == made.body and again.files == made.files, "the same data give the same bytes"


def test_unchanged_data_seldom_give_an_alarm() -> None:
    """Many columns, of groups that each differ: by chance alone one night in twenty, whatever the number of columns."""
    false, random = 0, np.random.default_rng(5)
    new = np.arange(30) >= 24
    dealt = chance.dealings(new)
    for _ in range(200):
        shares = random.dirichlet(np.full(6, 3.0), (12, 30))
        counts = np.stack([[random.multinomial(200, s) for s in column] for column in shares]).astype(float)
        summed = dealt.astype(float) @ counts
        distances_ = distances.js(counts.sum(1)[:, None] - summed, summed)
        false += bool((chance.chances(distances_, [0.01] * 12) <= 0.05).any())
    assert false <= 20, f"{false} of 200, at 1 in 20"


def test_dealings_are_all_there_are_or_drawn_and_begin_with_the_real_one() -> None:
    few, many = np.array([False, True, False, True]), np.arange(60) < 20
    assert len(chance.dealings(few)) == 6 == len(np.unique(chance.dealings(few), axis=0))
    assert (chance.dealings(many) == chance.dealings(many)).all() and len(chance.dealings(many)) == chance.ROUNDS
    for new in (few, many):
        dealt = chance.dealings(new)
        assert (dealt[0] == new).all() and (dealt.sum(1) == new.sum()).all()


def test_few_groups_are_judged_by_what_samples_alone_may_differ_by(tmp_path: Path) -> None:
    frames = flights(4, range(1, 2), frames=140)["f001"]
    old = {"test": frames[:1], "a": frames[:40], "b": frames[40:80]}
    result, _, _ = drifted(tmp_path / "same", old, {"x": frames[80:]})
    assert not result.alarm and "too few to tell chance" in result.reasons[-1]
    result, _, _ = drifted(tmp_path / "other", old, {"x": [brighter(sample) for sample in frames[80:]]})
    assert {s for s, _ in alarms(result)} == {RGB}
    assert all(f["chance"] is None for figures in result.figures.values() for f in figures.values())


# -- agreement and quarantine ------------------------------------------------------------------------------------------
def test_experts_that_part_and_samples_left_out_are_figures(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    groups = flights(6, range(36))
    known = {name: samples for name, samples in groups.items() if name < "f024"}
    before, now = (_labelled(storage, frames) for frames in (known, groups))
    stage = Drift.model_validate({"stage": "drift", "data": "shards", "against": "old", "thresholds": {"missing": 1}})
    result = Drifted.from_manifest(inline.finish(inline.step(stage, storage, KNOWN, shards=now, old=before)))
    assert alarms(result) == {("semantic@a", "agreement"), ("semantic@vote", "quarantine")}
    agreement = {s: f["agreement"]["value"] for s, f in result.figures.items() if "agreement" in f}
    assert agreement == pytest.approx({"semantic@a": 0.4, "semantic@b": 0.0})
    assert result.figures["semantic@vote"]["quarantine"]["value"] == pytest.approx(1 / 6, abs=1e-4)


def _labelled(storage: Storage, groups: dict[str, Any]) -> Manifest:
    """Shards over frames and a consensus of two sources, of which one parts from flight 24 on."""
    frames = inline.ingested(storage, KNOWN, groups)
    records = []
    for pid, group, _, rows in frames.body["partitions"]:
        late = group >= "f024"
        pairs = {"a|semantic@vote": 0.4 if late else 0.8, "b|semantic@vote": 0.9, "a|semantic@b": 0.7}
        figures = {f"equal:semantic@{name}": [share * rows, rows] for name, share in pairs.items()}
        records.append(Record("expert/vote", pid, rows, (), int(late and rows == 1), {"figures": figures}))
    maker = {"space": "expert/vote", "fingerprint": "v" * 64, "about": {"kind": "consensus"}}
    body = {
        "columns": {"semantic@vote": maker}, "partitions": frames.body["partitions"],
        "agreement": {"semantic@vote": {}}, "quarantined": {}, "coverage": {},
    }  # fmt: skip
    votes = Manifest("consensus", fingerprint([r.id for r in records]), {}, tuple(records), (), body)
    for made in (frames, votes):
        manifests.commit(storage, made)
    stage = Shard.model_validate({"stage": "shard", "data": ["frames", "votes"], "columns": [RGB, CLASSES]})
    return inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=frames, votes=votes))


# -- the champion ------------------------------------------------------------------------------------------------------
def test_without_a_champion_it_says_so_and_passes(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    shards = sharded(storage, flights(3, range(6)))
    stage = Drift.model_validate({"stage": "drift", "data": "shards", "champion": "aerial"})
    assert stage.facts(Digests(storage)) == {}
    result = Drifted.from_manifest(inline.finish(inline.step(stage, storage, KNOWN, "drift", shards=shards)))
    assert (result.alarm, result.compared, result.first) == (False, False, True)
    assert "there is no champion of aerial yet" in result.reasons[0]


def test_a_champion_is_known_by_the_shards_it_was_judged_on(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    old = flights(3, range(24))
    before, now = sharded(storage, old), sharded(storage, old | flights(3, range(24, 36), change=brighter))
    judged = Manifest("evaluate", "e" * 64, {}, (), (), {
        "split": "test", "lineage": {"shards": before.fingerprint}, "figures": {},
    })  # fmt: skip
    released = Manifest("release", "f" * 64, {"config": {"report": {"step": "e" * 64}, "model": {"step": "d" * 64}}})
    for made in (judged, released):
        manifests.commit(storage, made)
    champions.crown(storage, "aerial", champions.Champion("f" * 64, {}, before.fingerprint), None)
    stage = Drift.model_validate({"stage": "drift", "data": "shards", "champion": "aerial"})
    assert stage.facts(Digests(storage)) == {"champion": "f" * 64}, "after a promotion it compares anew"
    result = Drifted.from_manifest(inline.finish(inline.step(stage, storage, KNOWN, "drift", shards=now)))
    assert result.alarm and result.champion == "f" * 64 and result.reference == before.fingerprint
    same = inline.step(stage, storage, KNOWN, "drift", shards=before)
    result = Drifted.from_manifest(inline.finish(same))
    assert not result.alarm and not result.compared and result.reasons[0].startswith("no sample is new")
    storage.delete(f"{before.folder}/manifest.json")
    result = stage.run(inline.step(stage, storage, KNOWN, "drift", shards=now))
    assert not result.compared and "are gone" in result.reasons[0]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "give either champion"),
        ({"champion": "a", "against": "old"}, "give either champion"),
        ({"champion": "a", "thresholds": {"psy": 1}}, "no measure 'psy'; did you mean 'psi'?"),
        ({"champion": "a", "thresholds": {"psi": 0}}, "would always be reached"),
    ],
)
def test_a_wrong_config_is_one_line(config: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Drift.model_validate({"stage": "drift", "data": "shards", **config})
    assert says in str(caught.value)


def test_every_measure_has_a_threshold() -> None:
    from hyperloom.stages.drift.compare import THRESHOLDS

    assert tuple(sorted(THRESHOLDS)) == MEASURES
