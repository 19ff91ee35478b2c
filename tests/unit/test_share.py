"""Shares of a GPU for whom the recipe says nothing: big networks, where the cluster has GPUs; never algorithms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline.commits.units import execute
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label import share
from hyperloom.stages.label.stage import Label
from tests.unit import inline

KNOWN = inline.modalities(
    rgb={"type": "image", "size": [12, 16]}, semantic={"type": "segmentation", "classes": ["a", "b"]},
    flow={"type": "dense", "channels": 2},
)  # fmt: skip
FRAMES = [{"rgb@camera": np.full((12, 16, 3), 40 * i, np.uint8)} for i in range(2)]


SMALL, BIG, HUGE = 1, 33, 99
"""Sides of a network's filters."""


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of the usual ones."""
    monkeypatch.setattr(share, "BIG", share.BIG // 1000)
    monkeypatch.setattr(share, "WHOLE", 200_000)


def network(folder: Path, name: str, side: int) -> dict[str, Any]:
    """An expert with filters of this side: 24 bytes for each of its pixels."""
    path = folder / f"{name}.ts"
    with torch.inference_mode():
        torch.jit.trace(torch.nn.Conv2d(3, 2, side, padding=side // 2), torch.rand(1, 3, 4, 4)).save(str(path))
    return {"type": "torch", "path": str(path), "in": "rgb@camera", "out": f"semantic@{name}", "decode": "classes"}


def drawn(tmp_path: Path, gpus: float, *experts: dict[str, Any]) -> tuple[Any, list[int]]:
    """The step, and how often it asked for the cluster's GPUs."""
    storage, asked = Storage(str(tmp_path / "root")), list[int]()
    step = inline.step(
        Label.model_validate({"stage": "label", "data": "frames", "experts": list(experts)}), storage, KNOWN,
        frames=inline.ingested(storage, KNOWN, {"g": FRAMES}),
    )  # fmt: skip

    def count() -> float:
        asked.append(1)
        return gpus

    step.gpus = count
    return step, asked


def shares(tmp_path: Path, gpus: float, *experts: dict[str, Any]) -> dict[str, float]:
    step, _ = drawn(tmp_path, gpus, *experts)
    _, workers = step.stage.units(step)
    return {w.expert.out[0]: w.resources.gpus for w in workers.values()}


FLOW = {"type": "flow", "in": "rgb@camera", "out": "flow@dis"}


def test_big_networks_get_a_share_where_there_are_gpus(tmp_path: Path) -> None:
    experts = [network(tmp_path, "small", SMALL), network(tmp_path, "big", BIG), network(tmp_path, "huge", HUGE), FLOW]
    found = shares(tmp_path, 1.0, *experts)
    assert found == {"semantic@small": 0.0, "semantic@big": 0.5, "semantic@huge": 1.0, "flow@dis": 0.0}
    assert set(shares(tmp_path, 0.0, *experts).values()) == {0.0}, "on a cluster of CPUs nothing changes"


def test_what_the_recipe_says_is_done(tmp_path: Path) -> None:
    big = network(tmp_path, "big", BIG)
    asked = network(tmp_path, "small", SMALL) | {"gpus": 0.25}
    assert shares(tmp_path, 1.0, {**big, "gpus": 0}, asked) == {"semantic@big": 0.0, "semantic@small": 0.25}


@pytest.mark.parametrize("expert", ["flow", "small", "said"])
def test_nobody_asks_for_gpus_for_whom_it_makes_no_difference(tmp_path: Path, expert: str) -> None:
    """Asking starts a cluster."""
    experts = {
        "flow": FLOW,
        "small": network(tmp_path, "small", SMALL),
        "said": network(tmp_path, "x", BIG) | {"gpus": 0},
    }
    step, asked = drawn(tmp_path, 1.0, experts[expert])
    step.stage.units(step)
    assert asked == []


def test_a_share_moves_no_identity_and_a_process_without_a_gpu_works_on_its_cpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    big = network(tmp_path, "big", BIG)
    step, _ = drawn(tmp_path, 1.0, big)
    ((unit,), (worker,)) = step.stage.units(step)[0], step.stage.units(step)[1].values()
    assert worker.resources.gpus == 0.5 and payload(worker.expert, str) == payload(step.stage.experts[0], str)
    worker.setup()
    execute(step.storage, worker, unit, 1)
    assert worker.expert.gpus == 0
    assert "torch works on its CPUs: this expert asks for a GPU" in capsys.readouterr().err
