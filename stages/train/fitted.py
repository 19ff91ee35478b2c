"""A fitted model: what a training that is done has left.

    {folder}/model/{digest}/model.json, model.safetensors    named by a digest of both
    {folder}/trained.json                                    created last

`trained.json` says how the training ended and names the model's files with their sizes and digests, so that whoever
takes them over (a unit's record, a manifest) need not read them again. A training whose files are gone or cut short is
not done. One that is done stays as it is: a process that was replaced and ends later changes no file of it, since its
model has another name, or the same bytes, and `trained.json` is there already. On a store that overwrites what is to
be created, one that was stopped between looking and writing replaces `trained.json` by one that names its own, whole
files; who asks for the model goes by what was committed before (stages.network.stored).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hyperloom.pipeline.commits.units import File
from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.stages.network.architecture import model_place

TRAINED = "trained.json"


@dataclass(frozen=True)
class Fitted:
    """`about`: parameters, updates, the last figures (`final`), and with early stopping the update that was `kept`.
    `files`: the model's, in the order in which they were written."""

    about: dict[str, Any]
    files: tuple[File, ...]


def save(storage: Storage, folder: str, about: dict[str, Any], model: dict[str, bytes]) -> None:
    """Write the files of `model` (name -> bytes), then `trained.json`, unless the training is done already. Raises
    StorageError."""
    if load(storage, folder) is not None:
        return
    place = model_place(model)
    files = {n: {"path": f"{place}/{n}", "bytes": len(data), "sha256": sha256(data)} for n, data in model.items()}
    for name, data in model.items():
        storage.write(f"{folder}/{files[name]['path']}", data)
    value = {**about, "files": files}
    if not storage.create_json(f"{folder}/{TRAINED}", value) and load(storage, folder) is None:
        storage.write_json(f"{folder}/{TRAINED}", value)  # a torn one, or one whose files are gone


def load(storage: Storage, folder: str) -> Fitted | None:
    """How the training of `folder` ended; None while it has not, or where its files are not whole."""
    try:
        about = storage.read_json(f"{folder}/{TRAINED}")
        named = [f for _, f in sorted(about.pop("files").items())]
        files = tuple(File(f"{folder}/{f['path']}", f["bytes"], f["sha256"]) for f in named)
    except (FileNotFoundError, Torn, KeyError):
        return None
    return Fitted(about, files) if all(storage.size(f.path) == f.bytes for f in files) else None
