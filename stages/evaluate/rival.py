"""The present champion among those judged: what was released last is asked about the very frames of this report.

Its figures in the root's pointer were measured on the shards of its own time; here it meets the others on equal terms,
paired frame by frame. It answers in the words of its own time: classes in another order and other units of one kind are
brought into the recipe's (`stages.meaning`), and what cannot be is not judged, which is said. Who is champion is read
when the step runs and is no part of the step's identity (as in the release stage), so a finished report stays finished.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import read_file
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.plugins import parse
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import champion as champions
from hyperloom.stages import provenance
from hyperloom.stages.evaluate.overlap import JudgedSamples
from hyperloom.stages.evaluate.worker import ModelAnswers, ModelJudge, Rows
from hyperloom.stages.lesson import Lesson
from hyperloom.stages.meaning import MeaningsDiffer, Translation, translation
from hyperloom.stages.modality import Modality
from hyperloom.stages.results import Released

CHAMPION = "champion"
FILES = ("student.onnx", "student.json")


@dataclass(frozen=True)
class Rival:
    """A released student: fingerprint of its release step, its folder in the root, its input column and tasks, and what
    it goes back to."""

    release: str
    folder: str
    column: str
    tasks: dict[str, Any]
    learned: Sequence[Lesson] = ()
    meanings: dict[str, Translation] = field(default_factory=dict)
    """Modality of the truth -> how its answers become those of the recipe; it is judged on these."""
    apart: dict[str, str] = field(default_factory=dict)
    """Modality of the truth -> why it is not judged on it."""

    def modality(self, task: str) -> Modality:
        """What it calls a task."""
        modality: Modality = parse("modality", {k: v for k, v in self.tasks[task].items() if k != "output"})
        return modality

    def beside(self, modalities: Mapping[str, Modality], truth: Mapping[str, str], columns: Collection[str]) -> Rival:
        """This champion among those who are judged by `truth` on shards with `columns`."""
        meanings, apart = {}, {}
        for name in (m for m in truth if m in self.tasks):
            mine, ours = self.modality(name), modalities[name]
            if self.column not in columns:
                apart[name] = f"the shards have no {self.column}, which it reads"
            elif type(mine) is not type(ours):
                apart[name] = f"its type is {mine.type}, the recipe's {ours.type}"
            else:
                try:
                    meanings[name] = translation(mine.meaning, ours.meaning, ("the champion", "the recipe"))
                except MeaningsDiffer as error:
                    apart[name] = str(error)
                if name in meanings and mine.shape != ours.shape:
                    apart[name] = f"its answers have the shape {mine.shape}, the recipe's {ours.shape}"
                    del meanings[name]
        return replace(self, meanings=meanings, apart=apart)

    def sentences(self, judged: JudgedSamples) -> list[str]:
        """What a report says of it: on what it is not judged though it predicts it, and its edge on these samples."""
        absent = [f"the champion is not judged on {name!r}: {why}" for name, why in self.apart.items()]
        return [*absent, *(self.advantage(judged) if self.meanings else [])]

    def advantage(self, judged: JudgedSamples) -> list[str]:
        """A sentence where it learned from judged samples: a split that moved, by `stratify`, another salt or share."""
        trained = [lesson for lesson in self.learned if lesson.how == "trained"]
        overlaps = [judged.overlap(lesson) for lesson in trained]
        groups = sorted({group for overlap in overlaps for group in overlap.groups})
        if not groups:
            return []
        most, some = max(overlap.samples for overlap in overlaps), ", ".join(groups[:3])
        return [
            f"the champion learned from {counted(len(groups), 'group')} of these frames ({some}; {most} of the "
            f"{len(judged.samples)} samples): it has an edge"
        ]


def rival(storage: Storage, name: str) -> Rival | None:
    """The champion of a registered name; None while there is none, or where its files are gone."""
    champion = champions.current(storage, name)
    release = champion and manifests.load(storage, "release", champion.release)
    if not release:
        return None
    about = json.loads(read_file(storage, next(f for f in release.files if f.path == f"{release.folder}/{FILES[1]}")))
    return Rival(release.fingerprint, release.folder, about["input"], about["tasks"], _learned(storage, release))


def _learned(storage: Storage, release: Manifest) -> list[Lesson]:
    return provenance.resolved(storage, Released.from_manifest(release).learned or ())


@dataclass
class RivalJudge(ModelJudge):
    """Judges a released student by its own loader, so exactly as its users meet it."""

    folder: str = ""
    rival: Rival | None = None

    def setup(self) -> None:
        from hyperloom.stages.distill.hyperloom_student import Student

        with tempfile.TemporaryDirectory() as local:
            for name in FILES:
                with open(os.path.join(local, name), "wb") as file:
                    file.write(self.task.storage.read(f"{self.folder}/{name}"))
            self._student = Student(local)
        assert self.rival is not None
        own = {name: self.rival.modality(name) for name in self.rival.meanings}  # its own know its vocabulary
        self._answering = {**self.task.modalities, **{name: kind for name, kind in own.items() if kind.textual}}

    def _asked(self, rows: Rows) -> ModelAnswers:
        images, given, champion = rows.values[self.inputs[0]], rows.valid[self.inputs[0]], self.rival
        answers = self._student.predict(images)
        assert champion is not None
        brought = {}
        for name, how in champion.meanings.items():
            modality, values = champion.modality(name), answers[name]
            ids = modality.categorical and values.dtype.kind != "f"
            brought[name] = modality.translated(values, how) if ids else modality.mean_translated(values, how)
        return ModelAnswers(given, brought)
