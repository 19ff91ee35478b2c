"""`hyperloom doctor`: what a run needs, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(commands, "doctor", _doctor, "look at all that a run needs, and say what is missing")
    sub.add_argument("--no-ray", action="store_true", help="do not start or join a cluster")


def _doctor(given: Any) -> int:
    loaded, _ = opening.load(given, begins=True)
    worst, given.answer = 0, []
    for verdict, what, text in _findings(given, loaded):
        given.answer.append({"verdict": verdict, "what": what, "text": text})
        print(f"{verdict:>4}  {what:<14} {text}", flush=True)
        worst |= verdict == "bad"
    return int(worst)


def _findings(given: Any, loaded: Any) -> Iterator[tuple[str, str, str]]:
    from hyperloom.clusters import machine
    from hyperloom.pipeline.inspection.doctor import examine

    yield from machine.findings(opening.cluster(loaded))
    yield from examine(given.root, loaded.recipe.tracking, None if given.no_ray else opening.connect(loaded))
