"""A fitted model: what a training that is done has left. `{folder}/trained.json` is its last file.

It says how the training ended and names the model's files with their sizes and digests, so that whoever takes them over
(a unit's record, a manifest) need not read them again. A training whose files are gone or cut short is not done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.storage import Storage, sha256
from hyperloom.pipeline.units import File

TRAINED = "trained.json"


@dataclass(frozen=True)
class Fitted:
    """`about`: parameters, updates, the last figures (`final`), and with early stopping the update that was `kept`.
    `files`: the model's, in the order in which they were written."""

    about: dict[str, Any]
    files: tuple[File, ...]


def save(storage: Storage, folder: str, about: dict[str, Any], model: dict[str, bytes]) -> None:
    """Write the files of `model` (name -> bytes), then `trained.json`. Raises StorageError."""
    for name, data in model.items():
        storage.write(f"{folder}/{name}", data)
    files = {name: {"bytes": len(data), "sha256": sha256(data)} for name, data in model.items()}
    storage.write_json(f"{folder}/{TRAINED}", {**about, "files": files})


def load(storage: Storage, folder: str) -> Fitted | None:
    """How the training of `folder` ended; None while it has not, or where its files are not whole."""
    try:
        about = storage.read_json(f"{folder}/{TRAINED}")
        files = tuple(File(f"{folder}/{n}", f["bytes"], f["sha256"]) for n, f in sorted(about.pop("files").items()))
    except (FileNotFoundError, Torn):
        return None
    return Fitted(about, files) if all(storage.size(f.path) == f.bytes for f in files) else None
