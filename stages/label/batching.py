"""How many samples go into one call of an expert.

A batch size that the recipe leaves out is found by trial, once for an expert under a root: sizes double on the first
partition's own samples as long as a sample gets cheaper, the answers of the trial are thrown away, and what was found
is kept beside the expert's units, so that a resumed run cuts the same batches. Running out of memory halves it, which
is kept too. The size is placement: no identity knows it. On a device each size is tried after a call that is not timed
(kernels are chosen and compiled in it), with its samples read before the clock starts, since threads read them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hyperloom.pipeline.errors import HyperloomError, Torn
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label import memory

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GAIN = 0.95
"""A size must bring the time for a sample below this share of the best so far."""
TRIAL_SECONDS = 1.0
"""No larger size is tried once the trial took so long."""
DEVICE_SECONDS = 30.0
"""The same on a device, where the first calls of each size choose kernels or compile."""
PATIENCE = 2
"""Sizes in a row that a device is tried with in vain."""
FIRST, TIMED = 2, 2
"""Calls of a size on a device that are not timed, and that are."""
ROOM = 256 * 2**20
"""Bytes of inputs and answers of one batch beyond which no larger one is tried."""


class BatchSize:
    """The size for one expert in one process. `now` is 1 until it is known."""

    def __init__(self, storage: Storage, space: str, given: int | None):
        self._storage, self._path = storage, f"{space}/batch.json"
        kept = self._kept()
        size = given or kept.get("found")
        self.now: int = min(size or 1, kept.get("most", SIZES[-1] if given is None else given))
        self.known = size is not None
        self._tried = 0

    def wants(self, rows: int) -> bool:
        """Is a trial on so many samples due? One on fewer could not tell."""
        return not self.known and rows > self._tried

    def find(
        self,
        rows: Sequence[int],
        call: Callable[[Any], int],
        read: Callable[[Sequence[int]], Any] | None = None,
    ) -> None:
        """Try sizes on `rows`; `call` does a batch of them and says how many bytes it held. On a device it gets what
        `read` makes of the rows, and returns once the device is done.

        Whatever it raises ends the trial: the samples at fault are looked for when they are labelled.
        """
        self.now, self._tried = 1, len(rows)
        try:
            settled = self._settled(rows, call, read)
        except HyperloomError:
            raise
        except Exception as error:  # an expert may raise anything
            settled = memory.ran_out(error)
            if settled:
                memory.free()
        if settled:  # otherwise there were too few samples to tell; a larger partition may have more
            self._keep()

    def _settled(
        self, rows: Sequence[int], call: Callable[[Any], int], read: Callable[[Sequence[int]], Any] | None
    ) -> bool:
        """Did the trial end for another reason than a lack of samples?"""
        began, best = time.perf_counter(), float("inf")
        limit = TRIAL_SECONDS if read is None else DEVICE_SECONDS
        if read is None:
            call(rows[:1])  # what the first call loads and compiles is not the batch's
        patience = 1 if read is None else PATIENCE
        for size in SIZES:
            if size > len(rows):
                return False
            seconds, held = _timed(rows[:size], call, read)
            better = seconds / size <= GAIN * best
            if better:
                self.now, best = size, seconds / size
            patience = patience - 1 if not better else 1 if read is None else PATIENCE
            late = time.perf_counter() - began > limit
            if not patience or late or 2 * held > ROOM or size == SIZES[-1]:
                return True
        return False

    def halve(self, count: int) -> None:
        """A batch of `count` samples was too large for the memory."""
        self.now, self.known = max(1, count // 2), True
        self._storage.write_json(self._path, {**self._kept(), "most": self.now})

    def _keep(self) -> None:
        if not self._storage.create_json(self._path, {"found": self.now}):
            self.now = self._kept().get("found", self.now)  # another process was first
        self.known = True

    def _kept(self) -> dict[str, int]:
        """{"found": by trial, "most": that the memory holds}, of what is known."""
        try:
            kept = self._storage.read_json(self._path)
            return dict(kept)
        except (FileNotFoundError, Torn):
            return {}


def _timed(
    rows: Sequence[int], call: Callable[[Any], int], read: Callable[[Sequence[int]], Any] | None
) -> tuple[float, int]:
    """Seconds of a batch and the bytes it held; on a device the least of some calls, after those that do not count."""
    given = rows if read is None else read(rows)
    for _ in range(0 if read is None else FIRST):
        call(given)
    best, held = float("inf"), 0
    for _ in range(1 if read is None else TIMED):
        at = time.perf_counter()
        held = call(given)
        best = min(best, time.perf_counter() - at)
    return best, held
