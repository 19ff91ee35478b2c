"""Expectations: what must be so of what a step makes, or no later step starts (`expect:` of any step).

They say what to refuse, never what a step makes, so they are in no identity: a step's files stay as they are, its
manifest is not written while one fails, and a plan looks at those of finished steps anew. What can be expected is the
stages' affair (the plug-in of kind `expectations`); here is when it is asked. A step that is only compared with (drift)
comes first in the order, and is no input of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline import plugins, registry
from hyperloom.pipeline.fields import step_refs

if TYPE_CHECKING:
    from hyperloom.pipeline.commits.manifest import Manifest
    from hyperloom.pipeline.planning.check import Schema, StepCheck
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.pipeline.stage import Stage, StepRun

KIND = "expectations"


def parsed(value: Any) -> Any:
    """`expect:` of a recipe. Raises ValueError."""
    return _judge().parsed(value) if value else {}


def lines(stage: Stage) -> list[str]:
    """Each as a plan shows it."""
    return list(_judge().lines(stage.expect)) if stage.expect else []


def check(step: StepCheck, schema: Schema | None) -> None:
    """Note what cannot be so of what the step gives."""
    if step.stage.expect:
        _judge().check(step, schema)


def apart(stage: Stage, inputs: Mapping[str, Manifest]) -> tuple[dict[str, Manifest], dict[str, Manifest]]:
    """The manifests that a step reads, and those that it is only compared with."""
    if not stage.expect:
        return dict(inputs), {}
    own = step_refs(stage.model_copy(update={"expect": {}}))
    also = {name for one in stage.expect.values() if hasattr(one, "model_fields_set") for name in step_refs(one)}
    return {n: m for n, m in inputs.items() if n in own}, {n: m for n, m in inputs.items() if n in also}


def accept(step: StepRun, manifest: Manifest) -> None:
    """Before the manifest is committed: say what is not as expected. Raises StepFailed for what is no warning."""
    if step.stage.expect:
        _judge().accept(step, manifest)


def wrong(stage: Stage, storage: Storage, manifest: Manifest) -> str:
    """Why a finished step has to run again though its manifest and files are there: what it has left elsewhere is gone,
    or something is expected by now that is not so; empty where nothing is."""
    lost = stage.lost(storage, manifest)
    return lost or (str(_judge().wrong(stage, storage, manifest)) if stage.expect else "")


def _judge() -> Any:
    (name,) = registry.known(KIND)
    return plugins.load(KIND, name)()
