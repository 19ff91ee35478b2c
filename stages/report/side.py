"""One side of a comparison: the steps of a run, of a recipe as it is, or of a root, with what each was made from.

    recipe.yaml                what the recipe says now, and what its root holds of that
    recipe.yaml@20261126       a run of it, by the beginning of its id
    recipe.yaml@-2             the run before the last
    /data/runs                 the newest run of a root; /data/runs@RUN another

A side of a run needs no recipe: events say which steps there were, and their manifests what they hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import HyperloomError, RecipeError
from hyperloom.pipeline.result import Result
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.report.history import RUNS, RunHistory, run_history, runs

R = TypeVar("R", bound=Result)
PlanRecipe = Callable[[str], "tuple[Any, Any, list[Any]]"]
"""Given the path of a recipe: itself, its storage, and its planned steps."""


@dataclass
class ComparedSide:
    """Steps by name: fingerprints, what these are of, and manifests (None where a step is not done)."""

    title: str
    storage: Storage
    fingerprints: dict[str, str] = field(default_factory=dict)
    payloads: dict[str, Any] = field(default_factory=dict)
    manifests: dict[str, Manifest | None] = field(default_factory=dict)

    def results(self, kind: type[R]) -> Iterator[tuple[str, Manifest, R]]:
        """The steps that hold a result of this kind."""
        for name, manifest in self.manifests.items():
            try:
                result = kind.of(manifest) if manifest else None
            except (TypeError, ValueError, KeyError, AttributeError):
                continue
            if manifest is not None and result is not None:
                yield name, manifest, result

    def modalities(self, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The modalities that the steps were made with."""
        written: dict[str, Any] = {}
        for payload in self.payloads.values():
            written |= payload.get("modalities") or {}
        known = {}
        for name, value in written.items():
            try:
                known[name] = plugins.parse("modality", {k: v for k, v in value.items() if k != "revision"})
            except (HyperloomError, ValueError):
                continue  # a type of another version, or of one's own that is not here
        return known


def side(text: str, plan: PlanRecipe, root: str | None = None) -> ComparedSide:
    """The side that a person names, see above. Raises RecipeError where there is none."""
    path, _, run = text.rpartition("@") if "@" in os.path.basename(text) else (text, "", "")
    if os.path.isdir(path) or "://" in path:
        return _of_run(Storage(path), _chosen(Storage(path), run, ""), path)
    loaded, storage, steps = plan(path)
    if run:
        return _of_run(storage, _chosen(storage, run, loaded.recipe.name), path)
    return ComparedSide(
        f"{path} as it is",
        storage,
        {s.name: s.fingerprint for s in steps},
        {s.name: s.payload for s in steps},
        {s.name: s.manifest for s in steps},
    )


def _of_run(storage: Storage, history: RunHistory, path: str) -> ComparedSide:
    read = {n: _manifest(storage, history.stages[n], f) for n, f in history.steps.items()}
    payloads = {n: m.payload for n, m in read.items() if m is not None}
    return ComparedSide(f"{path}, run {history.run}", storage, history.steps, {**history.params, **payloads}, read)


def _manifest(storage: Storage, stage: str, fingerprint: str) -> Manifest | None:
    try:
        return manifests.load(storage, stage, fingerprint)
    except HyperloomError:
        return None


def _chosen(storage: Storage, run: str, name: str) -> RunHistory:
    """The run with that beginning of its id, or the n-th from the end, of the recipe `name` (empty: of any)."""
    listed = runs(storage)
    if not listed:
        raise RecipeError(f"no run is known under {storage}. Next: name a recipe, or another root")
    if run and not run.startswith("-"):
        listed = [r for r in listed if r.startswith(run)]
    place = int(run[1:]) - 1 if run.startswith("-") and run[1:].isdecimal() else 0
    mine = []
    for id_ in listed[:RUNS]:
        history = run_history(storage, id_)
        if history.steps and name in ("", history.name):
            mine.append(history)
        if len(mine) > place:
            return mine[place]
    known = ", ".join(runs(storage)[:5])
    raise RecipeError(
        f"there is no run {run or 'with a step'!r} under {storage}. Next: one of {known}, or -2 for the last but one"
    )
