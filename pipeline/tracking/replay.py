"""Tracking as a run sees it: its own tracker, and at its end those for what earlier runs of the root could not show.

Each run is shown under the recipe that it was of: several recipes work on one root.
"""

from __future__ import annotations

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking.process import TrackingProcess
from hyperloom.pipeline.tracking.store import store_uri


def tracker(storage: Storage, loaded: RecipeFile, run: str) -> TrackingProcess | None:
    """A tracking process for a run that begins; None where there is no store for it."""
    uri = store_uri(storage, loaded.recipe.tracking)
    return TrackingProcess(storage, run, uri, loaded.recipe.name) if uri else None


def catch_up(storage: Storage, loaded: RecipeFile, progress: Progress) -> None:
    """Replay to MLflow what earlier runs could not tell it; those of other recipes too, if they have the same store."""
    uri = store_uri(storage, loaded.recipe.tracking)
    waiting = {run: _recipe(storage, run, loaded.recipe.name) for run in events.pending(storage)} if uri else {}
    for run, name in list(waiting.items()):
        known = events.tracked(storage, run).get("uri", blot(uri))
        if name != loaded.recipe.name and known != blot(uri):
            del waiting[run]  # its own recipe will do it, to its own store
    if waiting:
        progress.say(f"{counted(len(waiting), 'earlier run')} not yet in MLflow: replaying")
    for run, name in waiting.items():
        process = TrackingProcess(storage, run, uri, name, patience=2.0, follow=False)
        unshown = process.finish(progress.say)
        if unshown:
            progress.say(unshown)
        if not process.whole:
            return


def _recipe(storage: Storage, run: str, otherwise: str) -> str:
    """The name of a run's recipe, which is that of its experiment; a roll-back has none of its own."""
    started = (event for event in events.read(storage, run) if event["kind"] == "run_started")
    return next((event["name"] for event in started), otherwise)
