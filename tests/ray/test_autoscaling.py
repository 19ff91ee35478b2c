"""A cluster that can grow does, for units that have no room: Ray's own autoscaler, its machines are processes here."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.ray.conftest import BIN, HERE, end_processes, free_port, hyperloom
from tests.ray.flowing import RECIPE, notes

UNITS = 30
FAKE = "ray.autoscaler._private.fake_multi_node.node_provider"
"""By this name, since the wheels of Ray lack the file with the defaults of the type `fake_multinode`."""
EMPTY = ["setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands"]
EMPTY += ["head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"]
"""Lists that the configuration of a provider of one's own must have."""
HEAD = "f" * 56
"""The id of the head, by which Ray's fake provider knows it."""
NODES = """\
import ray
ray.init("auto", log_to_driver=False, logging_level="ERROR")
print(int(ray.cluster_resources().get("CPU", 0)))
"""


def config(address: str) -> dict[str, Any]:
    """Of an autoscaler: a head without CPUs, and two nodes of one CPU at most."""
    provider = {"type": "external", "module": f"{FAKE}.FakeMultiNodeProvider", "head_node_id": HEAD}
    provider |= {"launch_multiple": True, "gcs_address": address, "use_node_id_as_ip": True}
    provider |= {"disable_node_updaters": True, "disable_launch_config_check": True}  # nothing to install by ssh
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    worker = {"resources": {"CPU": 1, "object_store_memory": 80_000_000}, "node_config": {}, "max_workers": 2}
    return {
        **{name: [] for name in EMPTY},
        "auth": {},
        "file_mounts": {},
        "cluster_name": "growing",
        "max_workers": 2,
        "idle_timeout_minutes": 0.1,
        "provider": provider,
        "head_node_type": "ray.head.default",
        "available_node_types": {"ray.head.default": head, "worker": {**worker, "min_workers": 0}},
    }


@pytest.fixture
def growing() -> Iterator[dict[str, str]]:
    """The environment of drivers on a head that may start two nodes."""
    folder = Path(tempfile.mkdtemp(prefix="hl", dir="/tmp"))
    port, agent, client = (free_port() for _ in range(3))
    address = f"127.0.0.1:{port}"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HYPERLOOM_", "MLFLOW_"))}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONPATH": str(HERE)}
    env |= {"PATH": f"{BIN}{os.pathsep}{env['PATH']}"}
    (folder / "scale.yaml").write_text(json.dumps(config(address)))
    fake = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1"}
    fake |= {"RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
    fake |= {"RAY_NODE_TYPE_NAME": "ray.head.default"}  # as `ray up` does
    start = ["ray", "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=0"]
    start += [f"--autoscaling-config={folder}/scale.yaml", f"--temp-dir={folder}/r", "--disable-usage-stats"]
    start += [f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"]
    start += ["--object-store-memory=80000000", "--include-dashboard=false"]
    try:
        done = subprocess.run(start, env=env | fake, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        yield env | {"RAY_ADDRESS": address}
    finally:
        end_processes(str(folder))
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(400)
def test_units_without_room_bring_nodes_and_these_go_when_it_is_over(growing: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(2 * UNITS):
        cv2.imwrite(str(tmp_path / "images" / f"{i:03d}.png"), np.full((8, 8, 3), i, np.uint8))
    (tmp_path / "growing.yaml").write_text(RECIPE.format(folder=tmp_path, seconds=1.0))
    done = hyperloom("run", str(tmp_path / "growing.yaml"), "--no-mlflow", env=growing, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    batches = [n for n in notes(tmp_path / "log") if n["what"] == "batch"]
    assert len(batches) == UNITS
    at_once = max(sum(b["began"] <= n["began"] < b["ended"] for b in batches) for n in batches)
    assert at_once == 2, "the cluster grew to both of its nodes"
    end = time.monotonic() + 120
    while (left := subprocess.check_output([str(BIN / "python"), "-c", NODES], env=growing, text=True).strip()) != "0":
        assert time.monotonic() < end, f"{left} CPUs are kept for nobody"
        time.sleep(1)
