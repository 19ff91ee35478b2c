"""How many samples go into one call of an expert, and reading the next call's samples while this one is computed.

A batch size that the recipe leaves out is found by trial, once for an expert under a root: sizes double on the first
partition's own samples as long as a sample gets cheaper, the answers of the trial are thrown away, and what was found
is kept beside the expert's units, so that a resumed run cuts the same batches. Running out of memory halves it, which
is kept too. The size is placement: no identity knows it.

At most two batches are in memory: the one that is computed and the one that a thread reads meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.storage import Storage

if TYPE_CHECKING:
    from hyperloom.stages.label.expert import Batch
    from hyperloom.stages.label.samples import ExpertInputs

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GAIN = 0.95
"""A size must bring the time for a sample below this share of the best so far."""
TRIAL_SECONDS = 1.0
"""No larger size is tried once the trial took so long."""
ROOM = 256 * 2**20
"""Bytes of inputs and answers of one batch beyond which no larger one is tried."""
WORTH = 0.002
"""Seconds of reading a batch from which on a thread is worth its cost."""


class BatchSize:
    """The size for one expert in one process. `now` is 1 until it is known."""

    def __init__(self, storage: Storage, space: str, given: int | None):
        self._storage, self._path = storage, f"{space}/batch.json"
        kept = self._kept()
        size = given or kept.get("found")
        self.now: int = min(size or 1, kept.get("most", SIZES[-1] if given is None else given))
        self.known = size is not None

    def find(self, rows: Sequence[int], call: Callable[[Sequence[int]], int]) -> None:
        """Try sizes on `rows`; `call` does a batch of them and says how many bytes it held.

        Whatever it raises ends the trial: the samples at fault are looked for when they are labelled.
        """
        began, best = time.perf_counter(), float("inf")
        self.now, settled = 1, False
        try:
            call(rows[:1])  # what the first call loads and compiles is not the batch's
            for size in SIZES:
                if size > len(rows):
                    break
                at = time.perf_counter()
                held = call(rows[:size])
                each = (time.perf_counter() - at) / size
                worse = each > GAIN * best
                if not worse:
                    self.now, best = size, each
                late = time.perf_counter() - began > TRIAL_SECONDS
                settled = worse or late or 2 * held > ROOM or size == SIZES[-1]
                if settled:
                    break
        except HyperloomError:
            raise
        except Exception:  # an expert may raise anything
            return
        if settled:  # otherwise there were too few samples to tell; the next partition may have more
            self._keep()

    def halve(self, count: int) -> None:
        """A batch of `count` samples was too large for the memory."""
        self.now, self.known = max(1, count // 2), True
        self._storage.write_json(self._path, {**self._kept(), "most": self.now})

    def _keep(self) -> None:
        if not self._storage.create(self._path, json.dumps({"found": self.now}).encode()):
            self.now = self._kept().get("found", self.now)  # another process was first
        self.known = True

    def _kept(self) -> dict[str, int]:
        """{"found": by trial, "most": that the memory holds}, of what is known."""
        try:
            kept = self._storage.read_json(self._path)
            return {k: n for k, n in kept.items() if isinstance(n, int) and n > 0}
        except (FileNotFoundError, ValueError, AttributeError):
            return {}


class Ahead:
    """Reads one batch ahead of the one that is computed, in a thread, where reading takes any time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._seconds = float("inf")  # the least that a batch took: the machine may have been busy with other things
        self._part: Sequence[int] | None = None
        self._batch: Future[Batch] | None = None

    def take(self, samples: ExpertInputs, part: Sequence[int]) -> Batch:
        """The batch of the rows `part`. Raises what decoding raises."""
        if self._batch is not None and self._part is part:
            batch, self._batch = self._batch, None
            return batch.result()
        return self._read(samples, part)

    def prepare(self, samples: ExpertInputs, part: Sequence[int]) -> None:
        """Begin to read `part`, the very list that `take` will be asked for next."""
        if WORTH < self._seconds < float("inf"):
            self._part, self._batch = part, self._thread.submit(self._read, samples, part)

    def _read(self, samples: ExpertInputs, part: Sequence[int]) -> Batch:
        at = time.perf_counter()
        batch = samples.batch(part)
        self._seconds = min(self._seconds, time.perf_counter() - at)
        return batch
