"""The present champion among those judged: what was released last is asked about the very frames of this report.

Its figures in the root's pointer were measured on the shards of its own time; here it meets the others on equal terms,
paired frame by frame. Who is champion is read when the step runs and is no part of the step's identity (as in the
release stage), so a finished report stays finished.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.pipeline import manifest as manifests
from hyperloom.pipeline.storage import Storage
from hyperloom.stages import champion as champions
from hyperloom.stages.evaluate.worker import ModelJudge, Rows

CHAMPION = "champion"
FILES = ("student.onnx", "student.json")


@dataclass(frozen=True)
class Rival:
    """A released student: fingerprint of its release step, its folder in the root, its input column and tasks."""

    release: str
    folder: str
    column: str
    tasks: dict[str, Any]


def rival(storage: Storage, name: str) -> Rival | None:
    """The champion of a registered name; None while there is none, or where its files are gone."""
    champion = champions.current(storage, name)
    release = champion and manifests.load(storage, "release", champion.release)
    if not release:
        return None
    about = json.loads(storage.read(f"{release.folder}/{FILES[1]}"))
    return Rival(release.fingerprint, release.folder, about["input"], about["tasks"])


@dataclass
class RivalJudge(ModelJudge):
    """Judges a released student by its own loader, so exactly as its users meet it."""

    folder: str = ""

    def setup(self) -> None:
        from hyperloom.stages.distill.hyperloom_student import Student

        with tempfile.TemporaryDirectory() as local:
            for name in FILES:
                with open(os.path.join(local, name), "wb") as file:
                    file.write(self.task.storage.read(f"{self.folder}/{name}"))
            self._student = Student(local)
        self._answering = dict(self.task.modalities)

    def _asked(self, rows: Rows) -> dict[str, np.ndarray]:
        images = rows.values[self.inputs[0]]
        answers = self._student.predict(images)
        return {name: answers[name] for name in self.task.truth if name in answers}
