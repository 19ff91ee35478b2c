"""`hyperloom ui`: the MLflow server on a recipe's tracking store."""

from __future__ import annotations

import os
from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(
        commands, "ui", _ui, "start the MLflow server on the recipe's store, and say where its last run is"
    )
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    sub.add_argument("--no-password", action="store_true", help="ask nobody for a password, whatever the address")
    sub.add_argument("--port", type=int, help="to listen on (5000, or the next that is free)")
    sub.add_argument("--open", action="store_true", help="open the last run in the browser")
    sub.set_defaults(only_shows=True)


def _ui(given: Any) -> int:
    loaded, storage = opening.load(given, begins=True)  # says itself which root it is
    from hyperloom.pipeline.errors import HyperloomError
    from hyperloom.pipeline.tracking import browser, landing
    from hyperloom.pipeline.tracking.health import problem
    from hyperloom.pipeline.tracking.listening import free_port, url
    from hyperloom.pipeline.tracking.store import serve, store_uri

    uri = store_uri(storage, loaded.recipe.tracking)
    trouble = problem(uri) if uri.startswith("sqlite:") else ""
    if trouble:
        raise HyperloomError(trouble)
    away = uri.startswith(("http://", "https://"))
    server = uri.rstrip("/") if away else url(given.host, port := free_port(given.host, given.port))
    pages = landing.pages(storage, loaded.recipe.name, uri, server)
    _say(given, server, pages, away)
    first = next(iter(pages.values()), server)
    if away:
        if given.open:
            browser.browse(first)
        return 0
    if given.open:
        browser.browse_later(first, given.host, port)
    serve(uri, given.host, port, given.no_password, aside=given.json)
    return 0


def _say(given: Any, server: str, pages: dict[str, str], away: bool) -> None:
    from hyperloom.pipeline.output import answers

    answers.reply(given, {"server": server, "pages": pages})
    print(f"MLflow at {server}" + ("" if away else " (Ctrl-C ends it)"), flush=True)
    for name, page in pages.items():
        print(f"  {name}: {page}", flush=True)
    if not pages:
        where = given.root if "://" in given.root else os.path.abspath(given.root)
        print(f"  no run of this recipe was shown there yet (the root is {where})", flush=True)
