"""`hyperloom ui`: the MLflow server on a recipe's tracking store."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(commands, "ui", _ui, "start the MLflow server on the recipe's tracking store")
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    sub.add_argument("--open", action="store_true", help="ask nobody for a password, whatever the address")
    sub.add_argument("--port", type=int, help="to listen on (5000, or the next that is free)")


def _ui(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline.errors import HyperloomError
    from hyperloom.pipeline.tracking.health import problem
    from hyperloom.pipeline.tracking.listening import free_port, url
    from hyperloom.pipeline.tracking.store import serve, store_uri

    uri = store_uri(storage, loaded.recipe.tracking)
    trouble = problem(uri) if uri.startswith("sqlite:") else ""
    if trouble:
        raise HyperloomError(trouble)
    port = free_port(given.host, given.port)
    print(f"MLflow at {url(given.host, port)} (Ctrl-C ends it)", flush=True)
    serve(uri, given.host, port, given.open)
    return 0
