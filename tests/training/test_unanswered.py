"""What a sample without an input gets: an answer where training hid or lacked that input, else none, in labels, in the
report, of the champion and in Python alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hyperloom
from hyperloom.pipeline.api.model import model_of
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.evaluate.unanswered import JudgedInputs
from hyperloom.stages.label.stage import Label
from hyperloom.stages.network.masks import ModalityMask, NoMask
from hyperloom.stages.network.patches import BothMask, PatchMask
from hyperloom.stages.results import Trained
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train.stage import Train
from tests.unit import inline, test_release
from tests.unit.test_release import SIZE

RGB, HEIGHT, TRUTH = "rgb@camera", "height@laser", "semantic@truth"
KNOWN = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    height={"type": "dense", "size": list(SIZE), "storage": "float32"},
    semantic={"type": "segmentation", "size": list(SIZE), "classes": ["land", "water"]},
    depth={"type": "dense", "size": list(SIZE), "unit": "m", "storage": "float32"},
)
MASK = {"type": "modality", "keep": 0.5}


def _sample(draw: np.random.Generator, *missing: str) -> dict[str, Any]:
    """Water where red is high."""
    rgb = draw.integers(0, 200, (*SIZE, 3)).astype(np.uint8)
    values = {RGB: rgb, HEIGHT: rgb[..., :1].astype(np.float32), TRUTH: (rgb[..., 0] > 128).astype(np.uint8)}
    values["depth@truth"] = rgb[..., 2:].astype(np.float32) + 1
    return {column: None if column in missing else value for column, value in values.items()}


def _data(root: Path, judged: list[tuple[str, ...]], taught: tuple[str, ...] = ()) -> tuple[Storage, Any]:
    """Shards: `train` with a first sample without what is `taught`, `test` with samples without what `judged` says."""
    storage, draw = Storage(str(root)), np.random.default_rng(0)
    groups = {
        "a": [_sample(draw, *(taught if i == 0 else ())) for i in range(8)],
        "b": [_sample(draw, *missing) for missing in judged],
    }
    steps = {"frames": inline.ingested(storage, KNOWN, groups)}
    sharding = Shard.model_validate({"stage": "shard", "data": "frames", "split": {"pin": {"test": ["b"]}}})
    steps["shards"] = inline.finish(inline.step(sharding, storage, KNOWN, "shards", **steps))
    return storage, steps


def _trained(storage: Storage, steps: dict[str, Manifest], **fields: Any) -> Manifest:
    model = {"trunk": {"type": "vit", "width": 16, "patch": 2, "depth": 1}}
    config = {"stage": "train", "data": "shards", "in": [RGB, HEIGHT], "targets": [TRUTH], "model": model,
              "updates": 2, "batch": 4, **fields}  # fmt: skip
    return inline.finish(inline.step(Train.model_validate(config), storage, KNOWN, "teacher", shards=steps["shards"]))


def _judged(storage: Storage, steps: dict[str, Manifest], **fields: Any) -> dict[str, Any]:
    stage = Evaluate.model_validate(
        {"stage": "evaluate", "data": "shards", "models": "teacher", "pictures": 3, **fields}
    )
    needed = {name: steps[name] for name in ("shards", "teacher", "other") if name in steps}
    return dict(inline.finish(inline.step(stage, storage, KNOWN, "report", **needed)).body)


JUDGED: list[tuple[str, ...]] = [(), (HEIGHT,), (RGB,), (RGB, HEIGHT)]


@pytest.mark.parametrize(
    ("fields", "taught", "answered"),
    [
        ({}, (), [True, False, False, False]),
        ({"mask": MASK}, (), [True, True, True, False]),
        ({"mask": {**MASK, "visible": "rgb"}}, (), [True, True, False, False]),
        ({}, (HEIGHT,), [True, True, False, False]),
        ({"phases": [{"updates": 1, "mask": MASK}, {"updates": 1}], "updates": None}, (), [True, True, True, False]),
    ],
)
def test_a_sample_without_an_input_is_answered_where_training_was_without(
    tmp_path: Path, fields: dict[str, Any], taught: tuple[str, ...], answered: list[bool]
) -> None:
    storage, steps = _data(tmp_path, JUDGED, taught)
    steps["teacher"] = _trained(storage, steps, **fields)
    experts = [{"type": "model", "model": "teacher", "out": "semantic@teacher"}]
    stage = Label.model_validate({"stage": "label", "data": "frames", "experts": experts})
    labels = inline.finish(
        inline.step(stage, storage, KNOWN, "labels", frames=steps["frames"], teacher=steps["teacher"])
    )
    told = inline.column(storage, KNOWN, labels, "semantic@teacher")
    assert [told[f"b/{i:03d}"] is not None for i in range(4)] == answered
    asked = sum(told_ is None for key, told_ in told.items()) - 1  # the last sample has nothing to be asked about
    assert any(f"{asked} sample" in remark for remark in labels.body["remarks"]) == (asked > 0)

    body = _judged(storage, steps)
    share = sum(answered) / 4
    assert body["figures"]["teacher"]["semantic.coverage"] == pytest.approx(share)
    said = [line for line in body["said"] if line.startswith("teacher has no answer without")]
    needed = Trained.from_manifest(steps["teacher"]).needs or ()
    assert len(said) == bool(needed) and all(f"{column}, which 2 of 4 samples lack" in said[0] for column in needed)

    model = model_of(storage, steps["teacher"], {}, "single", "teacher")
    rgb, height = (np.zeros((*SIZE, 3), np.uint8), np.zeros((*SIZE, 1), np.float32))
    for missing, whole in zip(JUDGED, answered, strict=True):
        given = {RGB: [None if RGB in missing else rgb], HEIGHT: [None if HEIGHT in missing else height]}
        if whole:
            assert model.predict(given)["semantic"].shape == (1, *SIZE)
        else:
            with pytest.raises(hyperloom.HyperloomError, match="sample 0 has no"):
                model.predict(given)


def test_a_report_of_a_model_that_answers_nothing_has_no_figures_of_it(tmp_path: Path) -> None:
    storage, steps = _data(tmp_path, [(HEIGHT,), (HEIGHT,)])
    steps["teacher"] = _trained(storage, steps)
    body = _judged(storage, steps, truth={"depth": "depth@truth"}, columns=[HEIGHT][:0])
    assert "teacher" not in str(body["table"])
    body = _judged(storage, steps)
    assert "semantic.miou" not in body["figures"].get("teacher", {})
    assert "teacher has no answer without height@laser, which 2 of 2 samples lack" in str(body["said"])


def test_models_that_are_asked_together_answer_what_all_of_them_can(tmp_path: Path) -> None:
    storage, steps = _data(tmp_path, JUDGED)
    steps |= {"teacher": _trained(storage, steps, mask=MASK), "other": _trained(storage, steps)}
    ensemble = {"type": "models", "models": ["other"]}
    body = _judged(storage, steps, models={"both": {"model": "teacher", "ensemble": ensemble}})
    assert body["figures"]["both"]["semantic.coverage"] == pytest.approx(0.25)
    row = body["ensembles"]["both"]["semantic"]
    assert {size for size, _ in row["by_members"]} == {1, 2}


def test_who_is_asked_without_an_input_answers_samples_that_lack_it(tmp_path: Path) -> None:
    """The report said of an input that the ensemble hides that there was no answer without it."""
    storage, steps = _data(tmp_path, [(), (HEIGHT,), (RGB,)])
    steps["teacher"] = _trained(storage, steps)
    ensemble = {"type": "masks", "members": 2, "mask": {"type": "modality", "hidden": "height"}}
    body = _judged(storage, steps, models={"blind": {"model": "teacher", "ensemble": ensemble}})
    assert body["figures"]["blind"]["semantic.coverage"] == pytest.approx(2 / 3)
    assert "no answer without height" not in str(body["said"])
    assert "blind has no answer without rgb@camera, which 1 of 3 samples lack" in str(body["said"])


@pytest.mark.parametrize(("judged", "marked"), [([(), (RGB, HEIGHT)], True), ([(), (HEIGHT,)], False)])
def test_figures_of_samples_without_any_input_are_not_those_of_before(
    tmp_path: Path, judged: list[tuple[str, ...]], marked: bool
) -> None:
    """They were answered from nothing, and what was counted then was taken for what is counted now."""
    storage, steps = _data(tmp_path, judged)
    steps["teacher"] = _trained(storage, steps, mask=MASK)
    stage = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "models": "teacher"})
    report = inline.step(stage, storage, KNOWN, "report", shards=steps["shards"], teacher=steps["teacher"])
    now = {unit.space for unit in stage.units(report)[0]}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(JudgedInputs, "marked", lambda *_: {})
        before = {unit.space for unit in stage.units(report)[0]}
    assert (now != before) == marked
    figures = _judged(storage, steps)["figures"]["teacher"]
    assert figures["semantic.coverage"] == (0.5 if marked else 1)


def test_the_champion_has_no_answer_to_a_picture_that_is_missing_as_the_model_beside_it(tmp_path: Path) -> None:
    """Its network says water where red is high, so a black picture was land, and a score; blue is the depth in m."""
    storage, steps = _data(tmp_path, [(), (RGB,), ()])
    test_release._release(storage, 0.9, 1)
    steps["teacher"] = _trained(storage, steps, **{"in": RGB, "targets": [TRUTH, "depth@truth"]})
    body = _judged(storage, steps, champion="aerial", against="champion")
    figures = body["figures"]
    for who in ("champion", "teacher"):
        assert figures[who]["semantic.coverage"] == figures[who]["depth.coverage"] == pytest.approx(2 / 3)
    assert figures["champion"]["depth.mae"] == pytest.approx(1.0), "of the two pictures that are there"
    for who in ("champion", "teacher"):
        assert f"{who} has no answer without rgb@camera, which 1 of 3 samples lack" in str(body["said"])


def test_masks_say_what_every_sample_shows() -> None:
    columns = [RGB, HEIGHT]
    assert NoMask(type="none").shown_inputs(columns) == [True, True]
    assert ModalityMask(type="modality").shown_inputs(columns) == [False, False]
    assert ModalityMask(type="modality", keep=1, hidden=("height",)).shown_inputs(columns) == [True, False]
    hiding = ModalityMask(type="modality", keep=1, full=False)
    assert not hiding.sample(columns, 8, torch.Generator().manual_seed(0)).all(1).any()
    assert hiding.shown_inputs(columns) == [False, False], "one of each sample is hidden"
    assert ModalityMask(type="modality", visible=("rgb",)).shown_inputs(columns) == [True, False]
    assert ModalityMask(type="modality", visible=("rgb",), alone=0.2).shown_inputs(columns) == [False, False]
    assert PatchMask(type="patch").shown_inputs(columns) == [False, False]
    assert BothMask(type="both", keep=1, visible=("height",)).shown_inputs(columns) == [False, True]
