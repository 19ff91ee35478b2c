"""`hyperloom schedule`: what a schedule did and will do, and changes of it by hand."""

from __future__ import annotations

import os
from typing import Any

from hyperloom.pipeline.commands import arguments, opening

CHANGES = {
    "add": "let ticks run this recipe by its `schedule`, from now on",
    "pause": "let slots pass until resumed; a run that goes on is left alone",
    "resume": "go on after a pause; slots of the meantime are not made up for",
    "remove": "end the schedule; its history stays",
}


def add(commands: Any) -> None:
    help_ = "add, pause, resume or remove a recipe's schedule; list, next and history of what is there"
    family = commands.add_parser("schedule", help=help_, description=help_)
    actions = family.add_subparsers(metavar="ACTION", required=True)
    for name, text in CHANGES.items():
        sub = opening.add(actions, name, _change, text)
        sub.add_argument("--why", default="", help="a reason, for the history")
        sub.set_defaults(kind=name)
    opening.add(actions, "list", _list, "all schedules of the recipe's root")
    sub = opening.add(actions, "next", _next, "the slots that come")
    sub.add_argument("--count", type=arguments.count, default=5, help="how many (5)")
    sub = opening.add(actions, "history", _history, "what became of each slot, newest first")
    sub.add_argument("--count", type=arguments.count, default=30, help="how many (30)")


def _change(given: Any) -> int:
    loaded, storage = opening.scheduled(given)
    from datetime import UTC, datetime

    from hyperloom.pipeline.scheduling import change
    from hyperloom.pipeline.scheduling.journal import Journal

    path = os.path.abspath(loaded.path)
    text = change.change(Journal(storage, loaded.recipe.name), given.kind, datetime.now(UTC), given.why, path)
    print(text)
    given.answer = {"text": text}
    if given.kind in ("add", "resume"):
        given.count = 3
        _next(given)
        given.answer["text"] = text
    return 0


def _list(given: Any) -> int:
    _, storage = opening.load(given)
    from hyperloom.pipeline.output.tables import table
    from hyperloom.pipeline.scheduling import history, journal

    listed = given.answer = list(history.overview(storage, journal.names(storage)))
    print(table(listed) if listed else "no schedule was added under this root")
    return 0


def _next(given: Any) -> int:
    loaded, storage = opening.scheduled(given)
    from datetime import UTC, datetime
    from itertools import islice
    from zoneinfo import ZoneInfo

    from hyperloom.pipeline.recipes import timetable
    from hyperloom.pipeline.scheduling.journal import Journal

    schedule, name = loaded.recipe.schedule, loaded.recipe.name
    standing = Journal(storage, name).standing()
    if standing is None or standing.status != "active":
        print(f"the schedule {name!r} is {standing.status if standing else 'not added'}; else its slots would be:")
    zone, now = ZoneInfo(schedule.timezone), datetime.now(UTC)
    given.answer = {"schedule": name, "status": standing.status if standing else "not added", "slots": []}
    for slot in islice(timetable.slots(schedule, now), given.count):
        given.answer["slots"].append(timetable.text(slot))
        late = (timetable.due(schedule, name, slot) - slot).total_seconds()
        added = f"  +{late:.0f} s" if late else ""
        print(f"{slot.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}  {timetable.text(slot)}{added}")
    return 0


def _history(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline.output.tables import table
    from hyperloom.pipeline.scheduling import history
    from hyperloom.pipeline.scheduling.journal import Journal

    listed = history.rows(Journal(storage, loaded.recipe.name), given.count)
    given.answer = listed
    columns = ("slot", "state", "starts", "missed", "why", "outcome", "run")
    shown = [{k: row.get(k, "") for k in columns} for row in listed]
    print(table(shown) if shown else "no slot was decided yet")
    return 0
