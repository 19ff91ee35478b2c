"""What the GPU does of what it could: labelling, decoding, ensembles and training, each beside a hand-written loop.

    python -m benchmarks.gpu [part ...] [--device cuda] [--seconds 230]

`label_vs_bare`   frames a second of one slot with DeepLabV3-ResNet50 (TorchScript, random weights) over 360x480 JPEGs,
                  over those of the loop, in fp32 (TF32 convolutions); `label_bf16_vs_bare` with `precision: bf16`.
                  Target: 0.9
                  `label_agree` is the share of pixels that get the loop's class; `label_busy` the slot's frames a
                  second over those of network and decoding alone: how busy a GPU is. Target: 0.9
`decode_vs_bare`  the same with a network that costs nothing and gives 11 x 360 x 480 scores. Target: 0.9
`ensemble_vs_bare`  samples a second of a U-Net asked along eight subsets of its inputs. Target: 0.9
`train_vs_bare`   by network, images a second of training. Target: 0.95 from 4M parameters on, 0.85 at 158k
`mfu`             by network, of the training; targets: 0.25 at 22M, 0.40 at 100M, 0.5 for the U-Net of 71M
`wait`            by network, the share of the time that the device waits for data. Target: below 0.02
`jpeg`            images a second of the loader alone, to the device, where the host decodes a JPEG column and where the
                  device does (extra `gpu`), and by how much of 255 their pixels differ at most
`dropped`         time of an update with half of the tokens over that with all of them. Target: 0.6

Needs no Ray and no file beside the checkout (pip install -e '.[train,vision,gpu]'). What would not fit `--seconds` is
left out and named in `left_out`; on a GPU what is not done ten seconds later is broken off, and the line says what
there is. With `--device cpu` everything is tiny: it shows that the benchmark runs, and its figures mean nothing, but
for `--device cpu decode --frames 512 --size 360 480`. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_label, gpu_train
from benchmarks.train import manifest
from hyperloom.pipeline.root.storage import Storage

PARTS = ("label", "decode", "jpeg", "ensemble", "train")
LATE = 10
"""Seconds after `--seconds` at which a part that still runs is broken off."""
COMPILING = 75
"""Seconds that a network which is compiled may need, on both sides."""


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)} (all)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float, default=230)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--networks", nargs="*", help="of the part `train` (all)")
    options = parser.parse_args(given)
    bench = Bench(options)
    if not bench.tiny:
        bench.end_in_time()
    for part in options.parts or PARTS:
        getattr(bench, part)()
    print(json.dumps(bench.line))


class Bench:
    """Runs parts, and gathers the line."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.began, self.now = options, time.perf_counter(), "start"
        self.tiny, self.device = options.device == "cpu", torch.device(options.device)
        if self.tiny:
            torch.set_num_threads(1)  # both sides alike, whatever else the machine does
        self.size = tuple(options.size or ((48, 64) if self.tiny else (360, 480)))
        self.count = options.frames or (12 if self.tiny else 1344)
        card = "cpu" if self.tiny else torch.cuda.get_device_name()
        self.line: dict[str, Any] = {"benchmark": "gpu", "device": card, "cores": os.cpu_count(), "left_out": []}

    def end_in_time(self) -> None:
        """Have the line printed and the process ended where a part takes too long: a compiler cannot be interrupted."""

        def end() -> None:
            self.line["left_out"].append(f"{self.now}: broken off")
            print(json.dumps(self.line), flush=True)
            os._exit(0)

        timer = threading.Timer(self.options.seconds + LATE, end)
        timer.daemon = True
        timer.start()

    @contextlib.contextmanager
    def frames(self) -> Iterator[tuple[gpu_label.Frames, Path]]:
        with tempfile.TemporaryDirectory() as folder:
            rows = max(1, min(64, self.count // 4))
            yield gpu_label.Frames(Path(folder), self.count, (self.size[0], self.size[1]), rows), Path(folder)

    def attempt(self, name: str, part: Callable[[], dict[str, Any]], needs: float = 0) -> dict[str, Any] | None:
        """What a part gives; None, and a word in the line, where it fails or there is no time left of the seconds that
        it `needs`."""
        self.now, spent = name, time.perf_counter() - self.began + (0 if self.tiny else needs)
        if spent > self.options.seconds:
            self.line["left_out"].append(f"{name}: no time left")
            return None
        try:
            values = part()
        except Exception as error:  # the other parts still say something
            if self.tiny:
                raise
            self.line["left_out"].append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
            return None
        figures = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in values.items()}
        print(f"{name}: {json.dumps(figures)} after {time.perf_counter() - self.began:.0f} s", flush=True)
        return figures

    def label(self) -> None:
        """One slot with DeepLabV3."""
        with self.frames() as (frames, folder):
            shape = (4, (1, 1, 1, 1)) if self.tiny else (64, (3, 4, 6, 3))
            expert = gpu_label.deeplab(folder, *shape)
            for name, precision in (("label", "fp32"), ("label_bf16", "bf16")):
                fields = {"precision": precision} if precision != "fp32" else {}
                self._beside(name, frames, expert, precision, fields)

    def decode(self) -> None:
        """One slot with a network that costs nothing."""
        with self.frames() as (frames, folder):
            self._beside("decode", frames, gpu_label.free(folder, frames.size), "fp32", {})

    def jpeg(self) -> None:
        """The loader with JPEGs decoded by the host, and by the device."""
        with self.frames() as (frames, _):
            epochs = 1 if self.tiny else 3
            self.line["jpeg"] = self.attempt("jpeg", lambda: gpu_label.loaded(frames, self.device, epochs))

    def _beside(
        self, name: str, frames: gpu_label.Frames, expert: dict[str, Any], precision: str, fields: dict[str, Any]
    ) -> None:
        def both() -> dict[str, Any]:
            loop = gpu_label.loop(frames, expert, self.options.device, precision)
            self.line[f"{name}_fps"] = {"bare": round(loop, 1)}
            slot = gpu_label.slot(frames, expert, self.options.device, **fields)
            return {**slot, "bare": loop, "ratio": slot["fps"] / loop}

        values = self.attempt(name, both)
        self.line[f"{name}_vs_bare"] = values and values["ratio"]
        if values:
            self.line[f"{name}_fps"] = {"slot": values["fps"], "bare": values["bare"], "batch": values["batch"]}
            self.line[f"{name}_agree"] = round(values["agree"], 5)
            self.line[f"{name}_busy"] = round(values["busy"], 3)

    @contextlib.contextmanager
    def data(self) -> Iterator[gpu_train.Data]:
        from benchmarks.samples import modalities

        with tempfile.TemporaryDirectory() as folder:
            storage, known = Storage(folder), modalities()
            yield storage, known, manifest(storage, known, 32 if self.tiny else 128)

    def ensemble(self) -> None:
        """A U-Net asked along subsets of its inputs."""
        calls, size = (1, "5k") if self.tiny else (20, "4.46M")
        with self.data() as data:
            values = self.attempt("ensemble", lambda: gpu_train.ensemble(data, self.device, calls, size))
        self.line["ensemble_vs_bare"] = values and round(values["ours"] / values["bare"], 3)
        self.line["ensemble_per_s"] = values

    def train(self) -> None:
        """The networks, one after the other."""
        known = gpu_train.TINY if self.tiny else gpu_train.NETWORKS
        chosen = [n for n in known if not self.options.networks or n in self.options.networks]
        runs = {}
        with self.data() as data:
            for name in chosen:
                updates = 1 if self.tiny else 40
                measure = lambda n=name, u=updates: gpu_train.network(data, known[n], self.device, u)  # noqa: E731
                if values := self.attempt(name, measure, COMPILING if known[name].get("compile") else 0):
                    runs[name] = values
                if not self.tiny:
                    torch.cuda.empty_cache()
        self.line["train_per_s"] = {n: {k: v[k] for k in ("loop", "loaded", "bare")} for n, v in runs.items()}
        self.line["train_vs_bare"] = {n: round(v["loop"] / v["bare"], 3) for n, v in runs.items()}
        self.line["mfu"] = {n: round(v["bare_mfu"] * v["loop"] / v["bare"], 3) for n, v in runs.items()}
        self.line["wait"] = {n: round(max(0.0, 1 - v["loaded"] / v["loop"]), 4) for n, v in runs.items()}
        if {"vit-102m", "vit-102m-half"} <= set(runs):
            self.line["dropped"] = round(runs["vit-102m"]["loop"] / runs["vit-102m-half"]["loop"], 3)


if __name__ == "__main__":
    main()
