"""A recipe as a Ray job, on a real cluster made by `ray start --head` with token authentication (see conftest.py)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.fixture
def call(ray_cluster: Any, project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in the project's folder as a client of the cluster; both outputs in `stdout`."""

    def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
        merged = {**ray_cluster.env, **env}
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, cwd=project, env=merged, text=True, timeout=200, **both)

    return run


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


def test_ray_job_submit(call: Any, ray_cluster: Any, tmp_path: Path) -> None:
    """The documented line: the recipe's units run on the cluster and are committed under the given root."""
    root = tmp_path / "root"
    submit = ("ray", "job", "submit", "--address", ray_cluster.dashboard, "--working-dir", ".", "--")
    command = (*submit, "hyperloom", "run", "recipe.yaml", "--root", str(root), "--no-mlflow")
    done = call(*command)
    for _ in range(20):
        if "No available agent" not in done.stdout:  # a cluster that has just started cannot take jobs yet
            break
        time.sleep(3)
        done = call(*command)
    assert done.returncode == 0, done.stdout
    assert "succeeded" in done.stdout
    assert _manifests(root) == ["toy.Numbers", "toy.Squares"]


def test_hyperloom_submit(call: Any, ray_cluster: Any, project: Path) -> None:
    """Fewer words: the root is made absolute, the log is followed, the job's outcome is the command's. A job that
    failed does not stand in the way of the next one."""
    (project / "recipe.yaml").write_text(RECIPE.replace('"toy:Numbers"', '"toy:Numbers", file: raw.bin'))
    command = (
        sys.executable,
        "-m",
        "hyperloom.pipeline",
        "submit",
        "recipe.yaml",
        "--address",
        ray_cluster.dashboard,
        "--root",
        "out",
    )
    failed = call(*command)
    assert failed.returncode == 1, failed.stdout
    assert "-1 at http" in failed.stdout and "raw.bin" in failed.stdout
    (project / "raw.bin").write_bytes(b"raw")
    done = call(*command)
    assert done.returncode == 0, done.stdout
    assert "-2 at http" in done.stdout and "Ray: joining" in done.stdout and "succeeded" in done.stdout
    assert _manifests(project / "out") == ["toy.Numbers", "toy.Squares"]


def test_the_driver_may_join_a_running_cluster(call: Any, ray_cluster: Any, project: Path) -> None:
    """Without a job: the recipe names the address, and the packages travel to the workers."""
    (project / "recipe.yaml").write_text(f'cluster: {{address: "{ray_cluster.address}"}}\n{RECIPE}')
    command = (sys.executable, "-m", "hyperloom.pipeline", "run", "recipe.yaml", "--root", "out", "--no-mlflow")
    done = call(*command)
    assert done.returncode == 0, done.stdout
    assert f"joining {ray_cluster.address}" in done.stdout
    assert _manifests(project / "out") == ["toy.Numbers", "toy.Squares"]


def test_a_wrong_token_is_explained(call: Any, ray_cluster: Any, project: Path) -> None:
    wrong = project / "wrong"
    wrong.write_text("b" * 64)
    command = (
        sys.executable,
        "-m",
        "hyperloom.pipeline",
        "submit",
        "recipe.yaml",
        "--address",
        ray_cluster.dashboard,
    )
    done = call(*command, RAY_AUTH_TOKEN_PATH=str(wrong))
    assert done.returncode == 5
    assert "ray get-auth-token" in done.stdout and "Traceback" not in done.stdout


def test_what_cannot_work_is_explained_at_once(project: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]  # nobody listens there once it is closed
    command = (sys.executable, "-m", "hyperloom.pipeline")
    submit = (*command, "submit", "recipe.yaml", "--address", f"http://127.0.0.1:{port}")
    done = subprocess.run(submit, cwd=project, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5
    assert "ray start --head" in done.stderr and "Traceback" not in done.stderr
    inside = {**os.environ, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    run = (*command, "run", "recipe.yaml", "--root", "relative")
    done = subprocess.run(run, cwd=project, env=inside, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "add --root" in done.stderr
