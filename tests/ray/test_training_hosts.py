"""Training over two hosts (see hosts.py): one is lost, and the training goes on."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import events, manifest
from pipeline.storage import Storage
from tests.ray.conftest import BIN, HERE, end_processes
from tests.ray.hosts import Hosts, unavailable
from tests.training.ledger import seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(560)]
UPDATES, BATCH = 300, 6
RECIPE = """\
name: nodes
root: {root}
modalities:
  rgb:      {{type: image, size: [24, 32]}}
  semantic: {{type: segmentation, classes: [land, forest, road, water, building]}}
  depth:    {{type: dense, unit: m}}
  normals:  {{type: dense, channels: 3, direction: true}}
  flow:     {{type: dense, channels: 2, unit: px}}
  pose:     {{type: vector, length: 20}}
steps:
  frames: {{stage: ingest, source: {{type: flights, flights: 3, frames: 4, seed: 3}}, group: flight, rows: 4}}
  shards: {{stage: shard, data: frames}}
  model:
    stage: train
    data: shards
    in: rgb@camera
    targets: {{semantic: semantic@truth, depth: depth@truth}}
    model: {{trunk: {{type: unet, width: 2}}}}
    augment: [{{type: "ledger:Ledger", folder: {root}/ledger}}]
    updates: {updates}
    batch: {batch}
    workers: [1, 2]
    checkpoint_every: 20
    log_every: 20
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Hosts, dict[str, str]]]:
    """Ray over two hosts of one CPU each, with token authentication; and the environment of its clients."""
    if why := unavailable():
        pytest.skip(why)
    folder = tempfile.mkdtemp(prefix="hl", dir="/tmp")
    token = Path(folder) / "token"
    token.write_text(secrets.token_hex(32))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HYPERLOOM_", "MLFLOW_"))}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PATH": f"{BIN}{os.pathsep}{env['PATH']}"}
    env |= {"PYTHONPATH": str(HERE), "GLOO_SOCKET_IFNAME": "e0", "RAY_worker_niceness": "0"}
    try:
        with Hosts(2) as made:
            head = ["ray", "start", "--head", f"--node-ip-address={made.address(1)}", "--port=6379", "--num-cpus=1"]
            head += [f"--dashboard-host={made.address(1)}", f"--temp-dir={folder}/r", "--disable-usage-stats"]
            join = ["ray", "start", f"--address={made.address(1)}:6379", f"--node-ip-address={made.address(2)}"]
            for host, command in ((1, head), (2, [*join, "--num-cpus=1"])):
                command = made.command(host, *command, "--object-store-memory=100000000")
                done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=150)
                assert done.returncode == 0, done.stdout + done.stderr
            env["RAY_ADDRESS"] = f"{made.address(1)}:6379"
            yield made, env
    finally:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _at(root: Path) -> int:
    """The update of the last checkpoint."""
    pointers = list(root.glob("train/*/checkpoint.json"))
    return json.loads(pointers[0].read_text())["update"] if pointers else 0


def _expected(root: Path) -> Counter[str]:
    """How often an undisturbed training sees each sample, from the order of the loader alone."""
    import stages  # noqa: F401  registers the plug-ins
    from pipeline import plugins
    from stages.shard.loader import Loader

    (path,) = root.glob("shard/*/manifest.json")
    shards = manifest.read(Storage(str(root)), str(path.relative_to(root)))
    rgb: Any = plugins.parse("modality", {"type": "image", "size": [24, 32]})
    loader = Loader(Storage(str(root)), shards, {"rgb": rgb}, ["rgb@camera"], batch=BATCH, drop_last=True, native=True)
    counts: Counter[str] = Counter()
    for _ in range(UPDATES // len(loader)):
        for batch in loader:
            counts.update(hashlib.sha256(p.numpy().tobytes()).hexdigest() for p in batch["rgb@camera"])
    return counts


def test_a_training_survives_the_loss_of_a_node(cluster: tuple[Hosts, dict[str, str]], tmp_path: Path) -> None:
    hosts, env = cluster
    root, project = tmp_path / "root", tmp_path / "project"
    project.mkdir()
    (project / "nodes.yaml").write_text(RECIPE.format(root=root, updates=UPDATES, batch=BATCH))
    shutil.copy(HERE / "tests" / "training" / "ledger.py", project)
    run = ("-m", "pipeline.cli", "run", "nodes.yaml", "--root", str(root), "--no-mlflow")
    command = hosts.command(1, sys.executable, *run)
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(command, cwd=project, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            while _at(root) < 60:
                assert job.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
            assert len(hosts.pids(2)) > 2  # Ray's processes and a worker
            hosts.lose(2)
            lost = _at(root)
            assert job.wait(timeout=400) == 0, (tmp_path / "log").read_text()
        finally:
            job.kill()
    assert lost < UPDATES
    storage = Storage(str(root))
    (run,) = storage.names("events")
    notes = [e["text"] for e in events.read(storage, run) if e["kind"] == "note" and e["step"] == "model"]
    assert [n.split(": ")[1] for n in notes if "began" in n] == ["2 workers on cpu began", "1 worker on cpu began"]
    assert seen(root / "ledger", BATCH) == (UPDATES, _expected(root))
