"""The worker of evaluation: one shard, judged for all label columns at once or for one model.

A unit's record carries the statistics (`meta`, see `stages.measure.scores`). Its files: what the pictures need of this
shard (the chosen rows, with the columns shown), and the sheet of every sample's statistics. The time a model takes goes
out as an event, since a record holds no times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import GROUP, INDEX, KEY, modality_of
from hyperloom.stages.evaluate.members import Smaller, apart, sizes
from hyperloom.stages.evaluate.motion import Motion, Temporal
from hyperloom.stages.meaning import translation
from hyperloom.stages.measure.calibration import confidence
from hyperloom.stages.measure.scores import decided, score
from hyperloom.stages.measure.sheet import Sheet
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality
from hyperloom.stages.table import open_table, read_table, write_table

if TYPE_CHECKING:
    import pyarrow as pa

    from hyperloom.pipeline.commits.manifest import Manifest
    from hyperloom.stages.network.ensemble import Together
    from hyperloom.stages.network.predictor import Predictor

ByColumn = dict[str, np.ndarray]


@dataclass
class Evaluation:
    """What all judges of one evaluation share. `truth`: modality -> column; `temporal`: with the image column to see
    motion in, or None."""

    storage: Storage
    modalities: Mapping[str, Modality]
    truth: Mapping[str, str]
    temporal: Temporal | None = None
    batch: int = 16

    def motion(self, names: Mapping[str, str]) -> Motion | None:
        """Motion over what is told under `names` (name -> modality); None where nobody asked for it or none has rows
        and columns."""
        seen = {n: self.modalities[m] for n, m in names.items() if self.modalities[m].height_width is not None}
        return Motion(self.temporal, seen) if self.temporal and seen else None

    @property
    def watched(self) -> list[str]:
        """The column in which motion is seen."""
        return [self.temporal.image] if self.temporal else []


@dataclass
class Judge:
    """Judges the label columns of a shard: `columns` are judged, `shown` also pictured."""

    task: Evaluation
    columns: tuple[str, ...]
    shown: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        task, sheet = self.task, Sheet()
        columns = [*self.columns, *(task.truth.values() if task.temporal else ())]
        motion = task.motion({c: modality_of(c) for c in columns})
        if motion and (rows := last_row(task, unit, self._read())):
            _with_motion({}, motion, rows, 0, task.watched, rows.present(columns, 0))
        for rows in batches(task.storage, unit.payload["path"], task.modalities, self._read(), task.batch):
            for i in range(len(rows)):
                sums = {c: self._scored(rows, c, i) for c in self.columns}
                sheet.add(*rows.name(i), _with_motion(sums, motion, rows, i, task.watched, rows.present(columns, i)))
        out.rows = len(sheet)
        out.meta["sums"] = sheet.sums()
        out.write("parquet", self._pictured(unit))
        out.write("parquet", sheet.to_parquet())

    def _scored(self, rows: Rows, column: str, i: int) -> Sums:
        name = modality_of(column)
        truth, modality, one = self.task.truth[name], self.task.modalities[name], slice(i, i + 1)
        values, valid = rows.values, rows.valid
        return score(modality, values[truth][one], values[column][one], valid[truth][one], valid[column][one])

    def _read(self) -> list[str]:
        return list(dict.fromkeys([*self.task.truth.values(), *self.columns, *self.task.watched]))

    def _pictured(self, unit: Unit) -> bytes:
        shown = list(dict.fromkeys([*self.shown, *self._read()]))
        table = _pick(self.task.storage, unit, [KEY, *shown])
        table = table.combine_chunks()
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        return write_table(columns, list(table.schema))


@dataclass
class AskedModel:
    """A trained model that is asked. `step`: stage and fingerprint of its step; `inputs`: those of its columns that the
    shards have; `member`: which of its step's family, all of them when empty."""

    task: Evaluation
    name: str
    step: tuple[str, str]
    inputs: tuple[str, ...]
    ensemble: Any
    run_id: str
    resources: Resources = field(default_factory=Resources)
    member: str = ""
    given: bool = False
    """Did it get its share of a GPU without asking? Then it works on CPUs where torch sees none."""

    @cached_property
    def manifest(self) -> Manifest:
        """Of the model's step. Raises IntegrityError where there is none."""
        manifest = manifests.load(self.task.storage, *self.step)
        if manifest is None:
            where = "/".join(self.step)
            raise IntegrityError(f"the model's step {where} has no manifest. Next: run the same command again")
        return manifest

    def load(self) -> Predictor | Together:
        """The model, on the CPU."""
        from hyperloom.stages.network.ensemble import predictor

        return predictor(self.task.storage, self.manifest, self.ensemble, self.member)


@dataclass(frozen=True)
class ModelAnswers:
    """What a model says of some rows, by modality of the truth: its `mean` (N, ...); of an ensemble how far its members
    differ, `spread` (N, *sites, 1), and the mean of its first members, by their number. Where `given` (N,) is false
    there is no answer (`stages.evaluate.unanswered`), and the values say nothing."""

    given: np.ndarray
    mean: ByColumn
    spread: Mapping[str, np.ndarray] = field(default_factory=dict)
    fewer: Mapping[int, ByColumn] = field(default_factory=dict)


@dataclass
class ModelJudge(AskedModel):
    """Judges one trained model on a shard."""

    def setup(self) -> None:
        from hyperloom.stages.network.predictor import device_of

        self._predictor = self.load().to(device_of(self.resources.gpus, self.given))
        tasks = self._predictor.model.architecture.tasks
        self._answering = {t.name: t.modality for t in tasks}  # a model's own know its vocabulary
        ours = {name: self.task.modalities[name] for name in self._answering if name in self.task.truth}
        self._meanings = {n: translation(self._answering[n].meaning, m.meaning) for n, m in ours.items()}

    def run(self, unit: Unit, out: Output) -> None:
        task, sheet, smaller = self.task, Sheet(), Smaller()
        motion = task.motion({m: m for m in task.truth})
        kept: dict[str, list[np.ndarray | None]] = {}
        columns = list(dict.fromkeys([*task.truth.values(), *self.inputs, *task.watched]))
        spent = 0.0
        if motion and (rows := last_row(task, unit, columns)):
            _with_motion({}, motion, rows, 0, task.watched, _told(*self._answers(rows), 0))
        for rows in batches(task.storage, unit.payload["path"], task.modalities, columns, task.batch):
            began = time.perf_counter()
            answered, answers = self._answers(rows)
            spent += time.perf_counter() - began
            self._fewer(rows, answered, smaller)
            for i in range(len(rows)):
                one = _told(answered, answers, i)
                if len(sheet) in unit.payload["pictures"]:
                    for name in answers:
                        kept.setdefault(name, []).append(one.get(name))
                sums = {name: self._scored(rows, name, answered, answers[name], i) for name in answers}
                sheet.add(*rows.name(i), _with_motion(sums, motion, rows, i, task.watched, one))
        out.rows = len(sheet)
        out.meta |= {"sums": sheet.sums(), **smaller.meta()}
        out.write("parquet", self._pictured(unit, kept))
        out.write("parquet", sheet.to_parquet())
        self._say(unit, spent / max(out.rows, 1))

    def _answers(self, rows: Rows) -> tuple[ModelAnswers, ByColumn]:
        """What the model says of some rows, and what it amounts to."""
        answered = self._asked(rows)
        return answered, {name: decided(self._answering[name], values) for name, values in answered.mean.items()}

    def _asked(self, rows: Rows) -> ModelAnswers:
        """What the model says of each modality of the truth that it predicts."""
        from hyperloom.stages.base import VALID

        given = {c: rows.values[c] for c in self.inputs} | {c + VALID: rows.valid[c] for c in self.inputs}
        counts = sizes(len(self._predictor.members))
        *fewer, whole = self._predictor.growing(given, counts)
        meanings = self._meanings.items() if fewer else ()
        spread = {n: how.numbers(whole.spread[n]) for n, how in meanings}
        first = {n: self._brought(p.mean) for n, p in zip(counts, fewer, strict=False)}
        return ModelAnswers(self._predictor.answerable(given), self._brought(whole.mean), spread, first)

    def _brought(self, mean: Mapping[str, np.ndarray]) -> ByColumn:
        """Means in the recipe's classes and units."""
        return {n: self._answering[n].mean_translated(mean[n], how) for n, how in self._meanings.items()}

    def _fewer(self, rows: Rows, answered: ModelAnswers, smaller: Smaller) -> None:
        """Count what fewer members come to."""
        for members, means in answered.fewer.items():
            for name, mean in means.items():
                truth, known = (part[self.task.truth[name]] for part in (rows.values, rows.valid))
                answers = decided(self._answering[name], mean)
                smaller.add(members, name, score(self.task.modalities[name], truth, answers, known, answered.given))

    def _scored(self, rows: Rows, name: str, answered: ModelAnswers, answers: np.ndarray, i: int) -> Sums:
        modality, column, one = self.task.modalities[name], self.task.truth[name], slice(i, i + 1)
        truth, known, mean = rows.values[column][one], rows.valid[column][one], answered.mean[name]
        sums = score(modality, truth, answers[one], known, answered.given[one])
        if not answered.given[i]:
            return sums
        if modality.categorical and mean.dtype.kind == "f":
            sums = sums | confidence(modality, truth, mean[one], known)
        return sums | apart(answered.spread[name][i]) if name in answered.spread else sums

    def _pictured(self, unit: Unit, kept: Mapping[str, list[np.ndarray | None]]) -> bytes:
        import pyarrow as pa

        modalities = self.task.modalities
        keys = _pick(self.task.storage, unit, [KEY])
        arrays = {f"{name}@{self.name}": modalities[name].encode(values) for name, values in kept.items()}
        fields = [pa.field(KEY, pa.string()), *(modalities[modality_of(c)].field(c) for c in arrays)]
        return write_table({KEY: pa.array(keys[KEY].to_pylist(), pa.string()), **arrays}, fields)

    def _say(self, unit: Unit, seconds: float) -> None:
        with Events(self.task.storage, self.run_id, f"evaluate-{unit.id}-{self.name}") as events:
            events.metric(unit.payload["step"], {f"milliseconds a frame/{self.name}": 1000 * seconds})


def _told(answered: ModelAnswers, answers: ByColumn, i: int) -> ByColumn:
    """What row `i` was answered, nothing where there is no answer."""
    return {name: answer[i] for name, answer in answers.items()} if answered.given[i] else {}


def _with_motion(
    sums: dict[str, Sums], motion: Motion | None, rows: Rows, i: int, watched: list[str], answers: ByColumn
) -> dict[str, Sums]:
    """`sums` of one sample, with those of its motion."""
    if motion is None:
        return sums
    _, group, index = rows.name(i)
    image = rows.values[watched[0]][i] if rows.valid[watched[0]][i] else None
    for name, moved in motion.step(group, index, image, answers).items():
        sums[name] = sums.get(name, {}) | moved
    return sums


def _pick(storage: Storage, unit: Unit, columns: list[str]) -> pa.Table:
    """The rows of a unit's shard that are to be pictured, none of most shards (an empty list alone has no type)."""
    import pyarrow as pa

    return read_table(storage, unit.payload["path"], columns).take(pa.array(unit.payload["pictures"], pa.int64()))


@dataclass(frozen=True)
class Rows:
    """Some rows of a shard: by column the values (N, *shape) and which are there, (N,) bool; and the rows' names."""

    keys: list[str]
    groups: list[str]
    index: list[int]
    values: ByColumn
    valid: ByColumn

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, i: int) -> tuple[str, str, int]:
        """Key, group and index of row `i`."""
        return self.keys[i], self.groups[i], self.index[i]

    def present(self, columns: list[str], i: int) -> ByColumn:
        """The values of row `i` that are there."""
        return {c: self.values[c][i] for c in columns if self.valid[c][i]}


def batches(
    storage: Storage, path: str, modalities: Mapping[str, Modality], columns: list[str], size: int
) -> Iterator[Rows]:
    """A shard's rows, `size` at a time."""
    with open_table(storage, path) as file:
        for part in file.iter_batches(size, columns=[KEY, GROUP, INDEX, *columns], use_threads=False):
            yield _decoded(part, modalities, columns)


def last_row(task: Evaluation, unit: Unit, columns: list[str]) -> Rows | None:
    """The last row of the shard before the unit's, where its group goes on: the frame before the first of this one."""
    if not unit.payload["before"]:
        return None
    with open_table(task.storage, unit.payload["before"]) as file:
        names = [KEY, GROUP, INDEX, *columns]
        part = file.read_row_group(file.num_row_groups - 1, columns=names, use_threads=False)
        return _decoded(part.slice(part.num_rows - 1), task.modalities, columns)


def _decoded(part: Any, modalities: Mapping[str, Modality], columns: list[str]) -> Rows:
    decoded = {c: modalities[modality_of(c)].decode(part.column(c)) for c in columns}
    keys, groups, index = (part.column(n).to_pylist() for n in (KEY, GROUP, INDEX))
    return Rows(keys, groups, index, {c: v for c, (v, _) in decoded.items()}, {c: t for c, (_, t) in decoded.items()})
