"""A node of the cluster is lost in the middle of a step: its units in flight are done again on the others, no more."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from hyperloom.pipeline.root.storage import Storage
from tests.ray.conftest import BIN, HERE, LEAN, end_processes
from tests.ray.flowing import RECIPE, notes
from tests.ray.hosts import NOTICE, Hosts, unavailable

PARTS = 24


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if reason := unavailable():
        pytest.skip(reason)
    with Hosts(3) as up:
        yield up


def start_ray(hosts: Hosts, folder: str, env: dict[str, str]) -> None:
    """A head without CPUs on host 1, a node with one CPU on each of the others; each with a temporary folder of its
    own, as on machines of their own."""
    head = ["start", "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false"]
    node = ["start", f"--address={hosts.address(1)}:6379", "--num-cpus=1"]
    for host, arguments in ((1, head), (2, node), (3, node)):
        command = [*arguments, f"--node-ip-address={hosts.address(host)}", "--object-store-memory=80000000"]
        command += [f"--temp-dir={folder}/r{host}"]
        line = hosts.command(host, str(BIN / "ray"), *command, *LEAN)
        done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)  # three Ray nodes start on one machine
def test_a_lost_node_costs_only_its_units_in_flight(hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(2 * PARTS):
        cv2.imwrite(str(tmp_path / "images" / f"{i:03d}.png"), np.full((8, 8, 3), i, np.uint8))
    recipe = tmp_path / "nodes.yaml"
    recipe.write_text(RECIPE.format(folder=tmp_path, seconds=0.7))
    folder = tempfile.mkdtemp(prefix="hl", dir="/tmp")  # short: Ray's sockets lie below it
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HYPERLOOM_FAULT", "MLFLOW_"))}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONPATH": str(HERE), **NOTICE}
    try:
        start_ray(hosts, folder, env)
        line = hosts.command(1, str(BIN / "hyperloom"), "run", str(recipe), "--no-mlflow")
        env["RAY_ADDRESS"] = f"{hosts.address(1)}:6379"
        run = subprocess.Popen(line, cwd=HERE, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        here = wait_for_work_on(hosts, 3, tmp_path / "log", run)
        hosts.lose(3)
        out, _ = run.communicate(timeout=200)
    finally:
        end_processes(folder)
    assert run.returncode == 0, out
    assert "the worker process is gone" in out
    told = [n for n in notes(tmp_path / "log") if n["what"] == "batch"]
    begun_twice = {frame for frame, count in Counter(n["frame"] for n in told).items() if count > 1}
    assert {n["frame"] for n in told} == set(range(0, 2 * PARTS, 2))
    assert len(begun_twice) <= 2, "what was committed is not done again"
    assert len([n for n in told if n["pid"] in here]) < PARTS, "the other node did the rest"
    storage = Storage(str(tmp_path / "root"))
    units = [p for p in storage.walk("expert") if "/units/" in p and "/.tmp-" not in p]  # the killed may leave one
    assert len(units) == PARTS


def wait_for_work_on(hosts: Hosts, host: int, log: Path, run: subprocess.Popen[str]) -> set[int]:
    """Wait until a process of a host has labelled three batches; the host's processes."""
    for _ in range(1200):
        assert run.poll() is None, run.stdout.read() if run.stdout else ""
        there = set(hosts.pids(host))
        done = Counter(n["pid"] for n in notes(log) if n["what"] == "batch") if log.exists() else Counter()
        if any(done[pid] >= 3 for pid in there):
            return there
        time.sleep(0.1)
    raise AssertionError(f"host {host} never worked")
