"""Training on Ray Train: two workers, kill -9 of one, a driver that died, and still the same weights."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from tests.ray.conftest import RayCluster, hyperloom
from tests.ray.tiny import checkpoints, ends_at_a_checkpoint, recipe

FIELDS = {"updates": 8, "batch": 6, "workers": 2, "checkpoint_every": 3, "log_every": 2}


def train(folder: Path, cluster: RayCluster, fault: str = "") -> None:
    """Run the recipe with its root below `folder`."""
    path = folder / "tiny.yaml"
    path.write_text(recipe(folder / "root", **FIELDS))
    env = dict(cluster.env)
    if fault:
        env |= {"HYPERLOOM_FAULT": fault, "HYPERLOOM_FAULT_ONCE": str(folder / "fired")}
    done = hyperloom("run", str(path), "--no-mlflow", env=env, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr


def files(folder: Path) -> dict[str, bytes]:
    """What the step holds in the end, its manifest included."""
    names = ("model.safetensors", "model.json", "trained.json", "manifest.json")
    return {p.name: p.read_bytes() for p in (folder / "root" / "train").rglob("*") if p.name in names}


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("calm")
    train(folder, ray_cluster)
    return files(folder)


@pytest.mark.timeout(600)
def test_a_killed_worker_costs_one_interval(
    ray_cluster: RayCluster, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    train(tmp_path, ray_cluster, "train.checkpoint=kill")
    assert (tmp_path / "fired.train.checkpoint").exists()
    assert files(tmp_path) == undisturbed
    storage = Storage(str(tmp_path / "root"))
    (run,) = storage.names("events")
    at = [e["at"] for e in events.read(storage, run) if e["kind"] == "metric" and "loss" in e["values"]]
    assert at == [2, 4, 6, 8]


@pytest.mark.timeout(600)
def test_ctrl_c_leaves_a_checkpoint_and_no_worker(ray_cluster: RayCluster, tmp_path: Path) -> None:
    ends_at_a_checkpoint(tmp_path, ray_cluster.env, signal.SIGINT, 130, **FIELDS)
    before = checkpoints(tmp_path / "root")
    time.sleep(3)
    assert before and checkpoints(tmp_path / "root") == before, "no worker goes on without its driver"


@pytest.mark.timeout(300)
def test_workers_that_no_node_can_hold_are_refused(ray_cluster: RayCluster, tmp_path: Path) -> None:
    """Ray itself would wait for them."""
    wrong: list[tuple[dict[str, Any], str]] = [({"workers": 6}, "the cluster has 2"), ({"gpu": True}, "gpu: false")]
    for number, (fields, words) in enumerate(wrong):
        path = tmp_path / f"{number}.yaml"
        path.write_text(recipe(tmp_path / "root", **{**FIELDS, **fields}))
        done = hyperloom("run", str(path), "--no-mlflow", env=ray_cluster.env)
        assert done.returncode == 4 and words in done.stdout, done.stdout + done.stderr
