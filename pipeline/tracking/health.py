"""What a tracking process would say of the store, asked beforehand: `hyperloom doctor`, `hyperloom ui`."""

from __future__ import annotations

import os

from hyperloom.pipeline.secrets import blot

SQLITE = "sqlite:///"


def problem(uri: str) -> str:
    """Why MLflow cannot use its store at `uri`, in a sentence; empty where it can, or will make it."""
    if uri.startswith(SQLITE) and not os.path.exists(uri.removeprefix(SQLITE)):
        return ""
    from hyperloom.pipeline.tracking.mlflow_server import Server, line
    from hyperloom.pipeline.tracking.tracker import Unavailable

    try:
        server = Server(uri)
        server.call(lambda: server.client.search_runs(["0"], max_results=1))
    except Unavailable as error:
        return str(error)
    except Exception as error:  # of MLflow: an address that it does not know
        return f"MLflow cannot use {blot(uri)}: {line(error)}. Next: another `tracking:`, or MLFLOW_TRACKING_URI"
    return ""
