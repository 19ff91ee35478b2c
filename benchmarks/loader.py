"""How much of the machine's reading speed the loader keeps.

    python -m benchmarks.loader [--samples 600] [--codec zstd] [--rounds 5]

Samples a second, median of interleaved rounds, one process, batches of 32 torch tensors in the dtype of the disk:
`loader` shuffles and prefetches; `bare` reads the same row groups of the same files one after the other and makes
tensors of them without shuffling or copying; `cached` is the loader's second epoch when the data set fits in memory.
Both find the files in the page cache. Prints one JSON line last; target: vs_bare_loop >= 0.85.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.samples import COLUMNS, modalities, samples, source
from pipeline.storage import Storage
from stages.shard.loader import Loader
from stages.table import rows_a_group, write_table

BATCH = 32


def write(storage: Storage, known: dict[str, Any], count: int, codec: Any) -> list[dict[str, Any]]:
    """Shards of 150 samples."""
    listed = []
    kept = list(samples(count))
    for first in range(0, count, 150):
        part = kept[first : first + 150]
        columns = {c: known[c.partition("@")[0]].encode([s[c] for s in part]) for c in COLUMNS}
        fields = [known[c.partition("@")[0]].field(c) for c in COLUMNS]
        rows = rows_a_group(sum(a.nbytes for a in columns.values()), len(part))
        data = write_table(columns, fields, codec, rows)
        storage.write(f"{first}.parquet", data)
        entry = {"path": f"{first}.parquet", "split": "train", "rows": len(part), "row_group": rows, "bytes": len(data)}
        listed.append(entry)
    return listed


def bare(storage: Storage, known: dict[str, Any], listed: list[dict[str, Any]]) -> int:
    """Every row group read by pyarrow, every batch a view of it as tensors."""
    import pyarrow.parquet as pq
    import torch

    seen = 0
    for shard in listed:
        with pq.ParquetFile(storage.path(shard["path"]), memory_map=True) as file:
            for index in range(file.num_row_groups):
                table = file.read_row_group(index, columns=list(COLUMNS), use_threads=False)
                for column in COLUMNS:
                    rows, _ = known[column.partition("@")[0]].unpack(table.column(column))
                    tensor = torch.from_numpy(rows)
                seen += len(tensor)
    return seen


def through(loader: Loader) -> int:
    return sum(len(batch[COLUMNS[0]]) for batch in loader)


def rate(function: Callable[[], int]) -> float:
    started = time.perf_counter()
    seen = function()
    return seen / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--codec", choices=["zstd", "lz4", "none"], default="zstd")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    known = modalities()
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        listed = write(storage, known, options.samples, options.codec)

        def loader(**how: Any) -> Loader:
            return Loader(storage, listed, known, COLUMNS, batch=BATCH, native=True, **how)

        plain, converted = loader(cache_mb=0), Loader(storage, listed, known, COLUMNS, batch=BATCH, cache_mb=0)
        kept = loader(cache_mb=4096)
        through(kept)
        runs: dict[str, Callable[[], int]] = {
            "bare": lambda: bare(storage, known, listed),
            "loader": lambda: through(plain),
            "loader_float32": lambda: through(converted),
            "cached": lambda: through(kept),
        }
        found: dict[str, list[float]] = {name: [] for name in runs}
        for round_ in range(options.rounds + 1):
            for name, run in runs.items():
                speed = rate(run)
                if round_:  # the first round warms up
                    found[name].append(speed)
        speeds = {name: round(statistics.median(values), 1) for name, values in found.items()}
    line = {
        "benchmark": "loader",
        "samples": options.samples,
        "codec": options.codec,
        "source": source(),
        "mb": round(sum(shard["bytes"] for shard in listed) / 1e6, 1),
        "samples_per_s": speeds,
        "vs_bare_loop": round(speeds["loader"] / speeds["bare"], 3),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    main()
