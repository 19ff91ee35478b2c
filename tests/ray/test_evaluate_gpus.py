"""`evaluate` on a cluster that says it has a GPU: who asks a model takes a share, and torch seeing none on that machine
is said; or it works on the CPUs where the share was not asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from hyperloom.pipeline.planning import spending
from hyperloom.pipeline.root.storage import Storage
from tests.ray import tiny
from tests.ray.conftest import hyperloom

JUDGED = """\
  byrule: {stage: evaluate, data: shards, models: model}
  asked: {stage: evaluate, data: shards, models: {other: model}, gpus: 0.5}
cluster: {address: local, cpus: 2, gpus: 1}
"""
PARAMETERS = "5.3M"
"""Weights of more than 20 MB, for which the rule gives half a GPU."""


@pytest.mark.timeout(300)
@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees the GPU of this machine")
def test_a_share_of_a_gpu_that_torch_does_not_see(tmp_path: Path) -> None:
    root = tmp_path / "root"
    training = {"model": {"parameters": PARAMETERS}, "targets": {"semantic": "semantic@truth"}, "gpu": False}
    recipe = tmp_path / "tiny.yaml"
    text = tiny.recipe(root, **training, updates=1, batch=2)
    shards = "{stage: shard, data: frames"
    assert shards in text
    recipe.write_text(text.replace(shards, f'{shards}, split: {{pin: {{test: ["*2"]}}}}') + JUDGED)
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = hyperloom("run", str(recipe), "--no-mlflow", env=env, timeout=280)
    told = done.stdout + done.stderr
    assert done.returncode != 0 and "Traceback" not in told
    assert "a trained model is to be asked on a GPU, but torch sees none. Next: gpus: 0" in told, told

    reports = list(root.glob("evaluate/*/manifest.json"))
    assert len(reports) == 1, "the report that asked for no GPU is there"
    spaces = spending.load(Storage(str(root)), "tiny").spaces
    shared = [rate for rate in spaces.values() if rate.gpu_seconds]
    assert shared and all(rate.gpu_seconds == pytest.approx(rate.seconds / 2) for rate in shared), (
        "its processes held half of the cluster's GPU, on whose node they worked on the CPU"
    )
