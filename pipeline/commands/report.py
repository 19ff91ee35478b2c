"""`hyperloom report` and `hyperloom diff`, whose work is the stages' (`hyperloom.stages.report.command`)."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    from hyperloom.stages.report import command

    command.add(opening.add, commands, opening.load, opening.steps)
