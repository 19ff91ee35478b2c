"""A recipe as a Ray job, on a real cluster made by `ray start --head` with token authentication.

The cluster has ports, a temporary folder and a token of its own, so it meets no other Ray of this machine; it ends with
the process that started it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHECKOUT = Path(__file__).parents[2]
RECIPE = """\
name: toy
modalities: {}
steps:
  a: {stage: "toy:Numbers"}
  b: {stage: "toy:Squares", data: a}
"""


@dataclass
class Head:
    """A running cluster: its job server's URL, its address, and the environment that can reach it."""

    url: str
    address: str
    env: dict[str, str]

    def call(self, *command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=cwd,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
        )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="hl", dir="/tmp"))  # short: Unix sockets below it have at most 107 characters
    token = folder / "token"
    token.write_text("a" * 64)
    port, dashboard, client, agent = _free_ports(4)
    drop = ("RAY_", "HYPERLOOM_", "PYTHONPATH")
    env = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    command = f"""ray start --head --block --num-cpus=2 --node-ip-address=127.0.0.1 --port={port}
        --temp-dir={folder}/ray
        --dashboard-host=127.0.0.1 --dashboard-port={dashboard} --ray-client-server-port={client}
        --dashboard-agent-listen-port={agent} --min-worker-port=0 --max-worker-port=0 --object-store-memory=100000000"""
    log = (folder / "head.log").open("w")
    process = subprocess.Popen(command.split(), env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(dashboard, process, folder / "head.log")
        yield Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", env)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.3)
    raise AssertionError(f"the cluster did not start:\n{log.read_text()}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder: a recipe, and a module with the stages it names."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    shutil.copy(CHECKOUT / "tests" / "toy.py", folder / "toy.py")
    return folder


def _manifests(root: Path) -> list[str]:
    return sorted(str(p.parent.parent.relative_to(root)) for p in root.glob("*/*/manifest.json"))


def test_ray_job_submit(head: Head, project: Path, tmp_path: Path) -> None:
    """The documented line: the recipe's units run on the cluster and are committed under the given root."""
    root = tmp_path / "root"
    submit = ("ray", "job", "submit", "--address", head.url, "--working-dir", ".", "--")
    done = head.call(*submit, "hyperloom", "run", "recipe.yaml", "--root", str(root), "--no-mlflow", cwd=project)
    assert done.returncode == 0, done.stdout
    assert "succeeded" in done.stdout
    assert _manifests(root) == ["toy.Numbers", "toy.Squares"]


def test_hyperloom_submit(head: Head, project: Path) -> None:
    """Fewer words: the root is made absolute, the log is followed, the job's outcome is the command's. A job that
    failed does not stand in the way of the next one."""
    (project / "recipe.yaml").write_text(RECIPE.replace('"toy:Numbers"', '"toy:Numbers", file: raw.bin'))
    command = (sys.executable, "-m", "pipeline.cli", "submit", "recipe.yaml", "--address", head.url, "--root", "out")
    failed = head.call(*command, cwd=project)
    assert failed.returncode == 1, failed.stdout
    assert "-1 at http" in failed.stdout and "raw.bin" in failed.stdout
    (project / "raw.bin").write_bytes(b"raw")
    done = head.call(*command, cwd=project)
    assert done.returncode == 0, done.stdout
    assert "-2 at http" in done.stdout and "Ray: joining" in done.stdout and "succeeded" in done.stdout
    assert _manifests(project / "out") == ["toy.Numbers", "toy.Squares"]


def test_the_driver_may_join_a_running_cluster(head: Head, project: Path) -> None:
    """Without a job: the recipe names the address, and the packages travel to the workers."""
    (project / "recipe.yaml").write_text(f'cluster: {{address: "{head.address}"}}\n{RECIPE}')
    command = (sys.executable, "-m", "pipeline.cli", "run", "recipe.yaml", "--root", "out", "--no-mlflow")
    done = head.call(*command, cwd=project)
    assert done.returncode == 0, done.stdout
    assert f"joining {head.address}" in done.stdout
    assert _manifests(project / "out") == ["toy.Numbers", "toy.Squares"]


def test_a_wrong_token_is_explained(head: Head, project: Path) -> None:
    wrong = project / "wrong"
    wrong.write_text("b" * 64)
    command = (sys.executable, "-m", "pipeline.cli", "submit", "recipe.yaml", "--address", head.url)
    done = head.call(*command, cwd=project, RAY_AUTH_TOKEN_PATH=str(wrong))
    assert done.returncode == 5
    assert "ray get-auth-token" in done.stdout and "Traceback" not in done.stdout


def test_what_cannot_work_is_explained_at_once(project: Path) -> None:
    (port,) = _free_ports(1)
    command = (sys.executable, "-m", "pipeline.cli")
    submit = (*command, "submit", "recipe.yaml", "--address", f"http://127.0.0.1:{port}")
    done = subprocess.run(submit, cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5
    assert "ray start --head" in done.stderr and "Traceback" not in done.stderr
    inside = {**os.environ, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    run = (*command, "run", "recipe.yaml", "--root", "relative")
    done = subprocess.run(run, cwd=project, env=inside, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "add --root" in done.stderr
