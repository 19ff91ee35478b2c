"""Experts that write down when they began and ended each batch, and when they were built: for tests of scheduling."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.expert import Batch, Expert, Function

RECIPE = """\
name: timed
root: {folder}/root
modalities:
  rgb: {{type: image, size: [8, 8]}}
  value: {{type: dense, storage: float32}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "{folder}/images"}}, rows: 2}}
  labels:
    stage: label
    data: frames
    experts:
      - {{type: "tests.ray.flowing:Timed", in: rgb@camera, out: value@x, batch: 2, seconds: {seconds},
          log: {folder}/log}}
"""
"""Frames of a folder by twos, each batch of which takes so many `seconds` and is noted in a log."""


class Timed(Expert):
    """Adds one to the first channel; takes `seconds` a batch and notes it in the file `log`."""

    seconds: float = placement(0.1)
    log: str = placement()
    clip: bool = False
    """True: reads the frame before and the frame after as well, and adds them up."""

    def offsets(self) -> dict[str, tuple[int, ...]]:
        return {self.in_[0]: (-1, 1)} if self.clip else {}

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        self._note("built", -1, time.time())

        def call(batch: Batch) -> Batch:
            began, name = time.time(), self.in_[0]
            values = batch[name][..., :1].astype(np.float32)
            frame = int(values.flat[0])
            time.sleep(self.seconds)
            around = sum(batch[f"{name}[{o}]"][..., :1].astype(np.float32) for o in (-1, 1)) if self.clip else 0
            self._note("batch", frame, began)
            return {self.out[0]: values + 1 + around}

        return call

    def _note(self, what: str, frame: int, began: float) -> None:
        line = {
            "what": what,
            "out": self.out[0],
            "frame": frame,
            "pid": os.getpid(),
            "began": began,
            "ended": time.time(),
        }
        with open(self.log, "ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")


def notes(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_bytes().splitlines()]


def things(rgb: np.ndarray) -> list[dict[str, Any]]:
    """Of a frame whose pixels are all i: i % 3 rows of pixels, called bright from 28 on."""
    light = int(rgb[0, 0, 0])
    masks = np.eye(8, dtype=bool)[: light % 3, :, None].repeat(8, 2)
    return [{"mask": m, "class": "bright" if light > 27 else "dark", "id": 5 + n} for n, m in enumerate(masks)]
