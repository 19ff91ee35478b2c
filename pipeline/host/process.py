"""Which process wrote a claim, and whether it is provably gone.

A pid says nothing outside its own pid namespace and kernel: two containers on one machine, and two machines with one
name, may both have a process 7. So a process is named by the kernel's boot id, the inode of its pid namespace, its pid
and when it was born. Only a process of this very kernel and this very namespace can be proved to be gone; of any other
nothing is known here.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from functools import cache
from typing import Any

UNSEEN = "running"
"""Said of a process that runs, where the kernel does not say since when."""


def this() -> dict[str, Any]:
    """What names this process: host and user for people; boot, space (the pid namespace), pid and born for proof."""
    pid = os.getpid()
    return {"host": host(), "user": _user(), "boot": boot(), "space": space(), "pid": pid, "born": born(pid)}


def host() -> str:
    return socket.gethostname()


@cache
def boot() -> str:
    """What the running kernel calls this boot; empty where it does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        pass
    try:
        command = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def space() -> int:
    """The pid namespace of this process; 0 where there are none."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def is_gone(process: dict[str, Any]) -> bool:
    """Is it (as `this` named it) proved that this process no longer runs? False for one of another kernel or of another
    pid namespace, and wherever the kernel does not tell."""
    pid = process.get("pid")
    if not process.get("boot") or process["boot"] != boot() or process.get("space") != space():
        return False
    if not isinstance(pid, int) or pid <= 0:
        return False
    now = born(pid)
    return now not in (process.get("born"), UNSEEN)


def named(process: dict[str, Any]) -> str:
    """A process in words."""
    user = f" of {process['user']}" if process.get("user") else ""
    return f"process {process.get('pid', '?')}{user} on {process.get('host', '?')}"


def born(pid: int) -> str:
    """When a process started, in the kernel's own count; empty when there is no such process, UNSEEN where the kernel
    does not say."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except PermissionError:
        return UNSEEN
    except OSError:
        return ""
    return UNSEEN


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
