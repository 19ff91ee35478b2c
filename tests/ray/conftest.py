"""One real Ray cluster for all tests that can share one: started as an operator would (`ray start --head`), with token
authentication on, its job server on loopback, and ended by ending its own processes."""

from __future__ import annotations

import os
import secrets
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

import psutil
import pytest

HERE = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LEAN = ("--include-log-monitor=false", "--disable-usage-stats")
"""Options of `ray start`: nobody is shown what workers print, and reading it took a tenth of a core."""


@dataclass
class RayCluster:
    """`env` makes any program a client of the cluster; `dashboard` is the URL of its job server."""

    address: str
    dashboard: str
    env: dict[str, str]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    folder = tempfile.mkdtemp(prefix="hl", dir="/tmp")  # short: Ray's sockets lie below it
    token = Path(folder) / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    port, dashboard, agent, client = (free_port() for _ in range(4))  # other clusters on this host have the defaults
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HYPERLOOM_FAULT", "MLFLOW_"))}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PYTHONPATH": str(HERE)}
    env["PATH"] = f"{BIN}{os.pathsep}{env['PATH']}"
    command = [str(BIN / "ray"), "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
    command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"]
    command += [f"--temp-dir={folder}/r", "--object-store-memory=100000000", *LEAN]
    try:
        started = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert started.returncode == 0, started.stdout + started.stderr
        yield RayCluster(
            f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
        )
    finally:
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def end_processes(mark: str) -> None:
    """Kill every process that names `mark` in its command line, as Ray's do their session folder, and all below them:
    Ray's agents go by other names."""
    for _ in range(20):
        named = [p for p in psutil.process_iter(["cmdline"]) if any(mark in word for word in p.info["cmdline"] or [])]
        found = [*(c for p in named for c in _below(p)), *named]
        if not found:
            return
        for process in found:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.2)


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def hyperloom(
    *arguments: str, env: dict[str, str], timeout: float = 240, cwd: Path = HERE
) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    command = [str(BIN / "hyperloom"), *arguments]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout)
