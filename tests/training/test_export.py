"""Students as ONNX files: examples of every type, sizes that no cell divides, what cannot be written, what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError, StepFailed
from hyperloom.stages.distill import export
from hyperloom.stages.distill.examples import examples
from hyperloom.stages.distill.hyperloom_student import Student
from hyperloom.stages.modality import Defaults, Vector
from hyperloom.stages.network import pooled_heads
from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.features import Sizes
from hyperloom.stages.network.heads import Head
from hyperloom.stages.network.masks import ModalityMask, hidden_of
from hyperloom.stages.network.model import MultiTask, build_model
from hyperloom.stages.network.predictor import Predictor
from hyperloom.stages.network.processors import Scale
from hyperloom.stages.release.card import card
from hyperloom.stages.release.network import describe
from hyperloom.stages.results import Judged, Lineage, Trained
from tests.unit.test_modality import KNOWN

PICTURE = plugins.parse("modality", {"type": "image", "size": [20, 28]})
NUMBERS = Scale((2.0,), (3.0,))


class Eigenvalues(pooled_heads.RegressLayers):
    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvalsh(raw[:, :, None] * raw[:, None])


class Solved(Head):
    """A head that ONNX has no words for."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> torch.nn.Module:
        return Eigenvalues(sizes.pooled, task.modality.shape)


class Strange(Vector):
    revision: ClassVar[int] = 1
    defaults: ClassVar[Defaults] = Defaults(f"{__name__}:Solved", "huber", "mae")


class Picky(Vector):
    revision: ClassVar[int] = 1

    def _check_values(self, array: np.ndarray) -> None:
        if (array != 7).any():
            raise ValueError("expected sevens")


def _model(inputs: dict[str, Any], trunk: str = "unet", **tasks: Any) -> MultiTask:
    torch.manual_seed(0)
    made = plugins.parse("trunk", {"type": trunk, "width": 2, **({"depth": 1, "patch": 8} if trunk == "vit" else {})})
    given = tuple(Input(c, m, Scale()) for c, m in inputs.items())
    return build_model(Architecture(given, tuple(Task(n, m, Scale()) for n, m in tasks.items()), made))


def test_examples_are_values_of_their_modalities_with_all_that_may_be_in_them() -> None:
    scales = {"depth": NUMBERS, "age": NUMBERS}
    inputs = [Input(f"{n}@a", m, scales.get(n, Scale())) for n, m in KNOWN.items()]
    made = dict(zip(KNOWN, examples(inputs, 40), strict=True))
    for name, modality in KNOWN.items():
        assert (made[name].shape, made[name].dtype) == ((40, *modality.shape), modality.dtype), name
        for value in made[name]:
            modality.check(value)
    assert made["age"].mean() == pytest.approx(2, abs=1.5) and made["age"].std() == pytest.approx(3, abs=1)
    assert {n for n, values in made.items() if np.isnan(values).any()} == {"holes", "boxes", "heart"}
    assert {n: int(made[n].min()) for n in ("genre", "pos", "links")} == {"genre": -1, "pos": -1, "links": -1}
    assert made["semantic"].max() == made["attributes"].max() == 255 and made["review"].min() == 0
    again = examples(inputs, 40)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(made.values(), again, strict=True))


def test_a_type_that_refuses_what_is_made_for_it_is_named() -> None:
    with pytest.raises(RecipeError, match=r"no example of odd@a .* Picky .* expected sevens\. Next: "):
        examples([Input("odd@a", Picky(type="vector", length=2), Scale())], 1)


@pytest.mark.parametrize("trunk", ["unet", "vit"])
def test_boxes_are_found_in_pictures_that_no_cell_divides(trunk: str) -> None:
    boxes = plugins.parse("modality", {"type": "boxes", "classes": ["x", "y"], "most": 9})
    model = _model({"rgb@a": PICTURE}, trunk, boxes=boxes)
    exported = export.to_onnx(model)
    assert export.compare(model, exported.data, samples=5) < 1e-4
    assert exported.about["outputs"][0]["shape"] == [9, 6]  # six cells and three rows of NaN
    with torch.no_grad():
        model.heads["boxes"].out.bias += 0.1
    with pytest.raises(StepFailed, match=r"differs from its model by .* of the range of 'boxes'"):
        export.compare(model, exported.data)


@pytest.mark.parametrize(
    "first", [{"type": "audio", "rate": 1000, "seconds": 0.01}, {"type": "series", "steps": 9, "channels": 2}]
)
def test_whichever_input_comes_first_the_number_of_samples_is_free(first: dict[str, Any]) -> None:
    modality = plugins.parse("modality", first)  # the sound is shorter than a window
    model = _model({"first@a": modality, "links@a": KNOWN["links"]}, "vit", genre=KNOWN["genre"])
    exported = export.to_onnx(model)
    assert all(export.compare(model, exported.data, samples=n) < 1e-4 for n in (1, 7))
    assert [(i["name"], i["shape"], i["dtype"], i["type"]) for i in exported.about["inputs"]] == [
        ("first@a", list(modality.shape), "float32", first["type"]),
        ("links@a", [4, 2], "int64", "graph"),
    ]
    assert exported.data == export.to_onnx(model).data


@pytest.mark.parametrize("trunk", ["unet", "vit"])
def test_what_is_never_shown_is_no_input_of_the_file(trunk: str) -> None:
    """The file took such an input and answered by it, as neither training nor evaluation do."""
    inputs = {"depth@a": plugins.parse("modality", {"type": "dense", "size": [20, 28]}), "rgb@a": PICTURE}
    model = _model(inputs, trunk, genre=KNOWN["genre"])
    hidden = hidden_of(ModalityMask(type="modality", hidden="depth"), model.architecture)
    exported = export.to_onnx(model, hidden)
    assert hidden == ("depth@a",) and [i["name"] for i in exported.about["inputs"]] == ["rgb@a"]
    session = onnxruntime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    for count in (1, 4):
        pictures = np.random.default_rng(0).integers(0, 256, (count, *PICTURE.shape)).astype(np.uint8)
        expected = Predictor(model, [[False, True]])({"rgb@a": pictures}).mean["genre"]
        (answers,) = session.run(None, {"rgb@a": pictures})
        assert answers == pytest.approx(expected, abs=1e-5)
    seen = Predictor(model, [[True, True]])({"rgb@a": pictures, "depth@a": np.ones((4, 20, 28, 1), np.float32)})
    assert np.abs(seen.mean["genre"] - answers).max() > 1e-3


def test_numbers_that_hardly_differ_are_compared_on_the_scale_of_their_data() -> None:
    model = _model({"rgb@a": PICTURE}, age=KNOWN["age"])
    with torch.no_grad():
        model.heads["age"].weight.mul_(1e-6)
        model.heads["age"].bias.fill_(1000.0)
    assert export.compare(model, export.to_onnx(model).data) < 1e-4


def test_a_task_that_onnx_cannot_hold_is_named() -> None:
    strange = Strange(type="vector", length=3)
    with pytest.raises(StepFailed, match=r"cannot hold the task 'odd' \(head .*Solved\)\. .* Next: leave it out"):
        export.to_onnx(_model({"rgb@a": PICTURE}, genre=KNOWN["genre"], odd=strange))
    with pytest.raises(StepFailed, match=r"the task 'odd' \(head .*\), or what they share: its inputs and trunk\. "):
        export.to_onnx(_model({"rgb@a": PICTURE}, odd=strange))


def test_a_release_says_what_comes_of_a_student_of_any_head(tmp_path: Path) -> None:
    known = {**KNOWN, "rgb": PICTURE}
    names = ("genre", "age", "boxes")
    exported = export.to_onnx(_model({"rgb@a": PICTURE}, **{n: known[n] for n in names}))
    model = Trained(columns_in=["rgb@a"], tasks=list(names), onnx=exported.about, parameters=1)
    about, signature = describe(exported.data, model, known)
    (tmp_path / "student.onnx").write_bytes(exported.data)
    (tmp_path / "student.json").write_text(json.dumps(about))
    told = Student(str(tmp_path)).predict(np.zeros((3, 20, 28, 3), np.uint8))
    assert {o["name"]: (o["dtype"], o["shape"][1:]) for o in signature["outputs"]} == {
        n: (v.dtype.name, list(v.shape[1:])) for n, v in told.items()
    }
    assert told["genre"].shape == (3, 3) and told["genre"].sum(1) == pytest.approx(1)
    report = Judged(split="test", lineage=Lineage(""), figures={}, samples=1)
    text = card("n", model, report, ("", ""), about, [], True)
    assert "- `genre`: category: news, mail, web\n- `age`: scalar in y\n- `boxes`: boxes: car, dog\n" in text


def test_the_tables_of_a_card_are_narrow_one_for_each_modality() -> None:
    rows: list[dict[str, Any]] = [
        {"who": "hue", "kind": "expert", "semantic.coverage": 0.87, "semantic.miou": 0.4537, "depth.mae": None},
        {"who": "small", "kind": "model", "semantic.miou": 0.54149, "semantic.coverage": 1.0, "depth.mae": 12.44},
    ]
    rows[1] |= {"parameters": 279790, "megaflops": 240.1}
    bounds = {"small": {"semantic.miou": (0.4666, 0.604)}}
    said = ["small learned from the model big (372dfc75878f) through soft@big", "small: semantic miou beats"]
    report = Judged(
        "test",
        Lineage(""),
        {},
        samples=1,
        table=rows,
        bounds=bounds,
        intervals={"level": 0.95, "over": "frames"},
        said=said,
    )
    taught = {"soft@big": "the model big (372dfc75878f)"}
    model = Trained(columns_in=["rgb@a"], tasks=["depth"], parameters=279790, taught=taught)
    tasks = {"depth": {"type": "dense", "unit": "m"}, "way": {"type": "dense", "channels": 2, "names": ["x", "y"]}}
    text = card("n", model, report, ("", ""), {"size": [9, 9], "tasks": tasks}, [], False, "small")
    assert "- `depth`: a map, 1 number a pixel in m\n- `way`: a map, 2 numbers a pixel: x, y\n" in text
    assert "279,790 parameters" in text and "## How good it is: 1 sample of" in text
    heading = "**semantic**\n\n| who | miou ↑ | coverage | kind |\n| --- | --- | --- | --- |\n"
    hue = "| hue | 0.4537 | 87% | expert |\n"
    small = "| **small** | **0.5415 (0.467 to 0.604)** | **100%** | **model** |\n"
    assert f"{heading}{hue}{small}\n**depth**\n\n| who |" in text
    assert "| who | mae ↓ | kind |\n| --- | --- | --- |\n| **small** | **12.44** | **model** |\n" in text
    assert "| who | parameters | MFLOPs a sample | kind |\n" in text and "| **279,790** | **240.1** |" in text
    assert (
        "In brackets: 95% intervals, resampled over frames." in text and text.count("learned from the model big") == 1
    )
