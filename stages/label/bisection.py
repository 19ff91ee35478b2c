"""Calling an expert's function on batches, and finding the samples at fault when a batch fails.

A batch that raises, or answers with too few or too many values, is halved until single samples fail; the others keep
their answers. A value that its modality refuses (shape, dtype, NaN, class out of range) is that sample's own fault, as
is an exception in a value's place. Running out of memory is the batch's fault: it is halved, and stays so; a single
sample gets a second chance once the caches are empty. Failures of the network or of storage are nobody's fault here:
they pass through, and the whole attempt is repeated.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from hyperloom.pipeline.errors import BadSample, HyperloomError
from hyperloom.stages import remarks
from hyperloom.stages.base import modality_of
from hyperloom.stages.label import memory, reading
from hyperloom.stages.label.batching import BatchSize
from hyperloom.stages.label.expert import Batch, Function
from hyperloom.stages.label.reading import BatchReader, Parts
from hyperloom.stages.label.samples import ExpertInputs
from hyperloom.stages.label.steps import Steps, steps_of

Answer = dict[str, "np.ndarray | bytes | None"]
"""One sample's value of each output column (bytes: of a file); None for "no answer"."""

Seen = Callable[[Batch, Batch], None]
"""Gets inputs and outputs of the samples of a batch that have a good answer in every column."""


class Finished(NamedTuple):
    """A batch's answers, a sample each, and what was remarked while they were made."""

    answers: list[Answer | Exception]
    remarked: Counter[str]


NOT_THE_SAMPLES = (HyperloomError, ConnectionError, TimeoutError)
IN_FLIGHT = 2
"""Batches that a device was given and whose answers nobody has taken yet."""


class Bisection:
    """An expert's function that always comes to an end: each row gets an answer or an error."""

    def __init__(self, function: Function | Steps, out: Sequence[str], modalities: Mapping[str, Any], threads: int = 1):
        self._steps, self._out = steps_of(function), tuple(out)
        self._modalities = {column: modalities[modality_of(column)] for column in out}
        self._reader = BatchReader(self._steps.prepare, threads)
        self._behind = ThreadPoolExecutor(1, thread_name_prefix="finish")
        self._seconds = 0.0 if not self._steps.device else float("inf")  # what finishing a batch takes
        self._computing = Lock()  # of one thread at a time
        self.device = self._steps.device

    def parts(self, samples: ExpertInputs, rows: Sequence[int], size: BatchSize) -> Parts:
        """The batches of a unit, to be given to `answers`."""
        return Parts(self._reader, samples, rows, size)

    def answers(
        self, parts: Parts, size: BatchSize, seen: Seen | None = None, remarked: Counter[str] | None = None
    ) -> UnitAnswers:
        """The answers of a unit's rows; `remarked` gets the remarks of the batches whose answers were given."""
        return UnitAnswers(self, parts, size, seen, Counter() if remarked is None else remarked)

    def begun(self, read: reading.ReadBatch) -> Future[Finished]:
        """The answers of a batch that was read: computed now, and finished in a thread where that takes any time."""
        future = Future[Finished]()
        count = len(read.part)
        try:
            if read.error is not None:
                raise read.error
            with self._computing, remarks.collected() as remarked:
                computed = self._steps.compute(read.prepared)
            if self._seconds > reading.WORTH:
                return self._behind.submit(self._finished, computed, count, remarked)
            future.set_result(self._finished(computed, count, remarked))
        except Exception as error:  # an expert may raise anything; it is looked at when the answers are asked for
            future.set_exception(error)
        return future

    def _finished(self, computed: Any, count: int, remarked: Counter[str]) -> Finished:
        began = time.perf_counter()
        with remarks.collected() as more:
            answers = self._split(self._steps.finish(computed), count)
        if not self._steps.device and self._steps.owned:
            self._seconds = time.perf_counter() - began
        return Finished(answers, remarked + more)

    def trial(self, samples: ExpertInputs, rows: Sequence[int]) -> int:
        """Do a batch for nothing but the time it takes; the bytes it held."""
        return self.call(self.read(samples, rows))

    def read(self, samples: ExpertInputs, rows: Sequence[int]) -> tuple[Batch, Any]:
        """A batch, and what is computed of it."""
        batch = samples.batch(rows)
        return batch, self._steps.prepare(batch)

    def call(self, given: tuple[Batch, Any]) -> int:
        """Compute and finish a batch that was read; the bytes it held."""
        batch, prepared = given
        count = len(next(iter(batch.values())))
        answers = self._split(self._steps.finish(self._steps.compute(prepared)), count)
        outputs = [value for answer in answers if isinstance(answer, dict) for value in answer.values()]
        return sum(len(v) if isinstance(v, bytes) else v.nbytes for v in (*batch.values(), *outputs) if v is not None)

    def _split(self, output: Mapping[str, Any], count: int) -> list[Answer | Exception]:
        """The answers of one call, a sample each. Raises when the call as a whole is wrong."""
        if not isinstance(output, Mapping):
            raise TypeError(f"expected a dict of {', '.join(self._out)}, got {type(output).__name__}")
        absent = [c for c in self._out if c not in output]
        if absent:
            raise ValueError(f"expected the columns {', '.join(self._out)}; {', '.join(absent)} did not come")
        for column in self._out:
            if len(output[column]) != count:
                raise ValueError(f"{column}: expected {count} values for {count} samples, got {len(output[column])}")
        return [self._answer({c: output[c][i] for c in self._out}) for i in range(count)]

    def _answer(self, values: dict[str, Any]) -> Answer | Exception:
        answer: Answer = {}
        for column, value in values.items():
            if isinstance(value, Exception):
                return value
            if value is None or (np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).all()):
                answer[column] = None
                continue
            try:
                if np.ma.is_masked(value):
                    raise ValueError("a value is masked as a whole or not at all, got one masked in part")
                self._modalities[column].check(value)
            except (ValueError, TypeError) as error:
                return ValueError(f"{column}: {error}")
            kept = isinstance(value, bytes) or (self._steps.owned and isinstance(value, np.ndarray))
            answer[column] = value if kept else np.array(value)  # the function may use its memory again
        return answer


class UnitAnswers:
    """(row, answer or error) for every row of a unit, in no promised order: those of `begun`, then those of `rest`.

    Up to `IN_FLIGHT` batches are finished in a thread while the next is computed. On a device the last of them are
    still on their way when `begun` ends, and `rest`, which waits for them, may go on in another thread, so that the
    device has work of the next unit.
    """

    def __init__(self, bisection: Bisection, parts: Parts, size: BatchSize, seen: Seen | None, remarked: Counter[str]):
        self._bisection, self._parts, self._size, self._seen, self._remarked = bisection, parts, size, seen, remarked
        self._again = set[int]()
        self._flying = deque[tuple[list[int], Batch, Future[Finished]]]()

    def __iter__(self) -> Iterator[tuple[int, Answer | Exception]]:
        yield from self.begun()
        yield from self.rest()

    def begun(self) -> Iterator[tuple[int, Answer | Exception]]:
        """Compute everything."""
        while (read := self._parts.next()) is not None:
            self._flying.append((read.part, read.batch, self._bisection.begun(read)))
            if len(self._flying) == IN_FLIGHT or self._flying[-1][2].done():
                yield from self._landed()

    def rest(self) -> Iterator[tuple[int, Answer | Exception]]:
        """Wait for what is on its way, and compute again what failed as part of a batch."""
        while self._flying:
            yield from self._landed()
            yield from self.begun()

    def _landed(self) -> Iterator[tuple[int, Answer | Exception]]:
        part, batch, future = self._flying.popleft()
        try:
            answers, remarked = future.result()
        except NOT_THE_SAMPLES:
            raise
        except Exception as error:  # an expert may raise anything
            yield from self._blamed(part, error)
            return
        self._remarked.update(remarked)
        if self._seen is not None:
            _show(self._seen, batch, answers)
        yield from zip(part, answers, strict=True)

    def _blamed(self, part: list[int], error: Exception) -> Iterator[tuple[int, Answer | Exception]]:
        """The rows known to be at fault; what is left of the part goes back to be cut and computed again."""
        samples, todo = self._parts.samples, self._parts.todo
        named = [r for r in part if isinstance(error, BadSample) and samples.keys[r] == error.key] or part
        full = memory.ran_out(error)
        if full:
            memory.free()
        if len(named) == 1:
            if full and named[0] not in self._again:
                self._again.add(named[0])
                todo.append(part)
                return
            yield named[0], error
            todo.append([r for r in part if r != named[0]])
            return
        middle = len(part) // 2
        if full:
            self._size.halve(len(part))
        todo += [part[middle:], part[:middle]]


def _show(seen: Seen, batch: Batch, answers: list[Answer | Exception]) -> None:
    good = {i: a for i, a in enumerate(answers) if isinstance(a, dict) and all(v is not None for v in a.values())}
    if not good:
        return
    inputs = batch if len(good) == len(answers) else {name: values[list(good)] for name, values in batch.items()}
    first = next(iter(good.values()))
    seen(inputs, {column: np.stack([answer[column] for answer in good.values()]) for column in first})  # type: ignore[misc]
