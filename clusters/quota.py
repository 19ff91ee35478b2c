"""What the kernel's control groups (cgroups, of either version) leave of the machine: a container's, a batch job's or a
service's share of the CPUs, and its memory.

A limit holds for a group and all groups in it, so every group from this process's own up to the outermost that can be
seen counts, and the smallest limit wins. Sets of CPUs (`cpuset`, `taskset`) are in the process's affinity already.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")
_UNLIMITED = 1 << 60
"""Bytes; cgroups of version 1 say a number of this size where there is no limit."""


def cpus(proc: Path = PROC) -> float | None:
    """CPUs' worth of time that this process may use; None without a limit."""
    shares = [quota / period for quota, period in map(_cpu, _groups("cpu", proc)) if quota > 0 and period > 0]
    return min(shares, default=None)


def memory(proc: Path = PROC) -> int | None:
    """Bytes of memory that this process may use together with those of its groups; None without a limit."""
    files = [group / name for group in _groups("memory", proc) for name in ("memory.max", "memory.limit_in_bytes")]
    limits = [int(words[0]) for words in map(_words, files) if words and words[0].isdecimal()]
    return min((limit for limit in limits if limit < _UNLIMITED), default=None)


def processes(proc: Path = PROC) -> int | None:
    """Processes and threads that this process's groups may have in all; None without a limit."""
    limits = [words[0] for words in (_words(group / "pids.max") for group in _groups("pids", proc)) if words]
    return min((int(limit) for limit in limits if limit.isdecimal()), default=None)


def _cpu(group: Path) -> tuple[int, int]:
    """The quota and its period in microseconds; -1 without one."""
    words = _words(group / "cpu.max") or [
        *_words(group / "cpu.cfs_quota_us"),
        *_words(group / "cpu.cfs_period_us"),
    ]
    if len(words) != 2 or not all(word.isdecimal() for word in words):  # "max", "-1"
        return -1, -1
    return int(words[0]), int(words[1])


def _groups(controller: str, proc: Path) -> Iterator[Path]:
    """The folders of the groups that this process is in, of one controller and of version 2, innermost first."""
    member = [line.split(":", 2) for line in _lines(proc / "cgroup") if line.count(":") >= 2]
    for line in _lines(proc / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind, options = before.split(), after.split(" ")[0], after.split(" ")[-1].split(",")
        if kind != "cgroup2" and not (kind == "cgroup" and controller in options):
            continue
        for number, controllers, path in member:
            if number == "0" if kind == "cgroup2" else controller in controllers.split(","):
                yield from _upwards(PurePosixPath(path), PurePosixPath(fields[3]), Path(fields[4]))


def _upwards(group: PurePosixPath, root: PurePosixPath, point: Path) -> Iterator[Path]:
    """The folders of a group and those that it is in, of a hierarchy that shows `root` at `point`. A group that lies
    elsewhere is seen from inside of it: as the root."""
    folder = point / (group.relative_to(root) if group.is_relative_to(root) else "")
    yield from (folder, *(above for above in folder.parents if above.is_relative_to(point)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
