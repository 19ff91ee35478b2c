"""The audit: faults that were planted are found, where they were planted, and clean data are left in peace."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.audit.command import listed, with_audit
from hyperloom.stages.audit.compared import Compared
from hyperloom.stages.audit.finding import percent
from hyperloom.stages.audit.result import Audited
from hyperloom.stages.audit.spread import balance
from hyperloom.stages.audit.stage import Audit
from hyperloom.stages.audit.survey import faults
from hyperloom.stages.picture import lines_to_rgb
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.table import read_table
from tests.unit import inline

ABSENT = [name for name in ("cleanlab", "faiss") if find_spec(name) is None]
"""Not imported here: that takes seconds in each process of the suite, also where none of these tests run."""
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}")

CLASSES = 4
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": [24, 32]},
    clip={"type": "embedding", "length": 24},
    kind={"type": "category", "classes": CLASSES},
    marks={"type": "multilabel", "classes": 3},
    semantic={"type": "segmentation", "classes": ["sky", "wall", "road"], "size": [24, 32]},
    boxes={"type": "boxes", "classes": ["red", "blue"], "most": 4},
    note={"type": "text", "length": 64},
    score={"type": "scalar", "range": [0, 1]},
)
COUNT = 240
WORDS = (("good fine lovely", "bad poor awful"), ("the film was", "a story that is", "this play seems"))


def _audit(
    storage: Storage, groups: Any, test: str = "", **fields: Any
) -> tuple[Audited, dict[str, list[Any]], Manifest]:
    """Shard the groups, audit the shards; the table by column."""
    raw = inline.ingested(storage, KNOWN, groups, 60)
    split = {"pin": {"test": [test]}} if test else {}
    shards = inline.finish(
        inline.step(Shard(stage="shard", data="frames", split=split), storage, KNOWN, "s", frames=raw)
    )
    stage = Audit.model_validate({"stage": "audit", "data": "shards", "pictures": 3, **fields})
    manifest = inline.finish(inline.step(stage, storage, KNOWN, "audit", shards=shards))
    audit = Audited.from_manifest(manifest)
    return audit, read_table(storage, audit.table).to_pydict(), manifest


def _auroc(planted: set[str], keys: list[str], score: list[float]) -> float:
    """How often a planted sample has a lower score than another."""
    bad = np.array([s for k, s in zip(keys, score, strict=True) if k in planted])
    good = np.array([s for k, s in zip(keys, score, strict=True) if k not in planted])
    return float((bad[:, None] < good[None]).mean() + (bad[:, None] == good[None]).mean() / 2)


def _kinds(audit: Audited) -> dict[str, int]:
    return {f["kind"]: f["count"] for f in audit.findings}


def _embedded(seed: int, flipped: float) -> tuple[dict[str, list[dict[str, Any]]], set[str]]:
    """Four clouds; a share of the labels is another class."""
    draw = np.random.default_rng(seed)
    centres = 1.2 * np.random.default_rng(1).normal(size=(CLASSES, 24))
    groups: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    planted: set[str] = set()
    for i in range(COUNT):
        group, label = "ab"[i % 2], int(draw.integers(CLASSES))
        value = (centres[label] + 0.8 * draw.normal(size=24)).astype(np.float32)
        if draw.random() < flipped:
            planted.add(f"{group}/{len(groups[group]):03d}")
            label = (label + int(draw.integers(1, CLASSES))) % CLASSES
        groups[group].append({"clip@net": value, "kind@truth": np.int64(label)})
    return groups, planted


def test_labels_that_were_flipped_are_found_and_right_ones_left_in_peace(tmp_path: Any) -> None:
    groups, planted = _embedded(3, 0.05)
    audit, table, _ = _audit(Storage(str(tmp_path / "a")), groups, out={"score@audit": "label"})
    assert _auroc(planted, table["key"], table["label"]) > 0.97
    stated = next(f for f in audit.findings if f["kind"] == "label")
    assert set(stated["worst"]) <= planted and len(stated["worst"]) > len(planted) / 2
    assert "kind@truth" in stated["text"] and "score@audit" not in table
    clean, _, _ = _audit(Storage(str(tmp_path / "b")), _embedded(4, 0)[0])
    assert _kinds(clean) == {}


def test_scores_are_a_column_that_others_join_and_bytes_that_do_not_change(tmp_path: Any) -> None:
    groups, planted = _embedded(3, 0.05)
    files = []
    for name in ("a", "b"):
        storage = Storage(str(tmp_path / name))
        raw = inline.ingested(storage, KNOWN, groups, 60)
        stage = Audit.model_validate({"stage": "audit", "data": "frames", "out": "score@audit"})
        manifest = inline.finish(inline.step(stage, storage, KNOWN, "audit", frames=raw))
        shards = Shard(stage="shard", data=("frames", "audit"))
        joined = inline.finish(inline.step(shards, storage, KNOWN, "shards", frames=raw, audit=manifest))
        rows = [read_table(storage, r.file.path, ["key", "score@audit"]).to_pydict() for r in joined.records]
        score = {k: s for part in rows for k, s in zip(part["key"], part["score@audit"], strict=True)}
        assert len(score) == COUNT and _auroc(planted, list(score), list(score.values())) > 0.95
        files.append([f.sha256 for r in manifest.records for f in r.files])
    assert files[0] == files[1]


def _scene(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sky, a wall and a road of their colours, and where they are."""
    sky, road = int(draw.integers(5, 10)), int(draw.integers(15, 20))
    mask = np.full((24, 32), 1, np.uint8)
    mask[:sky], mask[road:] = 0, 2
    picture = np.array([[120, 160, 230], [150, 110, 80], [90, 90, 95]])[mask] + draw.normal(0, 3, (24, 32, 3))
    for _ in range(4):
        cv2.circle(picture, (int(draw.integers(32)), int(draw.integers(24))), 4, draw.integers(0, 255, 3).tolist(), -1)
    return np.clip(picture, 0, 255).astype(np.uint8), mask


def test_wrong_masks_copies_across_splits_and_black_frames_are_found(tmp_path: Any) -> None:
    draw = np.random.default_rng(5)
    samples = [_scene(draw) for _ in range(120)]
    planted = {int(i) for i in draw.choice(80, 6, replace=False)}
    rows = []
    for i, (picture, mask) in enumerate(samples):
        wrong = np.where(mask == 2, 0, mask) if i in planted else mask
        rows.append({"rgb@camera": picture, "semantic@truth": wrong.astype(np.uint8)})
    copies = [
        cv2.imdecode(cv2.imencode(".jpg", r["rgb@camera"], [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)
        for r in rows[90:110]
    ]
    test = [{"rgb@camera": c, "semantic@truth": r["semantic@truth"]} for c, r in zip(copies, rows[90:110], strict=True)]
    test += [{**rows[115], "rgb@camera": np.zeros((24, 32, 3), np.uint8)}]
    audit, table, manifest = _audit(Storage(str(tmp_path)), {"a": rows, "z": test}, "z")
    assert _auroc({f"a/{i:03d}" for i in planted}, table["key"], table["label"]) > 0.95
    crossed = next(f for f in audit.findings if f["kind"] == "split-copy")
    assert set(crossed["worst"]) == {f"z/{i:03d}" for i in range(20)}
    assert crossed["beside"] == [f"a/{int(k[2:]) + 90:03d}" for k in crossed["worst"]] and "apart" in crossed["act"]
    fault = next(f for f in audit.findings if f["kind"] == "fault")
    assert fault["worst"] == ["z/020"] and table["fault"][table["key"].index("z/020")] == 0
    assert len([f for f in manifest.files if f.path.endswith(".png")]) >= 3


def test_marks_boxes_and_labels_of_texts_are_doubted_too(tmp_path: Any) -> None:
    draw = np.random.default_rng(6)
    rows, planted = [], set()
    for i in range(COUNT):
        picture = draw.integers(90, 120, (24, 32, 3)).astype(np.uint8)
        colour, label = int(draw.integers(2)), int(draw.integers(2))
        picture[4:16, 6:22] = [(200, 40, 40), (40, 40, 200)][colour]
        wrong = draw.random() < 0.06
        planted |= {f"a/{i:03d}"} if wrong else set()
        box = [6 / 32, 4 / 24, 22 / 32, 16 / 24, 1 - colour if wrong else colour, 1]
        words = " ".join([WORDS[1][i % 3], *draw.permutation(WORDS[0][label].split())[:2]])
        marks = np.array([colour, 1 - colour, 1], np.uint8)
        if wrong:
            label, marks = 1 - label, marks[[1, 0, 2]]
        boxes = np.full((4, 6), np.nan, np.float32)
        boxes[0] = box
        rows.append({
            "rgb@camera": picture, "boxes@truth": boxes, "marks@truth": marks, "note@truth": KNOWN["note"].fit(words),
            "kind@truth": np.int64(label),
        })  # fmt: skip
    of_pictures = {"labels": ["boxes@truth", "marks@truth"]}
    audit, table, _ = _audit(Storage(str(tmp_path / "a")), {"a": rows}, **of_pictures)
    for column in of_pictures["labels"]:
        assert _auroc(planted, table["key"], table[f"label:{column}"]) > 0.95, column
    stated = {"labels": "kind@truth", "features": "note@truth"}
    audit, table, _ = _audit(Storage(str(tmp_path / "b")), {"a": rows}, **stated)
    assert _auroc(planted, table["key"], table["label"]) > 0.9
    assert _kinds(audit)["label"] > len(planted) / 2


def test_of_hundreds_of_classes_each_box_keeps_its_own(tmp_path: Any) -> None:
    """Ids beyond 255 were those of others: of boxes of c300 the audit spoke as of c44."""
    kinds = [f"c{i}" for i in range(365)]
    known = {**KNOWN, **inline.modalities(boxes={"type": "boxes", "classes": kinds, "most": 2})}
    draw, rows, planted = np.random.default_rng(6), [], set()
    for i in range(60):
        picture, colour, wrong = draw.integers(90, 120, (24, 32, 3)).astype(np.uint8), i % 2, i % 20 == 7
        picture[4:16, 6:22] = [(200, 40, 40), (40, 40, 200)][colour]
        planted |= {f"a/{i:03d}"} if wrong else set()
        boxes = [{"x0": 6 / 32, "y0": 4 / 24, "x1": 22 / 32, "y1": 16 / 24, "class": ("c44", "c300")[colour ^ wrong]}]
        rows.append({"rgb@camera": picture, "boxes@truth": known["boxes"].fit(boxes)})
    storage = Storage(str(tmp_path))
    raw = inline.ingested(storage, known, {"a": rows}, 60)
    stage = Audit.model_validate({"stage": "audit", "data": "frames", "labels": "boxes@truth"})
    assert stage.revised_for(known)["many classes"] == 2 and "many classes" not in stage.revised_for(KNOWN)
    manifest = inline.finish(inline.step(stage, storage, known, "audit", frames=raw))
    table = read_table(storage, Audited.from_manifest(manifest).table).to_pydict()
    said = {k: why for k, why in zip(table["key"], table["why"], strict=True) if "boxes@truth" in why}
    assert set(said) == planted and all("c44" in why and "c300" in why for why in said.values()), said


def test_a_class_that_a_split_lacks_and_a_slice_that_is_foretold_worse_are_said(tmp_path: Any) -> None:
    groups, _ = _embedded(7, 0)
    draw = np.random.default_rng(8)
    for row in groups["b"]:
        if row["kind@truth"] == 3:
            row["kind@truth"] = np.int64(0)
        elif draw.random() < 0.5:
            row["kind@truth"] = np.int64(draw.integers(3))
    audit, _, _ = _audit(Storage(str(tmp_path)), groups, "b")
    texts = {f["kind"]: f["text"] for f in audit.findings}
    assert "never occur in `test` (3)" in texts["balance"]
    assert "group is b" in texts["weak"] or "split is test" in texts["weak"]


def test_shares_are_said_in_digits_that_people_read() -> None:
    weights = np.array([[1.0, 0.0]] * 50 + [[0.0, 1.0]] * 50)
    _, findings = balance("kind@truth", ["cat", "dog"], weights, ["train"] * 50 + ["test"] * 50)
    assert "by 100 % in all; most cat, 0 % against 100 %" in findings[-1].text
    assert percent(0.0471) == "4.7 %" and percent(0.0003) == "0.03 %"


RECIPE = """
name: small
root: {root}
modalities:
  clip: {{type: embedding, length: 24}}
  kind: {{type: category, classes: 4}}
  score: {{type: scalar}}
steps:
  frames:
    stage: ingest
    source: {{type: arrays, path: "{root}/*.npz", columns: {{clip@net: clip, kind@truth: kind}}}}
  shards: {{stage: shard, data: frames}}
  other: {{stage: shard, data: frames, shard_mb: 1}}
  audit: {{stage: audit, data: {data}, {more}}}
"""


@pytest.mark.parametrize(
    ("data", "more", "stated"),
    [
        ("[shards, other]", "rate: .02", "either one shard step"),
        ("shards", "out: kind@audit", "one number a sample"),
        ("shards", "out: quality@audit", "no modality 'quality'"),
        ("shards", "labels: kid@truth", "did you mean 'kind@truth'"),
        ("shards", "labels: clip@net", "no classes that could be wrong"),
        ("shards", "out: {score@audit: qality}", "qality"),
    ],
)
def test_what_cannot_be_audited_is_said_before_anything_runs(tmp_path: Any, data: str, more: str, stated: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(root=tmp_path, data=data, more=more))
    with pytest.raises(RecipeError, match=stated.replace("[", r"\[")):
        check(recipe.load(path))


def test_the_command_audits_a_step_of_any_recipe(tmp_path: Any) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(root=tmp_path, data="shards", more="rate: .02"))
    loaded = recipe.load(path)
    more, name = with_audit(loaded, "frames", (), ())
    assert more.recipe.steps[name].data == ("frames",) and with_audit(loaded, "audit", (), ()) == (loaded, "audit")
    with pytest.raises(RecipeError, match="no step 'frame'.*frames"):
        with_audit(loaded, "frame", (), ())
    storage = Storage(str(tmp_path / "root"))
    _, _, manifest = _audit(storage, _embedded(3, 0.05)[0])
    text = listed(storage, manifest.fingerprint, 5)
    assert "labels" in text and "likely" in text and "all scores" in text


def test_audits_beside_texts_are_made_anew_and_others_are_not() -> None:
    """How far texts of experts differ is another figure by now; so is what samples without features are."""
    stage = Audit(stage="audit", data=("frames",))
    kind = inline.modalities(kind={"type": "category", "classes": 2}, rgb={"type": "image", "size": [4, 4]})
    assert stage.revised_for(kind) == {}
    assert stage.revised_for(kind | inline.modalities(caption={"type": "text", "length": 8})) == {"texts": 2}
    assert stage.revised_for(kind | inline.modalities(pos={"type": "tags", "tags": 2, "length": 8})) == {"tags": 2}
    both = {"features": 2, "differences": 3}
    assert stage.revised_for(kind | inline.modalities(clip={"type": "embedding", "length": 8})) == both
    assert stage.revised_for(inline.modalities(age={"type": "scalar"})) == both
    table = kind | inline.modalities(age={"type": "scalar"})
    for features, anew in {"rgb@a": False, "age@t": True, "rgb@a age@t": True, "rgb@a rgb@b": True}.items():
        named = Audit(stage="audit", data=("frames",), features=tuple(features.split()))
        assert ("features" in named.revised_for(table)) == anew, features


def test_a_column_with_a_large_offset_counts() -> None:
    random = np.random.default_rng(0)
    rows = np.stack([random.normal(size=500), random.normal(5_800_000, 3, 500)], 1).astype(np.float32)
    level = Compared.of(rows, [1, 1], ["a", "north"], [""] * 500).apart
    assert level.var(0).tolist() == pytest.approx([1, 1], rel=1e-2)


@pytest.mark.parametrize("number", [0.1, 37.7, 1e-9, 0.0])
def test_a_column_that_is_the_same_for_all_sets_nobody_apart(number: float) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 9)).astype(np.float32)
    rows[:, 8] = number
    faults = ["b is missing" if i < 15 else "" for i in range(1000)]
    level = Compared.of(rows, [8, 1], ["a", "b"], faults).apart
    assert (level[:, 8] == 0).all() and abs(level[:, :8].var(0).sum() - 1) < 1e-3


@pytest.mark.parametrize("unit", [1, 1000])
def test_no_unit_of_a_table_decides_which_labels_are_doubted(tmp_path: Any, unit: float) -> None:
    """Age says the class, income nothing: in whatever it is counted, the labels that were turned are found."""
    known = inline.modalities(
        age={"type": "scalar"}, income={"type": "scalar"}, old={"type": "category", "classes": ["no", "yes"]}
    )
    random = np.random.default_rng(0)
    rows, turned = [], set()
    for i in range(200):
        age, income, wrong = random.uniform(0, 100), random.normal(50, 20) * unit, i % 15 == 0
        turned |= {f"g/{i:03d}"} if wrong else set()
        label = np.int64((age > 50) ^ wrong)
        rows.append({"age@t": np.float32([age]), "income@t": np.float32([income]), "old@truth": label})
    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, known, {"g": rows}, rows=100)
    stage = Audit(stage="audit", data=("frames",), pictures=0, labels=("old@truth",), features=("age@t", "income@t"))
    made = inline.finish(inline.step(stage, storage, known, "audit", frames=frames))
    (wrong,) = (f for f in made.body["findings"] if f["kind"] == "label")
    assert len(turned & set(wrong["worst"])) > 0.8 * len(turned) and wrong["count"] < 1.3 * len(turned)


def test_samples_without_features_are_no_copies_and_their_labels_are_not_doubted(tmp_path: Any) -> None:
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for i in range(100):
        clip = random.normal(size=24).astype(np.float32) + 3 * np.float32(i % 2)
        rows.append({"clip@net": None if i % 10 < 2 else clip, "kind@truth": np.int64(i % 2)})
    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, KNOWN, {"g": rows}, rows=50)
    stage = Audit(stage="audit", data=("frames",), pictures=0, labels=("kind@truth",), features=("clip@net",))
    made = inline.finish(inline.step(stage, storage, KNOWN, "audit", frames=frames))
    found = Audited.from_manifest(made)
    table = read_table(storage, found.table).to_pydict()
    assert [f["text"] for f in found.findings] == ["20 of 100 samples: clip@net is missing"]
    lacking = [i for i in range(100) if i % 10 < 2]
    assert all(table["copy"][i] == 1 and np.isnan(table["label:kind@truth"][i]) for i in lacking)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e3])
def test_where_sources_differ_most_comes_first_whatever_the_unit(tmp_path: Any, unit: float) -> None:
    """Below 1 differences were taken for shares: of currents in amperes all samples agreed wholly."""
    known = inline.modalities(current={"type": "scalar"}, score={"type": "scalar", "range": [0, 1]})
    apart = np.linspace(0, 1, 40)
    rows = [
        {"current@a": np.float32([unit]), "current@b": np.float32([unit * (1 + gap)]), "score@a": np.float32([gap])}
        for gap in apart
    ]
    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, known, {"g": rows}, rows=40)
    stage = Audit(stage="audit", data=("frames",), pictures=0, features=("score@a",))
    made = inline.finish(inline.step(stage, storage, known, "audit", frames=_as_experts(frames)))
    table = read_table(storage, Audited.from_manifest(made).table).to_pydict()
    assert np.allclose(table["agreement"], 1 - apart, atol=1e-2)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e3])
def test_a_course_of_small_numbers_is_not_one_value(unit: float) -> None:
    """Below 1e-6 every current in amperes was constant, a fault of all samples."""
    known = inline.modalities(trace={"type": "vector", "length": 64})
    rows = (unit * np.random.default_rng(0).normal(size=(3, 64))).astype(np.float32)
    rows[1] = unit
    rows = np.concatenate([rows, 5_300_000 + np.linspace(0, 4, 64, dtype=np.float32)[None]])  # a northing in metres
    words = faults({"trace@log": (rows, np.ones(4, bool))}, known, ["trace@log"])
    assert words == ["", "trace@log is one value", "", ""]
    stage = Audit(stage="audit", data=("frames",))
    assert stage.revised_for(known)["courses"] == 2
    drawn = lines_to_rgb(rows[:1].T)
    assert (drawn == lines_to_rgb(rows[:1].T / np.float32(unit))).mean() > 0.99 and (drawn > 24).any(2).any(1).all()


@pytest.mark.parametrize("nought", [0.0, 290.0, 5_300_000.0])
def test_where_zero_lies_does_not_decide_who_differs(tmp_path: Any, nought: float) -> None:
    known = inline.modalities(level={"type": "scalar"}, age={"type": "scalar"})
    draw = np.random.default_rng(0)
    rows = []
    for i in range(40):
        level = nought + draw.normal(0, 20)
        other = level + (50 if i == 7 else draw.normal(0, 4))
        rows.append({"level@a": np.float32([level]), "level@b": np.float32([other]), "age@a": np.float32([i])})
    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, known, {"g": rows}, rows=40)
    stage = Audit(stage="audit", data=("frames",), pictures=0, features=("age@a",))
    made = inline.finish(inline.step(stage, storage, known, "audit", frames=_as_experts(frames)))
    findings = Audited.from_manifest(made).findings
    assert [list(f["worst"]) for f in findings if f["kind"] == "disagreement"] == [["g/007"]]


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e3])
@pytest.mark.parametrize("apart", [0.0, 0.3])
def test_experts_that_differ_by_rounding_agree(tmp_path: Any, unit: float, apart: float) -> None:
    """Over noise of the last digit agreement ran from 1 to 0; one sample that is really apart is named in any unit."""
    known = inline.modalities(current={"type": "scalar"}, score={"type": "scalar", "range": [0, 1]})
    ours = unit * np.random.default_rng(0).uniform(1, 2, 40).astype(np.float32)
    other = np.nextafter(ours, np.where(np.arange(40) % 2, np.inf, -np.inf).astype(np.float32))
    other[7] *= 1 + apart
    rows = [
        {"current@a": np.float32([a]), "current@b": np.float32([b]), "score@a": np.float32([i / 40])}
        for i, (a, b) in enumerate(zip(ours, other, strict=True))
    ]
    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, known, {"g": rows}, rows=40)
    stage = Audit(stage="audit", data=("frames",), pictures=0, features=("score@a",))
    made = Audited.from_manifest(inline.finish(inline.step(stage, storage, known, "audit", frames=_as_experts(frames))))
    table = read_table(storage, made.table).to_pydict()
    assert [i for i, level in enumerate(table["agreement"]) if level < 1] == ([7] if apart else [])
    named = [list(f["worst"]) for f in made.findings if f["kind"] == "disagreement"]
    assert named == ([[table["key"][7]]] if apart else [])


@pytest.mark.parametrize("storage_", ["uint8", "float16", "float32"])
def test_one_object_of_a_map_that_experts_see_elsewhere_is_no_rounding(tmp_path: Any, storage_: str) -> None:
    """Of 1 % of the pixels the mean difference is as small as the rounding of all."""
    known = inline.modalities(
        depth={"type": "dense", "size": [64, 64], "range": [0, 80], "storage": storage_},
        normals={"type": "dense", "size": [16, 16], "channels": 3, "direction": True},
        age={"type": "scalar"},
    )
    draw, rows = np.random.default_rng(0), []
    for i in range(40):
        depth = draw.uniform(20, 40, (64, 64, 1)).astype(np.float32)
        other = np.nextafter(depth, np.float32(0))
        if i == 7:
            other[:6, :7] += 20
        up = known["normals"].to_memory(known["normals"].to_stored(np.full((16, 16, 3), 3**-0.5, np.float32)))
        near = up * np.float32(1 + 2.0**-12) if i % 2 else up
        rows.append({"depth@a": depth, "depth@b": other, "normals@a": up, "normals@b": near})
        rows[-1]["age@a"] = np.float32([i])
    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, known, {"g": rows}, rows=40)
    stage = Audit(stage="audit", data=("frames",), pictures=0, features=("age@a",))
    made = Audited.from_manifest(inline.finish(inline.step(stage, storage, known, "audit", frames=_as_experts(frames))))
    table = read_table(storage, made.table).to_pydict()
    assert [i for i, level in enumerate(table["agreement"]) if level < 1] == [7]
    assert [list(f["worst"]) for f in made.findings if f["kind"] == "disagreement"] in ([["g/007"]], [])


def test_small_differences_among_equal_experts_are_no_finding(tmp_path: Any) -> None:
    """Where most are equal the usual difference is none, and every other was far above it."""
    known = inline.modalities(score={"type": "scalar", "range": [0, 1]}, age={"type": "scalar"})
    rows = [
        {"score@a": np.float32([0.5]), "score@b": np.float32([0.5 + 1e-4 * max(0, i - 23)]), "age@a": np.float32([i])}
        for i in range(40)
    ]
    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, known, {"g": rows}, rows=40)
    stage = Audit(stage="audit", data=("frames",), pictures=0, features=("age@a",))
    made = inline.finish(inline.step(stage, storage, known, "audit", frames=_as_experts(frames)))
    audit = Audited.from_manifest(made)
    assert min(read_table(storage, audit.table).to_pydict()["agreement"]) == 0
    assert [f for f in audit.findings if f["kind"] == "disagreement"] == []


def _as_experts(frames: Manifest) -> Manifest:
    """The samples of which experts made the columns."""
    columns = {
        c: {**about, "about": {"kind": "expert", "expert": {"type": "python"}}}
        for c, about in frames.body["columns"].items()
    }
    return replace(frames, body={**frames.body, "columns": columns})
