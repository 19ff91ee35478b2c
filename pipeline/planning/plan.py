"""The plan: for each step its identity, whether it is done, and if not, why.

A step is *fresh* when its manifest exists and all files it names have their sizes; *missing* when it never ran;
*stale* when it ran with another payload (the fields that changed are named, from what to what); *damaged* when files
its manifest names are gone or cut short. Planning imports no torch, ray or mlflow and writes nothing but the cache of
digests.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from hyperloom.pipeline import expecting
from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.listing import Listing
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import IntegrityError, Torn
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.pipeline.planning.check import Check, Listed
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.spelling import near
from hyperloom.pipeline.stage import Stage


class StepMeaning(NamedTuple):
    """What a step is, as in `PlannedStep.meaning`, and the fingerprint of that."""

    value: dict[str, Any]
    fingerprint: str


@dataclass
class PlannedStep:
    """A step with its identity. `state` is fresh, missing, stale or damaged; `why` are sentences for a person."""

    name: str
    stage: Stage
    reads: list[str]
    meaning: dict[str, Any]
    """What the fingerprint is of. It may hold values that the environment gave, and is never stored or shown."""
    payload: dict[str, Any]
    """The same as the recipe writes it, `${NAME}` for what the environment gives: for people and files."""
    fingerprint: str
    state: str
    why: list[str] = field(default_factory=list)
    manifest: Manifest | None = None

    @property
    def folder(self) -> str:
        return manifests.folder(self.stage.stage, self.fingerprint)

    @property
    def is_source(self) -> bool:
        """Does it read nothing but what lies outside the recipe?"""
        return not self.reads and "facts" in self.meaning


def plan(loaded: RecipeFile, storage: Storage, digests: Digests, only: list[str] | None = None) -> list[PlannedStep]:
    """Steps in the order in which they run; `only` these (`student-*` for
    several) and what they need. Raises RecipeError, SourceError."""
    steps: dict[str, PlannedStep] = {}
    checked = check(loaded, only)
    with digests.look():
        for name, meaning in _meanings(loaded, checked.steps, digests):
            stage, reads = loaded.recipe.steps[name], loaded.recipe.reads(name)
            shown = loaded.as_written(meaning.value)
            planned = PlannedStep(name, stage, reads, meaning.value, shown, meaning.fingerprint, "missing")
            steps[name] = _judge(storage, loaded.recipe.name, planned)
        if any(step.state != "fresh" for step in steps.values()):
            done = {name: step.manifest for name, step in steps.items() if step.manifest and step.state == "fresh"}
            checked.listing(Listed(digests, done))
    digests.save()
    return list(steps.values())


def identities(loaded: RecipeFile, digests: Digests, only: list[str] | None = None) -> dict[str, StepMeaning]:
    """What each step is, in the order in which they run, and no more: whether it is done nobody asks, nor whether its
    lines fit together, which `check` says. Raises RecipeError, SourceError."""
    return dict(_meanings(loaded, _order(loaded, only), digests))


def check(loaded: RecipeFile, only: list[str] | None = None) -> Check:
    """What the steps say to be wrong before any file is looked at; `only` these and what they need. Raises
    RecipeError."""
    return Check(loaded, _order(loaded, only))


def remember(storage: Storage, recipe: str, step: PlannedStep) -> None:
    """Keep a step's payload, so that a later plan can say what changed."""
    storage.write_json(f"steps/{recipe}/{step.name}.json", {"fingerprint": step.fingerprint, "payload": step.payload})


def changes(old: Any, new: Any) -> Iterator[str]:
    """Sentences that name each difference of two payloads, by its place in the step as a recipe writes it."""
    for place, what in _differences(old, new):
        yield f"{place.removeprefix('config.')}{what}"


def _differences(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """The place of each, and what is said of it."""
    if isinstance(old, dict) and isinstance(new, dict) and set(old) | set(new) != {"step"}:
        for key in sorted(set(old) | set(new)):
            place = f"{where}.{key}" if where else key
            if key not in old:
                yield place, f" added: {_short(new[key])}"
            elif key not in new:
                yield place, f" removed (was {_short(old[key])})"
            else:
                yield from _differences(old[key], new[key], place)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(a, b, f"{where}[{i}]")
    elif isinstance(old, dict) and isinstance(new, dict) and set(old) == set(new) == {"step"}:
        if old != new:
            yield where, ": the step it reads changed"
    elif old != new:
        yield where, f": {_short(old)} -> {_short(new)}"


def _meanings(loaded: RecipeFile, names: Iterable[str], digests: Digests) -> Iterator[tuple[str, StepMeaning]]:
    recipe = loaded.recipe
    known: dict[str, str] = {}
    modalities: dict[str, Any] = {}
    for name in names:
        stage = recipe.steps[name]
        identity: dict[str, Any] = {"stage": stage.stage, "config": payload(stage, known.__getitem__)}
        uses = sorted(stage.uses())
        for modality in uses:
            if modality not in recipe.modalities:
                what = f"step {name!r}: the recipe defines no modality {modality!r}{near(modality, recipe.modalities)}"
                raise loaded.error(("steps", name), what)
            if modality not in modalities:
                modalities[modality] = payload(recipe.modalities[modality])
        if uses:
            identity["modalities"] = {modality: modalities[modality] for modality in uses}
        if revised := stage.revised_for(recipe.modalities):
            identity["revised"] = revised
        identity = _with_facts(identity, stage, digests)
        known[name] = fingerprint(identity)
        yield name, StepMeaning(identity, known[name])


def _with_facts(identity: dict[str, Any], stage: Stage, digests: Digests) -> dict[str, Any]:
    """The identity of a step with what outside the recipe bears meaning."""
    if known := stage.facts_before(digests):
        facts, descent = known
        before = {**identity, "facts": facts} if facts else identity
        if fingerprint(before) in descent:
            return before
    facts = stage.facts(digests)
    return {**identity, "facts": facts} if facts else identity


def _order(loaded: RecipeFile, only: list[str] | None) -> list[str]:
    recipe = loaded.recipe
    steps = list(recipe.steps)
    if only:
        only = [step for name in only for step in (fnmatch.filter(recipe.steps, name) or [name])]
        for name in only:
            if name not in recipe.steps:
                what = f"there is no step {name!r}{near(name, recipe.steps)}"
                raise loaded.error(("steps",), f"{what}; steps: {', '.join(recipe.steps)}")
        queue, keep = list(only), set()
        while queue:
            name = queue.pop()
            keep.add(name)
            queue += [r for r in recipe.reads(name) if r not in keep]
        steps = [n for n in recipe.steps if n in keep]
    try:
        return list(TopologicalSorter({n: recipe.reads(n) for n in steps}).static_order())
    except CycleError as error:
        ring = " -> ".join(reversed(error.args[1]))
        raise loaded.error(("steps", error.args[1][0]), f"the steps read each other in a circle: {ring}") from error


def _judge(storage: Storage, recipe: str, step: PlannedStep) -> PlannedStep:
    try:
        step.manifest = manifests.load(storage, step.stage.stage, step.fingerprint)
    except IntegrityError as error:
        step.state, step.why = "damaged", [str(error)]
        return step
    if step.manifest is not None:
        bad = Listing(storage).lacks(step.manifest.places())
        lost = expecting.wrong(step.stage, storage, step.manifest)
        step.state = "damaged" if bad or lost else "fresh"
        step.why = [f"gone or cut short: {path}" for path in bad[:5]] + (
            [f"and {len(bad) - 5} more"] if len(bad) > 5 else []
        )
        step.why += [lost] if lost else []
        return step
    try:
        last = storage.read_json(f"steps/{recipe}/{step.name}.json")
    except (FileNotFoundError, Torn):
        step.why = ["it has not run yet"]
        return step
    if last["fingerprint"] == step.fingerprint:
        step.why = ["it has not finished yet"]
    else:
        different = list(changes(last["payload"], step.payload))
        step.state, step.why = "stale", different or ["a value that the environment gives changed"]
    return step


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
