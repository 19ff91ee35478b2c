"""Labelling on a device, one slot, beside a hand-written loop: parts `label` and `decode` of `benchmarks.gpu`.

The slot is the pool's: its host with two groups of units at hand, over partitions of JPEG files as ingest leaves them.
The loop has a DataLoader with all cores, pinned memory, channels last, autocast, cuDNN's own trials, an argmax on the
device and a thread that writes Parquet. Both decode the same JPEGs and write the same maps. Start, the batch trial and
the first units are left out of both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_nets import CLASSES, DeepLab, Free
from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits.units import Output, Resources, Unit, execute, load_record
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.workers.executor import Host
from hyperloom.stages.label.runtimes.preprocess import IMAGENET
from hyperloom.stages.label.worker import LabelWorker
from hyperloom.stages.shard import decoder
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.table import read_table, write_table

WARM = 3
"""Units of a slot, and batches of the loop, that are not timed."""


class Frames:
    """`count` JPEG files of `size`, and the partitions of `rows` that an ingest step would make of them."""

    def __init__(self, folder: Path, count: int, size: tuple[int, int], rows: int):
        self.count, self.size, self.rows = count, size, rows
        self.storage = Storage(str(folder / "root"))
        self.modalities = {
            "photo": plugins.parse("modality", {"type": "image", "size": list(size), "codec": "file"}),
            "semantic": plugins.parse(
                "modality", {"type": "segmentation", "size": list(size), "classes": [f"c{i}" for i in range(CLASSES)]}
            ),
        }
        distinct = [_jpeg(i, size) for i in range(min(count, 48))]
        self.files = []
        for i in range(count):
            self.files.append(folder / f"{i:05d}.jpg")
            self.files[-1].write_bytes(distinct[i % len(distinct)])
        for first in range(0, count, rows):
            self._partition(first, [distinct[i % len(distinct)] for i in range(first, min(count, first + rows))])

    def _partition(self, first: int, data: list[bytes]) -> None:
        import pyarrow as pa

        keys = pa.array([f"{i:05d}" for i in range(first, first + len(data))], pa.string())
        fields = [pa.field("key", pa.string()), self.modalities["photo"].field("photo@camera")]
        table = write_table({"key": keys, "photo@camera": pa.array(data, pa.binary())}, fields)
        execute(self.storage, _Ready(table, len(data)), Unit("ingest/bench", f"{first:06d}", "ingest"), 1)

    def units(self, space: str) -> list[Unit]:
        """One a partition."""
        names = [f"{first:06d}" for first in range(0, self.count, self.rows)]
        return [
            Unit(f"expert/{space}", n, "label", {"pid": n, "columns": {"photo@camera": ["ingest/bench", n]}})
            for n in names
        ]


class _Ready:
    """A worker that has the bytes already."""

    resources = Resources()

    def __init__(self, data: bytes, rows: int):
        self.data, self.rows = data, rows

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        out.rows = self.rows
        out.write("parquet", self.data)


def _jpeg(seed: int, size: tuple[int, int]) -> bytes:
    import cv2

    random = np.random.default_rng(seed)
    image = np.zeros((*size, 3), np.float32)
    for cells in (4, 16, 64):
        image += cv2.resize(random.random((cells, cells, 3), np.float32), size[::-1]) * (160 / cells**0.5)
    image += random.normal(0, 4, image.shape)
    return cv2.imencode(".jpg", image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def deeplab(folder: Path, width: int, depths: tuple[int, ...]) -> dict[str, Any]:
    """The expert of a TorchScript file."""
    torch.manual_seed(0)
    path = folder / "deeplab.ts"
    with torch.inference_mode():
        torch.jit.trace(DeepLab(width=width, depths=depths).eval(), torch.rand(1, 3, 64, 64)).save(str(path))
    return {"type": "torch", "path": str(path), "preprocess": {"normalise": "imagenet"}}


def free(folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """The expert of a network that costs nothing."""
    torch.manual_seed(0)
    path = folder / "free.pt"
    torch.save({"scores": torch.randn(CLASSES, *size)}, path)
    arguments = {"height": size[0], "width": size[1]}
    return {"type": "torch", "path": str(path), "net": "benchmarks.gpu_nets:Free", "arguments": arguments}


def slot(frames: Frames, expert: dict[str, Any], device: str, **fields: Any) -> dict[str, Any]:
    """Frames a second of one slot with this expert, and the batch that it chose."""
    on = {"gpus": 1, "cpus": os.cpu_count()} if device == "cuda" else {"cpus": _share()}
    config = {"in": "photo@camera", "out": "semantic@net", "decode": "classes", **on, **expert, **fields}
    worker = LabelWorker(plugins.parse("expert", config), frames.modalities, frames.storage, {})
    host = Host(str(frames.storage), lambda _: worker, ThreadPoolExecutor(1))
    units = frames.units(f"bench{time.time_ns()}")

    def label(unit: Unit) -> int:
        (done,) = host.run("bench", frozenset({"bench"}), [unit], [1])
        assert done.record is not None, done.trace
        assert not done.record.quarantined, done.record
        return done.record.rows

    with ThreadPoolExecutor(2) as calls:
        warm = min(WARM, len(units) - 1)
        for unit in units[:warm]:
            label(unit)
        began = time.perf_counter()
        rows = sum(calls.map(label, units[warm:]))
        seconds = time.perf_counter() - began
    sizes = next(iter(worker._sizes.values()))
    agree = _agreement(frames, units[0], Loop(expert, device, fields.get("precision", "fp32")))
    alone = _alone_fps(worker, frames, sizes.now, device)
    return {"fps": rows / seconds, "batch": sizes.now, "agree": agree, "busy": min(1.0, rows / seconds / alone)}


def _alone_fps(worker: LabelWorker, frames: Frames, batch: int, device: str) -> float:
    """Frames a second of network and decoding alone, with the batch read and nothing taken back: what the slot would
    do, were the device never to wait."""
    steps = worker._bisection._steps
    pictures = Pictures(frames.files)
    ready = steps.prepare({"photo@camera": np.stack([pictures[i].numpy() for i in range(min(batch, len(pictures)))])})
    for calls in (2, 12):
        began = time.perf_counter()
        given = [steps.compute(ready) for _ in range(calls)]
        if device == "cuda":
            torch.cuda.synchronize()
        else:
            steps.finish(given[-1])
    return calls * min(batch, len(pictures)) / (time.perf_counter() - began)


def loaded(frames: Frames, device: torch.device, epochs: int) -> dict[str, Any]:
    """Images a second of the loader, to the device: decoded by the host, by the device (None without its library), and
    the greatest difference of their pixels."""
    listed = [_listed(frames, unit) for unit in frames.units("jpeg")]
    batch = min(64, frames.rows)
    known, seen, pixels = {"photo": frames.modalities["photo"]}, dict[str, Any](), dict[str, torch.Tensor]()
    for where in ("host", "device"):
        try:
            chosen = decoder.decoder(where, False, device)  # type: ignore[arg-type]
        except RecipeError as error:
            print(error)
            seen[where] = None
            continue
        data = Loader(frames.storage, listed, known, ["photo@camera"], batch=batch, cache_mb=0, decoder=chosen)
        pixels[where] = next(iter(data))["photo@camera"].to("cpu", torch.int16)
        data.load_state_dict({**data.state_dict(), "epoch": 0, "position": 0})
        began, rows = time.perf_counter(), 0
        for _ in range(epochs):
            for given in data:
                rows += len(given["photo@camera"].to(device, non_blocking=True))
        if device.type == "cuda":
            torch.cuda.synchronize()
        seen[where] = rows / (time.perf_counter() - began)
    both = pixels.get("device")
    return {**seen, "apart": None if both is None else int((both - pixels["host"]).abs().max())}


def _listed(frames: Frames, unit: Unit) -> dict[str, Any]:
    """The partition that a unit reads, as the loader takes shards."""
    import pyarrow.parquet as pq

    record = load_record(frames.storage, "ingest/bench", unit.id)
    assert record is not None
    path = record.file.path
    with pq.ParquetFile(frames.storage.path(path)) as file:
        first = file.metadata.row_group(0).num_rows
        return {"path": path, "split": "train", "rows": file.metadata.num_rows, "row_group": first}


def _share() -> int:
    """Cores of a slot on a CPU, and of the loop beside it."""
    return max(1, (os.cpu_count() or 1) // 2)


def _agreement(frames: Frames, unit: Unit, net: Loop) -> float:
    """The share of the pixels of a unit whose class is that of the hand-written loop."""
    record = load_record(frames.storage, *unit.key)
    assert record is not None
    column = read_table(frames.storage, record.file.path, ["semantic@net"])["semantic@net"]
    ids, _ = frames.modalities["semantic"].decode(column)
    pictures = Pictures(frames.files[: len(ids)])
    expected = torch.cat([net(pictures[i][None]) for i in range(len(ids))]).cpu().numpy()
    return float((ids == expected).mean())


def loop(frames: Frames, expert: dict[str, Any], device: str, precision: str) -> float:
    """Frames a second of the hand-written loop; on a CPU frame by frame, which its caches like best."""
    torch.backends.cudnn.benchmark = True
    net = Loop(expert, device, precision)
    several, batch = device == "cuda", 64 if device == "cuda" else 1
    if not several:
        torch.set_num_threads(_share())
    context = get_context("forkserver") if several else None  # a fork of a process with threads may hang
    if context is not None:
        context.set_forkserver_preload(["torch", "cv2"])
    data = torch.utils.data.DataLoader(
        Pictures(frames.files), batch, num_workers=(os.cpu_count() or 1) if several else 0, pin_memory=several,
        persistent_workers=several, worker_init_fn=_alone, multiprocessing_context=context,
    )  # fmt: skip
    for images in islice(data, WARM + 1):
        net(images).cpu()
    began = time.perf_counter()
    folder = frames.files[0].parent / f"loop{time.time_ns()}"
    folder.mkdir()
    with ThreadPoolExecutor(1) as writer:
        maps = enumerate(_together(_maps(net, data), 64 // batch))
        waiting = [writer.submit(_write, folder, i, ids) for i, ids in maps]
        for one in waiting:
            one.result()
    return len(frames.files) / (time.perf_counter() - began)


class Pictures(torch.utils.data.Dataset[torch.Tensor]):
    """JPEG files as (H, W, 3) uint8."""

    def __init__(self, files: list[Path]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> torch.Tensor:
        import cv2

        return torch.from_numpy(cv2.cvtColor(cv2.imread(str(self.files[i])), cv2.COLOR_BGR2RGB))


class Loop:
    """(N, H, W, 3) uint8 on the host to class ids on the device, as one writes it by hand."""

    def __init__(self, expert: dict[str, Any], device: str, precision: str):
        self.device, self.precision = device, precision
        module: Any
        if "net" in expert:
            module = Free(**expert["arguments"])
            module.load_state_dict(torch.load(expert["path"]))
        else:
            module = torch.jit.load(expert["path"], map_location=device)
        self.net = module.to(device).eval().to(memory_format=torch.channels_last)
        self.scaled = "preprocess" in expert
        self.mean, self.std = (torch.tensor(IMAGENET[n], device=device).view(1, 3, 1, 1) for n in ("mean", "std"))

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        x = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        if self.scaled:
            x = (x - self.mean) / self.std
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            return _highest(self.net(x))


def _highest(scores: torch.Tensor) -> torch.Tensor:
    """(N, H, W) uint8 of (N, C, H, W). On a CPU torch's argmax over such planes takes thirty times as long as this."""
    if scores.is_cuda:
        return scores.argmax(1).to(torch.uint8)
    top = scores[:, 0].clone()
    ids = torch.zeros(top.shape, dtype=torch.uint8)
    for number, plane in enumerate(scores.unbind(1)[1:], 1):
        torch.maximum(ids, (plane > top).byte().mul_(number), out=ids)
        torch.maximum(top, plane, out=top)
    return ids


def _maps(net: Loop, data: Any) -> Iterator[np.ndarray]:
    """Maps of each batch, one batch late, so that the device has the next one before it is asked for this one."""
    last = None
    for images in data:
        ids = net(images)
        if last is not None:
            yield last.cpu().numpy()
        last = ids
    if last is not None:
        yield last.cpu().numpy()


def _together(maps: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """As many batches as a file holds."""
    while some := list(islice(maps, count)):
        yield np.concatenate(some)


def _write(folder: Path, number: int, ids: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.Array.from_buffers(pa.binary(ids[0].nbytes), len(ids), [None, pa.py_buffer(np.ascontiguousarray(ids))])
    pq.write_table(
        pa.table({"semantic": rows}), folder / f"{number}.parquet", compression="zstd", compression_level=1,
        use_dictionary=False, write_statistics=False,
    )  # fmt: skip


def _alone(_: int) -> None:
    import cv2

    cv2.setNumThreads(1)
