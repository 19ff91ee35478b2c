"""What sharding costs beside the least that pyarrow needs for it.

    python -m benchmarks.shard [--samples 512] [--codec lz4] [--rounds 3]

Samples a second in one process, median of interleaved rounds. `stage` is the shard stage's own units: read every
partition's columns, join by key, count the statistics, write, digest, commit. `bare` reads the same files and writes
the same columns with plain pyarrow; `bare_write` has them in memory and only writes; `npz` writes one compressed
file a sample. All end in fsync. The stage counts statistics in a second thread; `cpu_vs_bare` compares processor time.
Prints one JSON line last; targets: write_vs_bare >= 0.8, write_vs_npz >= 3.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from benchmarks.samples import COLUMNS, modalities, samples, source
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Output, Record, Unit, execute
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import GROUP, INDEX, KEY
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.table import write_table

PARTITION, GROUPS = 32, 4
Samples = list[dict[str, np.ndarray]]


def ingested(storage: Storage, known: dict[str, Any], kept: Samples) -> dict[str, Manifest]:
    """What ingest (the images) and label (the rest) would have left: partitions of 32, four groups."""
    import pyarrow as pa

    made: dict[str, list[Record]] = {"frames": [], "labels": []}
    partitions: list[list[Any]] = []
    for number, first in enumerate(range(0, len(kept), PARTITION)):
        part, group = kept[first : first + PARTITION], f"g{first * GROUPS // len(kept)}"
        keys = pa.array([f"{first + i:06d}" for i in range(len(part))])
        head = {KEY: keys, GROUP: pa.array([group] * len(part)), INDEX: pa.array(range(len(part)), pa.int64())}
        partitions.append([f"{number:016d}", group, first, len(part)])
        for name, columns in {"frames": COLUMNS[:1], "labels": COLUMNS[1:]}.items():
            arrays = head if name == "frames" else {KEY: keys}
            fields = [pa.field(n, a.type) for n, a in arrays.items()]
            fields += [known[c.partition("@")[0]].field(c) for c in columns]
            arrays = arrays | {c: known[c.partition("@")[0]].encode([s[c] for s in part]) for c in columns}
            out = Output(storage, Unit(name, f"{number:016d}", name))
            out.write("parquet", write_table(arrays, fields))
            made[name].append(
                Record(name, out.unit.id, len(part), tuple(out.files), 0, {"group": group, "first": first})
            )
    offers = {"frames": COLUMNS[:1], "labels": COLUMNS[1:]}
    return {
        name: Manifest(
            "ingest" if name == "frames" else "label",
            fingerprint([r.files[0].sha256 for r in records]),
            {},
            tuple(records),
            (),
            {"columns": {c: {"space": name, "fingerprint": c} for c in offers[name]}, "partitions": partitions},
        )
        for name, records in made.items()
    }


class Stage:
    """The shard stage's units, one after the other in this process."""

    def __init__(self, storage: Storage, known: dict[str, Any], inputs: dict[str, Manifest], codec: str):
        stage = Shard.model_validate({"stage": "shard", "data": list(inputs), "codec": codec})
        events = Events(storage, "benchmark", "driver")
        self.step = StepRun(
            "shards", stage, "0" * 64, known, storage, inputs, events, lambda *_: [], lambda: None, lambda: ""
        )
        self.stage, self.numbers = stage, count()

    def units(self) -> list[Unit]:
        return self.stage.units(self.step)[0]

    def __call__(self) -> None:
        units, workers = self.stage.units(self.step)
        workers["shard"].setup()
        round_ = next(self.numbers)
        for unit in units:  # a space of its own each round, since a unit found done would cost nothing
            fresh = Unit(f"{unit.space}-{round_}", unit.id, unit.worker, unit.payload)
            execute(self.step.storage, workers["shard"], fresh, 1)


def read_part(storage: Storage, part: dict[str, Any]) -> Any:
    """One partition's columns by plain pyarrow."""
    import pyarrow.parquet as pq

    def read(path: str) -> Any:
        return pq.read_table(storage.path(path), use_threads=False, memory_map=True)

    table = read(part["keys"])
    for path in sorted(set(part["columns"].values()) - {part["keys"]}):
        labels = read(path)
        for column in labels.column_names:
            if column not in table.column_names:
                table = table.append_column(labels.schema.field(column), labels.column(column))
    return table


def write_bare(storage: Storage, tables: list[Any], codec: str) -> None:
    """One Parquet file for each table, with row groups of the same size and no needless statistics."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, table in enumerate(tables):
        sink = pa.BufferOutputStream()
        how = {"compression": codec, "compression_level": 1 if codec == "zstd" else None}
        pq.write_table(table, sink, row_group_size=8, use_dictionary=False, write_statistics=False, **how)
        storage.write(f"bare/{number}.parquet", sink.getvalue().to_pybytes())


def write_npz(storage: Storage, kept: Samples) -> None:
    for number, sample in enumerate(kept):
        halves = {c: v.astype(np.float16) if v.dtype == np.float32 else v for c, v in sample.items()}
        sink = io.BytesIO()
        np.savez_compressed(sink, **halves)  # type: ignore[arg-type]
        storage.write(f"npz/{number}.npz", sink.getvalue())


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Of the clock, and of the processor."""
    started, used = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - started, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--codec", choices=["zstd", "lz4", "none"], default="lz4")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    known, kept = modalities(), list(samples(options.samples))
    with tempfile.TemporaryDirectory() as folder:
        import pyarrow as pa

        storage = Storage(folder)
        stage = Stage(storage, known, ingested(storage, known, kept), options.codec)
        payloads = [unit.payload["parts"] for unit in stage.units()]

        def joined() -> Any:
            return (pa.concat_tables([read_part(storage, part) for part in parts]) for parts in payloads)

        tables = list(joined())
        few = kept[: max(1, len(kept) // 16)]
        runs: dict[str, tuple[int, Callable[[], object]]] = {
            "stage": (len(kept), stage),
            "bare": (len(kept), lambda: write_bare(storage, joined(), options.codec)),
            "bare_write": (len(kept), lambda: write_bare(storage, tables, options.codec)),
            "npz": (len(few), lambda: write_npz(storage, few)),
        }
        found: dict[str, list[float]] = {name: [] for name in runs}
        busy: dict[str, list[float]] = {name: [] for name in runs}
        for round_ in range(options.rounds + 1):
            for name, (rows, run) in runs.items():
                taken, used = seconds(run)
                if round_:  # the first round warms up
                    found[name].append(rows / taken)
                    busy[name].append(used / rows)
    speeds = {name: round(statistics.median(values), 1) for name, values in found.items()}
    line = {
        "benchmark": "shard",
        "samples": options.samples,
        "codec": options.codec,
        "source": source(),
        "samples_per_s": speeds,
        "write_vs_bare": round(speeds["stage"] / speeds["bare"], 3),
        "cpu_vs_bare": round(statistics.median(busy["bare"]) / statistics.median(busy["stage"]), 3),
        "write_vs_bare_in_memory": round(speeds["stage"] / speeds["bare_write"], 3),
        "write_vs_npz": round(speeds["stage"] / speeds["npz"], 2),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
