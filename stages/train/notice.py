"""Notices: somebody wants this training to leave its machine, or to stop, while there is still time for a checkpoint.

A training that gets one finishes its update, stores a checkpoint and ends with `Preempted`, so nothing is lost.
Notices come from whoever started the workers (`also`: SIGTERM to a slot, Ray's node drain), and as the file
`{folder}/notice.json` under the root, which a driver that is told to end creates, or a person. Looking for that file is
the business of one thread of rank 0, so no update waits for storage. Imports no Ray.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import IntEnum

from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.root.storage import Storage

NOTICE = "notice.json"
LOOK_SECONDS = 2.0


class Ask(IntEnum):
    """What is wanted of a training."""

    NOTHING = 0
    MOVE = 1  # this machine goes away: end here, to go on elsewhere
    STOP = 2  # the run shall end


class TrainingStopped(StepFailed):
    """The training ended on a notice that somebody gave by hand."""

    exit_code = Exit.ENDED

    def __init__(self, step: str):
        super().__init__(
            f"step {step!r}: training stopped on notice, at a checkpoint. Next: run the same command again; it goes on "
            "from there"
        )


class Preempted(Exception):
    """The training ended on notice, with a checkpoint after `update`. Not a failure of the work."""

    def __init__(self, update: int, ask: Ask):
        super().__init__(f"{ask.name.lower()} on notice, at the checkpoint after update {update}")
        self.update, self.ask = update, ask

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.update, self.ask)


class Notice:
    """`with Notice(...) as asked`: `asked()` says what has been asked for, at no cost. With `look` a thread looks for
    the file and asks `also`, without it `also` is asked each time."""

    def __init__(self, storage: Storage, folder: str, look: bool, also: Callable[[], bool] = lambda: False):
        self.storage, self.path, self.look, self.also = storage, f"{folder}/{NOTICE}", look, also
        self._ask = Ask.NOTHING
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notice", daemon=True)

    def __call__(self) -> Ask:
        return Ask.MOVE if not self._ask and not self.look and self.also() else self._ask

    def __enter__(self) -> Notice:
        if self.look:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self.look:
            self._thread.join()

    def _set(self, ask: Ask) -> None:
        self._ask = max(self._ask, ask)

    def _watch(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            try:
                if self.storage.exists(self.path):
                    self._set(Ask.STOP)
                elif self.also():
                    self._set(Ask.MOVE)
            except Exception:  # a store or a Ray that does not answer gives no notice, whatever it raises
                continue


def give(storage: Storage, folder: str) -> None:
    """Ask the training whose files go to `folder` to stop at a checkpoint."""
    storage.write_json(f"{folder}/{NOTICE}", {"ask": "stop"})


def given(storage: Storage, folder: str) -> bool:
    return storage.exists(f"{folder}/{NOTICE}")


def withdraw(storage: Storage, folder: str) -> None:
    storage.delete(f"{folder}/{NOTICE}")
