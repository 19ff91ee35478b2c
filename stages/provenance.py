"""Who made a column: tags of a run, in the words that columns' fields and manifests have too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import Producer

LONGEST = 480
"""Characters of a tag that are shown for certain."""


def emit_tags(step: StepRun, columns: Mapping[str, Producer]) -> None:
    """Emit a tag for each column that an expert or a consensus made: `column.depth@midas` = JSON with its type,
    revision, digests of weights, and inputs."""
    tags = {
        f"column.{column}": to_json(abouts.about) for column, abouts in columns.items() if abouts.about.get("expert")
    }
    if tags:
        step.events.emit("tag", step.name, values=tags)


def to_json(about: Mapping[str, Any]) -> str:
    """The JSON. Many files of weights are named by the beginnings of their digests."""
    producer = {
        "kind": about.get("kind"),
        "expert": (about.get("expert") or {}).get("type"),
        "revision": about.get("revision"),
        "inputs": list(about.get("inputs") or ()),
    }
    weights = list(about.get("weights") or ())
    for digits in (64, 12, 6):
        text = json.dumps({**producer, "weights": [digest[:digits] for digest in weights]}, sort_keys=True)
        if len(text) <= LONGEST:
            break
    return text
