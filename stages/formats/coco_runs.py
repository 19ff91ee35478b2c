"""COCO's strings of runs: each length as the difference to the one before the last, in groups of five bits from `0` on.

Equal to pycocotools' `frString` and `toString` byte for byte; written with NumPy over the whole string, so that reading
needs no compiled library.
"""

from __future__ import annotations

import numpy as np

from hyperloom.stages.modality.runs import MaskRuns

GROUP, MORE, BIAS = 5, 0x20, 48


def parsed(text: str | bytes, size: tuple[int, int]) -> MaskRuns:
    """The runs of a string. Raises ValueError where it is none, or not of this size."""
    codes = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8).astype(np.int64) - BIAS
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & MORE:
        raise ValueError("its counts are no string of runs")
    last = (codes & MORE) == 0
    number = np.concatenate([[0], np.cumsum(last)[:-1]])
    firsts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(codes)) - firsts[number]
    if place.max() > 6:
        raise ValueError("its counts are no string of runs")
    values = np.zeros(int(number[-1]) + 1, np.int64)
    np.add.at(values, number, (codes & 0x1F) << (GROUP * place))
    ends = np.flatnonzero(last)
    negative = (codes[ends] & 0x10) != 0
    values -= negative * (np.int64(1) << (GROUP * (place[ends] + 1)))
    for start in (1, 2):  # each of these chains adds up; the very first number stands alone
        values[start::2] = np.cumsum(values[start::2])
    if values.min() < 0 or values.max() > 0xFFFFFFFF:
        raise ValueError("its counts are no string of runs: a length is negative")
    return MaskRuns(size, values.astype(np.uint32))


def written(runs: MaskRuns) -> str:
    """The string of runs."""
    values = runs.counts.astype(np.int64)
    values[3:] -= runs.counts[1:-2].astype(np.int64)
    codes = np.zeros((len(values), 7), np.uint8)
    open_, used = np.ones(len(values), bool), np.zeros((len(values), 7), bool)
    for place in range(7):
        low = (values & 0x1F).astype(np.uint8)
        values >>= GROUP
        more = np.where(low & 0x10, values != -1, values != 0)
        codes[:, place] = np.where(more, low | MORE, low) + BIAS
        used[:, place] = open_
        open_ &= more
    return codes[used].tobytes().decode()
