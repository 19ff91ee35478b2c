"""A recipe as a Ray job, on a real cluster made by `ray start --head` with token authentication (see conftest.py)."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.exits import Exit

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
    assert failed.returncode == Exit.STEP, failed.stdout
    assert "-1 at http" in failed.stdout and "raw.bin" in failed.stdout
    assert failed.stdout.splitlines()[-1].startswith("Continue with: hyperloom submit recipe.yaml --address")
    (project / "raw.bin").write_bytes(b"raw")
    done = call(*command)
    assert done.returncode == 0, done.stdout
    assert "-1 at http" in done.stdout, "the folder has changed, so this is another job"
    assert "warning" not in done.stdout, "there is no skew on one machine"
    assert "Ray: joining" in done.stdout and "succeeded" in done.stdout
    assert _manifests(project / "out") == ["toy.Numbers", "toy.Squares"]


CANARIES = {"SALT": "canary-salt-1", "PASSWORD": "canary-password-1"}


def test_a_job_shows_no_secret(call: Any, ray_cluster: Any, project: Path, tmp_path: Path) -> None:
    """What the recipe takes from the environment and gives to its workers reaches them, and nobody else."""
    shutil.copy(CHECKOUT / "tests" / "leaky.py", project / "leaky.py")
    (project / "recipe.yaml").write_text(
        "name: leaky\nmodalities: {}\ncluster: {env: {LEAK: canary-worker-1}}\nsteps:\n  a: {stage: 'leaky:Leaky', "
        "salt: '${SALT}', password: '${PASSWORD}', url: 'https://me:canary-url-1@host/a', max_quarantine: 1}\n"
    )
    arguments: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    arguments.add(path.read_bytes().decode(errors="replace"))
                except OSError:
                    continue  # it has ended

    watcher = threading.Thread(target=watch)
    watcher.start()
    command = (sys.executable, "-m", "hyperloom.pipeline", "submit", "recipe.yaml", "--address", ray_cluster.dashboard)
    try:
        done = call(*command, "--root", str(tmp_path / "root"), "--no-mlflow", "--step", "a", **CANARIES)
    finally:
        over.set()
        watcher.join()
    assert done.returncode == 0, done.stdout
    (data,) = tmp_path.glob("root/*/*/data/*.json")
    assert data.read_text() == hashlib.sha256(b"canary-worker-1").hexdigest(), "the worker has its environment"
    shown = call("ray", "job", "list", "--address", ray_cluster.dashboard).stdout
    assert "--step a --wait " in shown.replace("', '", " "), shown
    stored = "".join(p.read_text(errors="replace") for p in (tmp_path / "root").rglob("*") if p.is_file())
    assert "${SALT}" in stored
    logs = [
        p for p in Path(ray_cluster.env["RAY_AUTH_TOKEN_PATH"]).parent.glob("r/session_2*/logs/**/*") if p.is_file()
    ]
    logged = "".join(p.read_text(errors="replace") for p in logs)
    assert "set up with ${SALT}" in logged, "a worker's output is there"
    texts = {"output": done.stdout, "jobs": shown, "ps": "\n".join(arguments), "root": stored, "logs": logged}
    for what, text in texts.items():
        assert "canary" not in text, f"{what}: {text[max(0, text.find('canary') - 200) :][:400]}"


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
    assert done.returncode == Exit.WRONG
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


def test_a_slot_is_one_job_whoever_submits_it(call: Any, ray_cluster: Any, project: Path, tmp_path: Path) -> None:
    """Schedulers that tick with --submit at the same moment hand a slot over once; the job carries it out."""
    root = ("--root", str(tmp_path / "root"))
    (project / "recipe.yaml").write_text(RECIPE + 'schedule: {cron: "0 3 * * *"}\n')
    submit = (*root, "--submit", "--address", ray_cluster.dashboard, "--no-mlflow", "--add", "--at")
    lines: list[str] = []
    at = "2026-03-01T03:10:00Z"

    def tick() -> None:
        lines.append(call("hyperloom", "tick", "recipe.yaml", *submit, at).stdout)

    call("hyperloom", "tick", "recipe.yaml", *submit, "2026-03-01T02:50:00Z")
    threads = [threading.Thread(target=tick) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jobs = {word for line in lines for word in line.split() if word.startswith("hyperloom-toy-")}
    assert len(jobs) == 1 and next(iter(jobs)).endswith("-20260301t030000-1"), lines
    deadline = time.monotonic() + 120
    while "done" not in (shown := call("hyperloom", "schedule", "history", "recipe.yaml", *root).stdout):
        assert time.monotonic() < deadline, shown
        time.sleep(1)
    assert _manifests(tmp_path / "root") == ["toy.Numbers", "toy.Squares"]
    assert "nothing is due" in call("hyperloom", "tick", "recipe.yaml", *submit, at).stdout
    assert shown.count("a, b done") == 1
