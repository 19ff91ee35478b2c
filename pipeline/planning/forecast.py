"""The forecast: how many units a run would do and how many it would reuse, said without starting anything.

A step that is done says what it holds. One that is not is asked what it would make of its inputs as they are or as
they are forecast, so a plan tells what new data, a new expert or a changed threshold costs. A step that reads what
only a run can make, such as a trained model, has no forecast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from hyperloom.pipeline.commits.committed import Committed
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Unit
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import Forecast, StepRun


@dataclass(frozen=True)
class Share:
    """The units of one producer (an expert, a consensus method) in a step: `run` are to do, `reuse` are committed."""

    producer: str
    space: str
    run: int
    reuse: int
    calls: int = 0
    """Questions that may cost money, of the units that are to do."""
    rows: int = 0
    """Samples of the units that are to do; 0 where nobody knows."""


def forecast(
    storage: Storage, steps: Iterable[PlannedStep], modalities: dict[str, Any]
) -> dict[str, list[Share] | None]:
    """Shares by step; None for a step of which nothing can be told yet. Steps without units have no shares."""
    known: dict[str, Manifest] = {}
    shares: dict[str, list[Share] | None] = {}
    committed = Committed(storage)
    for step in steps:
        if step.state == "fresh" and step.manifest is not None:
            known[step.name] = step.manifest
            counts = Counter({space: c.records for space, c in step.manifest.counts.items()})
            shares[step.name] = _shares(step, step.manifest, Counter(), counts, Counter(), Counter())
            continue
        shares[step.name] = None
        expected = _forecast(storage, step, known, modalities)
        if expected is not None:
            known[step.name] = expected.manifest
            shares[step.name] = _shares(step, expected.manifest, *_counted(committed, expected.units))
    return shares


def units(
    storage: Storage, steps: Iterable[PlannedStep], modalities: dict[str, Any]
) -> dict[str, Iterable[Unit] | None]:
    """The units that each step which is not done would have; None where only a run can tell. One after the other:
    they are gone through once."""
    known: dict[str, Manifest] = {}
    expected: dict[str, Iterable[Unit] | None] = {}
    for step in steps:
        if step.state == "fresh" and step.manifest is not None:
            known[step.name] = step.manifest
            continue
        forecast_ = _forecast(storage, step, known, modalities)
        expected[step.name] = forecast_.units if forecast_ else None
        if forecast_:
            known[step.name] = forecast_.manifest
    return expected


def _forecast(
    storage: Storage, step: PlannedStep, known: dict[str, Manifest], modalities: dict[str, Any]
) -> Forecast | None:
    """What a step would do with what is known of its inputs; None where nobody can tell."""
    inputs = {name: known[name] for name in step.reads if name in known}
    if len(inputs) < len(step.reads):
        return None
    try:
        return step.stage.forecast(idle(storage, step, inputs, modalities))
    except HyperloomError:
        return None  # the run will say what is wrong


def rows(forecasts: dict[str, list[Share] | None]) -> list[dict[str, Any]]:
    """The shares as rows of a table."""
    table = [{"step": name, **asdict(share)} for name, shares in forecasts.items() for share in shares or ()]
    for column in [c for c in ("calls", "rows") if not any(row[c] for row in table) or c == "rows"]:
        for row in table:
            del row[column]
    return table


def _shares(
    step: PlannedStep, manifest: Manifest, run: Counter[str], reuse: Counter[str], *counts: Counter[str]
) -> list[Share]:
    names = step.stage.producers(manifest)
    spaces = dict.fromkeys((*names, *run, *reuse))
    return [Share(names.get(s, s), s, run[s], reuse[s], *(count[s] for count in counts)) for s in spaces]


def _counted(committed: Committed, units: Iterable[Unit]) -> tuple[Counter[str], ...]:
    """Units to run and to reuse, by space, and paid calls and samples of the former. On an object store, where reading
    thousands of records takes minutes, a unit counts as committed when its record is listed."""
    run, reuse, calls, rows = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    walk = iter(units)
    while part := list(islice(walk, 4096)):
        local = committed.storage.is_local
        records = committed.find(part) if local else [committed.has(u.space, u.id) or None for u in part]
        for unit, record in zip(part, records):
            (run if record is None else reuse)[unit.space] += 1
            calls[unit.space] += unit.calls if record is None else 0
            rows[unit.space] += unit.rows if record is None else 0
    return run, reuse, calls, rows


def idle(storage: Storage, step: PlannedStep, inputs: dict[str, Manifest], modalities: dict[str, Any]) -> StepRun:
    """A StepRun that runs nothing, for what a stage can tell of a step beforehand."""

    def never(*_: object) -> Any:
        raise TypeError("a forecast runs nothing")

    events = Events(storage, "forecast", "driver")
    return StepRun(
        step.name, step.stage, step.fingerprint, modalities, storage, inputs, events, never, never, never
    )  # fmt: skip
