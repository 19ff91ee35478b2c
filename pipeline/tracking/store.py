"""Where MLflow keeps what it is shown: the tracking URI of a root, its artifact folder, and the server on top.

A root on a local disk has its own store, `mlflow.db` and `mlartifacts/` beside the data, unless the recipe or
MLFLOW_TRACKING_URI names another; a remote root needs one of these two. The server listens on loopback by default.
Nothing here imports MLflow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.host import project
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking.access import authentication, is_loopback


def store_uri(storage: Storage, recipe: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """The tracking URI: the recipe's, else MLFLOW_TRACKING_URI, else sqlite below a local root; "" if there is none."""
    named = recipe or environ.get("MLFLOW_TRACKING_URI", "")
    return named or (f"sqlite:///{storage.base}/mlflow.db" if storage.is_local else "")


def artifacts(uri: str, experiment: str = "") -> str | None:
    """The folder beside an sqlite store where artifacts go; None where the server decides."""
    if not uri.startswith("sqlite:///"):
        return None
    folder = Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts"
    return str(folder / experiment) if experiment else str(folder)


def serve(uri: str, host: str = "127.0.0.1", port: int = 5000, open_: bool = False, aside: bool = False) -> None:
    """Become `mlflow server` on the store `uri`: this process is replaced. One that other machines reach asks for a
    password unless it is to be `open_`; with `aside` its log goes to standard error alone. Raises HyperloomError
    without a store, or without a password."""
    if uri.startswith(("http://", "https://")):
        raise HyperloomError(f"{uri} is a server already. Next: open it in a browser")
    if not uri:
        raise HyperloomError("this root has no MLflow store. Next: set MLFLOW_TRACKING_URI or recipe's `tracking:`")
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", host, "--port", str(port), "--serve-artifacts"]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment |= {**project.environment(), "MLFLOW_BACKEND_STORE_URI": uri}  # not seen by all, as arguments are
    if not (open_ or is_loopback(host)):
        environment |= authentication(uri)
        command += ["--app-name", "basic-auth"]
    folder = artifacts(uri)
    if folder:
        os.makedirs(folder, exist_ok=True)
        environment["MLFLOW_ARTIFACTS_DESTINATION"] = folder
    if aside:
        os.dup2(2, 1)
    os.execve(sys.executable, command, environment)
