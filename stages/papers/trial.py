"""Running a paper's recipe to its verdict, and writing the record."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.host import project
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.planning.plan import StepMeaning
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.running import runner
from hyperloom.stages.ingest.stage import Ingest
from hyperloom.stages.papers import record, shelf
from hyperloom.stages.papers.moved import outline
from hyperloom.stages.papers.record import Cost, PaperRecord
from hyperloom.stages.papers.shelf import PaperRecipe
from hyperloom.stages.train.stage import Train
from hyperloom.stages.verdict.conclusion import Concluded

COST = "cost.json"
"""What attempts took that have not come to a verdict yet, and what the last verdict took."""


def tried(one: PaperRecipe, connect: Callable[..., Any] | None = None, progress: Progress | None = None) -> str:
    """Run what is not there yet and record the verdict; its word. `connect` joins Ray, None works in this process.
    The recipe is read anew, in its own project. Raises StepFailed, and what ends a run."""
    if one.record is not None and not one.record.whole:
        what = f"{one.path.with_suffix('.json')} was changed since it was written"
        raise StepFailed(f"{what}. Next: restore it as it was, or remove it, and with it what it keeps of earlier ones")
    project.leave()
    loaded = recipe.load(one.path)
    one = replace(one, loaded=loaded, project=project.current())
    with spent(one.root) as cost:
        outcome = runner.run(one.loaded, connect, one.root, None, progress=progress, track=False)
    if not outcome.ok:
        why = "; ".join(f"{name}: {problem}" for name, problem in outcome.problems.items())
        raise StepFailed(f"{one.path}: {why or 'not all steps are done'}. Next: the same command goes on from there")
    steps = one.loaded.recipe.steps
    trained = {state for name, state in outcome.states.items() if isinstance(steps[name], Train)}
    if "fresh" in outcome.states.values() and trained <= {"fresh"}:  # those of the verdict before, with their cost
        seconds, cpu = cost.seconds + cost.last_seconds, cost.cpu + cost.last_cpu
        cost = Cost(round(seconds, 1), round(cpu, 1))
    written = record.write(one.path, _record(one, cost))
    _keep(one.root, Cost(last_seconds=written.seconds, last_cpu=written.cpu))
    return written.verdict


def _record(one: PaperRecipe, cost: Cost) -> PaperRecord:
    """All that it says of the steps is of one look at them."""
    steps = one.planned()
    verdict = steps[one.verdict]
    if verdict.manifest is None:
        raise StepFailed(f"{one.path}: its data or code changed while it ran. Next: the same command")
    data = {n: fingerprint(step.meaning["facts"])[:16] for n, step in steps.items() if isinstance(step.stage, Ingest)}
    lines = outline(one.loaded, {n: StepMeaning(step.meaning, step.fingerprint) for n, step in steps.items()})
    concluded = Concluded.from_manifest(verdict.manifest)
    return record.record_of(one.paper, concluded, verdict.fingerprint, data, cost, lines)


@contextmanager
def spent(root: str) -> Iterator[Cost]:
    """What all attempts at a root took together, this one included, once it is left: those that failed, too."""
    path = Path(root) / COST
    before = Cost(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else Cost()
    cost, wall, cpu = Cost(), time.monotonic(), time.process_time()
    try:
        yield cost
    finally:
        cost.seconds = round(before.seconds + time.monotonic() - wall, 1)
        cost.cpu = round(before.cpu + time.process_time() - cpu, 1)
        cost.last_seconds, cost.last_cpu = before.last_seconds, before.last_cpu
        _keep(root, cost)


def _keep(root: str, cost: Cost) -> None:
    path = Path(root) / COST
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".new")
    written.write_text(json.dumps(vars(cost)), encoding="utf-8")
    written.replace(path)


def alone(folder: str, name: str, root: str) -> str:
    """`tried` in a process of its own, one thread for each network. What it says goes to the paper's log."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    import hyperloom.stages  # noqa: F401  registers the plug-ins

    one = shelf.papers(folder, [name], root)[0]
    os.makedirs(one.root, exist_ok=True)
    with open(f"{one.root}/papers.log", "a", encoding="utf-8") as log:
        return tried(one, progress=Progress(log))
