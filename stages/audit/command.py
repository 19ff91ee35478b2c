"""What `hyperloom audit` adds to a recipe, and the list that it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.output.tables import table
from hyperloom.pipeline.recipes import variants
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.spelling import near
from hyperloom.stages.audit.finding import AuditFinding
from hyperloom.stages.audit.result import Audited
from hyperloom.stages.audit.stage import Audit
from hyperloom.stages.base import KEY


def with_audit(loaded: RecipeFile, step: str, labels: Sequence[str], features: Sequence[str]) -> tuple[RecipeFile, str]:
    """The recipe with an audit of `step`, and the name of that step. One that is an audit is taken as it is. Raises
    RecipeError for a step that there is not, or that has no samples."""
    steps = loaded.recipe.steps
    if step not in steps:
        raise loaded.error(("steps",), f"no step {step!r}{near(step, steps) or '; present are: ' + ', '.join(steps)}")
    if isinstance(steps[step], Audit):
        return loaded, step
    name = f"{step}-audit"
    while name in steps:
        name += "-"
    variants.StepLines(loaded.lines).borrow(step, name)
    stage = Audit(stage="audit", data=_read(loaded, step), labels=tuple(labels), features=tuple(features))
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"steps": {**steps, name: stage}})), name


def _read(loaded: RecipeFile, step: str) -> tuple[str, ...]:
    """The step, and of labels the steps behind them, down to the samples."""
    if loaded.recipe.steps[step].stage not in ("label", "consensus"):
        return (step,)
    behind: list[str] = []
    for name in loaded.recipe.reads(step):
        if loaded.recipe.steps[name].stage in ("ingest", "label", "consensus"):
            behind += _read(loaded, name)
    return tuple(dict.fromkeys([*behind, step]))


def listed(storage: Storage, fingerprint: str, count: int) -> str:
    """The findings, and the worst samples with why."""
    from hyperloom.stages.table import read_table

    manifest = manifests.read(storage, f"{manifests.folder('audit', fingerprint)}/manifest.json")
    audit = Audited.from_manifest(manifest)
    lines = [AuditFinding(**row).sentence() for row in audit.findings] or [
        f"nothing was found in {audit.samples} samples"
    ]
    rows = read_table(storage, audit.table, [KEY, "split", "quality", "why"])
    order = sorted(range(len(rows)), key=rows["quality"].to_numpy().__getitem__)[:count]
    keys, splits, quality, why = (rows[c].to_pylist() for c in (KEY, "split", "quality", "why"))
    worst: list[dict[str, Any]] = [
        {"sample": keys[i], "split": splits[i], "quality": round(quality[i], 3), "why": why[i]} for i in order if why[i]
    ]
    parts = ["\n".join(lines), table(worst)] if worst else ["\n".join(lines)]
    pictures = [storage.full(f.path) for f in manifest.files if f.path.endswith(".png")]
    parts += [f"all scores: {storage.full(audit.table)}", *(f"picture: {path}" for path in pictures)]
    return "\n".join(parts)
