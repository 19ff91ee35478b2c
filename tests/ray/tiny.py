"""A tiny training on a real cluster: two tasks of one U-Net, from twelve rendered frames."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.pointer import Pointer
from hyperloom.pipeline.root.storage import Storage
from tests.ray.conftest import BIN, hyperloom

SIZE = (24, 32)


def checkpoints(root: Path) -> dict[Path, int]:
    """Folder of each training that has a checkpoint -> the update that it is after."""
    pointers = {f: Pointer(Storage(str(root)), f"train/{f.name}/checkpoint").read() for f in root.glob("train/*")}
    return {folder: version.value["update"] for folder, version in pointers.items() if version.value}


def recipe(root: Path, **training: Any) -> str:
    """The recipe's text, with more fields of its training."""
    model = {
        "stage": "train",
        "data": "shards",
        "in": "rgb@camera",
        "targets": {"semantic": "semantic@truth", "depth": "depth@truth"},
        "model": {"trunk": {"type": "unet", "width": 2}},
        **training,
    }
    return f"""\
name: tiny
root: {root}
modalities:
  rgb:      {{type: image, size: {list(SIZE)}}}
  semantic: {{type: segmentation, classes: [land, forest, road, water, building]}}
  depth:    {{type: dense, unit: m}}
  normals:  {{type: dense, channels: 3, direction: true}}
  flow:     {{type: dense, channels: 2, unit: px}}
  pose:     {{type: vector, length: 20}}
steps:
  frames: {{stage: ingest, source: {{type: flights, flights: 3, frames: 4, seed: 3}}, group: flight, rows: 4}}
  shards: {{stage: shard, data: frames}}
  model: {json.dumps(model)}
"""


ENDS = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (None, 7)]
"""What ends a run, and the exit code; None is `hyperloom cancel`."""


@contextmanager
def half_way(folder: Path, env: dict[str, str], **training: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The driver of a long training, in a process group of its own, once there is a curve; it prints to `log`."""
    path = folder / "tiny.yaml"
    path.write_text(recipe(folder / "root", **{**training, "updates": 100000, "checkpoint_every": 100000}))
    command = [str(BIN / "hyperloom"), "run", str(path), "--no-mlflow"]
    with (folder / "log").open("w") as log:
        driver = subprocess.Popen(
            command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        try:
            while not [p for p in folder.glob("root/events/*/train-model/*") if b'"metric"' in p.read_bytes()]:
                assert driver.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            yield driver
        finally:
            driver.kill()
            driver.wait()


def at_a_checkpoint(folder: Path) -> None:
    """Raise AssertionError unless the training of `half_way` ended at a checkpoint, in few words."""
    text = (folder / "log").read_text()
    assert "Traceback" not in text and text.splitlines()[-1].startswith("Continue with: hyperloom run "), text
    storage = Storage(str(folder / "root"))
    (run,) = storage.names("events")
    assert any("stop on notice" in e["text"] for e in events.read(storage, run) if e["kind"] == "note")
    ((training, update),) = checkpoints(folder / "root").items()
    assert 2 <= update < 100000
    assert not (training / "notice.json").exists()


def ends_at_a_checkpoint(
    folder: Path, env: dict[str, str], number: signal.Signals | None, code: int, **training: Any
) -> None:
    """Ask the driver of a long training to end: it does, at a checkpoint."""
    with half_way(folder, env, **training) as driver:
        if number is None:
            done = hyperloom("cancel", str(folder / "tiny.yaml"), env=env)
            assert done.returncode == 0 and "has ended" in done.stdout, done.stdout + done.stderr
        else:
            driver.send_signal(number)
        assert driver.wait(timeout=120) == code, (folder / "log").read_text()
    at_a_checkpoint(folder)
