"""What a report says beyond single figures: steadiness along motion, calibration, bounds, seeds, differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.compare import Comparison
from hyperloom.stages.evaluate.motion import Motion, Temporal
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.evaluate.subject import Subject
from hyperloom.stages.measure.calibration import confidence
from hyperloom.stages.measure.intervals import Intervals, student_t
from hyperloom.stages.measure.scores import measures, score
from hyperloom.stages.measure.sheet import read_sheet
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline

SIZE = (48, 64)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["a", "b", "c"]},
    depth={"type": "dense", "storage": "float32"},
)
MIOU = {"semantic.miou": True}
STEP = 3
"""Pixels that the world moves to the left from frame to frame."""


def _world() -> tuple[np.ndarray, np.ndarray]:
    """A wide textured picture and its classes."""
    draw = np.random.default_rng(0)
    rough = draw.integers(0, 255, (SIZE[0] // 4, 60, 3)).astype(np.uint8)
    picture = cv2.resize(rough, (240, SIZE[0]), interpolation=cv2.INTER_CUBIC)
    classes = np.kron(draw.integers(0, 3, (SIZE[0] // 8, 30)), np.ones((8, 8), int)).astype(np.uint8)
    return picture, classes


def _film(frames: int, first: int = 0) -> list[dict[str, Any]]:
    """Frames of a camera that moves over the world, with sources that keep to it and that do not."""
    picture, classes = _world()
    draw, made = np.random.default_rng(1), []
    for i in range(frames):
        seen = slice((first + i) * STEP, (first + i) * STEP + SIZE[1])
        truth = np.ascontiguousarray(classes[:, seen])
        noisy = np.where(draw.random(SIZE) < 0.4, draw.integers(0, 3, SIZE), truth).astype(np.uint8)
        depth = np.ascontiguousarray(picture[:, seen, :1]).astype(np.float32) / 100
        made.append(
            {
                "rgb@camera": np.ascontiguousarray(picture[:, seen]),
                "semantic@truth": truth,
                "semantic@exact": truth,
                "semantic@noisy": noisy,
                "semantic@still": np.ascontiguousarray(classes[:, : SIZE[1]]),
                "depth@truth": depth,
                "depth@shaky": depth + draw.normal(0, 1, depth.shape).astype(np.float32),
            }
        )
    return made


def _report(
    storage: Storage, frames: int = 10, batch: int = 4, shard_mb: float = 64, rows: int = 4, **config: Any
) -> Any:
    raw = inline.ingested(storage, KNOWN, {"film": _film(frames), "rest": _film(2)}, rows)
    split = {"pin": {"test": ["film"], "train": ["rest"]}}
    stage = Shard(stage="shard", data="frames", split=split, shard_mb=shard_mb)
    shards = inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=raw))
    stage = Evaluate(stage="evaluate", data="shards", batch=batch, pictures=1, **config)
    return inline.finish(inline.step(stage, storage, KNOWN, "report", shards=shards))


def test_what_moves_with_the_world_is_consistent_and_what_flickers_is_not(tmp_path: Path) -> None:
    body = _report(Storage(str(tmp_path)), temporal={"gap": 1}, intervals=None).body
    steady = {name: figures.get("semantic.consistency") for name, figures in body["figures"].items()}
    assert steady["exact"] > 0.93
    assert steady["noisy"] < 0.7
    assert steady["still"] < 0.8  # the same map in each frame does not move with the world
    assert body["temporal"]["truth"]["semantic.consistency"] == steady["exact"]
    assert body["temporal"]["truth"]["depth.flicker"] < 0.1 < 1.0 < body["figures"]["shaky"]["depth.flicker"] < 1.3


def test_a_gap_or_another_group_is_no_motion() -> None:
    film = _film(2)
    told = [{"s": frame["semantic@exact"]} for frame in film]

    def second(group: str, index: int, gap: int) -> dict[str, Any]:
        motion = Motion(Temporal(gap=gap), {"s": KNOWN["semantic"]})
        assert motion.step("g", 0, film[0]["rgb@camera"], told[0]) == {}
        return motion.step(group, index, film[1]["rgb@camera"], told[1])

    assert second("g", 3, 2) == {} and second("h", 1, 2) == {} and second("g", 0, 2) == {}
    sums = second("g", 2, 2)["s"]
    hidden = STEP * SIZE[0]
    assert (
        0.7 * (SIZE[0] * SIZE[1] - hidden) < sums["moved"] <= SIZE[0] * SIZE[1] - hidden // 2
    )  # what left is not seen


def test_figures_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    bodies = [
        _report(Storage(str(tmp_path / str(batch))), batch=batch, temporal={"gap": 1}).body for batch in (1, 3, 99)
    ]
    assert bodies[0] == bodies[1] == bodies[2]


def test_figures_do_not_depend_on_where_shards_are_cut(tmp_path: Path) -> None:
    """Neither steadiness, which compares a frame with the one before, nor blocks of frames, nor a last digit."""
    cuts = {"whole": (64, 4), "parts": (1e-6, 4), "single": (1e-6, 1)}
    asked = {"temporal": {"gap": 1}, "against": ["noisy"], "intervals": {"draws": 100, "block": 3}}
    made = {
        name: _report(Storage(str(tmp_path / name)), shard_mb=mb, rows=rows, **asked)
        for name, (mb, rows) in cuts.items()
    }
    assert len(made["single"].records) > len(made["parts"].records) > len(made["whole"].records)
    kept = ("figures", "bounds", "differences", "temporal", "classes", "verdict", "intervals", "samples")
    whole = {key: made["whole"].body[key] for key in kept}
    assert whole["figures"]["noisy"]["semantic.consistency"] < 0.9 and whole["intervals"]["resampled"] == 4
    for name in ("parts", "single"):
        assert {key: made[name].body[key] for key in kept} == whole, name


def test_calibration_is_the_gap_between_confidence_and_accuracy() -> None:
    truth = np.zeros((1, *SIZE), np.uint8)
    truth[:, :12] = 1  # a quarter is another class
    soft = np.zeros((1, *SIZE, 3), np.float32)
    soft[..., 0], soft[..., 1] = 0.9, 0.1
    every = np.ones(1, bool)
    told = soft.argmax(-1).astype(np.uint8)
    sums = score(KNOWN["semantic"], truth, told, every, every) | confidence(KNOWN["semantic"], truth, soft, every)
    assert measures(KNOWN["semantic"], sums)["ece"] == pytest.approx(0.9 - 0.75, abs=1e-4)


def test_bounds_hold_the_figure_and_the_sheet_has_every_sample(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    made = _report(storage, against=["noisy"], intervals={"over": "frames", "draws": 400})
    body = made.body
    low, high = body["bounds"]["noisy"]["semantic.miou"]
    assert low < body["figures"]["noisy"]["semantic.miou"] < high
    assert body["intervals"]["resampled"] == 10
    assert body["bounds"]["exact"]["semantic.miou"] == [1.0, 1.0]

    keys, groups, sums = read_sheet(storage, made.records[0].files[1].path)
    assert keys == [f"film/{i:03d}" for i in range(10)] and set(groups) == {"film"}
    assert sums["semantic@exact"]["matrix"].shape == (10, 3, 4)


def _draws(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"semantic.miou": values}


def test_differences_are_paired_draw_by_draw() -> None:
    draw = np.random.default_rng(0)
    frames = draw.normal(0.5, 0.1, 1000)  # which frames were drawn moves both alike
    figures = {"a": {"semantic.miou": 0.51}, "b": {"semantic.miou": 0.5}}
    draws = {"a": _draws(frames + 0.01 + draw.normal(0, 0.001, 1000)), "b": _draws(frames)}
    compared = Comparison(Intervals(), figures, draws, {}, MIOU)
    (row,) = compared.differences([Subject("a", "model"), Subject("b", "expert")], ["b"], {})
    assert row["better"] is True and 0.005 < row["low"] < row["high"] < 0.015
    unpaired = {"a": _draws(draw.permutation(draws["a"]["semantic.miou"])), "b": draws["b"]}
    (row,) = Comparison(Intervals(), figures, unpaired, {}, MIOU).differences([Subject("a", "model")], ["b"], {})
    assert row["better"] is None
    with pytest.raises(KeyError):
        compared.differences([], ["nobody"], {})


def test_families_of_seeds_are_compared_seed_by_seed() -> None:
    draw = np.random.default_rng(0)
    seeds = [0.4, 0.5, 0.6]  # seeds differ more than the two ways of training
    figures = {f"a{i}": {"semantic.miou": v + 0.02} for i, v in enumerate(seeds)}
    figures |= {f"b{i}": {"semantic.miou": v} for i, v in enumerate(seeds)}
    draws = {n: _draws(f["semantic.miou"] + draw.normal(0, 0.001, 1000)) for n, f in figures.items()}
    families = {"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"]}
    compared = Comparison(Intervals(), figures, draws, families, MIOU)
    mean = compared.seeds()["b"]["semantic.miou"]
    assert mean["mean"] == pytest.approx(0.5) and mean["sd"] == pytest.approx(0.1) and mean["values"] == seeds
    assert compared.bounds()["b"]["semantic.miou"][1] - compared.bounds()["b"]["semantic.miou"][0] > 0.1  # seeds too
    row = next(r for r in compared.differences([], ["b"], {}) if r["who"] == "a")
    assert row["difference"] == pytest.approx(0.02) and row["better"] is True and row["low"] > 0.015
    assert row["seeds_low"] == pytest.approx(0.02) == row["seeds_high"]


def test_students_t_has_the_quantiles_of_the_books() -> None:
    low, high = student_t([-1.0, 0.0, 1.0], 0.95)  # type: ignore[misc]
    assert high == pytest.approx(4.3027 / np.sqrt(3), rel=1e-3) and low == -high
    assert student_t([0.0, 1.0], 0.95)[1] - 0.5 == pytest.approx(12.706 * 0.5, rel=1e-3)  # type: ignore[index]
    assert student_t([1.0], 0.95) is None


def test_mistakes_are_said(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(RecipeError, match="against: nobody is called 'nobody'"):
        _report(storage, against="nobody")
    with pytest.raises(RecipeError, match="no image rgb@infrared to see motion in \\(images: rgb@camera\\)"):
        _report(storage, temporal={"image": "rgb@infrared"})
    with pytest.raises(ValidationError, match="joint2 is no model; the models are joint1"):
        Evaluate(stage="evaluate", data="shards", models=["joint1"], seeds={"joint": ["joint1", "joint2"]})
