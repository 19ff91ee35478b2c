"""Calling an expert's function on batches, and finding the samples at fault when a batch fails.

A batch that raises, or answers with too few or too many values, is halved until single samples fail; the others keep
their answers. A value that its modality refuses (shape, dtype, NaN, class out of range) is that sample's own fault.
Running out of memory is the batch's fault: it is halved, and stays so. Failures of the network or of storage are
nobody's fault here: they pass through, and the whole attempt is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import BadSample, HyperloomError
from stages.base import modality_of
from stages.label.expert import Batch, Function
from stages.label.samples import Samples

Answer = dict[str, "np.ndarray | None"]
"""One sample's value of each output column; None for "no answer"."""

Seen = Callable[[Batch, Batch], None]
"""Gets inputs and outputs of the samples of a batch that have a good answer in every column."""

NOT_THE_SAMPLES = (HyperloomError, ConnectionError, TimeoutError)


class Bisection:
    """An expert's function that always comes to an end: each row gets an answer or an error."""

    def __init__(self, function: Function, out: Sequence[str], modalities: Mapping[str, Any], batch: int):
        self._function, self._out, self._batch = function, tuple(out), batch
        self._modalities = {column: modalities[modality_of(column)] for column in out}

    def answers(
        self, samples: Samples, rows: Sequence[int], seen: Seen | None = None
    ) -> Iterator[tuple[int, Answer | Exception]]:
        """(row, answer or error) for every row, in no promised order."""
        todo = [list(rows)]
        while todo:
            part = todo.pop()
            if len(part) > self._batch:
                todo += [part[self._batch :], part[: self._batch]]
                continue
            if not part:
                continue
            try:
                batch = samples.batch(part)
                answers = self._split(self._function(batch), len(part))
            except NOT_THE_SAMPLES:
                raise
            except Exception as error:  # an expert may raise anything
                yield from self._blamed(samples, part, error, todo)
                continue
            if seen is not None:
                _show(seen, batch, answers)
            yield from zip(part, answers, strict=True)

    def _blamed(
        self, samples: Samples, part: list[int], error: Exception, todo: list[list[int]]
    ) -> Iterator[tuple[int, Answer | Exception]]:
        """The rows known to be at fault; what is left of the part goes back to `todo`."""
        named = [r for r in part if isinstance(error, BadSample) and samples.keys[r] == error.key] or part
        if len(named) == 1:
            yield named[0], error
            todo.append([r for r in part if r != named[0]])
            return
        middle = len(part) // 2
        if _is_memory(error):
            self._batch = max(1, middle)
        todo += [part[middle:], part[:middle]]

    def _split(self, made: Mapping[str, Any], count: int) -> list[Answer | Exception]:
        """The answers of one call, a sample each. Raises when the call as a whole is wrong."""
        if not isinstance(made, Mapping):
            raise TypeError(f"expected a dict of {', '.join(self._out)}, got {type(made).__name__}")
        absent = [c for c in self._out if c not in made]
        if absent:
            raise ValueError(f"expected the columns {', '.join(self._out)}; {', '.join(absent)} did not come")
        for column in self._out:
            if len(made[column]) != count:
                raise ValueError(f"{column}: expected {count} values for {count} samples, got {len(made[column])}")
        return [self._answer({c: made[c][i] for c in self._out}) for i in range(count)]

    def _answer(self, values: dict[str, Any]) -> Answer | Exception:
        answer: Answer = {}
        for column, value in values.items():
            if value is None or (np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).all()):
                answer[column] = None
                continue
            try:
                if np.ma.is_masked(value):
                    raise ValueError("a value is masked as a whole or not at all, got one masked in part")
                self._modalities[column].check(value)
            except ValueError as error:
                return ValueError(f"{column}: {error}")
            answer[column] = np.array(value)  # a copy: the function may use its memory again
        return answer


def _show(seen: Seen, batch: Batch, answers: list[Answer | Exception]) -> None:
    good = {i: a for i, a in enumerate(answers) if isinstance(a, dict) and all(v is not None for v in a.values())}
    if not good:
        return
    inputs = batch if len(good) == len(answers) else {name: values[list(good)] for name, values in batch.items()}
    first = next(iter(good.values()))
    seen(inputs, {column: np.stack([answer[column] for answer in good.values()]) for column in first})  # type: ignore[misc]


def _is_memory(error: BaseException) -> bool:
    """Out of memory, of the host or of a device; frameworks have their own classes for it."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()
