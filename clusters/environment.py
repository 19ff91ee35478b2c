"""The environment that a run gives its workers and its driver on a cluster, without Ray's dashboard showing it.

What a process needs as it starts (threads, loaders, network cards) goes by Ray's runtime environment, which the
dashboard, the job's record and Ray's logs show. Everything else, that is every variable that could be a secret, goes
around them: workers get it as they enter the project (`project.carry`), a submitted job's driver from a module that
travels with its code (`module`) and that it reads first of all (`receive`).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hyperloom.pipeline.workers.ray_internals import in_job

if TYPE_CHECKING:
    from hyperloom.clusters.spec import Cluster

FORWARDED = "HYPERLOOM_"
"""Variables with this prefix reach every worker; Ray passes on nothing by itself to a cluster that runs already."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A unit has one core. A worker that needs more asks its own library for them."""
ROOT = "HYPERLOOM_ROOT"
"""The root, where neither the recipe nor the command may say it."""
EARLY = (
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "LD_",
    "PYTHON",
    "MALLOC_",
    "CUDA_",
    "NCCL_",
    "GLOO_",
    "RAY_",
    "TZ",
    "LANG",
    "LC_",
)
"""What the names of variables begin with that count only when a process starts."""
MODULE = "hyperloom_environment"


def worker_environment(cluster: Cluster) -> dict[str, str]:
    """Variables that every worker must have: one thread unless the user has set another number, Hyperloom's own, and
    what the recipe gives."""
    threads = {k: os.environ.get(k, v) for k, v in ONE_THREAD.items()}
    own = {k: v for k, v in os.environ.items() if k.startswith(FORWARDED)}
    return {**threads, **own, **cluster.env}


def early(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that a process must have when it starts; they are shown."""
    return {k: v for k, v in variables.items() if k.startswith(EARLY)}


def late(variables: Mapping[str, str]) -> dict[str, str]:
    """All others; they are not shown."""
    return {k: v for k, v in variables.items() if not k.startswith(EARLY)}


def module(variables: Mapping[str, str]) -> str:
    """A module of these variables, to travel with a job. Its folder goes with this process."""
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="hyperloom-environment-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / MODULE).mkdir()
    with open(os.open(folder / MODULE / "__init__.py", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(f"VARIABLES = {dict(sorted(variables.items()))!r}\n")
    return str(folder / MODULE)


def receive() -> None:
    """In the driver of a job: take the variables that came with it, where it has none of its own."""
    if not in_job():
        return
    try:
        received = importlib.import_module(MODULE)
    except ImportError:  # submitted by other means
        return
    for name, value in received.VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        os.chmod(str(received.__file__), 0o600)  # Ray unpacked it for all to read
    except OSError:
        pass
