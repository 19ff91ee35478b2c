"""Failures of a training on Ray Train: counted in storage, so that an error in the work is not tried twenty times.

Ray Train has one budget and starts workers again whatever they died of. A worker that is killed leaves nothing here and
spends Ray's budget; one that raises notes its exception in `{folder}/failures/{attempt}.json`, the first of its group
wins, and after `LIMIT` of them the workers end at once. What cannot pass by itself (`Final`, and a mistake of the
recipe or a plug-in) is final at the first time. A connection that broke because another worker died, a store that
does not answer, or a notice, is not counted. A new command of the user starts at zero.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hyperloom.pipeline.errors import StepFailed, StorageError, Torn
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import blot
from hyperloom.stages.train.notice import Preempted

if TYPE_CHECKING:
    from hyperloom.stages.train.job import Job

LIMIT = 3


class Final(StepFailed):
    """What cannot pass by itself: another attempt would come to the same."""


class NotFinite(Final):
    """A loss or gradient became infinite or no number."""


def not_finite(job: Job, tasks: Sequence[str], update: int, rate: float) -> NotFinite:
    """What to say of the losses of `tasks`, or of the gradient where there are none, at a learning `rate`."""
    columns = [t.column for t in job.targets if t.task in tasks]
    what = f"the loss of {', '.join(tasks)}" if tasks else "the gradient"
    look = f"look for wild values in {', '.join(columns)}" if columns else "set optimizer: {clip: 1.0}"
    return NotFinite(
        f"{what} became infinite or no number at update {update}. Nothing after the last checkpoint was stored. Next: "
        f"lower the learning rate (optimizer: {{lr: {rate / 4:g}}}), {look}"
        f"{', or train in precision: fp32' if job.precision != 'fp32' else ''}"
    )


def count(storage: Storage, folder: str) -> int:
    """How many attempts have failed by themselves."""
    attempt = 0
    while storage.exists(_path(folder, attempt)):
        attempt += 1
    return attempt


def note(storage: Storage, folder: str, attempt: int, error: BaseException) -> None:
    """Remember that `attempt` (from 0) failed with `error`, unless a connection or the store is to blame."""
    if not _infrastructure(error):
        _write(storage, folder, attempt, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def attempt(storage: Storage, folder: str) -> int:
    """The number of the next attempt, from 0; `LIMIT` where none is of use."""
    return LIMIT if final(storage, folder) else count(storage, folder)


def end(storage: Storage, folder: str, error: Exception) -> None:
    """Remember that trying again is of no use."""
    _write(storage, folder, "final", str(error), "")


def final(storage: Storage, folder: str) -> str | None:
    """The error that ended the training for good; None when there is none."""
    path = _path(folder, "final")
    return _error(storage, path) if storage.exists(path) else None


def last(storage: Storage, folder: str) -> str | None:
    """The newest failure in one line; None when there is none."""
    failed = count(storage, folder)
    return _error(storage, _path(folder, failed - 1)) if failed else None


def forget(storage: Storage, folder: str) -> None:
    storage.delete(f"{folder}/failures")


def _write(storage: Storage, folder: str, attempt: int | str, error: str, trace: str) -> None:
    """As `hyperloom failed` reads it. The first of a group wins."""
    record = {"unit": folder, "step": "", "error": blot(error), "trace": blot(trace)}
    storage.create_json(_path(folder, attempt), record)


def _error(storage: Storage, path: str) -> str:
    try:
        return str(storage.read_json(path)["error"])
    except Torn as error:
        return f"what it was cannot be read: {error}"


def _path(folder: str, attempt: int | str) -> str:
    return f"{folder}/failures/{attempt}.json"


def _infrastructure(error: BaseException) -> bool:
    """Did the store fail, or a collective because another worker died? gloo says that only in words."""
    from torch.distributed import DistError

    words = ("gloo", "Connection closed by peer", "Connection reset", "Timed out waiting")
    broken = isinstance(error, RuntimeError) and any(w in str(error) for w in words)
    return broken or isinstance(error, DistError | StorageError | OSError | Preempted)
