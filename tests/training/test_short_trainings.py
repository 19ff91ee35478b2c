"""Trainings of forty updates whose held-out figure says whether augmentations and averages taught the truth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import loop
from hyperloom.stages.train.averages import Average
from tests.unit import inline, scenes

SIZE = scenes.SIZE
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    disparity={"type": "dense", "unit": "px"},
    depth={"type": "dense", "unit": "m"},
    limbs={"type": "segmentation", "classes": ["left arm", "right arm", "bg"]},
)


def _sample(random: np.random.Generator) -> dict[str, Any]:
    """Grey that says a number from 20 to 30 for each block; two arms of one colour, of which the place alone says which
    is the left one."""
    numbers = np.kron(random.uniform(20, 30, (2, 3)).astype(np.float32), np.ones((8, 8), np.float32))[..., None]
    limbs, first = np.full(SIZE, 2, np.uint8), random.integers(0, 6)
    limbs[4:12, first : first + 5], limbs[4:12, 18 - first : 23 - first] = 0, 1
    return {
        "rgb@grey": np.repeat((numbers - 20) * 20 + 20, 3, -1).astype(np.uint8),
        "rgb@arms": np.repeat(np.where(limbs < 2, 230, 60).astype(np.uint8)[..., None], 3, -1),
        "disparity@truth": numbers,
        "depth@truth": numbers,
        "limbs@truth": limbs,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What is measured on the samples that did not teach, after forty updates."""
    storage, random = Storage(str(tmp_path_factory.mktemp("root"))), np.random.default_rng(0)
    made = inline.ingested(storage, KNOWN, {f"g{g}": [_sample(random) for _ in range(6)] for g in range(4)})
    stage = Shard.model_validate({"stage": "shard", "data": "frames", "split": {"pin": {"val": ["g0"]}}})
    shards = inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=made))

    @cache
    def final(read: str, target: str, augment: str = "", ema: float = 0.0) -> dict[str, float]:
        fields = {"in": read, "targets": {target.partition("@")[0]: target}, "mask": {"type": "none"}, "ema": ema}
        fields |= {"augment": [augment]} if augment else {}
        config = scenes.Train.model_validate({**scenes.TRAIN, **scenes.LEARN, **fields})
        job = config.job(inline.step(config, storage, KNOWN, "teacher", shards=shards))
        job = replace(job, folder=f"train/{len(storage.names('train'))}")
        loop.fit(job)
        figures: dict[str, float] = storage.read_json(f"{job.folder}/trained.json")["final"]
        return figures

    return final


def test_a_disparity_keeps_its_sign_in_a_mirror(trained: Any) -> None:
    plain, mirrored = (trained("rgb@grey", "disparity@truth", how)["val.disparity.mae"] for how in ("", "flip"))
    assert plain < 1 and mirrored < 1.2  # of numbers from 20 to 30, nine off where half of them become negative


def test_arms_of_a_mirrored_picture_are_the_other_ones(trained: Any) -> None:
    plain, mirrored = (trained("rgb@arms", "limbs@truth", how)["val.limbs.miou"] for how in ("", "flip"))
    assert plain > 0.9 and mirrored > 0.9, (plain, mirrored)


def test_unknown_corners_of_turned_pictures_teach_nothing(trained: Any) -> None:
    """Numbers of a type that has nothing unknown, as a target and as an input."""
    assert trained("rgb@grey", "depth@truth", "rotate")["val.depth.mae"] < 1.5
    assert trained("depth@truth", "disparity@truth", "flip")["val.disparity.mae"] < 1.2
    read = trained("depth@truth", "limbs@truth", "rotate")
    assert np.isfinite(read["val.limbs.miou"]), read


def test_the_average_of_a_short_training_is_as_good_as_its_weights(trained: Any) -> None:
    plain = trained("rgb@grey", "depth@truth")["val.depth.mae"]
    assert trained("rgb@grey", "depth@truth", "", 0.999)["val.depth.mae"] < 1.5 * plain + 0.2


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
def test_an_average_of_weights_by_hand(decay: float) -> None:
    """min(decay, (1 + u) / (10 + u)) after u updates, as TensorFlow has it."""
    model, updates = torch.nn.Linear(2, 1, bias=False), 0
    average = Average(model, decay, lambda: updates)
    twin = None
    for updates in range(30):
        weights = np.array([np.sin(updates), updates / 7])
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(weights[None]))
        average.update_parameters(model)
        now = min(decay, (1 + updates) / (10 + updates))
        twin = weights if twin is None else now * twin + (1 - now) * weights
        assert np.allclose(average.module.weight.detach().numpy()[0], twin, atol=1e-5)
