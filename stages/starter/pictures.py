"""Pictures of a pilot: what a person looks at when it has ended: the report's, and the last shards' first samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hyperloom.pipeline.plan import PlannedStep
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import read_file
from hyperloom.stages.data.look import picture
from hyperloom.stages.data.reader import SampleReader
from hyperloom.stages.results import Shards

ROWS = 8


def pictures(storage: Storage, planned: Sequence[PlannedStep], modalities: dict[str, Any]) -> dict[str, bytes]:
    """PNG bytes by a step's name, of the steps that are done."""
    shown: dict[str, bytes] = {}
    for step in planned:
        for file in step.manifest.files if step.manifest else ():
            if file.path.endswith(".png"):
                shown.setdefault(step.name, read_file(storage, file))
    for step in reversed(planned):
        if step.manifest is not None and Shards.of(step.manifest):
            reader = SampleReader(storage, step.name, step.manifest, [])
            shown[step.name] = picture(reader.head(ROWS), modalities)
            break
    return shown
