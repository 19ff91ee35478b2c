"""The page and what it asks for, over HTTP on this machine alone.

Whoever has the token sees everything that the recipe's root holds, so nobody else may: the server listens on loopback,
the token comes in the URL that the command prints (it becomes a cookie that no script can read and no other site makes
a browser send), and a request whose Host is another name than this machine's is refused, so that no page can reach it
by a name of its own that leads here (DNS rebinding). It only answers questions: nothing of a root can be changed.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hyperloom.stages.look.viewer import Viewer

COOKIE = "hyperloom_look"
FILES = {"look.js": "text/javascript", "look.css": "text/css"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data:; media-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Handler = Callable[[Any], Awaitable[Any]]


class Door:
    """Lets in who has the token, and turns plain answers into responses."""

    def __init__(self, token: str, port: int):
        self.token, self.port = token, port

    def page(self, answer: Callable[[Any], Any]) -> Handler:
        """A handler that answers with a response, in a thread of its own."""
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import PlainTextResponse

        async def handle(request: Any) -> Any:
            refused = _refusal(request, self.token, self.port)
            return PlainTextResponse(refused, 403, HEADERS) if refused else await run_in_threadpool(answer, request)

        return handle

    def json(self, answer: Callable[[dict[str, str]], Any]) -> Handler:
        """A handler that answers with a value; a question that makes no sense gets 400."""
        from starlette.responses import Response

        def handle(request: Any) -> Any:
            try:
                value, status = answer(dict(request.query_params)), 200
            except (ValueError, KeyError, IndexError) as error:
                value, status = {"error": str(error)}, 400
            return Response(json.dumps(value, default=str), status, HEADERS, "application/json")

        return self.page(handle)

    def enter(self, _: Any) -> Any:
        """The token becomes a cookie."""
        from starlette.responses import RedirectResponse

        response = RedirectResponse("/", 303, HEADERS)
        response.set_cookie(f"{COOKIE}_{self.port}", self.token, httponly=True, samesite="strict")
        return response


def application(viewer: Viewer, token: str, port: int) -> Any:
    """A Starlette application that shows what `viewer` has to whoever knows `token`."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    def page(_: Any) -> Any:
        return Response(_file("look.html"), 200, HEADERS, "text/html")

    def file(request: Any) -> Any:
        name = request.path_params["name"]
        if name not in FILES:
            return PlainTextResponse("there is no such file", 404, HEADERS)
        return Response(_file(name), 200, HEADERS, FILES[name])

    door = Door(token, port)
    routes = [
        Route("/", door.page(page)),
        Route("/in/{token}", door.page(door.enter)),
        Route("/static/{name}", door.page(file)),
        Route("/api/overview", door.json(viewer.overview)),
        Route("/api/rows", door.json(viewer.rows)),
        Route("/api/sample", door.json(viewer.sample)),
    ]
    return Starlette(routes=routes)


def serve(viewer: Viewer, token: str, port: int) -> None:
    """Answer until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(application(viewer, token, port), "127.0.0.1", port, log_level="warning", access_log=False)
    uvicorn.Server(config).run()


def _refusal(request: Any, token: str, port: int) -> str:
    """Why a request gets nothing; empty where it does."""
    if request.headers.get("host", "") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
        return "this server answers to 127.0.0.1 and localhost alone"
    given = request.path_params.get("token") or request.cookies.get(f"{COOKIE}_{port}", "")
    if not hmac.compare_digest(given.encode(), token.encode()):
        return "the token is missing or another one: open the URL that `hyperloom look` printed"
    return ""


def _file(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()
