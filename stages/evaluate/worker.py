"""The worker of evaluation: one shard, judged for all label columns at once or for one model.

A unit's record carries the statistics (`meta`, see scores); its file holds what the pictures need of this shard: the
chosen rows, with the columns shown. The time a model takes goes out as an event, since a record holds no times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline import manifest as manifests
from pipeline.errors import IntegrityError
from pipeline.events import Events
from pipeline.storage import Storage
from pipeline.units import Output, Resources, Unit
from stages.base import KEY, modality_of
from stages.evaluate.scores import Sums, merged, score
from stages.modality import Modality
from stages.table import open_table, read_table, write_table

Batch = dict[str, np.ndarray]


@dataclass
class Judge:
    """Judges the label columns of a shard. `truth`: modality -> column; `columns` are judged, `shown` also pictured."""

    storage: Storage
    modalities: Mapping[str, Modality]
    truth: Mapping[str, str]
    columns: tuple[str, ...]
    shown: tuple[str, ...] = ()
    batch: int = 16
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        sums: dict[str, list[Sums]] = {column: [] for column in self.columns}
        for values, there in batches(self.storage, unit.payload["path"], self.modalities, self._read(), self.batch):
            for column in self.columns:
                truth = self.truth[modality_of(column)]
                modality = self.modalities[modality_of(column)]
                sums[column].append(score(modality, values[truth], values[column], there[truth], there[column]))
            out.rows += len(next(iter(values.values())))
        out.meta["sums"] = {column: merged(parts) for column, parts in sums.items()}
        out.write("parquet", self._pictured(unit))

    def _read(self) -> list[str]:
        return list(dict.fromkeys([*self.truth.values(), *self.columns]))

    def _pictured(self, unit: Unit) -> bytes:
        shown = list(dict.fromkeys([*self.shown, *self._read()]))
        table = read_table(self.storage, unit.payload["path"], [KEY, *shown]).take(unit.payload["pictures"])
        table = table.combine_chunks()
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        return write_table(columns, list(table.schema))


@dataclass
class ModelJudge:
    """Judges one trained model on a shard. `step`: stage and fingerprint of the step that made it."""

    storage: Storage
    modalities: Mapping[str, Modality]
    truth: Mapping[str, str]
    name: str
    step: tuple[str, str]
    ensemble: Any
    run_id: str
    batch: int = 8
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        from stages.label.model import predictor

        made = manifests.load(self.storage, *self.step)
        if made is None:
            raise IntegrityError(
                f"the model's step {'/'.join(self.step)} has no manifest. Next: run the same command again"
            )
        self._predict = predictor(self.storage, made, self.ensemble)

    def run(self, unit: Unit, out: Output) -> None:
        import pyarrow as pa

        sums: dict[str, list[Sums]] = {}
        kept: dict[str, list[np.ndarray]] = {}
        keys: list[str] = []
        spent, first, chosen = 0.0, 0, set(unit.payload["pictures"])
        wanted = [*self.truth.values(), *(c for c in self._predict.columns if c not in self.truth.values())]
        for values, there in batches(self.storage, unit.payload["path"], self.modalities, wanted, self.batch):
            began = time.perf_counter()
            told = self._predict(values, there)
            spent += time.perf_counter() - began
            rows = len(next(iter(values.values())))
            for modality, truth in self.truth.items():
                if modality in told:
                    every = np.ones(rows, bool)
                    part = score(self.modalities[modality], values[truth], told[modality], there[truth], every)
                    sums.setdefault(modality, []).append(part)
                    kept.setdefault(modality, []).extend(told[modality][i] for i in range(rows) if first + i in chosen)
            first += rows
        out.rows = first
        out.meta["sums"] = {modality: merged(parts) for modality, parts in sums.items()}
        fields = [self.modalities[m].field(f"{m}@{self.name}") for m in kept]
        keys = read_table(self.storage, unit.payload["path"], [KEY]).take(sorted(chosen))[KEY].to_pylist()
        columns = {f.name: self.modalities[m].encode(kept[m]) for f, m in zip(fields, kept, strict=True)}
        out.write(
            "parquet", write_table({KEY: pa.array(keys, pa.string()), **columns}, [pa.field(KEY, pa.string()), *fields])
        )
        self._say(unit, spent / max(first, 1))

    def _say(self, unit: Unit, seconds: float) -> None:
        step = unit.payload["step"]
        with Events(self.storage, self.run_id, f"evaluate-{unit.id}-{self.name}") as events:
            events.metric(step, {f"milliseconds a frame/{self.name}": 1000 * seconds})


def batches(
    storage: Storage, path: str, modalities: Mapping[str, Modality], columns: list[str], size: int
) -> Iterator[tuple[Batch, Batch]]:
    """A shard's columns, `size` rows at a time: values (N, *shape) and which are there, (N,) bool, by column."""
    with open_table(storage, path) as file:
        for part in file.iter_batches(size, columns=columns, use_threads=False):
            decoded = {c: modalities[modality_of(c)].decode(part.column(c)) for c in columns}
            yield {c: v for c, (v, _) in decoded.items()}, {c: t for c, (_, t) in decoded.items()}
