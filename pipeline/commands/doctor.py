"""`hyperloom doctor`: what a run needs, and what is missing."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(commands, "doctor", _doctor, "look at all that a run needs, and say what is missing")
    sub.add_argument("--no-ray", action="store_true", help="do not start or join a cluster")


def _doctor(given: Any) -> int:
    loaded, _ = opening.load(given)
    from hyperloom.pipeline.doctor import examine

    worst = 0
    join = None if given.no_ray else opening.connect(loaded)
    for verdict, what, text in examine(given.root, loaded.recipe.tracking, join):
        print(f"{verdict:>4}  {what:<14} {text}")
        worst |= verdict == "bad"
    return int(worst)
