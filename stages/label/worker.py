"""The label worker: one expert over one partition, to one Parquet file of `key` and the expert's columns.

Invariants: the file has the keys of the partition, all of them, in their order; a sample in quarantine is a null in
each of this expert's columns; a sample whose input is missing is a null too, without being counted again. The bytes
depend on the samples and the expert alone; each column's field says who made it (`producer`). From the third attempt
on, when the process may have died of a sample, it goes one by one and notes each before it begins; a sample on which
the process died twice is in quarantine.

While a unit is computed, the first batches of the next are read (`ahead`), and the file of the one before is encoded
and written, where its commit waits for the disk.
"""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.commits.units import Output, Unit
from hyperloom.pipeline.errors import PluginError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import careful
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.label.batching import BatchSize
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.weightfile import weight_files

if TYPE_CHECKING:
    from hyperloom.stages.label.reading import Parts
    from hyperloom.stages.label.steps import Steps

PlaceAnswers = Callable[[Iterable[tuple[int, Any]]], None]
AHEAD = 2
"""Units whose first batches are read before their turn."""
READERS = 4
"""Threads that read batches; within a batch, pictures are decoded by several."""


class LabelWorker:
    """Does the units of one expert. Built from config; `setup` loads the expert, once in each process.

    `about` is what each column that it makes says of its producer: small JSON that holds meaning only. `share` is what
    of a GPU it got without asking.
    """

    def __init__(
        self, expert: Expert, modalities: dict[str, Any], storage: Storage, about: dict[str, Any], share: float = 0.0
    ):
        self.expert, self.modalities, self.storage, self.about = expert, modalities, storage, about
        self.resources = replace(expert.resources, gpus=share) if share else expert.resources
        self._share = share
        self._files = weight_files(expert.weights(), about.get("weights") or ())

    def setup(self) -> None:
        from hyperloom.stages.label.bisection import Bisection

        _limit_threads(max(1, int(self.expert.cpus)))
        function = self._built()
        for file in self._files:
            file.check()
        _limit_threads(max(1, int(self.expert.cpus)))  # libraries that came with the expert
        self._notes = list(getattr(function, "notes", ()))
        self._bisection = Bisection(function, self.expert.out, self.modalities, _readers(self.expert))
        self._sizes: dict[str, BatchSize] = {}
        self._coming: dict[tuple[str, str], Parts] = {}
        self._careful = False

    def _built(self) -> Function | Steps:
        """The expert's function, on a GPU that it did not ask for where its library can use one."""
        from hyperloom.stages.label.contract import built

        if self._share:
            try:
                placed = self.expert.model_copy(update={"gpus": self._share})
                function = built(placed, self.modalities, self.storage)
            except PluginError as error:
                print(f"{self.expert.type} works on its CPUs: {error}", file=sys.stderr)
            else:
                self.expert = placed
                return function
        return built(self.expert, self.modalities, self.storage)

    def ahead(self, unit: Unit) -> None:
        """Begin to read what `run` will be asked for next; may be called in any thread. What goes wrong is left to
        `run` to say."""
        size = self._size(unit.space)
        if self._careful or not size.known:
            return
        try:
            parts = self._opened(unit, size)
        except Exception:
            return
        parts.begin()
        while len(self._coming) >= AHEAD:
            self._coming.pop(next(iter(self._coming)), None)
        self._coming[unit.key] = parts

    def run(self, unit: Unit, out: Output) -> None:
        """Label one partition. Raises what is no sample's fault (see stages.label.bisection)."""
        parts = self._coming.pop(unit.key, None) or self._opened(unit, self._size(unit.space))
        keys = parts.samples.keys
        values: dict[str, list[Any]] = {c: [None] * len(keys) for c in self.expert.out}
        figures = _Figures(self.expert, self.modalities)
        errors: dict[int, Exception | str] = {}

        def place(answers: Iterable[tuple[int, Any]]) -> None:
            for row, answer in answers:
                if isinstance(answer, dict):
                    for column, value in answer.items():
                        values[column][row] = value
                else:
                    errors[row] = answer

        remarked = Counter[str]()
        rest = self._answered(parts, out, figures, place, remarked)

        def write() -> None:
            place(rest)
            for row, error in sorted(errors.items()):
                out.quarantine(keys[row], error)
            out.rows = len(keys) - len(errors)
            if figures.kept:
                out.meta["figures"] = figures.sums()
            if self._notes or remarked:
                out.meta["remarks"] = dict.fromkeys(self._notes, 0) | dict(sorted(remarked.items()))
            if look := _look(values, self.modalities):
                out.meta["look"] = look
            if unit.id != unit.payload["pid"]:
                out.meta["pid"] = unit.payload["pid"]
            table, out.meta["missing"] = _table(keys, values, self.modalities, self.about)
            out.write("parquet", table)

        out.later(write)

    def _opened(self, unit: Unit, size: BatchSize) -> Parts:
        from hyperloom.stages.label.samples import ExpertInputs

        samples = ExpertInputs(self.storage, unit.payload, self.expert, self.modalities)
        return self._bisection.parts(samples, [int(r) for r in samples.callable], size)

    def _answered(
        self, parts: Parts, out: Output, figures: _Figures, place: PlaceAnswers, remarked: Counter[str]
    ) -> Iterable[tuple[int, Any]]:
        """Compute a unit and `place` its answers, but for the rest, which may still be on a device: to be placed when
        the unit is committed. `remarked` counts the remarks."""
        samples, size, bisection = parts.samples, self._size(out.unit.space), self._bisection
        rows = [int(r) for r in samples.callable]
        self._careful = careful.is_due(out)
        if not self._careful:
            if size.wants(len(rows)):
                if bisection.device:
                    size.find(rows, bisection.call, lambda some: bisection.read(samples, some))
                else:
                    size.find(rows, lambda some: bisection.trial(samples, some))
            answers = bisection.answers(parts, size, figures.seen, remarked)
            place(answers.begun())
            if bisection.device:
                return answers.rest()
            place(answers.rest())
            return ()
        with careful.one_by_one(out, [samples.keys[r] for r in rows]) as each:
            for at, why in each:
                one = bisection.parts(samples, [rows[at]], size)
                place([(rows[at], why)] if why else bisection.answers(one, size, figures.seen, remarked))
        return ()

    def _size(self, space: str) -> BatchSize:
        if space not in self._sizes:
            self._sizes[space] = BatchSize(self.storage, space, self.expert.batch or self.expert.usual_batch)
        return self._sizes[space]


class _Figures:
    """Sums of what `Expert.measures` says of each sample; exact, so that they do not depend on the batches."""

    def __init__(self, expert: Expert, modalities: dict[str, Any]):
        self._expert, self._modalities = expert, modalities
        self.seen = self._seen if type(expert).measures is not Expert.measures else None
        self.kept: dict[str, list[float]] = {}

    def _seen(self, batch: Batch, outputs: Batch) -> None:
        for name, values in self._expert.measures(batch, outputs, self._modalities).items():
            self.kept.setdefault(name, []).extend(float(v) for v in values if not math.isnan(v))

    def sums(self) -> dict[str, list[float]]:
        """Name -> [sum, number of samples]."""
        return {name: [math.fsum(values), len(values)] for name, values in sorted(self.kept.items())}


def _table(
    keys: list[str], values: dict[str, list[Any]], modalities: dict[str, Any], about: dict[str, Any]
) -> tuple[bytes, dict[str, int]]:
    """The file, and how many values each column lacks: no answers, and answers that are "unknown"."""
    import pyarrow as pa

    from hyperloom.stages.column import produced
    from hyperloom.stages.table import write_table

    columns: dict[str, Any] = {KEY: pa.array(keys, pa.string())}
    fields = [pa.field(KEY, pa.string())]
    for column, column_values in values.items():
        modality = modalities[modality_of(column)]
        columns[column] = modality.encode(column_values)
        fields.append(produced(modality.field(column), about))
    return write_table(columns, fields), {column: columns[column].null_count for column in values}


def _look(values: dict[str, list[Any]], modalities: dict[str, Any]) -> dict[str, Any]:
    """What was seen of each column, for the step to ask about (see stages.ingest.look)."""
    from hyperloom.stages.ingest.look import ColumnLook

    seen: dict[str, Any] = {}
    for column, column_values in values.items():
        modality, look = modalities[modality_of(column)], ColumnLook()
        look.add(column_values, modality)
        if figures := look.figures():
            seen[column] = figures
    return seen


def _readers(expert: Expert) -> int:
    """Threads that read for an expert: one for each CPU that it asks for. Where it has a GPU and does not say how many
    CPUs, as many as it may have."""
    cpus = int(expert.cpus)
    if expert.gpus and "cpus" not in expert.model_fields_set:
        cpus = len(os.sched_getaffinity(0))
    return min(READERS, max(1, cpus))


def _limit_threads(count: int) -> None:
    """As many threads as the worker has CPUs: the parallelism is in the processes."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(count))
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
