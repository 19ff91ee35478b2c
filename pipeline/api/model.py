"""A trained or released model, to predict with from arrays.

A model of a train or distill step is asked with torch, as the label stage asks it; a release with what was released,
its ONNX file. Both give the same answers by task: class ids, numbers in the modality's unit, boxes, texts as ids.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hyperloom.pipeline import plugins
from hyperloom.pipeline.api.column import ColumnArray
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.pipeline.root.storage import Storage

STEP_MODEL = "ask the model of its train or distill step: recipe[STEP].model()"
BATCH = 16
"""Samples that go through a network at a time."""
Inputs = Any
"""Of one input: an array (N, ...) or one sample, a `ColumnArray`, a list of arrays, file names or bytes, None for a
sample without it. Of several: a mapping of such by column."""


class Model:
    """`inputs` names its columns (those that are absent are hidden from it; one that a single sample lacks is where the
    model was trained without it, too), `tasks` what it predicts."""

    inputs: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()

    def predict(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Task -> (N, ...) answers. Values of another size are made to fit, as the ingest stage does. Raises
        RecipeError for what is no input of the model and for a sample without an input that no training sample lacked,
        ValueError for a value that cannot be one."""
        raise TypeError(f"{type(self).__name__} does not predict")

    def probabilities(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Task -> (N, ..., classes) float32 for tasks with classes, and the numbers of all others. Raises RecipeError
        of a release, which gives answers alone."""
        raise RecipeError(f"a release gives answers alone. Next: {STEP_MODEL}")

    def spread(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Task -> (N, ..., 1) float32: the standard deviation over the members of the ensemble; 0 of a single pass.
        Raises RecipeError of a release."""
        raise RecipeError(f"a release is one network and has no spread. Next: {STEP_MODEL}")

    def __repr__(self) -> str:
        return f"Model({', '.join(self.inputs)} -> {', '.join(self.tasks)})"


class TrainedModel(Model):
    """Of a train or distill step. `predictor` is the network with its ensemble (stages.network.predictor)."""

    def __init__(self, predictor: Any, visible: Sequence[str]):
        self._predictor = predictor
        architecture = predictor.model.architecture
        self._modalities = {part.column: part.modality for part in architecture.parts if part.column in visible}
        self._tasks = {task.name: task.modality for task in architecture.tasks}
        self.inputs, self.tasks = tuple(self._modalities), tuple(self._tasks)

    def predict(self, inputs: Inputs) -> dict[str, np.ndarray]:
        from hyperloom.stages.label.tag_ends import TagEnds

        ends = TagEnds.of(self._modalities, self._tasks)
        pairs = ((batch, {t: p.mean.answer(t, m) for t, m in self._tasks.items()}) for batch, p in self._asked(inputs))
        return _joined(ends.cut(answers, ends.lengths(batch)) for batch, answers in pairs)

    def probabilities(self, inputs: Inputs) -> dict[str, np.ndarray]:
        return _joined(dict(p.mean) for _, p in self._asked(inputs))

    def spread(self, inputs: Inputs) -> dict[str, np.ndarray]:
        return _joined(dict(p.spread) for _, p in self._asked(inputs))

    def _asked(self, inputs: Inputs) -> Iterator[tuple[dict[str, np.ndarray], Any]]:
        """Batches, and what the network says of each."""
        columns = self._by_column(inputs)
        counts = {name: len(values) for name, values in columns.items()}
        if len(set(counts.values())) != 1:
            raise RecipeError(f"the inputs have different numbers of samples: {counts}")
        if not next(iter(counts.values())):
            raise RecipeError("there is no sample to predict for")
        for first in range(0, next(iter(counts.values())), BATCH):
            batch: dict[str, np.ndarray] = {}
            for name, values in columns.items():
                batch |= _batch(name, self._modalities[name], values[first : first + BATCH])
            if not (answerable := self._predictor.answerable(batch)).all():
                raise RecipeError(_unanswered(batch, int(answerable.argmin()), first, self._predictor.needs))
            yield batch, self._predictor(batch)

    def _by_column(self, inputs: Inputs) -> dict[str, list[Any]]:
        if isinstance(inputs, ColumnArray) and inputs.name in self._modalities:
            inputs = {inputs.name: inputs}
        if not isinstance(inputs, Mapping):
            if len(self.inputs) != 1:
                known = ", ".join(self.inputs)
                raise RecipeError(f"the model has several inputs. Next: a mapping with some of {known}")
            inputs = {self.inputs[0]: inputs}
        if unknown := [name for name in inputs if name not in self._modalities]:
            raise RecipeError(f"the model has no input {', '.join(unknown)}; it has {', '.join(self.inputs)}")
        if not inputs:
            raise RecipeError(f"no input is given. Next: a mapping with some of {', '.join(self.inputs)}")
        _check_alike({name: values for name, values in inputs.items() if isinstance(values, ColumnArray)})
        for name, values in inputs.items():
            if isinstance(values, ColumnArray) and (why := _apart(values.modality, self._modalities[name])):
                raise RecipeError(f"the model was trained when {name} had other classes or units: {why}")
        return {name: _samples(values, self._modalities[name]) for name, values in inputs.items()}


class ReleasedModel(Model):
    """Of a release: the network that users of the registered model get, with answers as those of a step's model. It
    takes images, file names and encoded bytes too."""

    def __init__(self, student: Any, column: str):
        self._student = student
        about = student.about["tasks"].items()
        kinds = {name: {k: v for k, v in task.items() if k != "output"} for name, task in about}
        self._tasks = {name: plugins.parse("modality", kind) for name, kind in kinds.items()}
        self.inputs, self.tasks = (column,), tuple(kinds)
        self.about: dict[str, Any] = student.about

    def predict(self, inputs: Inputs) -> dict[str, np.ndarray]:
        given = inputs
        if isinstance(inputs, Mapping):
            if set(inputs) != set(self.inputs):
                raise RecipeError(f"the release takes {self.inputs[0]} alone, not {', '.join(inputs) or 'nothing'}")
            given = inputs[self.inputs[0]]
        if isinstance(given, ColumnArray):
            if given.missing:
                what = f"{given.missing} of {len(given)} samples have no {given.name}"
                raise RecipeError(f"{what}, and a release answers pictures alone. Next: .present() of the column")
            given = given.values
        answers: dict[str, np.ndarray] = self._student.predict(given)  # ids of pixels, else what the network gives
        return {name: self._tasks[name].answer(v) if v.dtype.kind == "f" else v for name, v in answers.items()}


def model_of(
    storage: Storage, manifest: Manifest, inputs: Mapping[str, Manifest], ensemble: Any, name: str
) -> TrainedModel | ReleasedModel:
    """The model that a manifest holds; `inputs` are the manifests that an ensemble may name. Raises RecipeError."""
    from hyperloom.stages.network.ensemble import predictor
    from hyperloom.stages.results import Released, Trained

    if trained := Trained.of(manifest):
        try:
            chosen = plugins.parse("ensemble", ensemble).bind(inputs)
        except (PluginError, ValueError) as error:
            raise RecipeError(f"ensemble: {error}") from error
        return TrainedModel(predictor(storage, manifest, chosen), trained.visible)
    if released := Released.of(manifest):
        if ensemble not in ("single", {"type": "single"}):
            raise RecipeError("a release is one network. Next: the ensemble of its train or distill step")
        return _released(storage, released)
    raise RecipeError(f"the step {name!r} ({manifest.stage}) holds no model. Next: a train, distill or release step")


def _released(storage: Storage, released: Any) -> ReleasedModel:
    from hyperloom.stages.distill.hyperloom_student import Student

    with tempfile.TemporaryDirectory(prefix="hyperloom-release-") as folder:
        for name, path in released.files.items():
            with open(os.path.join(folder, name), "wb") as file:
                file.write(storage.read(path))
        student = Student(folder)  # holds both in memory
    return ReleasedModel(student, student.about.get("input", "rgb@camera"))


def _samples(values: Any, modality: Any) -> list[Any]:
    """One entry a sample, None where it has no value."""
    if isinstance(values, ColumnArray):
        return list(values)
    if isinstance(values, str | bytes | os.PathLike):
        return [values]
    if isinstance(values, np.ndarray) and values.ndim == len(modality.shape):
        return [values]
    return list(values)


def _batch(name: str, modality: Any, values: Sequence[Any]) -> dict[str, np.ndarray]:
    """What the network takes: (N, *shape), and which samples are there."""
    rows = np.zeros((len(values), *modality.shape), modality.dtype)
    valid = np.array([value is not None for value in values], bool)
    for i in np.flatnonzero(valid):
        rows[i] = _fitted(modality, values[int(i)], f"{name}, sample {i}")
    return {name: rows, f"{name}?": valid}


def _check_alike(columns: Mapping[str, ColumnArray]) -> None:
    """Raises RecipeError where columns of one length are of other samples, or have them in another order."""
    for (first, one), (second, other) in pairwise(columns.items()):
        row = next((i for i, (a, b) in enumerate(zip(one.keys, other.keys)) if a != b), None)
        if row is not None and len(one) == len(other):
            what = f"sample {row} is {one.keys[row]} of {first} and {other.keys[row]} of {second}"
            raise RecipeError(f"{what}. Next: give all columns of the same samples in one order (.take() of a column)")


def _apart(given: Any, own: Any) -> str:
    """How values of one modality differ in meaning from another's; empty where they say the same."""
    from hyperloom.stages.meaning import MeaningsDiffer, translation

    try:
        how = translation(given.meaning, own.meaning, ("the column", "the model"))
    except MeaningsDiffer as error:
        return str(error)
    if how.places:
        return "they are in another order"
    return f"{given.meaning.unit}, not {own.meaning.unit}" if how.factor != 1.0 else ""


def _unanswered(batch: Mapping[str, np.ndarray], row: int, first: int, needs: Collection[str]) -> str:
    """Why there is no answer to a row of a batch that begins with sample `first`."""
    missing = [name for name in batch if f"{name}?" in batch and not batch[f"{name}?"][row]]
    lacks = ", ".join([name for name in missing if name in needs] or missing)
    why = "and the model was never trained without. Next: leave such samples out (.present() of a column)"
    return f"sample {first + row} has no {lacks}, {why}"


def _fitted(modality: Any, value: Any, what: str) -> np.ndarray:
    try:
        if isinstance(value, str | os.PathLike):
            with open(value, "rb") as file:
                value = modality.read(file.read(), os.fspath(value))
        elif isinstance(value, bytes):
            value = modality.read(value, "bytes")
        if isinstance(value, bytes):
            value = modality.decompress(value)
        fitted = np.asarray(modality.fit(value), modality.dtype)
        modality.check(fitted)
    except (ValueError, OSError) as error:
        raise ValueError(f"{what}: {error}") from error
    return fitted


def _joined(parts: Iterator[dict[str, Any]]) -> dict[str, np.ndarray]:
    listed = list(parts)
    return {name: np.concatenate([np.asarray(part[name]) for part in listed]) for name in listed[0]}
