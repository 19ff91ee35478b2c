"""Pages: what a run leaves for people, beside its results. Stages say which there are (plug-ins of kind `page`).

A page is a file below the root that can be made anew at any time, so nothing depends on it: what goes wrong while it is
written is a line, never the end of a run. A run with nothing to do makes none, and says where the present one lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hyperloom.pipeline import plugins, registry
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.root.storage import Storage


def write(
    loaded: Any, storage: Storage, steps: Sequence[Any], ending: Mapping[str, Any], say: Callable[[str], None]
) -> str:
    """Write the pages of these planned steps; the path of the first below the root, empty where there is none.
    `ending`: run, status and seconds of a run whose last event is still to come."""
    paths = []
    for name, kind in _kinds():
        try:
            paths.append(kind.write(loaded, storage, steps, ending))
        except Exception as error:  # whatever a page of one's own brings: the run itself is over
            from hyperloom.pipeline.secrets import blot

            why = str(error) if isinstance(error, HyperloomError) else f"{type(error).__name__}: {error}"
            say(blot(f"the {name} of this run could not be written: {why}"))
    return paths[0] if paths else ""


def present(loaded: Any, storage: Storage, steps: Sequence[Any]) -> str:
    """Where the first page of these steps lies already; empty where nobody wrote it."""
    for _, kind in _kinds():
        try:
            if path := kind.present(loaded, storage, steps):
                return str(path)
        except HyperloomError:
            continue
    return ""


def _kinds() -> Iterator[tuple[str, Any]]:
    return ((name, plugins.load("page", name)) for name in registry.known("page"))
