"""Status: what a root holds of a recipe, and whether somebody works on it now. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from hyperloom.pipeline import claims, process
from hyperloom.pipeline import events as event_log
from hyperloom.pipeline.plan import PlannedStep
from hyperloom.pipeline.storage import Storage


def rows(storage: Storage, steps: list[PlannedStep]) -> list[dict[str, Any]]:
    """One row a step: its state, what it holds, and the units committed of one that is not finished."""
    out = []
    for step in steps:
        done = step.manifest
        out.append(
            {
                "step": step.name,
                "stage": step.stage.stage,
                "state": step.state,
                "units": len(done.records) if done else None,
                "rows": done.rows if done else None,
                "quarantined": done.quarantined if done else None,
                "MB": round(done.total_bytes / 2**20, 1) if done else None,
                "folder": step.folder,
            }
        )
    return out


def notes(storage: Storage) -> Iterator[str]:
    """Sentences on who works here on what, the last run, and what MLflow has not seen."""
    here = [card for card in claims.cards(storage) if not process.is_gone(card)]
    for card in here:
        works = [name.removeprefix("steps/") for name in card.get("works", ())]
        on = f": {', '.join(works)}" if works else ", and waits" if card.get("waits") else ""
        yield f"in use by {process.named(card)}, recipe {card['recipe']!r}{on}"
    if not here:
        yield "nobody works on this root"
    runs = storage.names("events")
    if runs:
        last: dict[str, Any] = {}
        for event in event_log.read(storage, runs[-1]):
            if event["writer"].startswith("driver"):
                last = event
        ended = last.get("kind") == "run_finished"
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(last.get("t", 0) / 1000))
        yield f"last run {runs[-1]}: {last['status'] if ended else 'not finished'}, last heard of {when} UTC"
    waiting = event_log.pending(storage)
    if waiting:
        yield f"{len(waiting)} run(s) not yet shown in MLflow; the next `hyperloom run` replays them"
