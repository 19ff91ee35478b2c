"""The estimate: what the steps that would run are going to cost, by what earlier runs of them took on this root.

Units count by what those of their space took, sample for sample where these are known beforehand, since a pilot's may
be smaller; steps whose units only a run can tell (trainings, shards, reports) by what the step took, scaled by its
effort (updates; epochs are passes over the samples that teach) or by the number of samples. A pilot has the recipe's
units, so it measures them. The figures are of the machines that were there; a step that was never timed is named, not
guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.planning.forecast import Share, idle
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.planning.spending import HOUR, Costs, StepRate, load
from hyperloom.pipeline.recipes.budget import CostBudget
from hyperloom.pipeline.root.storage import Storage

PILOT = "-pilot"
START = 20.0
"""Seconds of a training that do not grow with its updates, where its pace was not noted: its workers start."""


@dataclass
class CostEstimate:
    """Of the steps that would run. `unknown` are steps that were never timed here."""

    hours: float = 0.0
    gpu_hours: float = 0.0
    bytes: int = 0
    calls: int = 0
    unknown: list[str] = field(default_factory=list)

    @property
    def blank(self) -> bool:
        """Is nothing known?"""
        return not (self.hours or self.calls)

    def sentence(self) -> str:
        calls = f", at most {self.calls:,} paid calls" if self.calls else ""
        gpus = f", {_amount(self.gpu_hours)} GPU hours" if self.gpu_hours else ""
        missing = (
            f"; not counted, since never timed here or open-ended: {', '.join(self.unknown)}" if self.unknown else ""
        )
        return f"about {_time(self.hours)}{gpus}, {_size(self.bytes)}{calls}{missing}"

    def of(self, budget: CostBudget | None) -> str:
        """The sentence, and whether a budget will do."""
        return self.sentence() + (f"; {self.fits(budget)}" if budget is not None else "")

    def fits(self, budget: CostBudget) -> str:
        """Whether a budget will do, in a sentence."""
        asks = (("hours", self.hours), ("gpu_hours", self.gpu_hours), ("calls", self.calls))
        bounds = [(name, value, getattr(budget, name)) for name, value in asks]
        over = [f"{name}: {_above(value, most)}" for name, value, most in bounds if most is not None and value > most]
        if over:
            what = f"the budget will NOT do: {', '.join(over)}"
            return f"{what}. The run would end in order with code 8, and go on when it is run again"
        return "the budget will do" + (", as far as is known" if self.unknown else "")


def estimate(
    storage: Storage, recipe: Any, steps: Sequence[PlannedStep], forecasts: dict[str, list[Share] | None]
) -> CostEstimate:
    """Of a plan and its forecast of units."""
    costs = load(storage, f"{recipe.name[:54]}{PILOT}")
    costs.update(load(storage, recipe.name))
    total, unit_seconds, unit_gpu_hours = CostEstimate(), 0.0, 0.0
    samples = _samples(storage, steps, recipe.modalities) if costs.steps else 0
    known = {s.name: s.manifest for s in steps if s.state == "fresh" and s.manifest}
    for step in (s for s in steps if s.state != "fresh"):
        shares = forecasts.get(step.name)
        total.calls += sum(share.calls for share in shares or ())
        if shares is not None and (shares or step.name not in costs.steps):
            before = total.gpu_hours
            seconds = _of_units(shares, costs, total)
            unit_seconds += seconds or 0.0
            unit_gpu_hours += total.gpu_hours - before
            if seconds is None:
                total.unknown.append(step.name)
        elif not _of_step(step, costs, samples, known, total):
            total.unknown.append(step.name)
    wait = (
        unit_gpu_hours / costs.gpus if costs.gpus else 0.0
    )  # slots without a GPU are of no use to those that need one
    total.hours += max(unit_seconds / max(1, costs.slots) / HOUR, wait)
    return total


def _of_units(shares: Sequence[Share], costs: Costs, total: CostEstimate) -> float | None:
    """Seconds of the slots for the units that are to do; None where a space was never timed."""
    seconds = 0.0
    for share in (s for s in shares if s.run):
        rate = costs.spaces.get(share.space)
        if rate is None or not rate.units:
            return None
        times = share.rows / rate.rows if share.rows and rate.rows else share.run / rate.units
        seconds += times * rate.seconds
        total.gpu_hours += times * rate.gpu_seconds / HOUR
        total.bytes += round(times * rate.bytes)
    return seconds


def _of_step(step: PlannedStep, costs: Costs, samples: int, known: Mapping[str, Manifest], total: CostEstimate) -> bool:
    rate, lasts = costs.steps.get(step.name), step.stage.lasts
    if lasts is not None:
        if math.isnan(lasts):
            return False
        total.hours += lasts / HOUR
        total.gpu_hours += lasts * (rate.gpu_seconds / rate.seconds if rate and rate.seconds else 0.0) / HOUR
        return True
    if rate is None:
        return False
    grown = samples / rate.samples if rate.samples and samples else 1.0
    if rate.effort:
        paced = rate.paced or max(0.0, rate.seconds - min(START, rate.seconds / 2))
        ratio = step.stage.effort(_learned(step, rate, samples, known)) * step.stage.portion
        ratio /= rate.effort * rate.portion
        seconds = rate.seconds - paced + paced * ratio
        total.bytes += rate.bytes
    else:
        seconds = rate.seconds * grown
        total.bytes += round(rate.bytes * grown)
    total.hours += seconds / HOUR
    total.gpu_hours += rate.gpu_seconds * (seconds / rate.seconds if rate.seconds else 1.0) / HOUR
    return True


def _learned(step: PlannedStep, rate: StepRate, samples: int, known: Mapping[str, Manifest]) -> int:
    """The samples that a step's effort counts: as its inputs say, or as large a share of all as in the run that was
    timed."""
    inputs = {name: known[name] for name in step.reads if name in known}
    own = step.stage.learned(inputs) if rate.learned and len(inputs) == len(step.reads) else 0
    return own or (round(rate.learned * samples / rate.samples) if rate.learned and rate.samples else samples)


def _samples(storage: Storage, steps: Sequence[PlannedStep], modalities: dict[str, Any]) -> int:
    """Samples of the sources, as far as their files tell."""
    count = 0
    for step in (s for s in steps if s.is_source):
        manifest = step.manifest
        if manifest is None:
            try:
                expected = step.stage.forecast(idle(storage, step, {}, modalities))
            except HyperloomError:
                continue
            manifest = expected.manifest if expected else None
        count += manifest.rows if manifest else 0
    return count


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{max(1, round(hours * HOUR))} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} hours"


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    size = count / 1000
    for unit in ("kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{_amount(size)} {unit}"


def _amount(value: float) -> str:
    """Three digits, of larger numbers all before the point."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _above(value: float, most: float) -> str:
    """`value of most`, with as many digits as it takes to see that it is more."""
    if isinstance(value, int):
        return f"{value:,} of {most:,}"
    digits = next((d for d in range(3, 15) if float(f"{value:.{d}g}") > most), 15)
    return f"{float(f'{value:.{digits}g}'):,.15g} of {most:,.15g}"
