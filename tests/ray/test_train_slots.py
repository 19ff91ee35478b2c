"""Trainings of one worker as units on slots: killed anywhere, moved, told to end, and still the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import events
from hyperloom.pipeline.storage import Storage
from tests.ray.conftest import BIN, HERE, RayCluster, hyperloom
from tests.ray.tiny import ENDS, checkpoints, ends_at_a_checkpoint, recipe

FIELDS = {"updates": 8, "batch": 6, "checkpoint_every": 3, "log_every": 2}
pytestmark = pytest.mark.timeout(400)


def train(folder: Path, cluster: RayCluster, fault: str = "", **fields: Any) -> str:
    """Run the recipe with its root below `folder`; what the command printed."""
    path = folder / "tiny.yaml"
    path.write_text(recipe(folder / "root", **{**FIELDS, **fields}))
    env = dict(cluster.env)
    if fault:
        env |= {"HYPERLOOM_FAULT": fault, "HYPERLOOM_FAULT_ONCE": str(folder / "fired")}
    done = hyperloom("run", str(path), "--no-mlflow", env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(folder: Path) -> dict[str, bytes]:
    """What the step holds in the end, its manifest and record included."""
    names = ("model.safetensors", "model.json", "trained.json", "manifest.json", "training.json")
    return {p.name: p.read_bytes() for p in (folder / "root" / "train").rglob("*") if p.name in names}


def curve(folder: Path) -> list[int]:
    """The updates whose loss was told, over all attempts."""
    storage = Storage(str(folder / "root"))
    told = [e for run in storage.names("events") for e in events.read(storage, run) if e["kind"] == "metric"]
    return [e["at"] for e in told if "loss" in e["values"]]


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("calm")
    train(folder, ray_cluster)
    return files(folder)


@pytest.mark.parametrize("point", ["train.step", "train.checkpoint", "unit.written"])
def test_a_killed_slot_costs_one_interval(
    point: str, ray_cluster: RayCluster, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    printed = train(tmp_path, ray_cluster, f"{point}=kill")
    assert (tmp_path / "fired").exists() and "infrastructure (attempt 1)" in printed
    assert files(tmp_path) == undisturbed
    assert curve(tmp_path) == [2, 4, 6, 8]


def test_a_driver_that_died_before_the_manifest_does_not_train_again(
    ray_cluster: RayCluster, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    train(tmp_path, ray_cluster)
    (manifest,) = (tmp_path / "root" / "train").rglob("manifest.json")
    before = manifest.with_name("trained.json").stat().st_mtime_ns
    manifest.unlink()
    train(tmp_path, ray_cluster)
    assert manifest.with_name("trained.json").stat().st_mtime_ns == before
    assert files(tmp_path) == undisturbed


def test_a_slot_that_is_told_to_leave_goes_on_elsewhere(ray_cluster: RayCluster, tmp_path: Path) -> None:
    """SIGTERM reaches the process in the middle; no attempt is counted, no figure told twice, no weight differs."""
    printed, found = {}, {}
    for name in ("calm", "moved"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "calm":
            (folder / "left").touch()
        leaver = {"type": "tests.ray.leaver:Leaver", "once": str(folder / "left"), "slow": name == "moved"}
        printed[name] = train(folder, ray_cluster, updates=60, checkpoint_every=100, augment=[leaver])
        found[name] = files(folder)
    assert "move on notice, at the checkpoint after update" in printed["moved"]
    assert "infrastructure" not in printed["moved"] and "failure" not in printed["moved"]
    assert found["moved"] == found["calm"]
    assert curve(tmp_path / "moved") == list(range(2, 61, 2))


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_driver_that_is_told_to_end_leaves_a_checkpoint(
    number: Any, code: int, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    ends_at_a_checkpoint(tmp_path, ray_cluster.env, number, code, **FIELDS)


def test_a_person_stops_a_training_by_a_file(ray_cluster: RayCluster, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe(tmp_path / "root", **{**FIELDS, "updates": 100000, "checkpoint_every": 3}))
    driver = subprocess.Popen(
        [str(BIN / "hyperloom"), "run", str(path), "--no-mlflow"],
        env=ray_cluster.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        while not (trainings := list(checkpoints(tmp_path / "root"))):
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.2)
        (trainings[0] / "notice.json").write_text("{}")
        said, _ = driver.communicate(timeout=120)
    finally:
        driver.kill()
    assert driver.returncode == 143 and "stopped on notice, at a checkpoint. Next: " in said, said
    assert not (trainings[0] / "notice.json").exists()


DRIVER = """\
import sys
from hyperloom.pipeline.cli import main
code = main(["run", sys.argv[1], "--no-mlflow"])
print(code, sorted({"torch", "onnx"} & set(sys.modules)))
"""


def test_the_driver_imports_no_torch(ray_cluster: RayCluster, tmp_path: Path) -> None:
    """Training, distilling and exporting are the slots' business."""
    path = tmp_path / "tiny.yaml"
    student = {"stage": "distill", "data": "shards", "in": "rgb@camera", "updates": 2, "batch": 6}
    student |= {"targets": {"semantic": "semantic@truth"}, "model": {"trunk": {"type": "unet", "width": 2}}}
    text = recipe(tmp_path / "root", **{**FIELDS, "updates": 2})
    path.write_text(f"{text}  student: {json.dumps(student)}\n")
    command = [sys.executable, "-c", DRIVER, str(path)]
    done = subprocess.run(command, cwd=HERE, env=ray_cluster.env, capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr
    assert len(list(tmp_path.glob("root/distill/*/student.onnx"))) == 1
