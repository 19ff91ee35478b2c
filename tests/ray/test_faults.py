"""kill -9 at every named fault point of the engine, on a real cluster, while steps run side by side: the same command
finishes, nothing that was committed is done twice, and data and manifests are the bytes of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hyperloom.pipeline.root import claims, events
from hyperloom.pipeline.root.storage import Storage
from tests.ray.conftest import BIN, HERE, RayCluster, hyperloom

TOY = """\
name: toy
root: {root}
modalities: {{}}
steps:
  a: {{stage: "tests.toy:Numbers", units_: 5}}
  b: {{stage: "tests.toy:Squares", data: a}}
  c: {{stage: "tests.toy:Numbers", units_: 5, start: 100}}
  e: {{stage: "tests.toy:Sum", data: [a, b, c]}}
"""
pytestmark = pytest.mark.timeout(600)  # drivers start one after the other
DRIVER = ("driver.entered", "step.started", "manifest.before", "manifest.after", "run.finished")
WORKER = ("unit.started", "unit.written", "unit.recorded")


def recipe(folder: Path, root: str) -> str:
    path = folder / "toy.yaml"
    path.write_text(TOY.format(root=folder / root))
    return str(path)


def committed(root: Path) -> dict[str, bytes]:
    storage = Storage(str(root))
    keep = (p for p in storage.walk("") if "/data/" in p or "/units/" in p or p.endswith("manifest.json"))
    return {p: storage.read(p) for p in keep if "/.tmp-" not in p}


def times(root: Path) -> dict[str, int]:
    """When each file was written that is committed: records and manifests, and the data of units that have a record."""
    files = [p for p in Storage(str(root)).walk("") if "/.tmp-" not in p]
    records = {p for p in files if "/units/" in p}
    data = {
        p for p in files if "/data/" in p and f"{p.rpartition('-')[0].replace('/data/', '/units/')}.json" in records
    }
    kept = records | data | {p for p in files if p.endswith("manifest.json")}
    return {p: os.stat(root / p).st_mtime_ns for p in kept}


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: RayCluster, tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("calm")
    done = hyperloom("run", recipe(folder, "root"), "--no-mlflow", env=ray_cluster.env)
    assert done.returncode == 0, done.stdout + done.stderr
    return committed(folder / "root")


def kills(folder: Path, *points: str) -> dict[str, str]:
    """The environment in which whoever reaches one of the points first is killed there."""
    faults = ",".join(f"{point}=kill" for point in points)
    return {"HYPERLOOM_FAULT": faults, "HYPERLOOM_FAULT_ONCE": str(folder / "fired")}


def test_a_driver_killed_again_and_again(
    ray_cluster: RayCluster, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """Each driver goes on where the one before it was killed, and is killed a point later."""
    path, storage = recipe(tmp_path, "root"), Storage(str(tmp_path / "root"))
    before: dict[str, int] = {}
    for point in DRIVER:
        killed = hyperloom("run", path, "--no-mlflow", env=ray_cluster.env | kills(tmp_path, point))
        assert (tmp_path / f"fired.{point}").exists()
        assert killed.returncode == -signal.SIGKILL and len(claims.cards(storage)) == 1
        now = times(tmp_path / "root")
        assert before.items() <= now.items()  # nothing was made twice
        before = now
    last = hyperloom("run", path, "--no-mlflow", env=ray_cluster.env)
    assert last.returncode == 0, last.stdout + last.stderr
    assert committed(tmp_path / "root") == undisturbed
    assert before.items() <= times(tmp_path / "root").items()
    assert claims.cards(storage) == []


def test_workers_killed_at_every_point(ray_cluster: RayCluster, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """A worker's death costs a repetition, not the run."""
    path = recipe(tmp_path, "root")
    done = hyperloom("run", path, "--no-mlflow", env=ray_cluster.env | kills(tmp_path, *WORKER))
    assert {p.name for p in tmp_path.glob("fired.*")} == {f"fired.{point}" for point in WORKER}
    assert done.returncode == 0, done.stdout + done.stderr
    assert "infrastructure (attempt" in done.stdout
    assert committed(tmp_path / "root") == undisturbed
    assert claims.cards(Storage(str(tmp_path / "root"))) == []


def test_everything_killed_at_once(undisturbed: dict[str, bytes], tmp_path) -> None:
    """A private cluster and its driver, all gone in the same moment, twice over."""
    path = recipe(tmp_path, "root")
    slow = Path(path).read_text().replace("units_: 5", "units_: 5, pause: 0.7")
    Path(path).write_text(slow)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HYPERLOOM_FAULT"))}
    for kept in (2, 4):
        process = subprocess.Popen(
            [str(BIN / "hyperloom"), "run", path, "--no-mlflow"],
            cwd=HERE,
            env=env,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        storage = Storage(str(tmp_path / "root"))
        while process.poll() is None and sum("/units/" in p for p in storage.walk("")) < kept:
            time.sleep(0.05)
        children = all_below(process.pid)
        for pid in [process.pid, *children]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
    done = hyperloom("run", path, "--no-mlflow", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert committed(tmp_path / "root") == undisturbed


def all_below(pid: int) -> list[int]:
    import psutil

    try:
        return [c.pid for c in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_half_way_says_how_to_go_on(
    number: signal.Signals, code: int, ray_cluster: RayCluster, undisturbed: dict[str, bytes], tmp_path
) -> None:
    path = recipe(tmp_path, "root")
    Path(path).write_text(Path(path).read_text().replace("units_: 5", "units_: 5, pause: 0.5"))
    command = [str(BIN / "hyperloom"), "run", path, "--no-mlflow"]
    process = subprocess.Popen(
        command, cwd=HERE, env=ray_cluster.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` turns it off
    )  # fmt: skip
    storage = Storage(str(tmp_path / "root"))
    while process.poll() is None and not any("/units/" in p for p in storage.walk("")):
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert claims.cards(storage) == []
    run = storage.names("events")[-1]
    assert [e["status"] for e in events.read(storage, run) if e["kind"] == "run_finished"] == ["interrupted"]
    told = {e["step"] for e in events.read(storage, run) if e["kind"] == "step_started"}
    assert {"a", "c"} <= told, "two steps were at work"
    assert hyperloom("run", path, "--no-mlflow", env=ray_cluster.env).returncode == 0
    assert committed(tmp_path / "root") == undisturbed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_step_that_hears_nothing_does_not_keep_the_run_from_ending(
    number: signal.Signals, code: int, tmp_path
) -> None:
    path = tmp_path / "busy.yaml"
    path.write_text(
        f'name: busy\nroot: {tmp_path / "root"}\nmodalities: {{}}\nsteps: {{a: {{stage: "tests.toy:Busy"}}}}\n'
    )
    process = subprocess.Popen(
        [str(BIN / "hyperloom"), "run", str(path), "--no-mlflow"], cwd=HERE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    storage = Storage(str(tmp_path / "root"))
    while process.poll() is None and not storage.names("steps"):
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "the same command goes on from there" in errors and "Traceback" not in errors
    assert claims.cards(storage) == []


def test_a_worker_that_dies_again_and_again_costs_only_its_unit(ray_cluster: RayCluster, tmp_path) -> None:
    path = recipe(tmp_path, "root")
    Path(path).write_text(Path(path).read_text().replace("units_: 5", "units_: 5, trouble: die-twice"))
    done = hyperloom("run", path, "--no-mlflow", env=ray_cluster.env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the worker process is gone") >= 2
