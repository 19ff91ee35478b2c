"""`hyperloom init`: from a folder to a first recipe; the work is the stages' (`hyperloom.stages.starter`)."""

from __future__ import annotations

from typing import Any


def add(commands: Any) -> None:
    from hyperloom.stages.starter import command

    command.add(commands, check)


def check(text: str, path: str) -> None:
    """Raise what `hyperloom plan` would say of a recipe."""
    import hyperloom.stages  # noqa: F401  (registers the plug-ins)
    from hyperloom.pipeline.planning import plan
    from hyperloom.pipeline.recipes import recipe
    from hyperloom.pipeline.root.digests import Digests
    from hyperloom.pipeline.root.storage import Storage

    loaded = recipe.parse(text, path)
    storage = Storage(loaded.recipe.root)
    plan.plan(loaded, storage, Digests(storage))
