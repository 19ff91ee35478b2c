"""An input's answers are passed unchanged to the head of their task, where they are visible and known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.network.passing import passing
from hyperloom.stages.network.processors import Scale
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": [16, 24]},
    semantic={"type": "segmentation", "classes": ["land", "forest", "road"], "size": [16, 24]},
    other={"type": "segmentation", "classes": ["road", "land", "forest"], "size": [16, 24]},
    soft={"type": "soft", "classes": ["forest", "road", "land"], "size": [16, 24]},
    turned={"type": "soft", "classes": ["road", "forest", "land"], "size": [16, 24]},
    depth={"type": "dense", "unit": "m", "size": [16, 24], "unknown": "nan"},
    near={"type": "dense", "unit": "cm", "size": [16, 24]},
    normals={"type": "dense", "channels": 3, "direction": True, "size": [16, 24]},
    edges={"type": "dense", "size": [16, 24]},
)
SCALES = {"near": Scale((500.0,), (300.0,)), "depth": Scale((4.0,), (2.0,))}


def network(tasks: list[str], columns: list[str], named: Any = True) -> MultiTask:
    """An untrained network, with whatever weights its trunk begins with."""
    torch.manual_seed(3)
    torch.set_num_threads(1)
    inputs = tuple(Input(c, KNOWN[k], SCALES.get(k, Scale())) for c in columns for k in [c.partition("@")[0]])
    given = passing(named, [Task(t, KNOWN[t], SCALES.get(t, Scale())) for t in tasks], inputs)
    model = MultiTask(Architecture(inputs, given, plugins.parse("trunk", {"type": "unet", "width": 2}))).eval()
    return model


def columns(**values: np.ndarray) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(0)
    rgb = random.integers(0, 255, (2, 16, 24, 3), dtype=np.uint8)
    return {
        "rgb@camera": torch.from_numpy(rgb),
        **{n.replace("_", "@"): torch.from_numpy(v) for n, v in values.items()},
    }


@torch.inference_mode()
def answers(
    model: MultiTask, batch: dict[str, torch.Tensor], visible: list[bool] | None = None
) -> dict[str, np.ndarray]:
    seen = None if visible is None else torch.tensor([visible, visible])
    return {task: values.numpy() for task, values in model.predict(batch, seen).items()}


def test_an_untrained_network_answers_what_its_input_does() -> None:
    random = np.random.default_rng(1)
    ids = random.integers(0, 3, (2, 16, 24)).astype(np.uint8)
    share = random.dirichlet(np.ones(3), (2, 16, 24)).astype(np.float32)
    far = random.uniform(100, 900, (2, 16, 24, 1)).astype(np.float32)
    way = random.normal(size=(2, 16, 24, 3)).astype(np.float32)
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    hard = network(["semantic"], ["rgb@camera", "other@a"])
    told = answers(hard, columns(other_a=ids))["semantic"]
    assert np.array_equal(told.argmax(-1), np.array([2, 0, 1])[ids])  # road, land, forest in the task's order
    soft = network(["semantic"], ["rgb@camera", "soft@a"])
    assert answers(soft, columns(soft_a=share))["semantic"] == pytest.approx(share[..., [2, 0, 1]], abs=1e-3)
    shares = network(["soft"], ["rgb@camera", "soft@a", "turned@b"], {"soft": ("turned@b",)})
    told = answers(shares, columns(soft_a=share, turned_b=share))["soft"]  # road, forest, land: by name, not by place
    assert told == pytest.approx(share[..., [1, 0, 2]], abs=1e-3)
    named = network(["soft"], ["rgb@camera", "semantic@a"])
    told = answers(named, columns(semantic_a=ids))["soft"]
    assert told.max(-1) == pytest.approx(0.9) and np.array_equal(told.argmax(-1), np.array([2, 0, 1])[ids])
    numbers = network(["depth", "normals"], ["rgb@camera", "near@a", "normals@b"])
    both = answers(numbers, columns(near_a=far, normals_b=way))
    assert both["depth"] == pytest.approx(far / 100, rel=1e-4)
    assert both["normals"] == pytest.approx(way, abs=1e-5)


def test_what_is_hidden_or_unknown_falls_away() -> None:
    ids = np.zeros((2, 16, 24), np.uint8)
    ids[:, :, :5] = 255
    model = network(["semantic"], ["rgb@camera", "other@a"])
    batch = columns(other_a=ids)
    seen, hidden = answers(model, batch)["semantic"], answers(model, batch, [True, False])["semantic"]
    assert np.allclose(hidden, 1 / 3) and np.allclose(seen[:, :, :5], 1 / 3) and (seen[:, :, 5:, 2] > 0.89).all()
    depth = network(["depth"], ["rgb@camera", "depth@a"])
    far = np.full((2, 16, 24, 1), 9.0, np.float32)
    far[:, 3] = np.nan
    told = answers(depth, columns(depth_a=far))["depth"]
    assert np.allclose(told[:, 4:], 9.0) and np.allclose(told[:, 3], 4.0)  # the mean of what was trained on


def test_of_several_those_count_that_are_visible_and_the_first_most() -> None:
    one, two = np.zeros((2, 16, 24), np.uint8), np.ones((2, 16, 24), np.uint8)
    model = network(["semantic"], ["rgb@camera", "semantic@a", "semantic@b"])
    model.residuals["semantic"].begin_with(1)  # type: ignore[operator]
    batch = columns(semantic_a=one, semantic_b=two)
    assert (answers(model, batch)["semantic"].argmax(-1) == 1).all()
    assert (answers(model, batch, [True, True, False])["semantic"].argmax(-1) == 0).all()
    assert (answers(model, batch, [True, False, True])["semantic"][..., 1] > 0.89).all()


def test_it_learns_to_change_what_is_wrong() -> None:
    """The input calls half of what is forest land, which the picture tells; a few updates mend it."""
    random = np.random.default_rng(5)
    truth = random.integers(0, 2, (2, 4, 6)).repeat(4, 1).repeat(4, 2)
    batch = columns(semantic_a=np.zeros((2, 16, 24), np.uint8))
    batch["rgb@camera"] = torch.from_numpy((truth[..., None] * 200).astype(np.uint8).repeat(3, -1))
    model = network(["semantic"], ["rgb@camera", "semantic@a"]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        raw = model(batch).predictions["semantic"]
        torch.nn.functional.cross_entropy(raw, torch.from_numpy(truth)).backward()
        optimizer.step()
    assert (answers(model.eval(), batch)["semantic"].argmax(-1) == truth).mean() > 0.95
    assert all(p.grad is not None and p.grad.abs().max() > 0 for n, p in model.named_parameters() if "gains" in n)


def test_equal_models_are_equal_bytes_with_and_without_it() -> None:
    plain, passed = (network(["semantic"], ["rgb@camera", "semantic@a"], named) for named in (False, True))
    text = json.dumps(plain.architecture.to_json())
    assert "residual" not in text and not any("residual" in name for name in plain.state_dict())
    again = Architecture.from_json(json.loads(json.dumps(passed.architecture.to_json())))
    assert again.tasks[0].residual == ("semantic@a",)
    MultiTask(again).load_state_dict(passed.state_dict())


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"flow": ("depth@a",)}, "residual names 'flow', but the tasks are"),
        ({"semantic": ("semantic@b",)}, "'semantic@b' is no input"),
        ({"semantic": ("depth@a",)}, "differ in kind"),
        ({"depth": ("edges@c",)}, "edges@c cannot be passed on to 'depth'"),
    ],
)
def test_what_cannot_be_passed_on_is_refused(named: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network(["semantic", "depth"], ["rgb@camera", "depth@a", "edges@c"], named)


def test_what_does_not_fit_is_left_out() -> None:
    model = network(["semantic", "depth"], ["rgb@camera", "depth@a", "edges@c", "soft@d"])
    assert {t.name: t.residual for t in model.architecture.tasks} == {"semantic": ("soft@d",), "depth": ("depth@a",)}
