"""Who may see what the MLflow server shows: everybody on this machine, or whoever has a password.

A server that others reach asks for one (MLflow's own basic authentication, its users in `mlflow-auth.db` beside an
sqlite store). The administrator's password comes by the environment, so that it stands in no file and no argument.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Mapping

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage

PASSWORD, CONFIG = "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_AUTH_CONFIG_PATH"


def is_loopback(host: str) -> bool:
    """Does a server on this address answer this machine alone?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def authentication(uri: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables with which an MLflow server on the store `uri` asks for a name and a password. Raises RecipeError where
    the administrator has none, or where nobody says in which database the users are."""
    configured = environ.get(CONFIG, "")
    if not configured and not environ.get(PASSWORD):
        raise RecipeError(
            f"a server that others reach asks for a password, and none is set. Next: set {PASSWORD} (twelve characters "
            "or more; the name is admin) and run it again, or --no-password to show everything to everybody"
        )
    secret = {"MLFLOW_FLASK_SERVER_SECRET_KEY": environ.get("MLFLOW_FLASK_SERVER_SECRET_KEY") or secrets.token_hex(32)}
    if configured:
        return secret
    if not uri.startswith("sqlite:///"):
        raise RecipeError(f"where are the server's users? Next: set {CONFIG} to a file as docs/tracking.md describes")
    folder = os.path.dirname(os.path.abspath(uri.removeprefix("sqlite:///")))
    text = f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/mlflow-auth.db\n"
    Storage(folder).write("mlflow-auth.ini", text.encode())
    return {**secret, CONFIG: f"{folder}/mlflow-auth.ini", "MLFLOW_AUTH_ADMIN_USERNAME": "admin"}
