"""Several hosts on one machine: network namespaces on a bridge, each with an address of its own and no route out.

Needs root and iproute2. Processes on a host see its network alone and the machine's disk, like the nodes of a cluster
with a shared folder; a host is lost when all its processes are killed and its cable is pulled.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time


def unavailable() -> str:
    """Why there can be no hosts here; empty when there can."""
    if shutil.which("ip") is None:
        return "hosts need iproute2"
    if os.geteuid() != 0:
        return "hosts need root"
    probe = f"hlp{os.getpid() % 10_000}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode != 0:
        return "network namespaces are not allowed here"
    subprocess.run(["ip", "netns", "del", probe], capture_output=True)
    return ""


NOTICE = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "5000"}
NOTICE |= {"RAY_health_check_failure_threshold": "3"}
"""Environment of a head that takes a host for dead when it has been silent for 15 seconds; Ray's own patience is a
minute."""
_NUMBERS = itertools.count()
"""The kernel takes a while to forget a host's cable: the next hosts of this process have other names."""


class Hosts:
    """`count` hosts, numbered from 1; used in a `with`, after which nothing of them is left."""

    def __init__(self, count: int):
        self.count = count
        self._mark = f"{os.getpid() % 1_000:03d}{next(_NUMBERS) % 10}"
        self._net = f"10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"

    def address(self, host: int) -> str:
        return f"{self._net}.{host}"

    def command(self, host: int, *command: str) -> list[str]:
        """The command line that runs `command` on a host."""
        return ["ip", "netns", "exec", self._name(host), *command]

    def pids(self, host: int) -> list[int]:
        done = subprocess.run(["ip", "netns", "pids", self._name(host)], capture_output=True, text=True)
        return [int(pid) for pid in done.stdout.split()]

    def cut(self, host: int) -> None:
        """Pull a host's cable; what runs on it goes on."""
        _ip("link", "set", f"hv{self._mark}{host}", "down")

    def mend(self, host: int) -> None:
        """Plug a host's cable in again."""
        _ip("link", "set", f"hv{self._mark}{host}", "up")

    def lose(self, host: int) -> None:
        """Kill all that runs on a host, and pull its cable."""
        self.cut(host)
        while pids := self.pids(host):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)

    def __enter__(self) -> Hosts:
        bridge = f"hb{self._mark}"
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{self._net}.254/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for host in range(1, self.count + 1):
            name, cable = self._name(host), f"hv{self._mark}{host}"
            _ip("netns", "add", name)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "e0", "netns", name)
            _ip("link", "set", cable, "master", bridge, "up")
            for line in (
                f"addr add {self.address(host)}/24 dev e0",
                "link set e0 up",
                "link set lo up",
                f"route add default via {self._net}.254",
            ):
                _ip("-n", name, *line.split())
        return self

    def __exit__(self, *_: object) -> None:
        for host in range(1, self.count + 1):
            self.lose(host)
            _ip("netns", "del", self._name(host))
        _ip("link", "del", f"hb{self._mark}")

    def _name(self, host: int) -> str:
        return f"hl{self._mark}n{host}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
