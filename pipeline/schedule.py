"""When a recipe runs by itself. The engine only checks and shows it; the platform that keeps time (a KubeRay
CronJob, cron, Slurm's scrontab) starts `hyperloom run`, and a run without new data costs a fraction of a second.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from hyperloom.pipeline.config import Config


class CronSchedule(Config):
    """`cron` has five fields, in UTC; `on: new-data` says that a run without new data should do nothing."""

    cron: str
    on: Literal["always", "new-data"] = Field("new-data")

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        if len(value.split()) != 5:
            raise ValueError("a cron line has five fields: minute hour day month weekday, as in '0 3 * * *'")
        return value
