"""Checkpoints: the state of a training in storage, and the pointer that says which one counts.

    {folder}/checkpoints/{update:08d}-{digest}.pt    tensors and plain values only (loads with weights_only=True)
    {folder}/checkpoint/{number}.json                a Pointer: {"update", "file", "bytes", "sha256", "before"}

A checkpoint is named by a digest of its bytes, so one that was cut or changed is known without the pointer. The one
before the last is kept; older ones go when the pointer has moved. Where the pointer, or the file that it names, is gone
or torn, the newest that is whole counts, and that is said; without any the training starts anew.

One process writes the checkpoints of a training, from `begin` on. One that began earlier and still runs (its driver was
taken for dead, or its machine was cut off) gets Superseded at its next checkpoint, and has changed nothing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.root.pointer import Pointer, Version
from hyperloom.pipeline.root.storage import Storage, sha256

POINTER, FOLDER = "checkpoint", "checkpoints"
_NAME = re.compile(r"(\d{8})-([0-9a-f]{12})\.pt")


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


def load(storage: Storage, folder: str, say: Callable[[str], None] = lambda _: None) -> dict[str, Any] | None:
    """The state of the checkpoint that counts, on the CPU; None when there is none that is whole. `say` is told, in a
    line, of one that was passed over."""
    wrong = ""
    for name in dict.fromkeys(_candidates(storage, folder)):
        data = _whole(storage, f"{folder}/{FOLDER}/{name}")
        if data is not None:
            if wrong:
                say(f"{wrong}: going on from {name}, the newest one that is whole")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        wrong = wrong or f"the checkpoint {storage.full(f'{folder}/{FOLDER}/{name}')} is torn or gone"
    if wrong:
        say(f"{wrong}, and there is no other: starting anew")
    return None


def _candidates(storage: Storage, folder: str) -> Iterator[str]:
    """Names of checkpoints: the one that the pointer names, the one before, then the newest."""
    try:
        pointer = _pointer(storage, folder).read().value
    except IntegrityError:
        pointer = None
    while pointer:
        yield pointer["file"].rpartition("/")[2]
        pointer = pointer.get("before")
    yield from (name for name in reversed(storage.names(f"{folder}/{FOLDER}")) if _NAME.fullmatch(name))


def _whole(storage: Storage, path: str) -> bytes | None:
    """The bytes of a checkpoint; None where they are not those that its name promises."""
    match = _NAME.fullmatch(path.rpartition("/")[2])
    try:
        data = storage.read(path)
    except (FileNotFoundError, IntegrityError):
        return None
    return data if match and sha256(data).startswith(match[2]) else None


def _pointer(storage: Storage, folder: str) -> Pointer:
    return Pointer(storage, f"{folder}/{POINTER}", "the training, which another process has taken over,")
