"""`hyperloom curve`: a training at several sizes, and what its quality costs."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    help_ = "train a step at several sizes; show its quality against parameters, milliseconds and minutes"
    sub = opening.add(commands, "curve", _curve, help_)
    sub.add_argument("step", help="a training of the recipe that one of its reports judges, such as student")
    sub.add_argument("--parameters", metavar="N,...", help="sizes (40k,80k,160k,320k,640k,960k)")
    sub.add_argument("--figure", default="", help="what is drawn, such as semantic.miou; by default the main one")
    opening.add_wait(sub)
    sub.add_argument("--no-mlflow", action="store_true", help="leave MLflow for a later run to catch up with")
    sub.set_defaults(long=True)


def _curve(given: Any) -> int:
    """Run the sizes like any recipe, then write table and picture. The same command goes on after an interruption."""
    loaded, storage = opening.load(given, begins=True)
    from hyperloom.pipeline import plain
    from hyperloom.pipeline.output.progress import Progress
    from hyperloom.pipeline.output.tables import table
    from hyperloom.pipeline.root.events import Events
    from hyperloom.pipeline.running import runner
    from hyperloom.pipeline.tracking.replay import catch_up
    from hyperloom.stages.evaluate.plot import plot
    from hyperloom.stages.evaluate.tradeoff import SIZES, resized, tradeoff

    resized_, report = resized(loaded, given.step, given.parameters.split(",") if given.parameters else SIZES)
    progress = Progress()
    join = opening.connect(loaded)
    outcome = runner.run(resized_, join, given.root, None, given.wait, progress, not given.no_mlflow)
    for name, problem in outcome.problems.items():
        progress.say(f"{name}: {problem}")
    if not outcome.ok:
        progress.say("Continue with the same command")
        code = int(outcome.error.exit_code) if outcome.error else 1
        why = "; ".join(f"{name}: {problem}" for name, problem in outcome.problems.items()) or "not all steps are done"
        given.answer = {"error": why, "exit_code": code}
        return code
    steps = opening.steps(resized_, storage)
    curve = tradeoff(storage, steps, given.step, report, given.figure, loaded.recipe.modalities)
    folder = f"curves/{next(s.fingerprint for s in steps if s.name == report)[:12]}"
    storage.write(f"{folder}/curve.png", plot(curve))
    storage.write(f"{folder}/curve.json", plain.dumps({"figure": curve.figure, "rows": curve.rows()}).encode())
    if outcome.run:
        with Events(storage, outcome.run, "curve") as events:
            events.emit("artifact", path=f"{folder}/curve.png", to="curve")
            events.emit("table", name="curve", rows=curve.rows())
        if not given.no_mlflow:
            catch_up(storage, loaded, progress)
    given.answer = curve.reply(storage.full(f"{folder}/curve.png"), storage.full(f"{folder}/curve.json"))
    print(table(curve.rows()))
    print(curve.sentence())
    print(f"the picture: {storage.full(f'{folder}/curve.png')}")
    return 0
