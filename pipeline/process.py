"""Which process wrote a claim, and whether it still runs: a pid alone may have been given to another one since."""

from __future__ import annotations

import os
import socket
from typing import Any


def this() -> dict[str, Any]:
    """What names this process: host, pid and when it was born, in the kernel's own count."""
    return {"host": host(), "pid": os.getpid(), "born": born(os.getpid())}


def host() -> str:
    return socket.gethostname()


def is_gone(process: dict[str, Any]) -> bool:
    """Is it (as `this` named it) a process of this host that no longer runs? False for those of other hosts."""
    if process["host"] != host() or process["pid"] <= 0:
        return False
    return born(process["pid"]) != process["born"]


def born(pid: int) -> str:
    """When a process started, in the kernel's own count; empty when there is no such process. Where the kernel does not
    say, every process that runs has the same answer."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "running"
    except OSError:
        return ""
    return "running"
