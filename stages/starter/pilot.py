"""Pilots: the whole chain of a recipe over a few samples, before all of it (`hyperloom run --pilot 40`).

A pilot is the recipe with other steps of the same names: ingest keeps a few whole partitions, splits are pinned as the
whole recipe would deal those groups, trainings are cut to `UPDATES`, releases, drift and verdicts are left out. Steps
have identities of their own, so that nothing of a pilot passes for the whole; units have not, so that what was read and
labelled (and paid for) is found again by the run of the whole. What a pilot's models labelled is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hyperloom.pipeline.commits.units import Unit
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.forecast import idle
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.drift.stage import Drift
from hyperloom.stages.ingest.stage import Ingest
from hyperloom.stages.label.stage import Label
from hyperloom.stages.release.stage import Release
from hyperloom.stages.shard.splits import SPLITS, Split
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.starter.sample import chosen
from hyperloom.stages.train.stage import Train
from hyperloom.stages.verdict.stage import VerdictStage

UPDATES = 60
"""Updates of a training in a pilot: enough to see it learn and to time it."""
SUFFIX = "-pilot"


@dataclass(frozen=True)
class Pilot:
    """A pilot's recipe, how many samples it takes, of how many, and which steps it leaves out."""

    loaded: RecipeFile
    taken: int
    total: int
    left_out: list[str]


def pilot(loaded: RecipeFile, planned: Sequence[PlannedStep], storage: Storage, samples: int) -> Pilot:
    """The pilot of a recipe, whose steps were planned. Raises RecipeError where it has no ingest step."""
    if samples < 1:
        raise RecipeError(f"--pilot {samples}: give a number of samples from 1")
    steps, modalities = loaded.recipe.steps, loaded.recipe.modalities
    sources = {s.name: _units(s, storage, modalities) for s in planned if isinstance(s.stage, Ingest)}
    if not sources:
        raise RecipeError(f"{loaded.path}: a pilot needs an ingest step, and none would run here")
    dealt = _dealt(loaded, planned, sources)
    near = any(e.offsets() for s in planned if isinstance(s.stage, Label) for e in s.stage.experts)
    total = sum(_rows(units) for units in sources.values())
    few = {n: chosen(units, _strata(n, loaded, dealt, units), samples, near) for n, units in sources.items()}
    out = _left_out(planned)
    cut: dict[str, Any] = {}
    for one in (s for s in planned if s.name not in out):
        cut[one.name] = _cut(one, few, sources, dealt, loaded)
    fields = {"steps": {n: cut[n] for n in steps if n in cut}, "schedule": None}
    recipe = loaded.recipe.model_copy(update={**fields, "name": f"{loaded.recipe.name[:54]}{SUFFIX}"})
    return Pilot(replace(loaded, recipe=recipe), sum(map(_rows, few.values())), total, out)


def _units(step: PlannedStep, storage: Storage, modalities: dict[str, Any]) -> list[Unit]:
    return step.stage.units(idle(storage, step, {}, modalities))[0]  # type: ignore[attr-defined, no-any-return]


def _rows(units: Iterable[Unit]) -> int:
    return sum(len(u.payload["items"]) for u in units)


def _dealt(
    loaded: RecipeFile, planned: Sequence[PlannedStep], sources: Mapping[str, list[Unit]]
) -> dict[str, dict[str, str]]:
    """For each shard step the split of each group, as the whole recipe deals them."""
    table = {}
    for name, stage in ((s.name, s.stage) for s in planned):
        if isinstance(stage, Shard):
            groups = {u.payload["group"] for n in _above(name, loaded) if n in sources for u in sources[n]}
            split = stage.split.model_copy(update={"stratify": ""})  # strata are known once there are statistics
            table[name] = {group: str(place) for group, place in split.assign(groups).items()}
    return table


def _strata(
    source: str, loaded: RecipeFile, dealt: Mapping[str, Mapping[str, str]], units: Iterable[Unit]
) -> dict[str, str]:
    """Group -> the splits in which the shard steps over this source have it."""
    mine = [splits for name, splits in dealt.items() if source in _above(name, loaded)]
    return {u.payload["group"]: "+".join(s.get(u.payload["group"], "") for s in mine) for u in units}


def _above(name: str, loaded: RecipeFile) -> set[str]:
    """All that a step reads, directly or not."""
    names: set[str] = set()
    queue = [name]
    while queue:
        for read in loaded.recipe.reads(queue.pop()):
            if read not in names:
                names.add(read)
                queue.append(read)
    return names


def _left_out(planned: Sequence[PlannedStep]) -> list[str]:
    """Steps whose outcome is no trial, and those that read them."""
    out: list[str] = []
    for step in planned:
        if isinstance(step.stage, Release | Drift | VerdictStage) or any(read in out for read in step.reads):
            out.append(step.name)
    return out


def _cut(
    step: PlannedStep,
    few: Mapping[str, list[Unit]],
    sources: Mapping[str, list[Unit]],
    dealt: Mapping[str, Mapping[str, str]],
    loaded: RecipeFile,
) -> Any:
    """The step as the pilot runs it, with the `few` of all the units that the `sources` have."""
    stage = step.stage
    if isinstance(stage, Ingest):
        return stage.model_copy(update={"partitions": tuple(u.id for u in few[step.name])})
    if isinstance(stage, Shard):
        mine = {u.payload["group"] for n in _above(step.name, loaded) if n in few for u in few[n]}
        places = {g: s for g, s in dealt[step.name].items() if g in mine}
        pins = {name: tuple(sorted(g for g, s in places.items() if s == name)) for name in SPLITS}
        return stage.model_copy(update={"split": Split(by=stage.split.by, pin={n: g for n, g in pins.items() if g})})
    if isinstance(stage, Train):
        whole = _learnable(step.name, sources, dealt, loaded)
        return _short(stage, _learnable(step.name, few, dealt, loaded), whole)
    return stage


def _learnable(
    name: str, units: Mapping[str, list[Unit]], dealt: Mapping[str, Mapping[str, str]], loaded: RecipeFile
) -> int:
    """Samples that a training has of these units."""
    count = 0
    for shards in (s for s in loaded.recipe.reads(name) if s in dealt):
        for source in (n for n in _above(shards, loaded) if n in units):
            count += _rows(u for u in units[source] if dealt[shards].get(u.payload["group"]) == "train")
    return max(1, count)


def _short(stage: Train, samples: int, whole: int) -> Train:
    """A training of few updates, with a batch that the samples fill, of one that has `whole` samples."""
    batch = min(stage.batch, samples)
    most = stage.scale[1]
    fields: dict[str, Any] = {"batch": batch, "workers": stage.workers if most <= batch else batch}
    effort = stage.effort(samples) / stage.seeds
    fields["rehearses"] = round(stage.effort(whole) / stage.seeds)
    if stage.phases and stage.updates is None and stage.epochs is None and effort:
        share = min(1.0, UPDATES / effort)
        parts = [p.model_copy(update={"updates": max(1, round((p.updates or 1) * share))}) for p in stage.phases]
        return stage.model_copy(update={**fields, "phases": tuple(parts)})
    updates = max(1, min(UPDATES, round(effort or UPDATES)))
    return stage.model_copy(update={**fields, "updates": updates, "epochs": None, "minutes": None})
