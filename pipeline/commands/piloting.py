"""`hyperloom run --pilot`: the whole chain over a few samples, its pictures, and what all of it would cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hyperloom.pipeline.commands import opening

Perform = Callable[[Any, Any], int]
"""Given the parsed arguments and a recipe: runs it, and gives the exit code."""


def run(given: Any, loaded: Any, storage: Any, perform: Perform) -> int:
    """Run the recipe's pilot, write its pictures under the root, and say what the whole would cost."""
    from hyperloom.stages.starter import pilot as pilots

    one = pilots.pilot(loaded, opening.steps(loaded, storage), storage, given.pilot)
    out = f"; without {', '.join(one.left_out)}" if one.left_out else ""
    cut = f"trainings of at most {pilots.UPDATES} updates{out}"
    print(f"pilot: {one.taken:,} of {one.total:,} samples (whole partitions of every split), {cut}", flush=True)
    if code := perform(given, one.loaded):
        return code
    _show(one.loaded, storage)
    print(f"all {one.total:,} samples: {_forecast(loaded, storage)}")
    given.pilot = None
    print(f"Next: {opening.next_command(given, 'run')} (what the pilot read and labelled is not done again)")
    return 0


def _show(loaded: Any, storage: Any) -> None:
    """Write the pictures, what is of use already first, and say what the models are not."""
    from hyperloom.stages.label.stage import Label
    from hyperloom.stages.lesson import rehearsal
    from hyperloom.stages.results import Trained
    from hyperloom.stages.starter import pictures

    done = opening.steps(loaded, storage)
    labels = {s.name for s in done if isinstance(s.stage, Label)}
    for name, data in pictures.pictures(storage, done, loaded.recipe.modalities).items():
        path = f"pilots/{loaded.recipe.name}/{name}.png"  # not in the working folder: the source may read all of it
        storage.write(path, data)
        print(f"{'the labels of the experts, over your samples' if name in labels else 'also'}: {storage.full(path)}")
    trained = {s.name: Trained.of(s.manifest) for s in done if s.manifest is not None}
    if short := {name: model.rehearsal for name, model in trained.items() if model and model.rehearsal}:
        print(rehearsal(short))


def _forecast(loaded: Any, storage: Any) -> str:
    from hyperloom.pipeline.planning import estimate, forecast

    steps = opening.steps(loaded, storage)
    forecasts = forecast.forecast(storage, steps, loaded.recipe.modalities)
    return estimate.estimate(storage, loaded.recipe, steps, forecasts).of(loaded.recipe.budget)
