"""Trainings of one worker as units on slots: killed anywhere, moved, told to end, and still the same weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from tests.ray.conftest import BIN, HERE, RayCluster
from tests.ray.tiny import ENDS, checkpoints, ends_at_a_checkpoint, recipe

FIELDS = {"updates": 8, "batch": 6, "checkpoint_every": 3, "log_every": 2}
pytestmark = pytest.mark.timeout(400)


DRIVER = """\
import sys
from hyperloom.pipeline.cli import main
code = main(["run", sys.argv[1], "--no-mlflow"])
print("imported:", sorted({"torch", "onnx"} & set(sys.modules)))
sys.exit(code)
"""


def train(folder: Path, cluster: RayCluster, fault: str = "", more: str = "", **fields: Any) -> str:
    """Run the recipe, `more` steps at its end, with its root below `folder`; what the command printed."""
    path = folder / "tiny.yaml"
    path.write_text(recipe(folder / "root", **{**FIELDS, **fields}) + more)
    env = dict(cluster.env)
    if fault:
        env |= {"HYPERLOOM_FAULT": fault, "HYPERLOOM_FAULT_ONCE": str(folder / "fired")}
    command = [sys.executable, "-c", DRIVER, str(path)]
    done = subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, timeout=300)
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
def calm(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a training that nothing disturbed, and what was printed; a student learns beside it."""
    folder = tmp_path_factory.mktemp("calm")
    student = {"stage": "distill", "data": "shards", "in": "rgb@camera", "updates": 2, "batch": 6}
    student |= {"targets": {"semantic": "semantic@truth"}, "model": {"trunk": {"type": "unet", "width": 2}}}
    return folder, train(folder, ray_cluster, more=f"  student: {json.dumps(student)}\n")


@pytest.fixture
def shards(calm: tuple[Path, str], tmp_path: Path) -> None:
    """All that comes before the training is in the root already."""
    shutil.copytree(calm[0] / "root", tmp_path / "root", ignore=shutil.ignore_patterns("train", "distill", "events"))


def test_the_driver_imports_no_torch(calm: tuple[Path, str]) -> None:
    """Training, distilling and exporting are the slots' business."""
    folder, printed = calm
    assert printed.splitlines()[-1] == "imported: []"
    assert len(list(folder.glob("root/distill/*/student.onnx"))) == 1


def test_a_killed_slot_costs_one_interval(ray_cluster: RayCluster, calm: tuple[Path, str], tmp_path: Path) -> None:
    """One is killed when it has written a unit's data, one in the middle of the training, one at a checkpoint."""
    points = ("unit.written", "train.step", "train.checkpoint")
    printed = train(tmp_path, ray_cluster, ",".join(f"{point}=kill" for point in points))
    assert {p.name for p in tmp_path.glob("fired.*")} == {f"fired.{point}" for point in points}
    assert printed.count("infrastructure (attempt 1)") == 2 and "infrastructure (attempt 2)" in printed
    assert files(tmp_path) == files(calm[0])
    assert curve(tmp_path) == [2, 4, 6, 8]


def test_a_driver_that_died_before_the_manifest_does_not_train_again(
    ray_cluster: RayCluster, calm: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(calm[0] / "root", tmp_path / "root")
    (manifest,) = (tmp_path / "root" / "train").rglob("manifest.json")
    before = manifest.with_name("trained.json").stat().st_mtime_ns
    manifest.unlink()
    train(tmp_path, ray_cluster)
    assert manifest.with_name("trained.json").stat().st_mtime_ns == before
    assert files(tmp_path) == files(calm[0])


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


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_driver_that_is_told_to_end_leaves_a_checkpoint(
    number: Any, code: int, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    ends_at_a_checkpoint(tmp_path, ray_cluster.env, number, code, **FIELDS)


@pytest.mark.usefixtures("shards")
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
