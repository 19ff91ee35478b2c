"""`hyperloom plan`: what would run, and why."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(commands, "plan", _plan, "say what would run, and why")
    sub.add_argument("--rehash", action="store_true", help="read all raw files anew, whatever their times say")


def _plan(given: Any) -> int:
    loaded, storage = opening.load(given, begins=True)
    from hyperloom.pipeline.planning import forecast

    steps = opening.steps(loaded, storage, given.rehash)
    opening.check_cluster(loaded)
    forecasts = forecast.forecast(storage, steps, loaded.recipe.modalities)
    given.answer = _as_json(steps, forecasts)
    _show(steps, forecasts)
    _notice(storage, steps)
    _say_cost(loaded, storage, steps, forecasts)
    return 0


def _notice(storage: Any, steps: list[Any]) -> None:
    """What should be known before the steps work; what several say of one thing, once."""
    from hyperloom.pipeline.output import remarking

    unfinished = [step for step in steps if step.state != "fresh"]
    for line in remarking.lines((step.name, text) for step in unfinished for text in step.stage.notices(storage)):
        print(line)


def _say_cost(loaded: Any, storage: Any, steps: list[Any], forecasts: dict[str, Any]) -> None:
    """What is to be done would cost, where something is known of it, and whether the budget will do."""
    from hyperloom.pipeline.planning import estimate

    if all(step.state == "fresh" for step in steps):
        return
    cost = estimate.estimate(storage, loaded.recipe, steps, forecasts)
    if not cost.blank or loaded.recipe.budget is not None:
        print(f"cost: {cost.of(loaded.recipe.budget)}")


def _as_json(steps: list[Any], forecasts: dict[str, Any]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from hyperloom.pipeline import expecting

    units = {n: None if shares is None else [asdict(s) for s in shares] for n, shares in forecasts.items()}
    return [
        {"step": s.name, "state": s.state, "why": s.why, "fingerprint": s.fingerprint, "payload": s.payload}
        | {"units": units[s.name], "expects": expecting.lines(s.stage)}
        for s in steps
    ]


def _show(steps: list[Any], forecasts: dict[str, Any]) -> None:
    from hyperloom.pipeline import expecting
    from hyperloom.pipeline.output.tables import table
    from hyperloom.pipeline.planning import forecast

    unfinished = {s.name for s in steps if s.state != "fresh"}
    shown = [
        {
            "step": s.name,
            "stage": s.stage.stage,
            "state": s.state,
            "fingerprint": s.fingerprint[:12],
            "why": "; ".join(s.why)
            or (f"{len(s.manifest.records)} units" if s.manifest and s.manifest.records else ""),
        }
        for s in steps
    ]
    print(table(shown))
    if units := forecast.rows({n: shares for n, shares in forecasts.items() if n in unfinished}):
        print(f"\n{table(units)}\n")
    for step in steps:
        for line in expecting.lines(step.stage):
            print(f"{step.name} expects {line}")
    print(f"{len(unfinished)} of {len(steps)} steps would run" if unfinished else f"all {len(steps)} steps are fresh")
