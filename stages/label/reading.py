"""Reading ahead: the next batches of a unit are read, decoded and prepared by threads while one is computed.

At most as many batches as there are threads are ahead of the one that is computed, where reading takes any time; so
memory is bounded by the batch, the threads and what is in flight. The first batch of an expert is read alone, to see
what it takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperloom.stages.label.batching import BatchSize
    from hyperloom.stages.label.expert import Batch
    from hyperloom.stages.label.samples import ExpertInputs

WORTH = 0.002
"""Seconds of a batch from which on a thread is worth its cost."""


@dataclass(frozen=True)
class ReadBatch:
    """A batch of the rows `part`, and what `prepare` made of it; or why there is none."""

    part: list[int]
    batch: Batch
    prepared: Any = None
    error: Exception | None = None


class BatchReader:
    """The threads of one expert in one process."""

    def __init__(self, prepare: Callable[[Batch], Any], threads: int):
        self.prepare, self.threads = prepare, threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
        self._seconds = float("inf")  # the least that a batch took: the machine may have been busy with other things

    @property
    def ahead(self) -> int:
        """How many batches to read ahead."""
        return self.threads if WORTH < self._seconds < float("inf") else 0

    def submit(self, samples: ExpertInputs, part: list[int]) -> Future[ReadBatch]:
        return self._pool.submit(self.read, samples, part)

    def read(self, samples: ExpertInputs, part: list[int]) -> ReadBatch:
        at = time.perf_counter()
        try:
            batch = samples.batch(part)
            prepared = self.prepare(batch)
        except Exception as error:  # decoding may raise anything
            return ReadBatch(part, {}, error=error)
        self._seconds = min(self._seconds, time.perf_counter() - at)
        return ReadBatch(part, batch, prepared)


class Parts:
    """Rows of one unit, cut into batches as they are asked for."""

    def __init__(self, reader: BatchReader, samples: ExpertInputs, rows: Sequence[int], size: BatchSize):
        self._reader, self.samples, self._size = reader, samples, size
        self.todo = [list(rows)]
        self._coming: deque[Future[ReadBatch]] = deque()

    def begin(self) -> None:
        """Begin to read, as far ahead as is usual."""
        while len(self._coming) < self._reader.ahead and (part := self._cut()) is not None:
            self._coming.append(self._reader.submit(self.samples, part))

    def next(self) -> ReadBatch | None:
        """The next batch; None when there is none left for now (parts may be put back into `todo`)."""
        if self._coming:
            read = self._coming.popleft().result()
        elif (part := self._cut()) is not None:
            read = self._reader.read(self.samples, part)
        else:
            return None
        self.begin()
        return read

    def _cut(self) -> list[int] | None:
        """The last part of `todo`, cut to the size of a batch."""
        while self.todo and not self.todo[-1]:
            self.todo.pop()
        if not self.todo:
            return None
        part, size = self.todo.pop(), self._size.now
        if len(part) > size:
            self.todo.append(part[size:])
        return part[:size]
