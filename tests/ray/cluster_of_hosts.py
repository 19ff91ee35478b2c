"""A Ray cluster over hosts (see hosts.py): the first is the head, all have one CPU for units, and all see one disk.

Each node has a temporary folder of its own, as on machines of their own: Ray removes a job's code from there when
nothing of the job runs on that node any more, which must not be the folder in which another node's processes are.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.ray.conftest import BIN, HERE, LEAN, end_processes
from tests.ray.hosts import Hosts


@dataclass
class Cluster:
    """Ray over hosts 1 (head), 2 and so on; `folder` has a short path, since Ray's sockets lie below it. `env` is what
    Ray and drivers are given beside what they need to reach each other."""

    hosts: Hosts
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    starts: int = 0

    def __post_init__(self) -> None:
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HYPERLOOM_", "MLFLOW_"))}
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PYTHONPATH": str(HERE)}
        env |= {"PATH": f"{BIN}{os.pathsep}{env['PATH']}", "GLOO_SOCKET_IFNAME": "e0", "RAY_worker_niceness": "0"}
        self.env = env | self.env

    @property
    def server(self) -> str:
        return f"http://{self.hosts.address(1)}:8265"

    @property
    def joined(self) -> dict[str, str]:
        """The environment of a driver on a host."""
        return self.env | {"RAY_ADDRESS": f"{self.hosts.address(1)}:6379"}

    def on(self, host: int, *command: str) -> str:
        """What a command prints on a host."""
        line = self.hosts.command(host, *command)
        done = subprocess.run(line, env=self.joined, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} on host {host}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Start Ray on all hosts."""
        self._ray(1, "--head", "--port=6379", f"--dashboard-host={self.hosts.address(1)}")
        for host in range(2, self.hosts.count + 1):
            self.join(host)

    def join(self, host: int) -> None:
        """Start Ray on a host, as a node of the cluster."""
        self._ray(host, f"--address={self.hosts.address(1)}:6379")

    def _ray(self, host: int, *options: str) -> None:
        self.starts += 1
        size = ("--num-cpus=1", "--object-store-memory=100000000", f"--temp-dir={self.folder}/r{self.starts}", *LEAN)
        self.on(host, "ray", "start", f"--node-ip-address={self.hosts.address(host)}", *size, *options)

    def renew(self, host: int) -> None:
        """Start a lost host anew; all hosts, where it was the head."""
        lost = range(1, self.hosts.count + 1) if host == 1 else (host,)
        for each in lost:
            self.hosts.lose(each)
            self.hosts.mend(each)
        if host == 1:
            self.start()
        else:
            self.join(host)

    def takes_for_dead(self, host: int) -> bool:
        """Does Ray say that the host is no live node of it?"""
        program = "import ray; ray.init('auto', log_to_driver=False, logging_level='ERROR'); "
        program += "print(*(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']))"
        return self.hosts.address(host) not in self.on(1, sys.executable, "-c", program).split()


@contextlib.contextmanager
def cluster_of_hosts(count: int = 3, env: Mapping[str, str] = MappingProxyType({})) -> Iterator[Cluster]:
    """Hosts with Ray on each; nothing is left of them afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hl", dir="/tmp"))
    try:
        with Hosts(count) as hosts:
            cluster = Cluster(hosts, folder, dict(env))
            cluster.start()
            yield cluster
    finally:
        end_processes(str(folder))
        shutil.rmtree(folder, ignore_errors=True)
