"""`hyperloom look`, whose work is the stages' (`hyperloom.stages.look.command`)."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    from hyperloom.stages.look import command

    command.add(opening.add, commands, opening.load, opening.steps, _port)


def _port(request: int | None) -> int:
    from hyperloom.pipeline.tracking.listening import free_port

    return free_port("127.0.0.1", request)
