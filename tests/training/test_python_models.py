"""`import hyperloom` over a whole pipeline in this process, from rendered flights to a release: models of arrays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hyperloom
from tests.training.test_corruption import RECIPE, full


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
    odd = [*edges.values[:2], *[None] * 10]
    assert np.array_equal(
        model.predict({"rgb@camera": rgb, "edges@gradient": odd})["depth"][2:], without["depth"][2:]
    ), "and so is a value that is missing"
    shares = model.probabilities({"rgb@camera": rgb})["semantic"]
    assert shares.shape == (12, 24, 32, 5) and np.allclose(shares.sum(-1), 1, atol=1e-4)


def test_an_ensemble_is_named_as_in_recipes(small: hyperloom.Pipeline) -> None:
    rgb = small["frames"].read("rgb@camera", rows=2)
    model = small["model"].model({"type": "masks", "members": 4})
    assert model.spread({"rgb@camera": rgb, "edges@gradient": [None, None]})["depth"].max() >= 0
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
