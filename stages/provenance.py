"""Who made a column: tags of a run, in the words that columns' fields and manifests have too; and which of a root's own
models a file of weights is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import Producer
from hyperloom.stages.lesson import Lesson, handed_on, merged
from hyperloom.stages.results import Released, lessons_of

LONGEST = 480
"""Characters of a tag that are shown for certain."""


MODELS = ("release", "distill", "train")
"""Stages that leave files of weights."""


def resolved(storage: Storage, learned: Iterable[Lesson]) -> list[Lesson]:
    """Lessons in which files of weights are replaced by what they go back to, where a model of this root is in them: a
    student that came back as an ONNX expert, a network to start from. Of others nobody knows it, which is said of a
    start alone: an expert from elsewhere has no part in who is judged."""
    learned = list(learned)
    files = {lesson.shards for lesson in learned if lesson.how in ("weights", "start")}
    known: dict[str, list[Lesson]] = {}
    for manifest in _models(storage) if files else ():
        for digest in files & {file.sha256 for file in manifest.all_files()}:
            released = Released.of(manifest)
            known[digest] = list(released.learned or ()) if released else lessons_of(manifest)
    lessons: list[Lesson] = []
    for lesson in learned:
        if lesson.how not in ("weights", "start"):
            lessons.append(lesson)
        elif lesson.shards in known:
            lessons += handed_on(known[lesson.shards], lesson.by)
        elif lesson.how == "start":
            lessons.append(Lesson("", "", "unknown", f"{lesson.by} comes from elsewhere"))
    deeper = any(lesson.how in ("weights", "start") for lesson in lessons)
    return resolved(storage, lessons) if deeper else merged(lessons)


def _models(storage: Storage) -> Iterator[Manifest]:
    for stage in MODELS:
        for folder in storage.names(stage):
            try:
                yield manifests.read(storage, f"{stage}/{folder}/manifest.json")
            except (FileNotFoundError, NotADirectoryError, Torn):
                continue  # verify says what is wrong with it


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
