"""Writing the report of a root: one file below it, which appears whole or not at all.

A run writes its own at its end (`pipeline.output.pages`, for which this is a plug-in); what goes wrong there is a line,
never the end of a run. `hyperloom report` writes it anew from what the root holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.fingerprint import SHORT, fingerprint
from hyperloom.pipeline.root.storage import Storage

if TYPE_CHECKING:
    from hyperloom.stages.report.page import Page


class ReportPage:
    """The plug-in of kind `page`. Paths are relative to the root."""

    @staticmethod
    def write(loaded: Any, storage: Storage, steps: Sequence[Any], ending: Mapping[str, Any] | None = None) -> str:
        """Write the report of the recipe `loaded` in this root; where it lies. `ending` are run, status and seconds of
        a run that is just over. Raises StorageError."""
        path = place(loaded, steps)
        storage.write(path, rendered(loaded, storage, steps, ending))
        return path

    @staticmethod
    def present(loaded: Any, storage: Storage, steps: Sequence[Any]) -> str:
        """Where the report of these steps lies; empty where nobody wrote it. Costs one look."""
        path = place(loaded, steps)
        return path if storage.exists(path) else ""


def place(loaded: Any, steps: Sequence[Any]) -> str:
    """Where the report of these steps lies: it follows from their identities, so the same run again, or one that goes
    on after an interruption, has the same page."""
    return f"reports/{loaded.recipe.name}/{fingerprint([s.fingerprint for s in steps])[:SHORT]}/report.html"


def rendered(loaded: Any, storage: Storage, steps: Sequence[Any], ending: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of the report."""
    from hyperloom.stages.report.render import html

    return html(gathered(loaded, storage, steps, ending))


def gathered(loaded: Any, storage: Storage, steps: Sequence[Any], ending: Mapping[str, Any] | None = None) -> Page:
    """The report as data."""
    from hyperloom.stages.report.gather import page
    from hyperloom.stages.report.root import opened

    root = opened(loaded, storage, list(steps))
    if ending and root.run.run == ending["run"]:
        root.run.status, root.run.seconds = str(ending["status"]), ending["seconds"]
    return page(root)
