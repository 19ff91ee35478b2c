"""`import hyperloom` over a whole pipeline in this process, from rendered flights to a release: models of arrays."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hyperloom
from hyperloom.pipeline import plugins
from hyperloom.pipeline.api.model import ReleasedModel, TrainedModel
from hyperloom.stages.distill import export
from hyperloom.stages.distill.hyperloom_student import Student
from hyperloom.stages.release.network import describe
from hyperloom.stages.results import Trained
from tests.training import everything
from tests.training.test_corruption import RECIPE, full
from tests.unit import inline


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> hyperloom.Pipeline:
    folder = tmp_path_factory.mktemp("small")
    path = folder / "small.yaml"
    path.write_text(full(RECIPE, folder / "root"))
    recipe = hyperloom.load(path)
    recipe.run(ray=False, mlflow=False, progress=False)
    return recipe


def test_the_page_python_md_runs_as_it_stands(small: hyperloom.Pipeline) -> None:
    page = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"images": small["frames"].read("rgb@camera", rows=3).values}
    own = {
        "recipe.yaml": small.loaded.path,
        "depth@midas": "edges@gradient",
        '"teacher"': '"model"',
        "rows=100": "rows=3",
    }
    own["recipe.run()"] = "recipe.run(ray=False, mlflow=False, progress=False)"
    for block in (blocks := re.findall(r"```python\n(.*?)```", page, re.DOTALL)):
        for word, ours in own.items():
            block = block.replace(word, str(ours))
        exec(compile(block, "docs/python.md", "exec"), names)
    assert len(blocks) == 3 and names["depth"].values.shape == (3, 24, 32, 1) and len(names["part"]) > 0
    assert names["teacher"].spread(names["inputs"])["depth"].shape[0] == 3


def test_a_trained_model_predicts_from_arrays(small: hyperloom.Pipeline) -> None:
    model, rgb = small["model"].model(), small["frames"].read("rgb@camera")
    edges = small["labels"].read("edges@gradient")
    assert model.inputs == ("rgb@camera", "edges@gradient") and model.tasks == ("semantic", "depth")
    answers = model.predict({"rgb@camera": rgb, "edges@gradient": edges.values})
    assert answers["semantic"].shape == (12, 24, 32) and answers["semantic"].dtype == np.uint8
    assert answers["depth"].shape == (12, 24, 32, 1) and np.isfinite(answers["depth"]).all()
    one = model.predict({"rgb@camera": rgb.values[3], "edges@gradient": edges.values[3]})
    assert np.array_equal(one["semantic"][0], answers["semantic"][3]), "one sample is asked as among many"
    without = model.predict({"rgb@camera": rgb})
    assert not np.array_equal(without["depth"], answers["depth"]), "an input that is absent is hidden"
    odd = [*edges.values[:2], *[None] * 10]  # nothing hid edges in training, so what it says without is a guess
    with pytest.raises(hyperloom.HyperloomError, match="sample 2 has no edges@gradient, .* never trained without"):
        model.predict({"rgb@camera": rgb, "edges@gradient": odd})
    shares = model.probabilities({"rgb@camera": rgb})["semantic"]
    assert shares.shape == (12, 24, 32, 5) and np.allclose(shares.sum(-1), 1, atol=1e-4)


def test_an_ensemble_is_named_as_in_recipes(small: hyperloom.Pipeline) -> None:
    rgb = small["frames"].read("rgb@camera", rows=2)
    model = small["model"].model({"type": "masks", "members": 4})
    assert model.spread({"rgb@camera": rgb})["depth"].max() >= 0
    with pytest.raises(hyperloom.HyperloomError, match="ensemble"):
        small["model"].model("masques")


def test_student_and_release_predict_the_same(small: hyperloom.Pipeline, tmp_path: Path) -> None:
    rgb = small["frames"].read("rgb@camera", rows=3)
    student, release = small["student"].model(), small["release"].model()
    assert release.inputs == ("rgb@camera",) and set(release.tasks) == {"semantic", "depth"}
    ours, theirs = student.predict(rgb), release.predict(rgb.values)
    assert (ours["semantic"] == theirs["semantic"]).mean() > 0.99
    assert np.allclose(ours["depth"], theirs["depth"], rtol=1e-3, atol=1e-3)
    from PIL import Image

    path = tmp_path / "large.png"
    Image.fromarray(np.repeat(np.repeat(rgb.values[0], 4, 0), 4, 1)).save(path)
    assert student.predict(path)["semantic"].shape == (1, 24, 32), "another size is made to fit"
    assert release.predict([str(path)])["semantic"].shape == (1, 24, 32)
    with pytest.raises(hyperloom.HyperloomError, match=r"answers alone.*recipe\[STEP\]"):
        release.probabilities(rgb)
    assert small.champion().predict(rgb.values)["depth"].shape == theirs["depth"].shape
    lacking = replace(rgb, valid=np.array([True, False, True]))  # it was answered as if it were black
    with pytest.raises(hyperloom.HyperloomError, match=r"1 of 3 samples have no rgb@camera.*present\(\)"):
        release.predict(lacking)
    assert np.array_equal(release.predict(lacking.present())["depth"], theirs["depth"][[0, 2]])


def test_a_release_answers_as_its_student_whatever_the_task(tmp_path: Path) -> None:
    """Of whole pictures' classes and of points it gave what its network gives, probabilities."""
    data = everything.shards(tmp_path)
    tasks = [n for n in everything.KNOWN if n not in ("rgb", "film", "sound")]
    model = {"trunk": {"type": "unet", "width": 4}}
    fields = {"in": ["rgb@a"], "targets": {t: f"{t}@a" for t in tasks}, "model": model, "updates": 2}
    made = inline.finish(everything.job(data, **fields))
    trained = Trained.of(made)
    predictor = plugins.parse("ensemble", "single").bind({}).predictor(data[0], trained.folders(made), trained.visible)
    file = export.to_onnx(predictor.model)
    about, _ = describe(file.data, replace(trained, onnx=file.about), everything.KNOWN)
    (tmp_path / "student.onnx").write_bytes(file.data)
    (tmp_path / "student.json").write_text(json.dumps(about))
    images = np.random.default_rng(0).integers(0, 256, (5, *everything.SIZE, 3), dtype=np.uint8)
    ours = TrainedModel(predictor, trained.visible).predict(images)
    theirs = ReleasedModel(Student(str(tmp_path)), "rgb@a").predict(images)
    assert {"weather", "traits", "level", "points", "semantic", "boxes", "caption"} <= ours.keys() == theirs.keys()
    for task, answer in ours.items():
        assert answer.shape == theirs[task].shape and answer.dtype == theirs[task].dtype, task
        assert np.allclose(answer, theirs[task], atol=1e-3, equal_nan=True), task


def test_columns_of_other_samples_or_units_are_no_pairs(small: hyperloom.Pipeline) -> None:
    """They were paired by place, though their keys say that they are not of the same samples."""
    model, rgb = small["model"].model(), small["frames"].read("rgb@camera")
    edges = small["labels"].read("edges@gradient")
    whole = model.predict({"rgb@camera": rgb, "edges@gradient": edges})["depth"]
    turned = [3, 2, 1, 0]
    with pytest.raises(hyperloom.HyperloomError, match=r"sample 0 is \S+ of rgb@camera and \S+ of edges@gradient"):
        model.predict({"rgb@camera": rgb.take([0, 1, 2, 3]), "edges@gradient": edges.take(turned)})
    both = {"rgb@camera": rgb.take(turned), "edges@gradient": edges.take(turned)}
    assert np.allclose(model.predict(both)["depth"], whole[turned], atol=1e-4)
    other = edges.modality.model_copy(update={"unit": "px"})
    with pytest.raises(hyperloom.HyperloomError, match="trained when edges@gradient had other classes or units"):
        model.predict({"rgb@camera": rgb, "edges@gradient": replace(edges, modality=other)})


def test_what_is_no_input_is_refused(small: hyperloom.Pipeline) -> None:
    model, rgb = small["model"].model(), small["frames"].read("rgb@camera", rows=2)
    for given, what in (
        (rgb.values, "several inputs"),
        ({"rgb@cam": rgb}, "no input rgb@cam"),
        ({"rgb@camera": rgb, "edges@gradient": [None]}, "different numbers"),
        ({}, "no input is given"),
    ):
        with pytest.raises(hyperloom.HyperloomError, match=what):
            model.predict(given)
    with pytest.raises(ValueError, match=r"rgb@camera, sample 0: .*dtype"):
        model.predict({"rgb@camera": rgb.values.astype(np.float32)})
