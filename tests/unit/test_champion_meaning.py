"""A champion beside a recipe whose classes, unit or range are others by now: the figure worked out by hand, or a
sentence that says why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.rival import Rival
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.release.stage import Release
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline, test_release
from tests.unit.test_release import SIZE


def _evaluated(root: Path, semantic: dict[str, Any], depth: dict[str, Any], factor: float = 1.0) -> dict[str, Any]:
    """The body of a report with the champion of `test_release`, whose network says [land, water] and blue in m, against
    a truth in the recipe's words that is water where the network says so, and 1 m more than it."""
    storage = Storage(str(root))
    test_release._release(storage, 0.9, 1)
    size = list(SIZE)
    known = inline.modalities(
        rgb={"type": "image", "size": size},
        semantic={"type": "segmentation", "size": size, **semantic},
        depth={"type": "dense", "size": size, "storage": "float32", **depth},
    )
    classes, draw, samples = semantic["classes"], np.random.default_rng(0), []
    for _ in range(2):
        rgb = draw.integers(0, 200, (*SIZE, 3)).astype(np.uint8)
        names = np.where(rgb[..., 0] > 128, "water", "land")
        truth = np.array([classes.index(n) if n in classes else 0 for n in names.reshape(-1)], np.uint8).reshape(SIZE)
        blue = rgb[..., 2:].astype(np.float32)
        samples.append({"rgb@camera": rgb, "semantic@truth": truth, "depth@truth": (blue + 1) * factor})
    frames = inline.ingested(storage, known, {"a": samples, "b": samples})
    sharding = Shard(stage="shard", data="frames", split={"pin": {"test": ["b"]}})
    shards = inline.finish(inline.step(sharding, storage, known, "shards", frames=frames))
    stage = Evaluate(stage="evaluate", data="shards", champion="aerial", against="champion", pictures=1)
    made = inline.finish(inline.step(stage, storage, known, "report", shards=shards))
    (told,) = (e["values"] for e in events.read(storage, "test") if e["kind"] == "metric" and e.get("by") == "report")
    assert stage.figures(made) == told, "a run that reuses the report says the same"
    return dict(made.body)


PLAIN = {"classes": ["land", "water"]}


@pytest.mark.parametrize(
    ("semantic", "depth", "factor", "mae"),
    [
        (PLAIN, {"unit": "m"}, 1, 1.0),
        ({"classes": ["water", "land"]}, {"unit": "m"}, 1, 1.0),
        ({"classes": ["water", "land"]}, {"unit": "cm"}, 100, 100.0),
        (PLAIN, {"unit": "kilometres"}, 1e-3, 1e-3),
        (PLAIN, {"unit": "m", "unknown": -1}, 1, 1.0),
        (PLAIN, {"unit": "m", "range": [0, 300]}, 1, 1.0),
    ],
)
def test_a_champion_is_judged_in_the_words_of_the_recipe(
    tmp_path: Path, semantic: dict[str, Any], depth: dict[str, Any], factor: float, mae: float
) -> None:
    body = _evaluated(tmp_path, semantic, depth, factor)
    assert body["figures"]["champion"]["semantic.miou"] == 1.0
    assert body["figures"]["champion"]["depth.mae"] == pytest.approx(mae, rel=1e-4)
    assert "apart" not in body and not any("not judged" in sentence for sentence in body["said"])


@pytest.mark.parametrize(
    ("semantic", "depth", "sentence"),
    [
        ({"classes": ["land", "sea"]}, {"unit": "m"}, "on 'semantic': the classes of the champion: [land, water]; of "
         "the recipe: [land, sea]"),
        ({"classes": ["land"]}, {"unit": "m"}, "on 'semantic': the classes of the champion: [land, water]; of the "
         "recipe: [land]"),
        ({"classes": ["land", "water", "ice", "sky", "snow"]}, {"unit": "m"}, "recipe: [land, water, ice, sky, snow]"),
        (PLAIN, {"unit": "px"}, "on 'depth': the unit of the champion: m; of the recipe: px"),
        (PLAIN, {}, "on 'depth': the unit of the champion: m; of the recipe: not given"),
    ],
)  # fmt: skip
def test_what_a_champion_says_otherwise_is_not_judged_and_that_is_said(
    tmp_path: Path, semantic: dict[str, Any], depth: dict[str, Any], sentence: str
) -> None:
    body = _evaluated(tmp_path, semantic, depth)
    (name,) = body["apart"]
    other = {"semantic": "depth", "depth": "semantic"}[name]
    assert any(sentence in said for said in body["said"]), body["said"]
    figures = body["figures"]["champion"]
    assert not any(key.startswith(f"{name}.") for key in figures) and any(k.startswith(other) for k in figures)


@pytest.mark.parametrize(
    ("semantic", "depth", "passed", "words"),
    [
        ({"classes": ["water", "land"]}, {"unit": "cm"}, True, "holds"),
        ({"classes": ["land", "sea"]}, {"unit": "m"}, False, "did not judge the champion on 'semantic': the classes"),
        ({"classes": ["land", "sea"]}, {"unit": "px"}, False, "did not judge the champion on 'semantic': the classes"),
    ],
)
def test_a_gate_never_compares_with_a_champion_that_says_something_else(
    tmp_path: Path, semantic: dict[str, Any], depth: dict[str, Any], passed: bool, words: str
) -> None:
    body = _evaluated(tmp_path, semantic, depth)
    storage = Storage(str(tmp_path))
    inputs = test_release._inputs(storage, 1.0, 2)
    figures = {**test_release.BODY["figures"], "student": {"semantic.miou": 1.0, "depth.mae": 2.0}}
    mine = {k: body[k] for k in ("champion", "apart", "truth") if k in body}
    figures |= {"champion": body["figures"]["champion"]} if "champion" in mine else {}
    report = {**inputs["report"].body, **mine, "figures": figures}
    inputs["report"] = Manifest("evaluate", "c" * 64, {}, (), (), report)
    stage = Release(stage="release", model="student", report="report", name="aerial",
                    gate={"semantic.miou": ">= champion"})  # fmt: skip
    released = inline.finish(inline.step(stage, storage, test_release.KNOWN, "release", **inputs)).body
    assert released["passed"] == passed and words in released["gate"][0], released["gate"]


def test_a_champion_that_says_nothing_alike_is_no_subject(tmp_path: Path) -> None:
    body = _evaluated(tmp_path, {"classes": ["a", "b"]}, {"unit": "px"})
    assert "champion" not in {*body, *body["figures"]} and set(body["apart"]) == {"semantic", "depth"}


PLACE = {"type": "category", "classes": ["a", "b", "c"]}
WAY = {"type": "dense", "size": [4, 6], "unit": "m", "range": [0, 10], "unknown": 0}


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        (PLACE, PLACE, ((), 1.0)),
        (PLACE, {**PLACE, "classes": ["c", "a", "b"]}, ((1, 2, 0), 1.0)),
        (PLACE, {**PLACE, "classes": ["a", "b"]}, "the classes of the champion: [a, b, c]; of the recipe: [a, b]"),
        (PLACE, {**PLACE, "classes": 3}, "the classes of the champion: [a, b, c]; of the recipe: [0, 1, 2]"),
        (PLACE, {"type": "ordinal", "levels": ["a", "b", "c"]}, "its type is category, the recipe's ordinal"),
        (PLACE, {"type": "multilabel", "classes": ["a", "b", "c"]}, "its type is category, the recipe's multilabel"),
        (WAY, {**WAY, "unknown": -1}, ((), 1.0)),
        (WAY, {**WAY, "unknown": None, "storage": "float32"}, ((), 1.0)),
        (WAY, {**WAY, "unit": "cm", "range": [0, 1000]}, ((), 100.0)),
        (WAY, {**WAY, "unit": "cm"}, "the range of the champion: 0 to 10 m; of the recipe: 0 to 10 cm"),
        (WAY, {**WAY, "range": [0, 5]}, "the range of the champion: 0 to 10 m; of the recipe: 0 to 5 m"),
        (WAY, {**WAY, "range": [0, 20]}, ((), 1.0)),
        (WAY, {**WAY, "unit": "deg"}, "the unit of the champion: m; of the recipe: deg"),
        (WAY, {**WAY, "size": [8, 6]}, "its answers have the shape (4, 6, 1), the recipe's (8, 6, 1)"),
        ({"type": "ordinal", "levels": ["lo", "hi"]}, {"type": "ordinal", "levels": ["hi", "lo"]}, "the order of the"),
    ],
)  # fmt: skip
def test_what_was_released_beside_what_a_recipe_says_now(old: Any, new: Any, outcome: Any) -> None:
    """Champion x recipe: order, number, names, kind, unit, range, unknown, size."""
    champion = Rival("f" * 64, "release/f", "rgb@camera", {"task": {**old, "output": "task"}})
    known = inline.modalities(task=new)
    beside = champion.beside(known, {"task": "task@truth"}, ["rgb@camera"])
    if isinstance(outcome, str):
        assert outcome in beside.apart["task"] and not beside.meanings
        assert beside.sentences([])[0].startswith("the champion is not judged on 'task': ")
    else:
        how = beside.meanings["task"]
        assert (how.places, how.factor) == (outcome[0], pytest.approx(outcome[1])) and not beside.apart
    blind = champion.beside(known, {"task": "task@truth"}, ["rgb@other"])
    assert blind.apart["task"] == "the shards have no rgb@camera, which it reads"
