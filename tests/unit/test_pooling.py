"""What the answers of several networks come to: numbers, directions and boxes, and how far their members differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import PluginError
from hyperloom.pipeline.recipes import recipe
from hyperloom.stages.consensus.agreement import agreement
from hyperloom.stages.measure.apart import apart
from hyperloom.stages.measure.scores import decided, measures, score
from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.network.pooling import Pooling
from hyperloom.stages.network.predictor import Predictor, Together
from hyperloom.stages.network.processors import Scale
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": [16, 32]},
    objects={"type": "boxes", "classes": ["car", "bus", "man"], "most": 2},
)


@pytest.mark.parametrize("how", ["mean", "median", "vote"])
@pytest.mark.parametrize(("level", "deviation"), [(80, 0.001), (1000, 0.01), (5000, 0.3), (0.5, 0.1)])
def test_members_that_differ_little_at_a_high_level_have_their_spread(how: Any, level: float, deviation: float) -> None:
    random = np.random.default_rng(0)
    values = (level + random.normal(0, deviation, (8, 1, 32, 32, 2))).astype(np.float32)
    pool, same = (Pooling(how, frozenset()) for _ in range(2))
    for one in values:
        pool.add({"depth": torch.from_numpy(one)})
        same.add({"depth": torch.from_numpy(values[0])})
    right = np.sqrt(values.astype(np.float64).var(0).mean(-1, keepdims=True))
    assert pool.pooled()[1]["depth"].numpy() == pytest.approx(right, rel=0.02, abs=level * 1e-7)
    assert not same.pooled()[1]["depth"].any()


@pytest.mark.parametrize("how", ["mean", "median", "vote"])
def test_pooled_directions_are_directions(how: Any) -> None:
    random, pool = np.random.default_rng(0), Pooling(how, frozenset(), frozenset(["normals"]))
    for _ in range(4):
        one = np.array([0, 0, 1]) + random.normal(0, 0.6, (1, 8, 8, 3))
        one /= np.linalg.norm(one, axis=-1, keepdims=True)
        pool.add({"normals": torch.from_numpy(one.astype(np.float32)), "depth": torch.ones(1, 8, 8, 1) * 3})
    pooled = pool.pooled()[0]
    assert np.allclose(pooled["normals"].norm(dim=-1), 1, atol=1e-5) and (pooled["depth"] == 3).all()


def detector(first: str, head: Any = None) -> MultiTask:
    """A network that is sure of a car to the left and of a man to the right, of the `first` a little more."""
    torch.manual_seed(0)
    inputs, task = (Input("rgb@a", KNOWN["rgb"], Scale()),), Task("objects", KNOWN["objects"], Scale(), head)
    model = MultiTask(Architecture(inputs, (task,), plugins.parse("trunk", {"type": "unet", "width": 2}))).eval()
    raw = torch.full((1, 7, 2, 4), -9.0)
    raw[0, 0, 0, 0], raw[0, 2, 1, 3] = (3.0, 2.0) if first == "car" else (2.0, 3.0)
    raw[0, 3:] = 0.1
    raw[0, 3:, 1, 0] = 0.4 if first == "car" else 0.1  # where nobody sees anything sides may say what they like
    model.heads["objects"].forward = lambda features: raw.expand(len(features.planes), -1, -1, -1)  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("how", ["mean", "median", "vote"])
def test_boxes_of_several_networks_are_those_that_all_of_them_see(how: Any) -> None:
    """Rows come by falling score: the first row of the one is another object than the first of the other."""
    one, other = (Predictor(detector(first), [[True]], how) for first in ("car", "man"))
    batch = {"rgb@a": np.zeros((2, 16, 32, 3), np.uint8)}
    car, man = [0.025, 0.15, 0.225, 0.35, 0], [0.775, 0.65, 0.975, 0.85, 2]
    for asked, first in ((one, car), (other, man)):
        alone = decided(KNOWN["objects"], asked(batch).mean["objects"])
        assert alone[0, 0] == pytest.approx([*first, 0.9526], abs=1e-3)
    both = Together([one, other], how)
    for rows in decided(KNOWN["objects"], both(batch).mean["objects"]):
        rows = rows[np.argsort(rows[:, 4])]
        assert rows[:, :5] == pytest.approx(np.array([car, man]), abs=1e-5)
        assert rows[:, 5] == pytest.approx([0.9167, 0.9167], abs=1e-3)
    *_, whole = both.growing(batch, [1])
    assert np.isfinite(whole.spread["objects"]).all()


class Rows(plugins.load("head", "boxes")):  # type: ignore[misc]
    """A head of one's own that gives rows alone."""

    def build(self, task: Any, sizes: Any, architecture: Any) -> torch.nn.Module:
        module = torch.nn.Module()
        module.finish = lambda raw: raw  # type: ignore[assignment]
        return module


def test_a_head_of_rows_that_cannot_be_pooled_is_refused_where_several_are_asked() -> None:
    asked = Predictor(detector("car", Rows(type="tests.unit.test_pooling:Rows")), [[True], [True]])
    with pytest.raises(PluginError, match=r"'objects' cannot be pooled.*Next: "):
        asked({"rgb@a": np.zeros((1, 16, 32, 3), np.uint8)})


RECIPE = """\
name: toy
root: memory://pooling
modalities:
  rgb: {type: image, size: [16, 32]}
  objects: {type: boxes, classes: [car, man], most: 2}
  weather: {type: category, classes: [sun, rain]}
steps:
  frames:
    stage: ingest
    source: {type: files, path: "*.png", columns: {rgb@camera: "{stem}.png", objects@truth: "{stem}.json", \
weather@truth: "{stem}.txt"}}
  shards: {stage: shard, data: frames}
  teacher: {stage: train, data: shards, in: rgb@camera, targets: {TASK: TASK@truth}, updates: 1}
  asked:
    stage: label
    data: frames
    experts: [{type: model, model: teacher, out: TASK@teacher, ensemble: ENSEMBLE}]
  judged:
    stage: evaluate
    data: shards
    models: {teacher: {model: teacher, ensemble: ENSEMBLE}}
    truth: {TASK: TASK@truth}
"""


@pytest.mark.parametrize(
    ("task", "ensemble", "moved"),
    [
        ("objects", "{type: masks, members: 2}", {"asked", "judged"}),
        ("objects", "single", {"asked"}),  # of a family all are asked, and only a run tells whether it is one
        ("weather", "{type: masks, members: 2}", set()),
    ],
)
def test_pooled_boxes_of_before_are_stale_and_nothing_else(task: str, ensemble: str, moved: set[str]) -> None:
    loaded = recipe.parse(RECIPE.replace("TASK", task).replace("ENSEMBLE", ensemble))
    steps = loaded.recipe.steps
    known = loaded.recipe.modalities
    assert {name for name, stage in steps.items() if "pooled boxes" in stage.revised_for(known)} == moved


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_an_angle_is_none_of_length(storage: str) -> None:
    """A column is 0 degrees from itself, whatever its stored digits or an ensemble of before made of its lengths."""
    normals = inline.modalities(
        n={"type": "dense", "channels": 3, "direction": True, "size": [16, 16], "storage": storage}
    )["n"]
    random = np.random.default_rng(0)
    way = random.normal(size=(16, 16, 3))
    column, there = normals.decode(normals.encode([normals.fit(way)]))
    short = column * random.uniform(0.3, 1, (1, 16, 16, 1)).astype(np.float32)
    turned = np.stack([column[..., 1], -column[..., 0], column[..., 2]], -1)
    every = np.ones(1, bool)
    right = measures(normals, score(normals, column, turned, every, every))["angle"]
    for one, other, angle in ((column, column, 0), (short, short, 0), (short, column, 0), (short, turned, right)):
        assert agreement({"a": (one, None), "b": (other, None)}, normals)["angle:a|b"] == pytest.approx(
            [angle], abs=1e-4
        )
        assert apart((one, there), (other, there), normals) == pytest.approx([angle], abs=1e-4)
    column[0, :8] = 0  # unknown
    assert agreement({"a": (column, None), "b": (short, None)}, normals)["angle:a|b"] == pytest.approx([0], abs=1e-4)
