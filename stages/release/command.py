"""The command `hyperloom release`: who is champion, who was before, and back to the one before.

Going back moves the pointer in the root, if it is still what was read, and leaves an `alias` event, from which MLflow's
alias follows: at once where the server answers, else with the next run. No step becomes stale: what was made stays
made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.claims import Claims
from hyperloom.pipeline.root.events import Events, new_run
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import champion as champions
from hyperloom.stages.release.stage import ALIAS


def release(
    given: Any, storage: Storage, named: list[str], catch_up: Callable[[], None], chosen: Callable[[str], str]
) -> int:
    """List the champions, or go back: with `given.rollback` to the one before, with `given.adopt` to the release that
    is `chosen` in MLflow. `named` are the recipe's own names."""
    known = champions.names(storage)
    if not (given.rollback or given.adopt):
        lines = {name: champions.line(storage, name) for name in known}
        shown = {name: [asdict(c) | {"before": None} for c in line] for name, line in lines.items()}
        given.answer = {"champions": shown}
        for name in known:
            print("\n".join(_listed(name, champions.line(storage, name))))
        print("" if known else "no release has passed its gate yet", end="" if known else "\n")
        return 0
    name = given.name or _only(named or known)
    with Claims(storage, "release --rollback", wait=given.wait):
        present, choice = champions.current(storage, name), chosen(name) if given.adopt else None
        if given.adopt and present is not None and present.release == choice:
            given.answer = {"name": name, "champion": choice, "left": None}
            print(f"{name}: {choice[:12]} is the champion in MLflow and here")
            return 0
        left, came = champions.back(storage, name, choice)
        run = new_run(storage)
        with Events(storage, run, "driver") as events:
            events.emit("alias", "", name=name, alias=ALIAS, fingerprint=came.release, left=left.release)
    given.answer = {"name": name, "champion": came.release, "left": left.release}
    print(f"{name}: {came.release[:12]} is the champion again, in place of {left.release[:12]}")
    catch_up()
    return 0


def _only(names: list[str]) -> str:
    if len(names) != 1:
        what = f"there are {', '.join(names)}" if names else "the recipe has no release step and the root no champion"
        raise RecipeError(f"which name? {what}. Next: say it with --name")
    return names[0]


def _listed(name: str, line: list[champions.Champion]) -> list[str]:
    lines = [f"{name}"]
    for place, one in enumerate(line):
        figures = ", ".join(f"{k} {v:.4g}" for k, v in sorted(one.figures.items()) if not k.endswith("coverage"))
        lines.append(f"  {'champion' if place == 0 else 'before  '}  {one.release[:12]}  on {one.data[:12]}  {figures}")
    return lines
