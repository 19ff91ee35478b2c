"""How fast samples come to training, beside other loaders and beside what the machine could do.

    python -m benchmarks.loader [--samples 160] [--codec lz4] [--rounds 3] [--peers .venv-peers/bin/python]
                                [--limit 60] [--seconds 540]

Samples a second of batches of 32 torch tensors in the dtype of the disk, shuffled; files lie in the page cache, nothing
is kept decoded. `loader` is this project's with its best number of threads; peers (benchmarks/loader_peers.py, in the
environment that `--peers` names; one that cannot be imported is null) each with their best number of workers. A peer
has `--limit` seconds, and all have until `--seconds` after the start; `unfinished` says who was stopped and what of it
was measured by then. `cpu_ms` is CPU time for a sample, which other work on the machine changes less. Limits:
`gather`, a memory map per column and a gather; `bare`, one thread that reads the same row groups one after the other
and neither shuffles nor copies. The same with JPEG images. Prints one JSON line last:
`vs_best_peer` (target 2.5), `vs_bare_loop` (0.85), `write_vs_bare` (0.8: this project's encoding and writing against
pyarrow's alone), `write_vs_npz` (3), bytes; `resume_ms`, metadata only, in the middle of an epoch of a million samples;
`peak_rss_mb` of an epoch over the data and over four times as much.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.samples import COLUMNS, modalities, samples, source
from hyperloom.pipeline import plugins
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.table import rows_a_group, write_table

BATCH = 32
SHARD = 80
PEERS = ("npz", "webdataset", "litdata", "datasets", "ray", "streaming", "spdl", "grain", "lance")
MODULES = {"npz": "numpy"}
"""Of peers that are called otherwise than what they import."""
THREADS = (1, 2)
Rates = dict[str, Callable[[], int]]


def known(jpeg: bool) -> dict[str, Any]:
    """The modalities, images raw or as JPEG."""
    made = modalities()
    if jpeg:
        made["rgb"] = plugins.parse("modality", {"type": "image", "size": list(made["rgb"].size), "codec": "jpeg"})
    return made


def of(made: dict[str, Any], column: str) -> Any:
    return made[column.partition("@")[0]]


def write(storage: Storage, made: dict[str, Any], raw: dict[str, np.ndarray], codec: Any) -> list[dict[str, Any]]:
    """Shards of 150 samples, as the shard stage writes them."""
    listed = []
    for first in range(0, len(raw[COLUMNS[0]]), SHARD):
        part = {c: raw[c][first : first + SHARD] for c in COLUMNS}
        columns = {c: of(made, c).encode(list(values)) for c, values in part.items()}
        count = len(part[COLUMNS[0]])
        rows = rows_a_group(sum(a.nbytes for a in columns.values()), count)
        data = write_table(columns, [of(made, c).field(c) for c in COLUMNS], codec, rows)
        storage.write(f"{codec}-{first}.parquet", data)
        listed.append(
            {"path": f"{codec}-{first}.parquet", "split": "train", "rows": count, "row_group": rows, "bytes": len(data)}
        )
    return listed


def write_bare(folder: Path, made: dict[str, Any], raw: dict[str, np.ndarray], codec: str, rows: int) -> None:
    """The same bytes to the same disk with nothing but pyarrow: no checks, no metadata, no digest, no commit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for first in range(0, len(raw[COLUMNS[0]]), SHARD):
        columns = {}
        for c in COLUMNS:
            values = np.ascontiguousarray(raw[c][first : first + SHARD])
            width = values.nbytes // len(values)
            columns[c] = pa.Array.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)])
        level = 1 if codec == "zstd" else None
        pq.write_table(
            pa.table(columns), folder / f"bare-{first}.parquet", row_group_size=rows, compression=codec,
            compression_level=level, use_dictionary=False, write_statistics=False,
        )  # fmt: skip
        with (folder / f"bare-{first}.parquet").open("rb+") as file:
            os.fsync(file)


def bare(storage: Storage, made: dict[str, Any], listed: list[dict[str, Any]]) -> int:
    """Every row group read by pyarrow, every column of it a tensor, JPEGs decoded by simplejpeg on all cores."""
    import pyarrow.parquet as pq
    import torch

    seen = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for shard in listed:
            with pq.ParquetFile(storage.path(shard["path"]), memory_map=True) as file:
                for index in range(file.num_row_groups):
                    table = file.read_row_group(index, columns=list(COLUMNS), use_threads=False)
                    tensors = [torch.from_numpy(_array(pool, of(made, c), table.column(c))) for c in COLUMNS]
                    seen += len(tensors[0])
    return seen


def _array(pool: ThreadPoolExecutor, modality: Any, column: Any) -> np.ndarray:
    """(N, *shape) in the dtype of the disk."""
    import simplejpeg

    data = column.chunk(0)
    if modality.codec != "jpeg":
        rows = np.frombuffer(data.buffers()[1], modality.stored, len(data) * int(np.prod(modality.shape)))
        return rows.reshape(len(data), *modality.shape)
    images = np.empty((len(data), *modality.shape), np.uint8)
    list(pool.map(lambda i: simplejpeg.decode_jpeg(data[i].as_py(), "RGB", buffer=images[i]), range(len(data))))
    return images


def gather(raw: dict[str, np.ndarray]) -> int:
    """A permutation, and every batch taken out of the memory maps."""
    import torch

    order = np.random.default_rng(0).permutation(len(raw[COLUMNS[0]]))
    for start in range(0, len(order), BATCH):
        [torch.from_numpy(raw[c][order[start : start + BATCH]]) for c in COLUMNS]
    return len(order)


def through(loader: Loader) -> int:
    return sum(len(batch[COLUMNS[0]]) for batch in loader)


def measured(runs: Rates, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Samples a second of each, the median of interleaved rounds after one that warms up; and the least CPU time for a
    sample, in ms."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            began, cpu = time.perf_counter(), time.process_time()
            seen = run()
            if round_:
                found[name].append(seen / (time.perf_counter() - began))
                spent[name].append(1000 * (time.process_time() - cpu) / seen)
    rates = {name: round(statistics.median(rates), 1) for name, rates in found.items()}
    return rates, {name: round(min(times), 3) for name, times in spent.items()}


def ours(storage: Storage, made: dict[str, Any], listed: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """The loader with each number of threads, and the bare loop."""
    runs: Rates = {"bare": lambda: bare(storage, made, listed)}
    for threads in THREADS:
        loader = Loader(storage, listed, made, COLUMNS, batch=BATCH, native=True, cache_mb=0, threads=threads)
        runs[f"{threads}"] = lambda loader=loader: through(loader)  # type: ignore[misc]
    rates, cpu = measured(runs, rounds)
    best = max(THREADS, key=lambda threads: rates[f"{threads}"])
    size = sum(shard["bytes"] for shard in listed)
    spent = {"loader": min(cpu[f"{threads}"] for threads in THREADS), "bare": cpu["bare"]}
    return {"loader": rates[f"{best}"], "threads": best, "bare": rates["bare"], "bytes": size, "cpu_ms": spent}


class Peers:
    """The other loaders, each in a process of its own that ends in time. `unfinished` says which were stopped."""

    def __init__(self, python: str, only: list[str], limit: float, until: float):
        self.python, self.limit, self.until = python, limit, until
        self.unfinished: dict[str, str] = {}
        self.names = {name: self._is_there(name) for name in only}

    def _is_there(self, name: str) -> bool:
        code = f"import sys, importlib.util as u; sys.exit(u.find_spec({MODULES.get(name, name)!r}) is None)"
        done = subprocess.run([self.python, "-c", code], capture_output=True)
        return done.returncode == 0

    def rates(self, folder: Path, jpeg: bool) -> dict[str, dict[str, Any] | None]:
        """What each measured of itself; null where it is not there or was stopped before it had measured anything."""
        return {name: self._asked(name, folder, jpeg) if there else None for name, there in self.names.items()}

    def _asked(self, name: str, folder: Path, jpeg: bool) -> dict[str, Any] | None:
        command = [self.python, "-m", "benchmarks.loader_peers", name, str(folder), *(["jpeg"] if jpeg else [])]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "HF_HUB_OFFLINE": "1", "RAY_DEDUP_LOGS": "0"}
        called, limit = f"{name}{' jpeg' if jpeg else ''}", min(self.limit, self.until - time.perf_counter())
        if limit <= 0:
            self.unfinished[called] = "no time left"
            return None
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as wrong:
            process = subprocess.Popen(command, stdout=out, stderr=wrong, env=env, cwd=folder, start_new_session=True)
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with its workers
                code = process.wait()
                self.unfinished[called] = f"stopped after {limit:.0f} s"
            wrong.seek(0)
            if code > 0:
                self.unfinished[called] = (
                    f"failed: {(wrong.read().strip().splitlines() or ['without a word'])[-1][:200]}"
                )
            out.seek(0)
            lines = [line for line in out.read().splitlines() if line.startswith('{"samples_per_s"')]
        return best(json.loads(lines[-1])) if lines else None


def best(found: dict[str, Any]) -> dict[str, Any]:
    """What a peer came to with its best number of workers."""
    rates = found["samples_per_s"]
    workers = max(rates, key=rates.__getitem__)
    return {"samples_per_s": rates[workers], "workers": int(workers), **{k: found[k] for k in ("write_per_s", "bytes")}}


def resume_ms(total: int = 1_000_000, rows: int = 9) -> float:
    """A loader made, put into the middle of an epoch, and its first batch's places known; no file is touched."""
    listed = [
        {"path": f"{i}.parquet", "split": "train", "rows": 1000, "row_group": rows, "bytes": 1}
        for i in range(total // 1000)
    ]
    state = {"epoch": 3, "position": total // 2, "rows": total, "seed": 0}
    times = []
    for _ in range(3):
        began = time.perf_counter()
        loader = Loader(Storage("/"), listed, modalities(), COLUMNS, batch=BATCH, native=True)
        loader.load_state_dict(state)
        next(loader.order().batches(loader.position, BATCH))
        times.append((time.perf_counter() - began) * 1e3)
    return round(min(times), 1)


def peak_rss_mb(folder: Path, listed: list[dict[str, Any]], times: int) -> float:
    """Of a process of its own that takes one epoch of the shards, listed `times` times over."""
    code = f"import json; from benchmarks import loader; loader.epoch({str(folder)!r}, json.loads(input()) * {times})"
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(listed), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout)


def epoch(folder: str, listed: list[dict[str, Any]]) -> None:
    """One epoch; prints the process's peak RSS in MB."""
    through(Loader(Storage(folder), listed, known(False), COLUMNS, batch=BATCH, native=True, cache_mb=0))
    peak = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    print(round(int(peak.split()[1]) / 1024, 1))  # ru_maxrss would be no less than that of the parent process


def per_second(count: int, function: Callable[[], Any]) -> float:
    """The better of two."""
    found = []
    for _ in range(2):
        began = time.perf_counter()
        function()
        found.append(count / (time.perf_counter() - began))
    return round(max(found), 1)


def raw_samples(folder: Path, count: int) -> dict[str, np.ndarray]:
    """The samples in the dtypes of the disk, as memory maps; peers find them under `raw`."""
    (folder / "raw").mkdir()
    made, maps = modalities(), {}
    for c in COLUMNS:
        path = folder / "raw" / f"{c.partition('@')[0]}.npy"
        maps[c] = np.lib.format.open_memmap(path, "w+", of(made, c).stored, (count, *of(made, c).shape))
    for i, sample in enumerate(samples(count)):
        for c in COLUMNS:
            maps[c][i] = sample[c]
    return {c: np.load(folder / "raw" / f"{c.partition('@')[0]}.npy", mmap_mode="r") for c in COLUMNS}


def compare(
    folder: Path, raw: dict[str, np.ndarray], options: argparse.Namespace, others: Peers, jpeg: bool
) -> dict[str, Any]:
    """Everything about raw images, or about JPEG."""
    made, storage, count = known(jpeg), Storage(str(folder / ("jpeg" if jpeg else "shards"))), options.samples
    codecs = [options.codec] if jpeg else dict.fromkeys([options.codec, "zstd", "lz4", "none"])
    found = {codec: ours(storage, made, write(storage, made, raw, codec), options.rounds) for codec in codecs}
    print(f"{'jpeg' if jpeg else 'raw'}: {json.dumps(found)}", file=sys.stderr, flush=True)
    peers = others.rates(folder, jpeg)
    mine, there = found[options.codec], [p["samples_per_s"] for p in peers.values() if p]
    line: dict[str, Any] = {
        "samples_per_s": mine["loader"],
        "threads": mine["threads"],
        "bare": mine["bare"],
        "bytes": mine["bytes"],
        "cpu_ms": mine["cpu_ms"],
        "cpu_vs_bare_loop": round(mine["cpu_ms"]["bare"] / mine["cpu_ms"]["loader"], 3),
        "peers": peers,
        "vs_bare_loop": round(mine["loader"] / mine["bare"], 3),
        "vs_best_peer": round(mine["loader"] / max(there), 2) if there else None,
    }
    if jpeg:
        return line
    listed = write(storage, made, raw, options.codec)
    rows = listed[0]["row_group"]
    wrote = per_second(count, lambda: write(storage, made, raw, options.codec))
    plain = per_second(count, lambda: write_bare(folder, made, raw, options.codec, rows))
    rss = [peak_rss_mb(folder / "shards", listed, times) for times in (1, 4)]
    return {
        **line,
        "codecs": {codec: {**f, "vs_bare_loop": round(f["loader"] / f["bare"], 3)} for codec, f in found.items()},
        "gather": measured({"gather": lambda: gather(raw)}, options.rounds)[0]["gather"],
        "write_per_s": wrote,
        "write_vs_bare": round(wrote / plain, 3),
        "write_vs_npz": round(wrote / npz["write_per_s"], 2) if (npz := peers.get("npz")) else None,
        "peak_rss_mb": {"1x": rss[0], "4x": rss[1]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    there = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
    parser.add_argument("--samples", type=int, default=160)
    parser.add_argument("--limit", type=float, default=60, metavar="S", help="of one peer, in seconds")
    parser.add_argument("--seconds", type=float, default=540, metavar="S", help="after which no peer begins")
    parser.add_argument("--codec", choices=["zstd", "lz4", "none"], default="lz4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=str(there) if there.exists() else sys.executable)
    parser.add_argument("--only", nargs="*", default=list(PEERS), metavar="PEER", help="compare with these peers only")
    options = parser.parse_args()
    began = time.perf_counter()
    others = Peers(options.peers, options.only, options.limit, began + options.seconds)
    head = {"benchmark": "loader", "samples": options.samples, "codec": options.codec, "source": source()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = raw_samples(folder, options.samples)
        jpeg = compare(folder, raw, options, others, jpeg=True)
        line = {**head, **compare(folder, raw, options, others, jpeg=False), "resume_ms": resume_ms(), "jpeg": jpeg}
    line |= {"unfinished": others.unfinished, "load": round(os.getloadavg()[0], 1)}
    print(json.dumps(line))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    main()
