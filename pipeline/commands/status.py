"""`hyperloom status`: what the root holds of a recipe."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    opening.add(commands, "status", _status, "say what the root holds of this recipe")


def _status(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline import status
    from hyperloom.pipeline.tables import table

    print(table(status.rows(storage, opening.steps(loaded, storage))))
    for note in status.notes(storage):
        print(note)
    return 0
