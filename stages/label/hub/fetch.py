"""Fetching a pinned model: once a node, into the usual cache (`HF_HOME`), resumed after an interruption, and checked.

What is in the cache needs no network. What is not is fetched by a process of its own, `python -m
hyperloom.stages.label.hub.fetch`, since whoever loads models here tells the library to stay offline. Processes of one
node wait for each other (the library locks each file). Every file is compared with its digest in the pin before it is
first used; one that differs is removed, so that the next try fetches it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.label.hub.loading import OFFLINE

if TYPE_CHECKING:
    from hyperloom.stages.label.hub.pins import Pin

PART = 1 << 20


def fetched(pin: Pin) -> Path:
    """The local directory of a pinned model. Raises SourceError where it cannot be had, or is another than pinned, and
    ConnectionError where that may pass."""
    folder = _cached(pin.model, pin.commit, pin.files) or _fetch(pin)
    stats = {name: (folder / name).stat() for name in pin.files}
    marks = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    note = Path(f"{folder}.checked")
    checked = json.dumps([pin.digests, marks])
    if note.exists() and note.read_text(encoding="utf-8") == checked:
        return folder
    for name, (size, digest) in pin.files.items():
        path = folder / name
        if path.stat().st_size != size or _digest(path, digest.partition(":")[0]) != digest:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise SourceError(
                f"{name} of the model {pin.model} is not what the hub said it is ({digest[:19]}). It was removed. "
                "Next: the same command fetches it again; if that fails again, ask whoever runs the hub"
            )
    note.write_text(checked, encoding="utf-8")
    return folder


def _cached(model: str, commit: str, files: Iterable[str]) -> Path | None:
    """The folder of the cache that has all files; None where one is missing. Nobody is asked."""
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(model, name, revision=commit) for name in files]
    present = [path for path in paths if isinstance(path, str)]
    return Path(present[0]).parent if len(present) == len(paths) else None


def _fetch(pin: Pin) -> Path:
    given = json.dumps([pin.model, pin.commit, sorted(pin.files)])
    command = [sys.executable, "-m", "hyperloom.stages.label.hub.fetch"]
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE" or OFFLINE}
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == 0:
        return Path(done.stdout.splitlines()[-1])
    why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    total = sum(size for size, _ in pin.files.values()) / 1e6
    raise ConnectionError(
        f"the model {pin.model} ({total:.0f} MB) was not fetched whole: {why}. What came is kept. Next: the same "
        "command goes on with it, or put the files into HF_HOME by another way (hf download)"
    )


def _digest(path: Path, kind: str) -> str:
    hashed = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with open(path, "rb") as file:
        while part := file.read(PART):
            hashed.update(part)
    return f"{kind}:{hashed.hexdigest()}"


def main() -> None:
    """In a process of its own: a model, its commit and its files as JSON on stdin, the folder on stdout."""
    from huggingface_hub import snapshot_download

    model, commit, files = json.load(sys.stdin)
    try:
        print(snapshot_download(model, revision=commit, allow_patterns=files))
    except Exception as error:  # the library and its HTTP client raise whatever fits
        text = f"{type(error).__name__}: {error}"
        raise SystemExit(text.splitlines()[0]) from error


if __name__ == "__main__":
    main()
