"""Connecting to Ray: the only `ray.init` of the project.

`connect` may be called any number of times; only the first one acts. It must be called from a thread that outlives the
work (the main thread): Linux ends a private cluster's processes when the thread that started them ends.

Authentication: Ray's token mode is always on for a private cluster. The token is made here, readable by its owner
alone and complete before it has its name, since two drivers that start Ray for the first time would otherwise each
keep a token of their own.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import hyperloom
from hyperloom.clusters import machine, skew
from hyperloom.clusters.environment import early, late, worker_environment
from hyperloom.clusters.spec import Cluster, ClusterError, ClusterRefusal
from hyperloom.pipeline.host import project
from hyperloom.pipeline.workers import ray_internals

CONNECT_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""
HOOK = "worker_process_setup_hook"
QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Without it Ray prints a warning about accelerators on machines that have none."""


def connect(cluster: Cluster) -> None:
    """Make Ray usable in this process. Raises ClusterError when there is none at the address or it refuses us."""
    where = cluster.where
    authenticate(private=where == "local")  # before the import: ray reads the mode once
    import ray

    if ray.is_initialized():
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": cluster.logs}
    options["job_config"] = ray_internals.job_config()
    try:
        if where == "local":
            options |= {"include_dashboard": False, **machine.options(cluster)}
            path = {"PYTHONPATH": project.environment()["PYTHONPATH"]}
            with _environment({**QUIET, **path, **worker_environment(cluster)}):
                _start(**options)
        else:
            greet(where)
            project.carry(late(worker_environment(cluster)))
            ray.init(where, runtime_env=_runtime_env(cluster), **options)
            skew.warn()
    except (ray.exceptions.AuthenticationError, PermissionError) as error:
        raise ClusterRefusal(
            f"{cluster.said_by}the Ray cluster at {where} refused the token ({_line(error)}). Next: put the cluster's "
            "token (`ray get-auth-token` on its head) into ~/.ray/auth_token or RAY_AUTH_TOKEN here, or "
            f"{cluster.without}"
        ) from error
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise
        raise ClusterRefusal(
            f"the Ray cluster at {where} runs another version: {' '.join(str(error).split())} Next: start the "
            "driver with the cluster's Python and Ray"
        ) from error
    except OSError as error:
        raise ClusterError(
            f"{cluster.said_by}no Ray cluster answers at {where}: {_line(error)}. Next: start one there (ray start "
            f"--head), or {cluster.without}"
        ) from error


def greet(where: str) -> None:
    """See within seconds that a Ray cluster at `where` (host:port, or auto) takes us: Ray itself would try for many
    minutes. Raises PermissionError where it refuses the token, any other OSError where there is none."""
    head = ray_internals.bootstrap(where)
    host, _, port = head.rpartition(":")
    probe(host.strip("[]"), int(port))
    ray_internals.greet(head, CONNECT_SECONDS)


def _start(**options: Any) -> None:
    """Start a private cluster. Raises ClusterError, where Ray raises bare exceptions on a machine too busy to start."""
    import ray

    machine.prepare()
    try:
        with ray_internals.shielded(), ray_internals.bare(bool(options.get("log_to_driver"))):
            ray.init("local", **options)
    except ray.exceptions.AuthenticationError as error:
        raise ClusterRefusal(
            f"a private Ray cluster did not start: {_line(error)}. Next: unset RAY_AUTH_MODE, or RAY_AUTH_TOKEN and "
            "RAY_AUTH_TOKEN_PATH"
        ) from error
    except Exception as error:
        ray.shutdown()
        low = machine.limits()
        if low:
            raise ClusterRefusal(f"a private Ray cluster did not start: {low[0]}") from error
        raise ClusterError(
            f"a private Ray cluster did not start: {_line(error)}. Next: the same command again, when the machine is "
            "less busy or has more memory; `hyperloom doctor` looks at it"
        ) from error


def _line(error: Exception) -> str:
    """What an error says first, without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(". ")


def disconnect() -> None:
    """Leave the cluster; a private one ends."""
    import ray

    ray.shutdown()


def authenticate(private: bool) -> None:
    """Turn Ray's token authentication on, once, for this process and its children.

    A private cluster gets a token if there is none yet; for a cluster that runs already the mode follows from whether
    there is a token to show. RAY_AUTH_MODE, where set, is left as it is.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    if private and mode in (None, "token"):
        _ensure_token()
    if mode is None and (private or _has_token()):
        os.environ["RAY_AUTH_MODE"] = "token"
        if "ray" in sys.modules:  # Ray read the variable when it was imported
            ray_internals.read_auth_mode()


def probe(host: str, port: int) -> None:
    """Raise OSError when nothing listens there: Ray itself would go on trying for many minutes."""
    socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()


@cache
def package() -> str:
    """A copy of Hyperloom under its import name, for nodes where it is not installed. It goes with this process."""
    source = Path(__file__).parents[1]
    staged = Path(tempfile.mkdtemp(prefix="hyperloom-package-")) / "hyperloom"
    atexit.register(shutil.rmtree, staged.parent, ignore_errors=True)
    staged.mkdir()
    shutil.copy(Path(hyperloom.__file__), staged)  # with it no other `hyperloom` on a node's path comes before this one
    for folder in ("pipeline", "stages", "clusters", "mlflow"):
        shutil.copytree(source / folder, staged / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return str(staged)


def _runtime_env(cluster: Cluster) -> dict[str, Any]:
    """The runtime environment on a cluster that runs already. Inside a Ray job the code comes from the job, whose
    folder Ray puts first; what the job sets already is left out, since Ray refuses the same key twice."""
    inherited = ray_internals.job_environment()
    taken = inherited.get("env_vars") or {}
    env: dict[str, Any] = {"env_vars": {k: v for k, v in early(worker_environment(cluster)).items() if k not in taken}}
    if not ray_internals.in_job():
        return {**env, "py_modules": [package()]}
    return env if HOOK in inherited else {**env, HOOK: "hyperloom.pipeline.host.project.step_back"}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables for the processes started meanwhile; afterwards this process has its own values again."""
    before = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _token_file() -> Path | None:
    """Where Ray's token is kept; None for a user without a home."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token")
    return None if path.startswith("~") else Path(path)


def _has_token() -> bool:
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    file = _token_file()
    try:
        return file is not None and bool(file.read_text(encoding="utf-8", errors="replace").strip())
    except OSError:
        return False


def _ensure_token() -> None:
    """Have a token: in the user's file, for later commands too; else (no home, one that cannot be written, a file that
    is empty) of this process and its children alone."""
    if _has_token():
        return
    file = _token_file()
    try:
        if file is not None:
            _keep_token(file)
    except OSError:
        pass
    if not _has_token():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _keep_token(target: Path) -> None:
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    try:
        os.link(temporary, target)
    except FileExistsError:
        pass  # another driver was first; its token counts
    finally:
        os.unlink(temporary)
