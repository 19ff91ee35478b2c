"""`hyperloom run`: do what is not fresh."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import arguments, opening
from hyperloom.pipeline.counting import counted


def add(commands: Any) -> None:
    help_ = "run the steps that are not fresh; the same command continues after any interruption"
    add_options(opening.add(commands, "run", run, help_))


def add_options(sub: Any) -> None:
    """Add what can be said of a run."""
    only = "only this step, or these (student-*), and what it needs (repeatable)"
    sub.add_argument("--step", action="append", metavar="NAME", help=only)
    sub.add_argument(
        "--pilot", type=arguments.count, metavar="SAMPLES", help="the whole chain over a few samples, and a forecast"
    )
    opening.add_wait(sub)
    sub.add_argument("--no-mlflow", action="store_true", help="leave MLflow for a later run to catch up with")
    sub.set_defaults(long=True)


def run(given: Any) -> int:
    """Run the recipe. 0 when all steps are done, else the exit code of the first that failed."""
    loaded, storage = opening.load(given, begins=True)
    if getattr(given, "pilot", None) is None:
        return _perform(given, loaded)
    from hyperloom.pipeline.commands import piloting

    return piloting.run(given, loaded, storage, _perform)


def _perform(given: Any, loaded: Any) -> int:
    from hyperloom.pipeline.output.progress import Progress
    from hyperloom.pipeline.running import runner

    progress = Progress()
    join = opening.connect(loaded)
    outcome = runner.run(loaded, join, given.root, given.step, given.wait, progress, not given.no_mlflow, paged=True)
    given.answer = _answer(given, outcome)
    if outcome.quarantined:
        progress.say(f"{counted(outcome.quarantined, 'sample')} in quarantine: {opening.next_command(given, 'failed')}")
    if outcome.ok and outcome.run:
        look = opening.next_command(given, "look")
        progress.say(f"done. Look at it: {opening.next_command(given, 'ui')}, at its samples: {look}")
    if outcome.unshown:
        progress.say(outcome.unshown)
    _say_remarks(outcome, progress)
    _say_page(given, outcome, progress)
    for name, problem in outcome.problems.items():
        progress.say(f"{name}: {problem}")
    if not outcome.ok:
        missing = ", ".join(f"{name} ({what})" for name, what in outcome.missing.items())
        progress.say(f"missing: {missing}. Continue with: {opening.next_command(given, 'run')}")
    return 0 if outcome.ok else outcome.error.exit_code if outcome.error else 1


MOST_REMARKS = 5
"""Remarks that are said again at the end of a run; the report has all."""


def _say_remarks(outcome: Any, progress: Any) -> None:
    """Say again, where nobody has to scroll, what looked suspicious on the way."""
    remarks = [f"{step}: {text}" for text, step in outcome.remarks.items()]
    for text in remarks[:MOST_REMARKS]:
        progress.say(f"remark: {text}")
    if len(remarks) > MOST_REMARKS:
        progress.say(f"and {len(remarks) - MOST_REMARKS} more remarks, in the report")


def _say_page(given: Any, outcome: Any, progress: Any) -> None:
    """The last line of a run that did all: where the report lies, or how to make one."""
    from hyperloom.pipeline.root.storage import Storage

    if outcome.page:
        progress.say(f"report: {Storage(given.root).full(outcome.page)}")
    elif not outcome.run:
        progress.say(f"report: {opening.next_command(given, 'report')}")


def _answer(given: Any, outcome: Any) -> dict[str, Any]:
    """How the run ended, for machines."""
    kept = (
        "run",
        "ok",
        "states",
        "outcomes",
        "problems",
        "missing",
        "quarantined",
        "sources",
        "unshown",
        "remarks",
        "page",
    )
    return {"root": given.root, **{name: getattr(outcome, name) for name in kept}}
