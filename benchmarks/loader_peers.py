"""The loaders that benchmarks/loader.py compares with, each in the format that its authors recommend.

    PYTHON -m benchmarks.loader_peers NAME FOLDER [jpeg]

FOLDER/raw holds the samples as one .npy a column; what NAME writes goes to FOLDER/NAME. Every peer gives shuffled
batches of 32 torch tensors in the dtypes of the samples; images kept as JPEG are decoded by OpenCV for all of them.
Measured with 0, 1 and 2 workers, after a first epoch that starts them: the best of two epochs each. Prints a JSON line
after each of them, which holds those before: {"samples_per_s": {workers: rate}, "write_per_s": rate, "bytes": n}.

Runs in an environment of its own (benchmarks/peers.txt), since some pin versions that the project does not want.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.peer_samples import BATCH, NAMES, Samples, collate, rgb, torch_loader

WORKERS = (0, 1, 2)
Loaders = Callable[[int], Iterable[Any]]


# -- one function a peer: it writes, and says how to read -----------------------------------------------------------
class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """One compressed npz a sample, as much published multi-modal data is."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with np.load(self.paths[index]) as file:
            found = {name: file[name] for name in NAMES}
        if found["rgb"].ndim == 1:
            found["rgb"] = found["rgb"].tobytes()
        return found


def npz(samples: Samples, folder: Path) -> Loaders:
    folder.mkdir()
    for i, sample in enumerate(samples):
        if samples.jpeg:
            sample["rgb"] = np.frombuffer(sample["rgb"], np.uint8)
        np.savez_compressed(folder / f"{i:06d}.npz", **sample)
    return lambda workers: torch_loader(Files(sorted(folder.glob("*.npz"))), workers, shuffle=True)


def webdataset(samples: Samples, folder: Path) -> Loaders:
    import webdataset as wds

    folder.mkdir()
    suffix = {name: f"{name}.npy" for name in NAMES} | ({"rgb": "rgb.bin"} if samples.jpeg else {})
    with wds.ShardWriter(str(folder / "%06d.tar"), maxcount=100, verbose=0) as sink:
        for i, sample in enumerate(samples):
            sink.write({"__key__": f"{i:06d}", **{suffix[name]: value for name, value in sample.items()}})
    urls = [str(p) for p in sorted(folder.glob("*.tar"))]

    def batch(rows: list[Any]) -> dict[str, torch.Tensor]:
        return collate([dict(zip(NAMES, row, strict=True)) for row in rows])

    def loaders(workers: int) -> Any:
        data = wds.WebDataset(urls, shardshuffle=len(urls), nodesplitter=None, empty_check=False)
        data = data.shuffle(300).decode().to_tuple(*suffix.values()).batched(BATCH, collation_fn=batch)
        return wds.WebLoader(data, batch_size=None, num_workers=workers, persistent_workers=workers > 0)

    return loaders


def litdata(samples: Samples, folder: Path) -> Loaders:
    import litdata as ld

    ld.optimize(samples.__getitem__, list(range(len(samples))), str(folder), chunk_bytes="64MB", num_workers=1)

    def loaders(workers: int) -> Any:
        data = ld.StreamingDataset(str(folder), shuffle=True)
        return ld.StreamingDataLoader(data, batch_size=BATCH, num_workers=workers, collate_fn=collate)

    return loaders


def datasets(samples: Samples, folder: Path) -> Loaders:
    import datasets as hf

    hf.disable_progress_bars()
    first = samples[0]
    kinds = {n: hf.Array3D(v.shape, str(v.dtype)) if getattr(v, "ndim", 0) == 3 else None for n, v in first.items()}
    kinds["classes"] = hf.Array2D(first["classes"].shape, "uint8")
    if samples.jpeg:
        kinds["rgb"] = hf.Value("binary")
    made = hf.Dataset.from_generator(
        samples.__iter__, features=hf.Features(kinds), cache_dir=str(folder / "cache"), writer_batch_size=50
    )
    made.save_to_disk(str(folder / "data"))
    data = hf.load_from_disk(str(folder / "data")).with_format("numpy" if samples.jpeg else "torch")
    return lambda workers: torch_loader(data, workers, shuffle=True)


def streaming(samples: Samples, folder: Path) -> Loaders:
    from streaming import MDSWriter, StreamingDataset

    kinds = {n: f"ndarray:{a.dtype}:{','.join(map(str, a.shape[1:]))}" for n, a in samples.arrays.items()}
    if samples.jpeg:
        kinds["rgb"] = "bytes"
    with MDSWriter(out=str(folder), columns=kinds) as sink:
        for sample in samples:
            sink.write(sample)

    def loaders(workers: int) -> Any:
        return torch_loader(StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH), workers)

    return loaders


def ray(samples: Samples, folder: Path) -> Loaders:
    import pyarrow.parquet as pq
    import ray as ray_
    from ray import data as ray_data

    folder.mkdir()
    ray_.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**9)
    ray_data.DataContext.get_current().enable_progress_bars = False
    for start in range(0, len(samples), 100):
        part = [samples[i] for i in range(start, min(start + 100, len(samples)))]
        columns = {name: np.stack([s[name] for s in part]) for name in NAMES if not (samples.jpeg and name == "rgb")}
        if samples.jpeg:
            columns["rgb"] = np.array([s["rgb"] for s in part], object)
        pq.write_table(_table(columns), folder / f"{start:06d}.parquet")  # what Ray Data's own writer makes, sooner

    def decoded(batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, "rgb": np.stack([rgb(bytes(value)) for value in batch["rgb"]])}

    def loaders(workers: int) -> Any:
        data = ray_data.read_parquet(str(folder), shuffle="files")
        if samples.jpeg:
            data = data.map_batches(decoded, batch_size=BATCH)
        return data.iterator().iter_torch_batches(
            batch_size=BATCH, local_shuffle_buffer_size=200, prefetch_batches=workers
        )

    return loaders


def spdl(samples: Samples, folder: Path) -> Loaders:
    """A file of plain arrays a sample, read by spdl's own reader in threads; images are decoded by its FFmpeg."""
    import spdl.io
    from spdl.pipeline import PipelineBuilder

    folder.mkdir()
    for i, sample in enumerate(samples):
        if samples.jpeg:
            (folder / f"{i:06d}.jpg").write_bytes(sample.pop("rgb"))
        np.savez(folder / f"{i:06d}.npz", **sample)
    paths = sorted(folder.glob("*.npz"))
    wanted = spdl.io.get_video_filter_desc(pix_fmt="rgb24")

    def read(path: Path) -> dict[str, Any]:
        found = dict(spdl.io.load_npz(path.read_bytes()))
        if samples.jpeg:
            packets = spdl.io.demux_image(str(path.with_suffix(".jpg")))
            frames = spdl.io.decode_packets(packets, filter_desc=wanted)
            found["rgb"] = spdl.io.to_numpy(spdl.io.convert_frames(frames))
        return found

    def order() -> Iterator[Path]:
        return (paths[i] for i in np.random.permutation(len(paths)))

    def loaders(workers: int) -> Any:
        class Epochs:
            def __iter__(self) -> Iterator[Any]:
                steps = PipelineBuilder().add_source(order()).pipe(read, concurrency=max(1, workers))
                built = steps.aggregate(BATCH).pipe(collate).add_sink(2).build(num_threads=max(1, workers) + 1)
                with built.auto_stop():
                    yield from built

        return Epochs()

    return loaders


def grain(samples: Samples, folder: Path) -> Loaders:
    """Records of ArrayRecord, read in threads (0 workers) or processes."""
    import pickle

    import grain as grain_
    from array_record.python.array_record_module import ArrayRecordWriter

    folder.mkdir()
    writer = ArrayRecordWriter(str(folder / "samples.array_record"), "group_size:1")
    for sample in samples:
        writer.write(pickle.dumps(sample, protocol=5))
    writer.close()
    source = grain_.sources.ArrayRecordDataSource(str(folder / "samples.array_record"))

    def sample_of(record: bytes) -> dict[str, Any]:
        found = pickle.loads(record)
        return {**found, "rgb": rgb(found["rgb"])}

    def loaders(workers: int) -> Any:
        data = grain_.MapDataset.source(source).shuffle(seed=0).map(sample_of)
        batches = data.to_iter_dataset(grain_.ReadOptions(num_threads=2)).batch(BATCH, drop_remainder=False)
        if workers:
            batches = batches.mp_prefetch(grain_.MultiprocessingOptions(num_workers=workers))
        return batches.map(lambda batch: {name: torch.from_numpy(value) for name, value in batch.items()})

    return loaders


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Rows of a Lance dataset, a batch taken at once; each process opens it for itself, since Lance has threads."""

    def __init__(self, path: str, like: dict[str, tuple[Any, tuple[int, ...]]], count: int):
        self.path, self.like, self.count = path, like, count
        self.data: Any = None

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        import lance as lance_

        self.data = self.data or lance_.dataset(self.path)
        table = self.data.take(indices, columns=list(NAMES)).combine_chunks()
        found: list[dict[str, Any]] = [{} for _ in indices]
        for name in NAMES:
            for row, value in zip(found, table[name], strict=True):
                row[name] = self._value(name, value)
        return found

    def _value(self, name: str, value: Any) -> Any:
        if name not in self.like:
            return value.as_py()
        dtype, shape = self.like[name]
        return np.frombuffer(value.as_buffer(), dtype).reshape(shape)


def lance(samples: Samples, folder: Path) -> Loaders:
    """The package pylance."""
    import lance as lance_
    import pyarrow as pa

    like = {n: (a.dtype, a.shape[1:]) for n, a in samples.arrays.items() if not (samples.jpeg and n == "rgb")}
    columns = {
        name: pa.array(
            [s[name] if isinstance(s[name], bytes) else s[name].tobytes() for s in samples],
            pa.binary(samples[0][name].nbytes) if name in like else pa.binary(),
        )
        for name in NAMES
    }
    lance_.write_dataset(pa.table(columns), str(folder), max_rows_per_group=64)
    rows = Rows(str(folder), like, len(samples))
    return lambda workers: torch_loader(
        rows, workers, shuffle=True, **({"multiprocessing_context": "spawn"} if workers else {})
    )


def _table(columns: dict[str, Any]) -> Any:
    import pyarrow as pa
    from ray.data.extensions import ArrowTensorArray

    return pa.table(
        {n: pa.array(list(v)) if v.dtype == object else ArrowTensorArray.from_numpy(v) for n, v in columns.items()}
    )


PEERS: dict[str, Callable[[Samples, Path], Loaders]] = {
    "npz": npz,
    "webdataset": webdataset,
    "litdata": litdata,
    "datasets": datasets,
    "ray": ray,
    "streaming": streaming,
    "spdl": spdl,
    "grain": grain,
    "lance": lance,
}


def through(loader: Iterable[Any], count: int) -> float:
    """Samples a second of one epoch, which must be all of them."""
    began, seen, kinds = time.perf_counter(), 0, {}
    for batch in loader:
        seen += len(batch["rgb"])
        kinds = {name: tuple(value.shape[1:]) for name, value in batch.items() if name in NAMES}
    spent = time.perf_counter() - began
    assert seen == count, f"{seen} samples came of {count}"
    assert kinds["rgb"] == (256, 256, 3), kinds
    return seen / spent


def main() -> None:
    name, folder, jpeg = sys.argv[1], Path(sys.argv[2]), "jpeg" in sys.argv[3:]
    cv2.setNumThreads(1)
    samples, where = Samples(folder, jpeg), folder / f"{name}{'-jpeg' if jpeg else ''}"
    began = time.perf_counter()
    loaders = PEERS[name](samples, where)
    wrote = time.perf_counter() - began
    size = sum(p.stat().st_size for p in where.rglob("*") if p.is_file() and "cache" not in p.parts)
    rates: dict[int, float] = {}
    for workers in WORKERS:
        loader = loaders(workers)
        through(loader, len(samples))
        rates[workers] = round(max(through(loader, len(samples)) for _ in range(2)), 1)
        del loader
        line = {"samples_per_s": rates, "write_per_s": round(len(samples) / wrote, 1), "bytes": size}
        print(json.dumps(line), flush=True)  # whoever stops us has what is known so far


if __name__ == "__main__":
    main()
