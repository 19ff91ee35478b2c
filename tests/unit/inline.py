"""Steps without an engine: build a StepRun by hand, run its units in this process, commit its manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import expecting, plugins
from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Record, Unit, Worker, execute
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import Stage, StepRun


def modalities(**definitions: dict[str, Any]) -> dict[str, Any]:
    """Modalities as a recipe gives them, sizes filled in."""
    found = {name: plugins.parse("modality", value) for name, value in definitions.items()}
    return {name: modality.completed(found) for name, modality in found.items()}


def step(stage: Stage, storage: Storage, known: Mapping[str, Any], name: str = "step", **inputs: Manifest) -> StepRun:
    """A StepRun whose units run one after the other in this process, at their first attempt."""

    def run_units(units: Iterable[Unit], workers: dict[str, Worker]) -> list[Record]:
        units = list(units)
        for worker in {u.worker: workers[u.worker] for u in units}.values():
            worker.setup()
        return [execute(storage, workers[u.worker], u, 1) for u in units]

    identity = fingerprint({"config": payload(stage, lambda n: inputs[n].fingerprint)})
    events = Events(storage, "test", "driver")
    return StepRun(
        name, stage, identity, dict(known), storage, dict(inputs), events, run_units, lambda: None, lambda: ""
    )


def augmented(augment: Any, batch: Any, columns: Mapping[str, Any], part: slice, seed: int | Any = 0) -> Any:
    """What an augmentation makes of the samples `part` of a batch."""
    import torch

    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    drawn = augment.draw(columns, len(next(iter(batch.values()))), part, generator)
    return augment.apply({name: values[part] for name, values in batch.items()}, columns, drawn)


def finish(step_: StepRun) -> Manifest:
    """Run the step and commit its manifest, as the engine would."""
    made = step_.manifest(step_.stage.run(step_), {})
    expecting.accept(step_, made)
    manifests.commit(step_.storage, made)
    step_.events.flush()
    return made


def ingested(
    storage: Storage, known: Mapping[str, Any], groups: Mapping[str, list[Mapping[str, Any]]], rows: int = 4
) -> Manifest:
    """What an ingest step would have made of `groups`: group -> samples -> {column: value or None}."""
    import pyarrow as pa

    from hyperloom.stages.base import modality_of
    from hyperloom.stages.table import write_table

    space, records, partitions = "ingest/000000000000", [], []
    for group, samples in groups.items():
        for first in range(0, len(samples), rows):
            part = samples[first : first + rows]
            columns = list(part[0])
            arrays = {c: known[modality_of(c)].encode([s[c] for s in part]) for c in columns}
            digest = fingerprint({c: fingerprint(repr(a[0].as_py())) for c, a in arrays.items() if a[0].is_valid})
            pid = fingerprint([group, first, len(part), digest])[:16]
            fields = [pa.field("key", pa.string()), pa.field("group", pa.string()), pa.field("index", pa.int64())]
            fields += [known[modality_of(c)].field(c) for c in columns]
            index = np.arange(first, first + len(part))
            names = {"key": pa.array([f"{group}/{i:03d}" for i in index]), "group": pa.array([group] * len(part))}
            data = write_table({**names, "index": pa.array(index), **arrays}, fields)
            record = _committed(
                storage, Unit(space, pid, "ingest", {}), data, len(part), {"group": group, "first": first}
            )
            records.append(record)
            partitions.append([pid, group, first, len(part)])
    columns_of = {
        c: {"space": space, "fingerprint": fingerprint(c), "about": {}} for s in groups.values() for c in s[0]
    }
    body = {"columns": columns_of, "partitions": partitions, "group": "group"}
    return Manifest("ingest", fingerprint([r.id for r in records]), {}, tuple(records), (), body)


def column(storage: Storage, known: Mapping[str, Any], made: Manifest, name: str) -> dict[str, np.ndarray | None]:
    """Key -> value (None for null) of one column of a step, over all partitions."""
    from hyperloom.stages.base import modality_of
    from hyperloom.stages.table import read_table

    found: dict[str, np.ndarray | None] = {}
    space = made.body["columns"][name]["space"]
    for record in made.records:
        if record.space == space and record.files:
            table = read_table(storage, record.file.path, ["key", name])
            values, there = known[modality_of(name)].decode(table[name])
            found |= {k: (v if t else None) for k, v, t in zip(table["key"].to_pylist(), values, there, strict=True)}
    return found


class _Ready:
    """A worker that has the bytes already."""

    def __init__(self, data: bytes, rows: int, meta: dict[str, Any]):
        self.data, self.rows, self.meta = data, rows, meta

    def run(self, unit: Unit, out: Any) -> None:
        out.rows, out.meta = self.rows, self.meta
        out.write("parquet", self.data)


def _committed(storage: Storage, unit: Unit, data: bytes, rows: int, meta: dict[str, Any]) -> Record:
    return execute(storage, _Ready(data, rows, meta), unit, 1)  # type: ignore[arg-type]
