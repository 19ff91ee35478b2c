"""`hyperloom audit`: what is wrong with a step's samples, without a line in the recipe."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import arguments, opening


def add(commands: Any) -> None:
    help_ = "labels that are likely wrong, copies, outliers, empty samples and uneven splits of a step's samples"
    sub = opening.add(commands, "audit", _audit, help_)
    sub.add_argument("step", help="a step with samples: shards (splits are looked at too), frames, labels")
    sub.add_argument("--labels", metavar="COLUMN,...", help="labels to doubt (all of classes, masks, marks, boxes)")
    sub.add_argument("--features", metavar="COLUMN,...", help="what samples are compared by (an embedding, a picture)")
    sub.add_argument(
        "--worst", type=arguments.count, default=20, metavar="N", help="how many of the worst samples to list (20)"
    )
    opening.add_wait(sub)
    sub.add_argument("--no-mlflow", action="store_true", help="leave MLflow for a later run to catch up with")


def _audit(given: Any) -> int:
    """Run an audit step over the step like any recipe. The same command goes on after an interruption."""
    loaded, storage = opening.load(given, begins=True)
    from hyperloom.pipeline.output.progress import Progress
    from hyperloom.pipeline.running import runner
    from hyperloom.stages.audit.command import listed, with_audit

    split = [value.split(",") if value else [] for value in (given.labels, given.features)]
    more, name = with_audit(loaded, given.step, *split)
    progress = Progress()
    join = opening.connect(more)
    outcome = runner.run(more, join, given.root, [name], given.wait, progress, not given.no_mlflow)
    for step, problem in outcome.problems.items():
        progress.say(f"{step}: {problem}")
    if not outcome.ok:
        progress.say("Continue with the same command")
        return outcome.error.exit_code if outcome.error else 1
    steps = opening.steps(more, storage)
    print(listed(storage, next(s for s in steps if s.name == name).fingerprint, given.worst))
    return 0
