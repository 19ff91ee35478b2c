"""What released students say of a sample: asked when somebody looks, since no step stores it.

A student of a root on the local disk is loaded when its column is first looked at, from the files of its release
(`student.onnx`, `student.json`). Its columns are called `task@step`.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import File, read_file
from hyperloom.pipeline.errors import HyperloomError, Torn
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.data.shelf import Shelf
from hyperloom.stages.results import Released, Trained

FILES = ("student.onnx", "student.json")
KEPT = 256
"""Samples whose answers are kept."""


class StudentAnswers:
    """The students that were released by the planned `steps`."""

    def __init__(self, shelf: Shelf, steps: Iterable[PlannedStep]):
        self.shelf = shelf
        self.columns: dict[str, tuple[str, str]] = {}
        """Column -> the folder of its student's files, and the column that it reads."""
        self._files: dict[str, list[File]] = {}
        self._students: dict[str, Any] = {}
        self._answers: OrderedDict[tuple[str, int], dict[str, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()
        if shelf.storage.is_local:
            for name, files, reads, tasks in _students(list(steps)):
                folder = os.path.dirname(files[0].path)
                self._files[folder] = files
                able = [t for t in tasks if t in shelf.modalities] if reads in shelf.columns else []
                self.columns |= {c: (folder, reads) for t in able if (c := f"{t}@{name}") not in shelf.columns}

    def value(self, column: str, row: int) -> Any:
        """The student's answer to a sample, as a value of the column's modality; None where it lacks its input."""
        folder, reads = self.columns[column]
        with self._lock:
            answer = self._answers.get((folder, row))
            if answer is None:
                image = self.shelf.value(reads, row)
                if image is None:
                    return None
                answer = {k: v[0] for k, v in self._student(folder).predict(image[None]).items()}
                self._answers[folder, row] = answer
                while len(self._answers) > KEPT:
                    self._answers.popitem(last=False)
        kind = self.shelf.modalities[modality_of(column)]
        value = answer[modality_of(column)]
        return kind.answer(value[None])[0] if value.dtype.kind == "f" else value  # ids are an answer already

    def _student(self, folder: str) -> Any:
        if folder not in self._students:
            try:
                from hyperloom.stages.distill.hyperloom_student import Student

                for file in self._files[folder]:
                    _check(self.shelf.storage, file)
                self._students[folder] = Student(self.shelf.storage.path(folder))
            except ImportError as error:
                raise HyperloomError(
                    "asking a student needs onnxruntime. Next: pip install 'hyperloom[onnx]'"
                ) from error
        return self._students[folder]


def _check(storage: Storage, file: File) -> None:
    """Raise Torn where a released file is not what its manifest says."""
    try:
        read_file(storage, file)
    except FileNotFoundError as error:
        raise Torn(f"{storage.full(file.path)} is gone. Next: hyperloom verify --repair") from error


def _students(steps: list[PlannedStep]) -> Iterable[tuple[str, list[File], str, list[str]]]:
    """Name of the step, the student's files, the column it reads, its tasks."""
    for step in steps:
        release = Released.of(step.manifest) if step.manifest else None
        if release is None or not set(FILES) <= set(release.files):
            continue
        paths = {release.files[name] for name in FILES}
        files = [file for file in step.manifest.all_files() if file.path in paths] if step.manifest else []
        name = str(getattr(step.stage, "model", "") or release.subject)
        trained = next((Trained.of(s.manifest) for s in steps if s.name == name and s.manifest), None)
        if trained is not None and len(trained.visible) == 1 and len(files) == len(FILES):
            yield name, files, trained.visible[0], list(trained.tasks)
