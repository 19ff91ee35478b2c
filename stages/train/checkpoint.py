"""Checkpoints: the state of a training in storage, and the pointer that says which one counts.

    {folder}/checkpoints/{update:08d}.pt     tensors and plain values only (loads with weights_only=True)
    {folder}/checkpoint.json                 {"update", "file", "bytes", "sha256"}, replaced after the file is whole

The pointer is the only way to a checkpoint, never a listing: what a crash left half-written is not found. The one
before goes when the pointer has moved. A pointer whose file is gone or changed counts as no checkpoint.
"""

from __future__ import annotations

import io
from typing import Any

import torch

from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.storage import Storage, sha256

POINTER = "checkpoint.json"


def save(storage: Storage, folder: str, update: int, state: dict[str, Any]) -> None:
    """Store `state` as the checkpoint after `update` updates, and forget the one before. Raises StorageError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    before = _pointer(storage, folder)
    file = f"checkpoints/{update:08d}.pt"
    storage.write(f"{folder}/{file}", data)
    storage.write_json(
        f"{folder}/{POINTER}", {"update": update, "file": file, "bytes": len(data), "sha256": sha256(data)}
    )
    if before and before["file"] != file:
        storage.delete(f"{folder}/{before['file']}")


def load(storage: Storage, folder: str) -> dict[str, Any] | None:
    """The state that the pointer names, on the CPU; None when there is none or it is not whole."""
    pointer = _pointer(storage, folder)
    if pointer is None:
        return None
    try:
        data = storage.read(f"{folder}/{pointer['file']}")
    except FileNotFoundError:
        return None
    if sha256(data) != pointer["sha256"]:
        return None
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _pointer(storage: Storage, folder: str) -> dict[str, Any] | None:
    try:
        return storage.read_json(f"{folder}/{POINTER}")
    except (FileNotFoundError, Torn):
        return None
