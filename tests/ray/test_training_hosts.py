"""Training over two hosts (see hosts.py): one is cut off, comes back and drains, and the training goes on."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.commits import manifest
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from tests.ray.conftest import BIN, HERE, LEAN, end_processes
from tests.ray.hosts import NOTICE, Hosts, unavailable
from tests.ray.tiny import SIZE, checkpoints, recipe
from tests.training.ledger import seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]
UPDATES, BATCH = 900, 6


def _start(hosts: Hosts, env: dict[str, str], host: int, *command: str) -> str:
    """What a command of Ray's prints on a host."""
    line = hosts.command(host, *command)
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _join(hosts: Hosts, env: dict[str, str]) -> None:
    """Start Ray on the second host, with a temporary folder of its own, as on a machine of its own."""
    own = tempfile.mkdtemp(prefix="n", dir=Path(env["RAY_AUTH_TOKEN_PATH"]).parent)
    join = ("ray", "start", f"--address={env['RAY_ADDRESS']}", f"--node-ip-address={hosts.address(2)}", "--num-cpus=1")
    _start(hosts, env, 2, *join, "--object-store-memory=100000000", f"--temp-dir={own}", *LEAN)


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
    env |= {"PYTHONPATH": str(HERE), "GLOO_SOCKET_IFNAME": "e0", "RAY_worker_niceness": "0", **NOTICE}
    try:
        with Hosts(2) as made:
            head = ["ray", "start", "--head", f"--node-ip-address={made.address(1)}", "--port=6379", "--num-cpus=1"]
            head += [f"--dashboard-host={made.address(1)}", f"--temp-dir={folder}/r", *LEAN]
            head += ["--object-store-memory=100000000"]
            _start(made, env, 1, *head)
            env["RAY_ADDRESS"] = f"{made.address(1)}:6379"
            _join(made, env)
            yield made, env
    finally:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _at(root: Path) -> int:
    """The update of the last checkpoint."""
    return max(checkpoints(root).values(), default=0)


def _expected(root: Path) -> Counter[str]:
    """How often an undisturbed training sees each sample, from the order of the loader alone."""
    import hyperloom.stages  # noqa: F401  registers the plug-ins
    from hyperloom.pipeline import plugins
    from hyperloom.stages.shard.loader import Loader

    (path,) = root.glob("shard/*/manifest.json")
    shards = manifest.read(Storage(str(root)), str(path.relative_to(root)))
    rgb: Any = plugins.parse("modality", {"type": "image", "size": list(SIZE)})
    loader = Loader(Storage(str(root)), shards, {"rgb": rgb}, ["rgb@camera"], batch=BATCH, drop_last=True, native=True)
    counts: Counter[str] = Counter()
    for _ in range(UPDATES // len(loader)):
        for batch in loader:
            counts.update(hashlib.sha256(p.numpy().tobytes()).hexdigest() for p in batch["rgb@camera"])
    return counts


def _notes(root: Path) -> list[str]:
    """What the training told its user."""
    storage = Storage(str(root))
    (run,) = storage.names("events")
    return [e["text"] for e in events.read(storage, run) if e["kind"] == "note" and e["step"] == "model"]


def _worlds(root: Path) -> list[int]:
    """How many workers there were, each time that workers began."""
    return [int(n.split()[1]) for n in _notes(root) if "began" in n]


NODE = """\
import ray, sys
ray.init(address="auto", log_to_driver=False)
print(*(n["NodeID"] for n in ray.nodes() if n["Alive"] and n["NodeManagerAddress"] == sys.argv[1]))
"""


def test_a_training_follows_a_node_that_is_cut_off_comes_back_and_drains(
    cluster: tuple[Hosts, dict[str, str]], tmp_path: Path
) -> None:
    hosts, env = cluster
    root, project, brake = tmp_path / "root", tmp_path / "project", tmp_path / "root" / "brake"
    project.mkdir()
    ledger = {"type": "ledger:Ledger", "folder": str(root / "ledger"), "brake": str(brake)}
    fields = {"updates": UPDATES, "batch": BATCH, "checkpoint_every": 20, "log_every": 20}
    (project / "tiny.yaml").write_text(recipe(root, **fields, workers=[1, 2], augment=[ledger]))
    shutil.copy(HERE / "tests" / "training" / "ledger.py", project)
    run = ("-m", "hyperloom.pipeline", "run", "tiny.yaml", "--root", str(root), "--no-mlflow")
    command = hosts.command(1, sys.executable, *run)
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(command, cwd=project, env=env, stdout=log, stderr=subprocess.STDOUT)

        def until(done: Callable[[], bool], seconds: float) -> None:
            end = time.monotonic() + seconds
            while not done():
                assert job.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.1)

        try:
            until(lambda: _at(root) >= 60, 200)
            brake.touch()
            assert len(hosts.pids(2)) > 2  # Ray's processes and a worker
            hosts.cut(2)
            until(lambda: _worlds(root) == [2, 1], 150)
            hosts.lose(2)
            hosts.mend(2)
            _join(hosts, env)
            until(lambda: _worlds(root) == [2, 1, 2], 200)
            began = _at(root)
            until(lambda: _at(root) > began, 60)
            node = _start(hosts, env, 1, sys.executable, "-c", NODE, hosts.address(2)).split()[-1]
            drain = ("ray", "drain-node", f"--node-id={node}", "--deadline-remaining-seconds=60")
            _start(hosts, env, 1, *drain, "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=test")
            until(lambda: _worlds(root) == [2, 1, 2, 1], 150)
            brake.unlink()
            assert job.wait(timeout=200) == 0, (tmp_path / "log").read_text()
        finally:
            job.kill()
    assert sum("move on notice" in n for n in _notes(root)) == 1
    assert seen(root / "ledger", BATCH) == (UPDATES, _expected(root))
