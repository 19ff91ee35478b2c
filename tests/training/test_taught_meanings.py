"""What a training makes of columns that say the same in other words, and what a trained model says in a recipe's: the
same classes in another order are mapped, units converted, all else is refused with both sides named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.label.stage import Label
from hyperloom.stages.train import loop
from hyperloom.stages.train.stage import Train
from tests.unit import inline, meanings, scenes

MODALITIES = meanings.KNOWN


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return meanings.shards(tmp_path_factory.mktemp("root"))


def job(data: Any, folder: str, **fields: Any) -> Any:
    storage, _, made = data
    config = Train.model_validate({**scenes.TRAIN, "updates": 3, "in": "rgb@camera", **fields})
    run = inline.step(config, storage, MODALITIES, "teacher", shards=made)
    return replace(run.stage.job(run), folder=f"train/{folder}")


# -- a target and its task ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("task", "same", "other"),
    [
        ("semantic", "semantic@truth", "other@truth"),
        ("semantic", "soft@teacher", "osoft@teacher"),
        ("place", "place@truth", "oplace@truth"),
        ("tags", "tags@truth", "otags@truth"),
        ("place", "chances@soft", "ochances@soft"),
    ],
)
def test_a_target_in_another_order_teaches_the_same(data: Any, task: str, same: str, other: str) -> None:
    """To the byte: weights, and the figures on the split val."""
    results = []
    for column in (same, other):
        one = job(data, f"{task}-{column}", targets={task: column}, losses={}, validate_every=3)
        loop.fit(one)
        results.append(scenes.trained(one.storage, one.folder))
    assert results[0] == results[1]


def test_a_target_in_centimetres_teaches_metres(data: Any) -> None:
    jobs = [job(data, c, targets={"depth": c}) for c in ("depth@laser", "depth_cm@laser", "far_cm@laser")]
    scales = [one.architecture.tasks[0].scale for one in jobs]
    for one, scale in zip(jobs, scales, strict=True):
        assert scale.mean == pytest.approx(scales[0].mean, rel=1e-3) and 10 < scale.mean[0] < 20
        loop.fit(one)
    finals = [scenes.trained(one.storage, one.folder)[1]["final"] for one in jobs]
    for key, value in finals[0].items():
        assert value == pytest.approx(finals[1][key], rel=0.02), key
        assert value == pytest.approx(finals[2][key], rel=0.02), key


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            {"semantic": "foreign@truth"},
            r"foreign@truth cannot teach 'semantic'.*\[road, forest, sea\].*\[land, forest",
        ),
        ({"depth": "depth_px@laser"}, "depth_px@laser cannot teach 'depth'.*px.*of the task 'depth': m"),
        ({"near": "far@laser"}, "far@laser cannot teach 'near'.*range.*0 to 50 m.*0 to 10 m"),
    ],
)
def test_a_target_that_says_something_else_is_refused(data: Any, targets: dict[str, str], message: str) -> None:
    storage, _, made = data
    body = {**made.body, "schema": {**made.body["schema"], "foreign@truth": {}, "depth_px@laser": {}}}
    with pytest.raises(RecipeError, match=message):
        job((storage, None, replace(made, body=body)), "refused", targets=targets)


def test_what_validates_must_say_the_same_too(data: Any) -> None:
    with pytest.raises(RecipeError, match="far_cm@laser cannot validate 'semantic'"):
        job(data, "refused", targets={"semantic": "semantic@truth"}, validate={"semantic": "far_cm@laser"})


# -- a model and the words of a recipe ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def teacher(data: Any) -> Any:
    """The manifest of a model of the classes [land, forest, road] and of metres."""
    storage, _, made = data
    config = Train.model_validate({**scenes.TRAIN, "updates": 2, "in": "rgb@camera"})
    run = inline.step(config, storage, MODALITIES, "teacher", shards=made)
    loop.fit(run.stage.job(run))
    return inline.finish(run)


def _labelled(data: Any, teacher: Any, known: dict[str, Any], out: list[str], **fields: Any) -> dict[str, Any]:
    expert = {"type": "model", "model": "teacher", "out": out, **fields}
    stage = Label.model_validate({"stage": "label", "data": "frames", "experts": [expert]})
    made = inline.finish(inline.step(stage, data[0], known, "soft", frames=data[1], teacher=teacher))
    return {column: inline.column(data[0], known, made, column) for column in out}


def test_a_model_labels_in_the_words_of_the_recipe(data: Any, teacher: Any) -> None:
    plain = _labelled(data, teacher, MODALITIES, ["semantic@t", "soft@t", "osoft@t", "depth@t"])
    turned = MODALITIES | inline.modalities(
        rgb={"type": "image", "size": list(scenes.SIZE)},
        semantic={"type": "segmentation", "classes": list(meanings.ORDER)},
        soft={"type": "soft", "of": "semantic"},
        depth={"type": "dense", "unit": "cm", "storage": "float32"},
    )
    other = _labelled(data, teacher, turned, ["semantic@t", "soft@t", "depth@t"])
    for key, ids in plain["semantic@t"].items():
        assert (other["semantic@t"][key] == meanings.turned(ids)).all()
        for soft in (other["soft@t"][key], plain["osoft@t"][key]):
            for k, name in enumerate(meanings.ORDER):
                assert soft[..., k] == pytest.approx(plain["soft@t"][key][..., scenes.CLASSES.index(name)], abs=0.003)
        assert other["depth@t"][key] == pytest.approx(plain["depth@t"][key] * 100, rel=2e-3)


@pytest.mark.parametrize(
    ("known", "out", "message"),
    [
        ({"soft": {"type": "soft", "classes": ["road", "forest", "sea"], "of": "semantic"}}, "soft@t", r"sea\]"),
        ({"semantic": {"type": "segmentation", "classes": ["road", "forest", "sea"]}}, "semantic@t", r"forest, sea\]"),
        ({"depth": {"type": "dense", "unit": "px"}}, "depth@t", "unit of the task 'depth' of the model: m"),
        ({"spread": {"type": "dense", "unit": "rad"}}, "spread@t", "cannot give spread@t.*unit.*rad"),
    ],
)
def test_a_model_that_says_something_else_labels_nothing(
    data: Any, teacher: Any, known: dict[str, Any], out: str, message: str
) -> None:
    image = {"rgb": {"type": "image", "size": list(scenes.SIZE)}}
    fields = {"spread_of": "depth"} if out == "spread@t" else {}
    with pytest.raises(RecipeError, match=message):
        _labelled(data, teacher, MODALITIES | inline.modalities(**image, **known), [out], **fields)


def test_shards_that_were_written_in_other_words_are_not_read(data: Any) -> None:
    """An identity covers the definitions of modalities; a stage of one's own may still hand over such shards."""
    storage, _, made = data
    for name, fields in (
        ("semantic", {"type": "segmentation", "classes": list(meanings.ORDER)}),
        ("depth", {"type": "dense", "unit": "cm"}),
    ):
        image = {"rgb": {"type": "image", "size": list(scenes.SIZE)}}
        known = MODALITIES | inline.modalities(**image, **{name: fields})
        config = Train.model_validate({**scenes.TRAIN, "in": "rgb@camera"})
        run = inline.step(config, storage, known, "teacher", shards=made)
        with pytest.raises(RecipeError, match=f"{name}@.*: its classes or its unit are others in the shards"):
            run.stage.job(run)
        stage = Evaluate.model_validate(
            {"stage": "evaluate", "data": "shards", "truth": {"semantic": "semantic@truth"}}
        )
        if name == "semantic":
            with pytest.raises(RecipeError, match="others in the shards than in the recipe"):
                inline.finish(inline.step(stage, storage, known, "report", shards=made))
