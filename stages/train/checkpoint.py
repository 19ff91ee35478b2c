"""Checkpoints: the state of a training in storage, and the pointer that says which one counts.

    {folder}/checkpoints/{update:08d}-{digest}.pt    tensors and plain values only (loads with weights_only=True)
    {folder}/checkpoint/{number}.json                a Pointer: {"update", "file", "bytes", "sha256", "before"}

The pointer is the only way to a checkpoint, never a listing: what a crash left half-written is not found. The one
before the last is kept, and counts where the last one is gone or was changed; older ones go when the pointer has moved.

One process writes the checkpoints of a training, from `begin` on. One that began earlier and still runs (its driver was
taken for dead, or its machine was cut off) gets Superseded at its next checkpoint, and has changed nothing.
"""

from __future__ import annotations

import io
from typing import Any

import torch

from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.pointer import Pointer, Version
from hyperloom.pipeline.storage import Storage, sha256

POINTER = "checkpoint"


class Checkpoints:
    """The checkpoints of the training in `folder`, for the process that writes them."""

    def __init__(self, storage: Storage, folder: str):
        self.storage, self.folder = storage, folder
        self._pointer = _pointer(storage, folder)
        self._last: Version | None = None

    def begin(self) -> None:
        """Take the training over from whoever wrote its checkpoints before. Raises StorageError."""
        self._last = self._pointer.begin()

    def confirm(self) -> None:
        """Raise Superseded when another process has taken the training over."""
        if self._last is not None:
            self._last = self._pointer.write(self._last.value, self._last)

    def save(self, update: int, state: dict[str, Any]) -> None:
        """Store `state` as the checkpoint after `update` updates, and forget the one before. Raises StorageError, and
        Superseded when another process has taken the training over."""
        if self._last is None:
            self.begin()
        assert self._last is not None
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
        digest, before = sha256(data), self._last.value or {}
        file = f"checkpoints/{update:08d}-{digest[:12]}.pt"
        self.storage.write(f"{self.folder}/{file}", data)
        pointer = {"update": update, "file": file, "bytes": len(data), "sha256": digest}
        earlier = {name: value for name, value in before.items() if name != "before"}
        self._last = self._pointer.write({**pointer, "before": earlier or None}, self._last)
        oldest = (before.get("before") or {}).get("file")
        if oldest and oldest not in (file, earlier["file"]):
            self.storage.delete(f"{self.folder}/{oldest}")


def load(storage: Storage, folder: str) -> dict[str, Any] | None:
    """The state that the pointer names, on the CPU; None when there is none that is whole."""
    try:
        pointer = _pointer(storage, folder).read().value
    except IntegrityError:
        return None
    while pointer is not None:
        try:
            data = storage.read(f"{folder}/{pointer['file']}")
        except (FileNotFoundError, IntegrityError):
            data = b""
        if sha256(data) == pointer["sha256"]:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        pointer = pointer.get("before")
    return None


def _pointer(storage: Storage, folder: str) -> Pointer:
    return Pointer(storage, f"{folder}/{POINTER}", "the training, which another process has taken over,")
