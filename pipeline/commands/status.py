"""`hyperloom status`: what the root holds of a recipe."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    opening.add(commands, "status", _status, "say what the root holds of this recipe")


def _status(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline.inspection import status
    from hyperloom.pipeline.output.tables import table

    steps = opening.steps(loaded, storage)
    rows, notes = status.rows(storage, steps), list(status.notes(storage))
    work = status.work(storage, loaded.recipe.name, steps)
    given.answer = {
        "root": str(storage),
        "steps": [row | {"work": work.get(row["step"])} for row in rows],
        "notes": notes,
    }
    if work:
        rows = [
            {k: v for k, v in row.items() if k != "folder"} | {"work": status.words(work.get(row["step"], {}))}
            for row in rows
        ]
    print(table(rows))
    for note in notes:
        print(note)
    return 0
