"""Status: what a root holds of a recipe, and whether somebody works on it now. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.host import process
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.root import claims
from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.storage import Storage

SEEDS = 4
"""Of a training of so many seeds each has its figure in the table."""
LOOKED_AT = 10
"""Runs of a root that are looked at for the last of a recipe: others may work there too."""


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
                "MB": round(done.total_bytes / 1e6, 1) if done else None,
                "folder": step.folder,
            }
        )
    return out


def work(storage: Storage, recipe: str, steps: list[PlannedStep]) -> dict[str, dict[str, Any]]:
    """How far the steps are that the recipe's last run began, where it has not ended: units done, in all, reused and
    failed, slots at work; of a training the last update, how many there will be, and its figures; of several seeds the
    sums of these, how many were `done_before`, and of each by itself as `trainings`. What a driver that died has left
    is in it too."""
    begun: dict[str, dict[str, Any]] = {}
    repeats = {step.name: step.stage.repeats for step in steps}
    before: dict[str, int] = {}
    trained: dict[str, dict[str, dict[str, Any]]] = {}
    for event in _last_events(storage, recipe):
        name, kind = event.get("step", ""), event["kind"]
        if kind == "step_started":
            begun[name] = {"since": event["t"]}
            trained.pop(name, None)
            before[name] = 0
        elif kind == "step_finished":
            begun.pop(name, None)
        elif kind == "progress" and name in begun:
            begun[name] |= {k: event[k] for k in ("done", "total", "reused", "failed", "workers") if k in event}
            if event["total"] == repeats.get(name):  # its trainings; a step may have other units before and after
                before[name] = max(before[name], event["reused"])
        elif kind == "metric" and event["at"] and event["values"] and name in begun:
            one = trained.setdefault(name, {}).setdefault(event.get("writer", ""), {})
            one |= {"update": event["at"], "figures": event["values"]}
            one |= {"updates": event["of"]} if event.get("of") else {}
    for name in (n for n in repeats if n in begun and n in trained):
        begun[name] |= _together(list(trained[name].values()), repeats[name], before[name])
    unfinished = {step.name for step in steps if step.manifest is None}
    return {name: about for name, about in begun.items() if name in unfinished}


def _together(trainings: list[dict[str, Any]], count: int, reused: int) -> dict[str, Any]:
    """The trainings of a step that have begun, of so many in all, which are as long as each other; those that were done
    before say nothing in this run."""
    if max(count, len(trainings)) == 1:
        return trainings[0]
    planned = [one["updates"] for one in trainings if "updates" in one]
    length = sum(planned) / len(planned) if len(planned) == len(trainings) else 0
    whole, earlier = round(length * max(count, len(trainings))), max(0, min(reused, count - len(trainings)))
    figures = {name: value for one in trainings for name, value in one["figures"].items()}
    update = sum(one["update"] for one in trainings) + round(length * earlier)
    sums = {"update": update, "figures": figures, "seeds": count, "done_before": earlier}
    return sums | {"trainings": trainings} | ({"updates": whole} if whole else {})


def _last_events(storage: Storage, recipe: str) -> list[dict[str, Any]]:
    """The events of the last run of a recipe, among the last runs of the root."""
    for run in reversed(storage.names("events")[-LOOKED_AT:]):
        events = list(event_log.read(storage, run))
        if any(event["kind"] == "run_started" and event["name"] == recipe for event in events):
            return events
    return []


def words(about: dict[str, Any]) -> str:
    """The work on one step, for a table."""
    if "update" in about:
        of = f"/{about['updates']:,}" if "updates" in about else ""
        each = about.get("trainings", [about])
        first = [next(iter(one["figures"].items())) for one in each]
        shown = ", ".join(f"{name} {value:.4g}" for name, value in first[:SEEDS]) + ", .." * (len(first) > SEEDS)
        begun = len(each) + about.get("done_before", 0)
        seeds = f" of {about['seeds']} seeds, {begun} at work or done" if "trainings" in about else ""
        return f"{about['update']:,}{of} updates{seeds}: {shown}"
    if about.get("total"):
        failed = f", {about['failed']} failed" if about["failed"] else ""
        slots = f", {counted(about['workers'], 'worker')}" if about.get("workers") else ""
        return f"{about['done']:,}/{about['total']:,} units{failed}{slots}"
    return "began" if about else ""


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
        yield f"{counted(len(waiting), 'run')} not yet shown in MLflow; the next `hyperloom run` replays them"
