"""Small trunks for pictures: their size follows `parameters`, they take odd and finer frames, export, and learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.stages.distill import export
from hyperloom.stages.network.architecture import Architecture, Input, Scale, Task, check_sizes
from hyperloom.stages.network.model import MultiTask, build_model
from hyperloom.stages.network.visible import Visible
from hyperloom.stages.train import loop
from tests.unit import scenes

SMALL = ["inverted", "hybrid"]


def _model(trunk: dict[str, Any], size: tuple[int, int], parameters: int | None = None) -> MultiTask:
    torch.manual_seed(0)
    rgb = plugins.parse("modality", {"type": "image", "size": list(size)})
    classes = plugins.parse("modality", {"type": "segmentation", "classes": ["a", "b", "c"], "size": list(size)})
    genre = plugins.parse("modality", {"type": "category", "classes": ["x", "y"]})
    tasks = (Task("semantic", classes, Scale()), Task("genre", genre, Scale()))
    picture = Input("rgb@a", rgb, Scale((128.0,) * 3, (64.0,) * 3))
    return build_model(Architecture((picture,), tasks, plugins.parse("trunk", trunk)), parameters)


@pytest.mark.parametrize("trunk", SMALL)
def test_parameters_choose_the_width(trunk: str) -> None:
    for wish in (40_000, 160_000, 900_000):
        assert _model({"type": trunk}, (64, 96), wish).parameter_count == pytest.approx(wish, rel=0.25)


@pytest.mark.parametrize("trunk", SMALL)
@pytest.mark.parametrize("size", [(16, 17), (37, 53)])
def test_odd_frames_go_in_and_come_out_of_onnx(trunk: str, size: tuple[int, int]) -> None:
    model = _model({"type": trunk, "width": 2}, size)
    exported = export.to_onnx(model)
    assert export.compare(model, exported.data, samples=3) < 1e-4
    shapes = {o["name"]: o["shape"][:2] for o in exported.about["outputs"]}
    assert shapes["semantic"] == list(size)


@pytest.mark.parametrize("classes", [7, ["a", "b", None, "a", None]])
def test_a_published_network_goes_into_onnx(classes: Any) -> None:
    model = _model({"type": "espnet", "width": 1, "depth": 1, "classes": classes}, (16, 24))
    assert export.compare(model, export.to_onnx(model).data, samples=3) < 1e-4


@pytest.mark.parametrize("trunk", ["unet", *SMALL])
def test_a_picture_finer_than_the_answers_is_folded(trunk: str) -> None:
    """Twice and three times as fine: other pixels of a square are other planes, hidden squares are hidden in all."""
    size, scale = (37, 53), Scale((128.0,) * 3, (64.0,) * 3)
    inputs = tuple(
        Input(f"rgb@{n}", plugins.parse("modality", {"type": "image", "size": [n * s for s in size]}), scale)
        for n in (1, 2, 3)
    )
    classes = plugins.parse("modality", {"type": "segmentation", "classes": ["a", "b", "c"], "size": list(size)})
    about = Architecture(
        inputs, (Task("semantic", classes, Scale()),), plugins.parse("trunk", {"type": trunk, "width": 2})
    )
    check_sizes(about)
    assert about.size == size and list(about.planes.values()) == [3, 12, 27] and about.channels == 42
    model = build_model(about, None)
    assert export.compare(model, export.to_onnx(model).data, samples=2) < 1e-4
    given = {i.column: torch.randint(0, 256, (1, *i.modality.shape), dtype=torch.uint8) for i in inputs}
    moved = {**given, "rgb@3": given["rgb@3"].clone()}
    moved["rgb@3"][0, 4, 8] = 255 - moved["rgb@3"][0, 4, 8]
    seen = torch.ones(1, 3, dtype=torch.bool)
    answers = [model(values, seen).predictions["semantic"] for values in (given, moved)]
    assert not torch.equal(*answers)
    squares = torch.ones(1, *about.grids(16)[2], dtype=torch.bool)
    squares[0, 0, 0] = False
    hidden = [model(values, Visible(seen, (None, None, squares))).predictions["semantic"] for values in (given, moved)]
    assert torch.equal(*hidden)


@pytest.mark.parametrize(("sides", "fits"), [((64, 96), True), ((64, 48), False), ((48, 72), False), ((16, 24), False)])
def test_an_input_is_a_whole_number_of_times_as_large(sides: tuple[int, int], fits: bool) -> None:
    fine = Input("fine@a", plugins.parse("modality", {"type": "image", "size": list(sides)}), Scale())
    about = _model({"type": "unet", "width": 2}, (32, 48)).architecture
    about = replace(about, inputs=(*about.inputs, fine))
    if fits:
        check_sizes(about)
        vit = replace(about, trunk=plugins.parse("trunk", {"type": "vit", "width": 2}))
        with pytest.raises(ValueError, match="give the modalities one size$"):
            check_sizes(vit)
        return
    with pytest.raises(ValueError, match="one size or inputs a whole number of times that of the tasks"):
        check_sizes(about)


def test_frames_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the trunk hybrid needs frames of at least 16x16 pixels, got \(12, 64\)"):
        architecture = _model({"type": "unet", "width": 2}, (12, 64)).architecture
        plugins.parse("trunk", {"type": "hybrid"}).check(architecture.inputs, architecture.tasks)


@pytest.mark.parametrize("trunk", SMALL)
def test_they_learn_what_is_there_to_learn(trunk: str, tmp_path: Any) -> None:
    data = scenes.shards(tmp_path / "root", val=True)
    fields = {**scenes.LEARN, "model": {"trunk": trunk, "parameters": "100k"}, "updates": 60, "mask": "none"}
    step = scenes.step(data[0], data[2], **fields)
    job = step.stage.job(step)
    loop.fit(job)
    final = job.storage.read_json(f"{job.folder}/trained.json")["final"]
    assert np.isfinite(list(final.values())).all()
    assert final["fit.semantic.miou"] > 0.6 and final["val.semantic.miou"] > 0.4, final


def test_depthwise_filters_can_be_left_out() -> None:
    model = _model({"type": "inverted", "width": 2, "fused": 2}, (32, 48))
    grouped = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert not [n for n in grouped if n.startswith(("trunk.shrink.0.", "trunk.shrink.1."))]
    assert len([n for n in grouped if n.startswith("trunk.shrink")]) == 2
    export.to_onnx(model)


def test_what_latency_is_to_choose_is_chosen_by_nothing_else() -> None:
    with pytest.raises(ValueError, match="fused: auto is chosen by latency_ms"):
        _model({"type": "inverted", "fused": "auto", "width": 2}, (32, 32))


def test_depth_grows_with_the_width_where_it_is_told_to() -> None:
    def residuals(width: int, repeats: object) -> int:
        model = _model({"type": "inverted", "width": width, "repeats": repeats}, (32, 32))
        return len(model.trunk.shrink[0])  # type: ignore[arg-type, index]

    assert [residuals(w, "auto") for w in (2, 8, 16, 24)] == [1, 1, 2, 3]
    assert [residuals(w, 3) for w in (2, 8)] == [3, 3]
    deep, flat = (_model({"type": "inverted", "repeats": r}, (32, 32), 1_500_000) for r in ("auto", 2))
    assert deep.parameter_count == pytest.approx(flat.parameter_count, rel=0.25)
    assert len(deep.trunk.shrink[0]) > 2  # type: ignore[arg-type, index]
