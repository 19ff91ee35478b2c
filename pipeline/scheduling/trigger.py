"""Triggers: is there a reason to run? Asked for each slot, and answered from the plan, so without ray, torch or mlflow.

A trigger may need steps done before it can tell (`first`); then these run in the slot, and it is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.plugins import Plugin
from hyperloom.pipeline.stage import Stage


@dataclass(frozen=True)
class TriggerCase:
    """What a trigger judges: the steps as they are planned, and the identities that the sources had (step ->
    fingerprint) when a run last ended; none before the first."""

    steps: Sequence[PlannedStep]
    base: Mapping[str, str]
    growth: Callable[[str], int | None]
    """How many samples a source has that it had not then; None where only a run can tell."""

    @property
    def sources(self) -> dict[str, str]:
        """The identities of the sources now."""
        return {s.name: s.fingerprint for s in self.steps if s.is_source}

    @property
    def moved(self) -> list[str]:
        """Sources that differ from the last time."""
        now = self.sources
        return [name for name in now if now[name] != self.base.get(name)]


@dataclass(frozen=True)
class TriggerVerdict:
    """Whether the slot runs, why or why not in words, and what must be `first` before that can be said. `waits`: what
    has arrived was not looked at, it is left to a later slot."""

    due: bool
    why: str
    first: tuple[str, ...] = ()
    waits: bool = False


class Trigger(Plugin):
    """Base of every trigger."""

    def check(self, steps: Mapping[str, Stage]) -> None:
        """Raise ValueError where this trigger cannot work with these steps."""

    def judge(self, case: TriggerCase) -> TriggerVerdict:
        """Is there a reason?"""
        raise TypeError(f"the trigger {self.type!r} has no judge()")


class Always(Trigger):
    """Every slot has a reason. (Where nothing is stale there is nothing to do.)"""

    def judge(self, case: TriggerCase) -> TriggerVerdict:
        return TriggerVerdict(True, "every slot runs")


class NewData(Trigger):
    """The sources are not what they were when a run last ended, by at least so many `samples`. Fewer wait for a later
    slot, together with what comes until then; 0 counts what was taken away as new, too."""

    samples: int = Field(1, ge=0)

    def judge(self, case: TriggerCase) -> TriggerVerdict:
        if not case.base:
            return TriggerVerdict(True, "the first run")
        if not case.moved:
            stale = [s.name for s in case.steps if s.state != "fresh"]
            rest = f" ({', '.join(stale)} would run for other reasons: hyperloom plan)" if stale else ""
            return TriggerVerdict(False, f"no new data{rest}")
        grown = {name: case.growth(name) for name in case.moved}
        count = sum(number for number in grown.values() if number)
        if any(number is None for number in grown.values()):
            return TriggerVerdict(True, f"other data in {', '.join(grown)}")
        least = "" if count >= self.samples else f", {self.samples} are asked for"
        why = f"{counted(count, 'new sample')} in {', '.join(grown)}{least}"
        return TriggerVerdict(not least, why, waits=bool(least))
