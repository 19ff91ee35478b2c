"""Changes of a schedule by hand: add, pause, resume, remove. Each is an entry of the journal; what holds already stays
as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.recipes.timetable import text
from hyperloom.pipeline.scheduling.journal import Journal, Standing

ROUNDS = 100
STATUS = {"add": "active", "pause": "paused", "resume": "active", "remove": "removed"}


def change(journal: Journal, kind: str, now: datetime, why: str = "", recipe: str = "") -> str:
    """Apply `kind`; a sentence that says what holds now. Where the schedule begins (anew), slots up to `now` are over.
    A schedule is known by the recipe's name alone, so that a recipe may be changed and moved; the path `recipe` of the
    one that added it is noted, and said to another one.
    Raises HyperloomError where there is nothing to change."""
    for _ in range(ROUNDS):
        standing = journal.standing()
        if kind == "add" and standing is not None and standing.status == "paused":
            raise HyperloomError(f"the schedule {journal.name!r} is paused. Next: hyperloom schedule resume")
        if kind != "add" and (standing is None or standing.status == "removed"):
            raise HyperloomError(f"there is no schedule {journal.name!r} here. Next: hyperloom schedule add")
        if standing is not None and standing.status == STATUS[kind] and kind != "resume":
            words = other(standing, recipe) if kind == "add" else ""
            return f"the schedule {journal.name!r} was {standing.status} already{words and f': {words}'}"
        after = _after(standing, kind, text(now))
        after = replace(after, recipe=recipe) if kind == "add" else after
        if journal.append(standing, after, kind, why=why) is not None:
            return f"the schedule {journal.name!r} is {STATUS[kind]}"
    raise HyperloomError(f"the schedule {journal.name!r} changes faster than it can be read. Next: try again")


def other(standing: Standing, recipe: str) -> str:
    """What is to be said to a recipe whose schedule another one has added under the same name; else empty."""
    if not recipe or standing.recipe in ("", recipe) or standing.status == "removed":
        return ""
    return (
        f"the schedule was added by {standing.recipe}. Where that is another recipe than {recipe}, the two share its "
        "slots, and one of them would not run. Next: another `name` in one of them"
    )


def _after(standing: Standing | None, kind: str, now: str) -> Standing:
    if standing is None:
        return Standing("active", now)
    after = replace(standing, status=STATUS[kind])  # type: ignore[arg-type]
    if kind == "remove":
        return replace(after, open=None)
    return after if kind == "pause" else replace(after, through=now)
