"""Failures of a training's own: counted in storage, so that an error in the work is not tried twenty times.

Ray Train has one budget and starts workers again whatever they died of. A worker that is killed leaves nothing here and
spends Ray's budget; one that raises notes its exception under `{folder}/failures/{attempt}.json`, the first of its group
wins, and after `LIMIT` of them the workers end at once. A group whose connection broke because another died is not at
fault. A new command of the user starts at zero.
"""

from __future__ import annotations

import traceback
from typing import Any

from pipeline.storage import Storage

LIMIT = 3


def count(storage: Storage, folder: str) -> int:
    """How many attempts have failed by themselves."""
    attempt = 0
    while storage.exists(_path(folder, attempt)):
        attempt += 1
    return attempt


def note(storage: Storage, folder: str, attempt: int, error: BaseException) -> None:
    """Remember that `attempt` (from 0) failed with `error`, unless the error is a broken connection to other workers."""
    if not _connection(error):
        record = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exception(error)}
        storage.create(_path(folder, attempt), _json(record))


def last(storage: Storage, folder: str) -> str | None:
    """The newest failure in one line; None when there is none."""
    failed = count(storage, folder)
    return storage.read_json(_path(folder, failed - 1))["error"] if failed else None


def forget(storage: Storage, folder: str) -> None:
    storage.delete(f"{folder}/failures")


def _path(folder: str, attempt: int) -> str:
    return f"{folder}/failures/{attempt}.json"


def _connection(error: BaseException) -> bool:
    """Did a collective break? gloo says so only in words; NCCL has a type of its own."""
    from torch.distributed import DistError

    words = ("gloo", "Connection closed by peer", "Connection reset", "Timed out waiting")
    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value, sort_keys=True).encode()
