"""`hyperloom tick`: do what the schedules of recipes have due. For cron, systemd, a CronJob, Slurm, or as `--watch`."""

from __future__ import annotations

import os
import sys
from typing import Any

from hyperloom.pipeline.commands import arguments, opening

WATCHED_SECONDS = 30.0
"""The longest pause of `--watch` between two looks."""


def add(commands: Any) -> None:
    help_ = "do what the recipes' schedules have due; safe to call at any time, by any number of schedulers"
    sub = commands.add_parser("tick", help=help_, description=help_)
    sub.add_argument("recipes", nargs="+", metavar="recipe", help="paths of recipes with a `schedule`")
    sub.add_argument("--root", help="use this root (a folder or an fsspec URL) instead of the recipes'")
    sub.add_argument("--watch", action="store_true", help="stay, and do it whenever something is due")
    sub.add_argument("--add", action="store_true", help="add schedules that are not there yet")
    sub.add_argument("--submit", action="store_true", help="hand what is due to a Ray cluster, one job a slot")
    sub.add_argument("--address", help="with --submit: URL of the job server (http://127.0.0.1:8265)")
    sub.add_argument("--slot", default="", help="carry out this slot, if it is decided and open, and nothing else")
    sub.add_argument(
        "--at", type=arguments.instant, metavar="TIME", help="as if it were this time (ISO 8601 with an offset)"
    )
    sub.add_argument("--no-mlflow", action="store_true", help="leave MLflow for a later run to catch up with")
    opening.add_wait(sub)
    sub.set_defaults(command=_tick, long=True, sharing=set())


def _tick(given: Any) -> int:
    given.answer = {}
    if not given.watch:
        return max(_look(given, recipe) for recipe in given.recipes)
    from hyperloom.pipeline.host.ending import Ending

    ending = Ending()
    with ending.on_signals():
        while not ending.begun:
            for recipe in given.recipes:
                _look(given, recipe)
            ending.wait(WATCHED_SECONDS)
    raise ending.error()


def _look(given: Any, recipe: str) -> int:
    """A tick of one recipe. What goes wrong is said, and is no reason not to look at the others."""
    from hyperloom.pipeline.errors import Ended, HyperloomError

    try:
        result = _go(given, recipe)
    except Ended:
        raise
    except HyperloomError as error:
        print(f"hyperloom: {error}", file=sys.stderr)
        given.answer[recipe] = {"error": str(error), "exit_code": int(error.exit_code)}
        return error.exit_code
    given.answer[recipe] = {"text": result.text, "exit_code": int(result.exit_code)}
    print(f"{recipe}: {result.text}", flush=True)
    return result.exit_code


def _go(given: Any, recipe: str) -> Any:
    import argparse

    one = argparse.Namespace(**{**vars(given), "recipe": recipe})
    loaded, storage = opening.scheduled(one)
    from datetime import UTC, datetime

    from hyperloom.pipeline.scheduling import change
    from hyperloom.pipeline.scheduling.journal import Journal
    from hyperloom.pipeline.scheduling.tick import Tick

    now = given.at or datetime.now(UTC)
    journal, path = Journal(storage, loaded.recipe.name), os.path.abspath(loaded.path)
    standing = journal.standing()
    if given.add and standing is None:
        change.change(journal, "add", now - loaded.recipe.schedule.grace, recipe=path)
    elif given.add and standing and (words := change.other(standing, path)) and recipe not in given.sharing:
        given.sharing.add(recipe)
        print(f"{recipe}: {words}", flush=True)
    start, hand_over = _starter(given, loaded, str(storage)), _handing(given, loaded, str(storage))
    return Tick(loaded, storage, now, start, hand_over, print, _shown(given, loaded, storage)).go(given.slot)


def _shown(given: Any, loaded: Any, storage: Any) -> Any:
    """Shows what MLflow could not be shown before, of earlier slots too."""

    def shown() -> None:
        from hyperloom.pipeline.output.progress import Progress
        from hyperloom.pipeline.tracking.replay import catch_up

        if not given.no_mlflow:
            catch_up(storage, loaded, Progress())

    return shown


def _starter(given: Any, loaded: Any, root: str) -> Any:
    def start(named: Any, only: list[str] | None) -> Any:
        from hyperloom.pipeline.running import runner

        join = opening.connect(loaded)
        outcome = runner.run(loaded, join, root, only, given.wait, track=not given.no_mlflow, named=named, paged=True)
        if outcome.unshown:
            print(outcome.unshown)
        return outcome

    return start


def _handing(given: Any, loaded: Any, root: str) -> Any:
    if not given.submit:
        return None

    def hand_over(due: Any, most: int) -> str:
        from hyperloom.clusters.submit import submit_slot

        options = ["--no-mlflow"] if given.no_mlflow else []
        where = opening.cluster(loaded), loaded, root, given.address
        return submit_slot(*where, due.job, due.slot, most, *options)

    return hand_over
