"""`hyperloom data` and `hyperloom export`, whose work is the stages' (`hyperloom.stages.data.command`)."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    from hyperloom.stages.data import command

    command.add(opening.add, commands, opening.load, opening.steps)
