"""`hyperloom look`. Opening the recipe and its root is the command line's, which hands in how to do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hyperloom.pipeline.errors import PluginError
from hyperloom.stages.data.command import Load, StepResolver


def add(
    command: Callable[..., Any], commands: Any, load: Load, steps: StepResolver, port: Callable[[int | None], int]
) -> None:
    """Add the command to a parser."""

    def run(given: Any) -> int:
        return look(given, load, steps, port)

    sub = command(commands, "look", run, "a local page to go through samples, sources beside each other or overlaid")
    sub.add_argument("steps", nargs="*", metavar="STEP", help="show the columns of these steps first")
    sub.add_argument("--port", type=int, help="to listen on (5000, or the next that is free)")
    sub.add_argument("--open", action="store_true", help="open it in the browser")
    sub.set_defaults(only_shows=True)


def look(given: Any, load: Load, steps: StepResolver, port: Callable[[int | None], int]) -> int:
    """Serve until Ctrl-C."""
    import secrets

    try:
        from hyperloom.stages.look.server import serve
        from hyperloom.stages.look.viewer import Viewer

        __import__("starlette.applications"), __import__("uvicorn")
    except ModuleNotFoundError as error:
        raise PluginError(
            f"looking needs {error.name}, which is not installed. Next: pip install 'hyperloom[look]'"
        ) from error
    loaded, storage = load(given)
    recipe = loaded.recipe
    viewer = Viewer(recipe.name, storage, recipe.modalities, lambda: steps(loaded, storage), given.steps)
    number, token = port(given.port), secrets.token_urlsafe(24)
    url = f"http://127.0.0.1:{number}/in/{token}"
    print(f"{len(viewer.shelf):,} samples at {url} (Ctrl-C ends it)", flush=True)
    if getattr(given, "json", False):
        given.reply({"url": url, "samples": len(viewer.shelf)})
    if given.open:
        import webbrowser

        webbrowser.open(url)
    serve(viewer, token, number)
    return 0
