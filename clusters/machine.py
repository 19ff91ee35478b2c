"""This machine as a private Ray finds it, and what to give Ray where its own guess would fail: a folder for temporary
files whose name is short enough for sockets, one for shared memory that there is, no more CPUs and memory than the
container has, and enough open files.

`findings` says the same beforehand, for `hyperloom doctor`.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from hyperloom.clusters import quota
from hyperloom.clusters.spec import Cluster, ClusterError, ClusterRefusal

SHARED = "/dev/shm"
SHORT = ("/tmp", "/var/tmp", "/dev/shm")
"""Folders for sockets where TMPDIR is too long a name."""
SOCKET = 107
"""Bytes of a socket's path, of which the kernel takes no more."""
_SESSION = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
FILES, PROCESSES = 1024, 512
FEWEST = 64
"""Fewer threads than Ray's own processes have before the first worker."""
"""Open files, and processes with their threads, below which a private Ray may not start."""


def options(cluster: Cluster) -> dict[str, Any]:
    """What a private Ray is told of this machine: arguments of `ray.init`. Raises ClusterError."""
    store = cluster.object_store_mb << 20
    temporary = temporary_folder()
    given: dict[str, Any] = {"num_cpus": cluster.cpus or usable_cpus(), "num_gpus": cluster.gpus}
    given |= {"object_store_memory": store, "_temp_dir": temporary}
    if _room(SHARED) < store:
        os.makedirs(temporary, exist_ok=True)
        given["_plasma_directory"] = temporary
    limit = quota.memory()
    if limit is not None:
        given["_memory"] = max(limit - store, limit // 2)
    return given


def usable_cpus() -> int:
    """CPUs that this process may use: affinity counts, as in batch jobs, and a container's share of its machine; a part
    of a CPU is one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = quota.cpus()
    return cpus if share is None else max(1, min(cpus, math.ceil(share)))


def temporary_folder() -> str:
    """Where Ray keeps its sockets and logs. Raises ClusterError where no folder will do."""
    if "RAY_TMPDIR" in os.environ:
        return os.path.join(os.environ["RAY_TMPDIR"], "ray")
    try:
        own = tempfile.gettempdir()
    except OSError as error:
        raise ClusterError(f"{error.strerror or error}. Next: set TMPDIR to a folder that can be written") from error
    for folder in (own, *SHORT):
        if len(os.fsencode(folder)) + _SESSION <= SOCKET and os.access(folder, os.W_OK | os.X_OK):
            return os.path.join(folder, "ray")
    raise ClusterError(
        f"TMPDIR is too long for Ray ({own}: a socket's path has at most {SOCKET} bytes, and Ray adds {_SESSION}), and "
        f"none of {', '.join(SHORT)} can be written. Next: set RAY_TMPDIR to one of at most {SOCKET - _SESSION} bytes"
    )


def limits() -> list[str]:
    """What of the limits of this user and this container is too low for a private Ray, each with what to do."""
    import resource

    files, threads = resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_NPROC)[1]
    known = (
        (files, "open files", FILES, f"ulimit -Hn {FILES}"),
        (threads, "processes and threads of this user", PROCESSES, f"ulimit -Hu {PROCESSES}"),
        (quota.processes(), "processes and threads in this container", PROCESSES, "a higher limit of pids for it"),
    )
    return [
        f"at most {most} {what}, where Ray takes up to {least}. Next: {cure}"
        for most, what, least, cure in known
        if most is not None and most != resource.RLIM_INFINITY and most < least
    ]


def prepare() -> None:
    """Raise the soft limit of processes to the hard one, as Ray does with that of files. Raises ClusterRefusal where
    the hard one is so low that Ray's own processes would abort without a word."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < FEWEST and os.getuid():  # root has as many as it wants
        low = next(text for text in limits() if "of this user" in text)
        raise ClusterRefusal(f"a private Ray cluster cannot start: {low}")


def findings(cluster: Cluster) -> Iterator[tuple[str, str, str]]:
    """What doctor says of this machine: (ok | note | bad, what was looked at, what was found and what to do)."""
    share, memory, known = quota.cpus(), quota.memory(), os.cpu_count() or 1
    why = "" if share is None else f", of which this container has {share:g}"
    yield "ok", "cpus", f"{usable_cpus()} of {known}{why}"
    if memory is not None:
        yield "ok" if memory > 1 << 30 else "note", "memory", f"{memory / 2**30:.1f} GiB for this container"
    for problem in limits():
        yield "note", "limits", problem
    try:
        temporary = temporary_folder()
        yield (
            "ok",
            "temporary",
            temporary
            if temporary.startswith(tempfile.gettempdir())
            else (f"{temporary}, since TMPDIR is too long for Ray's sockets"),
        )
    except ClusterError as error:
        yield "bad", "temporary", str(error)
    if _room(SHARED) < cluster.object_store_mb << 20:
        yield "note", "shared memory", f"{SHARED} has less than {cluster.object_store_mb} MB: a file on disk is used"


def _room(folder: str) -> int:
    """Bytes that can still be written there; 0 where nothing can."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bsize * status.f_bavail if os.access(folder, os.W_OK) else 0
