"""When a recipe runs by itself: its `schedule` section.

    schedule:
      cron: "0 3 * * *"              # or several: ["0 3 * * mon-fri", "0 9 * * sat"]
      timezone: Europe/Berlin
      on: {type: new-data, samples: 500}
      interval: 12h
      jitter: 10m

Nothing here keeps time: `hyperloom tick` does what is due whenever somebody calls it (cron, a systemd timer, a
Kubernetes CronJob, Slurm, `--watch`), see `pipeline.scheduling`. All fields are placement: when something runs changes
nothing of what it gives.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from hyperloom.pipeline import registry
from hyperloom.pipeline.config import Config, as_tuple
from hyperloom.pipeline.plugins import of
from hyperloom.pipeline.spelling import near

registry.register(
    "trigger",
    {
        "always": "hyperloom.pipeline.scheduling.trigger:Always",
        "new-data": "hyperloom.pipeline.scheduling.trigger:NewData",
    },
)
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(value: Any) -> Any:
    """`90s`, `15m`, `12h`, `2d`, or seconds, as a timedelta. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
    if match is None:
        raise ValueError("a time is a number with its unit, as in 90s, 15m, 12h or 2d")
    return timedelta(seconds=float(match[1]) * UNITS[match[2] or "s"])


def _expression(value: str) -> str:
    from cronsim import CronSimError

    from hyperloom.pipeline.recipes.timetable import first

    example = "minute hour day month weekday, as in '0 3 * * *'"
    if len(value.split()) != 5:
        raise ValueError(f"a cron expression has five fields: {example}")
    try:
        if first(value) is None:
            raise ValueError("this time never comes")
    except CronSimError as error:
        wrong = str(error).lower().removeprefix("bad ")
        raise ValueError(f"no cron expression, its {wrong} is wrong: {example}") from error
    return value


Duration = Annotated[timedelta, BeforeValidator(duration)]


class CronSchedule(Config):
    """`cron` and `timezone` give *slots*, instants at which the recipe is due; the rest says what becomes of one."""

    cron: Annotated[tuple[Annotated[str, AfterValidator(_expression)], ...], Field(min_length=1)]
    """Five fields each, in local time. Where clocks go forward, a fixed time that does not exist comes right after the
    gap; where they go back, it comes once. Every hour and every so many minutes keep real time."""
    timezone: str = "UTC"
    """A name of the IANA data base, such as Europe/Berlin."""
    on: Annotated[Any, of("trigger")] = Field("new-data", validate_default=True)
    """Plug-in of kind trigger, which says whether there is a reason to run: `always` (all that is not fresh),
    `new-data` (the sources changed), `drift`."""
    interval: Duration = timedelta(0)
    """The shortest time between two slots that run."""
    jitter: Duration = timedelta(0)
    """A slot starts late by up to so much. How much follows from the name and the slot."""
    missed: Literal["once", "skip"] = "once"
    """Slots that nobody was there for: the last is made up for, or none."""
    grace: Duration = timedelta(hours=1)
    """How late a slot may start before it counts as missed."""
    tries: int = Field(5, ge=1)
    """How often a slot is started before it has failed. Waiting for another driver, a store or a cluster is free."""

    _listed = field_validator("cron", mode="before")(as_tuple)

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo, available_timezones

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            if not (known := available_timezones()):
                raise ValueError("there is no data base of time zones here. Next: pip install tzdata") from error
            example = near(value, known) or ", such as UTC or Europe/Berlin"
            raise ValueError(f"no time zone of the IANA data base{example}") from error
        return value

    @model_validator(mode="after")
    def _apart(self) -> CronSchedule:
        from hyperloom.pipeline.recipes.timetable import closest

        if self.jitter and self.jitter >= (gap := closest(self)):
            raise ValueError(f"jitter: must be less than the {gap} between two slots")
        return self
