"""Calling an expert's function on batches, and finding the samples at fault when a batch fails.

A batch that raises, or answers with too few or too many values, is halved until single samples fail; the others keep
their answers. A value that its modality refuses (shape, dtype, NaN, class out of range) is that sample's own fault, as
is an exception in a value's place. Running out of memory is the batch's fault: it is halved, and stays so; a single
sample gets a second chance once the caches are empty. Failures of the network or of storage are nobody's fault here:
they pass through, and the whole attempt is repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import BadSample, HyperloomError
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.batching import Ahead, BatchSize
from hyperloom.stages.label.expert import Batch, Function
from hyperloom.stages.label.samples import ExpertInputs

Answer = dict[str, "np.ndarray | bytes | None"]
"""One sample's value of each output column (bytes: of a file); None for "no answer"."""

Seen = Callable[[Batch, Batch], None]
"""Gets inputs and outputs of the samples of a batch that have a good answer in every column."""

NOT_THE_SAMPLES = (HyperloomError, ConnectionError, TimeoutError)
OUT_OF_MEMORY = (
    "out of memory",  # CUDA, by torch and by ONNX Runtime
    "can't allocate memory",  # torch on a CPU
    "cannot allocate memory",
    "failed to allocate memory",  # ONNX Runtime
    "bad_alloc",
    "bad allocation",
    "alloc_failed",  # cuBLAS and cuDNN
)


class Bisection:
    """An expert's function that always comes to an end: each row gets an answer or an error."""

    def __init__(self, function: Function, out: Sequence[str], modalities: Mapping[str, Any]):
        self._function, self._out = function, tuple(out)
        self._modalities = {column: modalities[modality_of(column)] for column in out}
        self._ahead = Ahead()

    def answers(
        self, samples: ExpertInputs, rows: Sequence[int], size: BatchSize, seen: Seen | None = None
    ) -> Iterator[tuple[int, Answer | Exception]]:
        """(row, answer or error) for every row, in no promised order."""
        todo, again = [list(rows)], set[int]()
        while (part := _next(todo, size.now)) is not None:
            try:
                batch = self._ahead.take(samples, part)
                todo.pop()
                following = _next(todo, size.now)
                if following is not None:
                    self._ahead.prepare(samples, following)
                answers = self._split(self._function(batch), len(part))
            except NOT_THE_SAMPLES:
                raise
            except Exception as error:  # an expert may raise anything
                if todo and todo[-1] is part:  # it could not even be read
                    todo.pop()
                yield from self._blamed(samples, part, error, todo, size, again)
                continue
            if seen is not None:
                _show(seen, batch, answers)
            yield from zip(part, answers, strict=True)

    def trial(self, samples: ExpertInputs, rows: Sequence[int]) -> int:
        """Do a batch for nothing but the time it takes; the bytes it held."""
        batch = samples.batch(rows)
        answers = self._split(self._function(batch), len(rows))
        outputs = [value for answer in answers if isinstance(answer, dict) for value in answer.values()]
        return sum(len(v) if isinstance(v, bytes) else v.nbytes for v in (*batch.values(), *outputs) if v is not None)

    def _blamed(
        self,
        samples: ExpertInputs,
        part: list[int],
        error: Exception,
        todo: list[list[int]],
        size: BatchSize,
        again: set[int],
    ) -> Iterator[tuple[int, Answer | Exception]]:
        """The rows known to be at fault; what is left of the part goes back to `todo`."""
        named = [r for r in part if isinstance(error, BadSample) and samples.keys[r] == error.key] or part
        full = _is_memory(error)
        if full:
            _free()
        if len(named) == 1:
            if full and named[0] not in again:
                again.add(named[0])
                todo.append(part)
                return
            yield named[0], error
            todo.append([r for r in part if r != named[0]])
            return
        middle = len(part) // 2
        if full:
            size.halve(len(part))
        todo += [part[middle:], part[:middle]]

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
            answer[column] = (
                value if isinstance(value, bytes) else np.array(value)
            )  # the function may use its memory again
        return answer


def _next(todo: list[list[int]], size: int) -> list[int] | None:
    """The last part of `todo`, after cutting it to `size`; None when there is none left."""
    while todo and not todo[-1]:
        todo.pop()
    if todo and len(todo[-1]) > size:
        part = todo.pop()
        todo += [part[size:], part[:size]]
    return todo[-1] if todo else None


def _show(seen: Seen, batch: Batch, answers: list[Answer | Exception]) -> None:
    good = {i: a for i, a in enumerate(answers) if isinstance(a, dict) and all(v is not None for v in a.values())}
    if not good:
        return
    inputs = batch if len(good) == len(answers) else {name: values[list(good)] for name, values in batch.items()}
    first = next(iter(good.values()))
    seen(inputs, {column: np.stack([answer[column] for answer in good.values()]) for column in first})  # type: ignore[misc]


def _is_memory(error: BaseException) -> bool:
    """Out of memory, of the host or of a device. Frameworks have classes of their own for it, or none at all."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(words in message for words in OUT_OF_MEMORY)


def _free() -> None:
    """Give back what a framework keeps for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
