"""`hyperloom data` and `hyperloom export`, whose work is the stages' (`stages.data`, `stages.people`)."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    from hyperloom.stages.data import command

    command.add(opening.add, commands, opening.load, opening.steps, _send)


def _send(given: Any, loaded: Any, storage: Any, planned: Any) -> int:
    from hyperloom.stages.people.command import send

    return send(given, loaded, storage, planned)
