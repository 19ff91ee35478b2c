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
from stages.modality import Modality, Segmentation
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
    """Judges one trained model on a shard. `step`: stage and fingerprint of its step; `inputs`: those of its columns
    that the shards have."""

    storage: Storage
    modalities: Mapping[str, Modality]
    truth: Mapping[str, str]
    name: str
    step: tuple[str, str]
    inputs: tuple[str, ...]
    ensemble: Any
    run_id: str
    batch: int = 8
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        from stages.label.model import predictor

        made = manifests.load(self.storage, *self.step)
        if made is None:
            where = "/".join(self.step)
            raise IntegrityError(f"the model's step {where} has no manifest. Next: run the same command again")
        self._predictor = predictor(self.storage, made, self.ensemble)

    def run(self, unit: Unit, out: Output) -> None:
        sums: dict[str, list[Sums]] = {}
        kept: dict[str, list[np.ndarray]] = {}
        wanted = list(dict.fromkeys([*self.truth.values(), *self.inputs]))
        spent = 0.0
        for values, there in batches(self.storage, unit.payload["path"], self.modalities, wanted, self.batch):
            began = time.perf_counter()
            told = self._told(values, there)
            spent += time.perf_counter() - began
            rows = len(there[wanted[0]])
            chosen = [r - out.rows for r in unit.payload["pictures"] if out.rows <= r < out.rows + rows]
            for name, answer in told.items():
                truth = self.truth[name]
                every = np.ones(rows, bool)
                part = score(self.modalities[name], values[truth], answer, there[truth], every)
                sums.setdefault(name, []).append(part)
                kept.setdefault(name, []).extend(answer[chosen])
            out.rows += rows
        out.meta["sums"] = {name: merged(parts) for name, parts in sums.items()}
        out.write("parquet", self._pictured(unit, kept))
        self._say(unit, spent / max(out.rows, 1))

    def _told(self, values: Batch, there: Batch) -> Batch:
        """The model's answer for each modality of the truth that it predicts."""
        from stages.shard.loader import VALID

        given = {c: values[c] for c in self.inputs} | {c + VALID: there[c] for c in self.inputs}
        mean = self._predictor(given).mean
        classes = {name for name in self.truth if isinstance(self.modalities[name], Segmentation)}
        told = {name: mean[name] for name in self.truth if name in mean}
        return {name: v.argmax(-1).astype(np.uint8) if name in classes else v for name, v in told.items()}

    def _pictured(self, unit: Unit, kept: Mapping[str, list[np.ndarray]]) -> bytes:
        import pyarrow as pa

        keys = read_table(self.storage, unit.payload["path"], [KEY]).take(unit.payload["pictures"])
        arrays = {f"{name}@{self.name}": self.modalities[name].encode(values) for name, values in kept.items()}
        fields = [pa.field(KEY, pa.string()), *(self.modalities[modality_of(c)].field(c) for c in arrays)]
        return write_table({KEY: pa.array(keys[KEY].to_pylist(), pa.string()), **arrays}, fields)

    def _say(self, unit: Unit, seconds: float) -> None:
        with Events(self.storage, self.run_id, f"evaluate-{unit.id}-{self.name}") as events:
            events.metric(unit.payload["step"], {f"milliseconds a frame/{self.name}": 1000 * seconds})


def batches(
    storage: Storage, path: str, modalities: Mapping[str, Modality], columns: list[str], size: int
) -> Iterator[tuple[Batch, Batch]]:
    """A shard's columns, `size` rows at a time: values (N, *shape) and which are there, (N,) bool, by column."""
    with open_table(storage, path) as file:
        for part in file.iter_batches(size, columns=columns, use_threads=False):
            decoded = {c: modalities[modality_of(c)].decode(part.column(c)) for c in columns}
            yield {c: v for c, (v, _) in decoded.items()}, {c: t for c, (_, t) in decoded.items()}
