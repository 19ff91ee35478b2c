"""`hyperloom release`: the champions, and the way back."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(commands, "release", _release, "list the champions, or go back to the one before")
    sub.add_argument("--rollback", action="store_true", help="make the champion before the present one champion again")
    sub.add_argument("--adopt", action="store_true", help="make whom a person chose in MLflow champion here too")
    sub.add_argument("--name", help="of the registered model, where there are several")
    opening.add_wait(sub)


def _release(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline.output.progress import Progress
    from hyperloom.pipeline.tracking.replay import catch_up
    from hyperloom.stages.release.command import ALIAS, release

    named = [s.name for s in loaded.recipe.steps.values() if s.stage == "release"]

    def chosen(name: str) -> str:
        from hyperloom.pipeline.tracking.mlflow_model import chosen as chosen_
        from hyperloom.pipeline.tracking.store import store_uri

        return chosen_(store_uri(storage, loaded.recipe.tracking), name, ALIAS)

    return release(given, storage, named, lambda: catch_up(storage, loaded, Progress()), chosen)
