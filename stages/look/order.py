"""The order of samples: by number, or by a figure that is worked out in the background, partition after partition.

A figure is worked out when somebody first sorts by it, over partitions spread evenly, so that soon some of everywhere
are known; an order is that of the samples looked at so far, the others come after. It costs 4 bytes a sample and
figure, and at most `MOST_ROWS` samples are looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import left_out
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.stages.base import KEY, TRUTH, modality_of, source_of
from hyperloom.stages.data.shelf import Shelf
from hyperloom.stages.measure import apart

MOST_ROWS = 200_000
MOST_LISTS = 5000
"""Units with samples in quarantine whose lists are read."""


@dataclass(frozen=True)
class SortFigure:
    """A figure to sort by: `worst` says whether large values are what one looks for."""

    name: str
    title: str
    worst: bool
    columns: tuple[str, ...]
    measure: Callable[[dict[str, apart.ColumnPair]], np.ndarray | None]


@dataclass(frozen=True)
class Filter:
    """Which samples: of a group, of a split, in quarantine, with a value in a column; empty for all."""

    group: str = ""
    split: str = ""
    quarantine: bool = False


class Order:
    """The figures of a shelf, as far as they are worked out, and the rows in their order."""

    def __init__(self, shelf: Shelf):
        self.shelf = shelf
        self.figures = {f.name: f for f in sort_figures(shelf)}
        self._values: dict[str, np.ndarray] = {}
        self._looked: dict[str, int] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._errors: dict[int, list[str]] | None = None
        self._lock = threading.Lock()
        self.ended = threading.Event()

    def rows(self, figure: str, descending: bool, chosen: Filter, start: int, count: int) -> tuple[list[int], int]:
        """Rows `start` to `start + count` of the chosen ones, in order, and how many there are."""
        rows = self._chosen(chosen)
        if figure not in self.figures:
            if rows is None and self.shelf.absent:
                rows = np.arange(len(self.shelf))
            total = len(self.shelf) if rows is None else len(rows)
            places: Any = range(total)[::-1] if descending else range(total)
            part = (places if rows is None else self._come(rows[list(places)]))[start : start + count]
            return [int(i) for i in part], total
        values = self._of(figure)
        rows = np.arange(len(values)) if rows is None else rows
        mine = values[rows]
        known = np.isfinite(mine)
        order = np.argsort(-mine[known] if descending else mine[known], kind="stable")
        ordered = np.concatenate([rows[known][order], self._come(rows[~known])])
        return [int(i) for i in ordered[start : start + count]], len(ordered)

    def value(self, figure: str, row: int) -> float | None:
        values = self._values.get(figure)
        return None if values is None or not np.isfinite(values[row]) else float(values[row])

    def progress(self, figure: str) -> dict[str, int]:
        """How many samples were looked at for a figure, of how many that will be."""
        return {"looked": self._looked.get(figure, 0), "total": min(len(self.shelf), MOST_ROWS)}

    def errors(self) -> dict[int, list[str]]:
        """Row -> why it is in quarantine for a column; of as many units as `MOST_LISTS`."""
        if self._errors is None:
            self._errors = dict(self._quarantined())
        return self._errors

    # -- inside --------------------------------------------------------------------------------------------------------
    def _of(self, figure: str) -> np.ndarray:
        with self._lock:
            if figure not in self._values:
                self._values[figure] = np.full(len(self.shelf), np.nan, np.float32)
                thread = threading.Thread(target=self._work, args=(self.figures[figure],), daemon=True)
                self._threads[figure] = thread
                thread.start()
        self._threads[figure].join(0.3)  # small roots are through at once
        return self._values[figure]

    def _work(self, figure: SortFigure) -> None:
        for number in spread(len(self.shelf.partitions)):
            if self.ended.is_set() or self._looked.get(figure.name, 0) >= MOST_ROWS:
                return
            try:
                pairs = {c: self.shelf.values(c, number) for c in figure.columns}
                known = {c: pair for c, pair in pairs.items() if pair is not None}
                values = figure.measure(known) if known else None
            except (HyperloomError, OSError, ValueError, TypeError):
                values = None  # what cannot be read has no figure; its sample is shown with the error
            if values is not None:
                first = self.shelf.first(number)
                self._values[figure.name][first : first + len(values)] = values
            self._looked[figure.name] = self._looked.get(figure.name, 0) + self.shelf.partitions[number].rows

    def _chosen(self, chosen: Filter) -> np.ndarray | None:
        """The rows that pass, in order; None for all."""
        if chosen.quarantine:
            rows = sorted(self.errors())
            return np.array([r for r in rows if self._passes(self.shelf.place(r)[0], chosen)], np.int64)
        if not (chosen.group or chosen.split):
            return None
        numbers = [n for n in range(len(self.shelf.partitions)) if self._passes(n, chosen)]
        parts = [np.arange(self.shelf.first(n), self.shelf.first(n) + self.shelf.partitions[n].rows) for n in numbers]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _come(self, rows: np.ndarray) -> np.ndarray:
        """The rows, those last that are not committed yet: of a pilot, or while a run goes on, few are."""
        late = np.isin(self.shelf.numbers(rows), list(self.shelf.absent))
        return np.concatenate([rows[~late], rows[late]])

    def _passes(self, number: int, chosen: Filter) -> bool:
        group = self.shelf.partitions[number].group
        return chosen.group in ("", group) and chosen.split in ("", self.shelf.splits.get(group, ""))

    def _quarantined(self) -> Iterator[tuple[int, list[str]]]:
        by_row: dict[int, list[str]] = {}
        for number, record, columns in islice(self.shelf.with_quarantine(), MOST_LISTS):
            keys = self.shelf.names(number)[KEY]
            for sample in left_out(self.shelf.storage, record.space, record.id):
                if sample.get("key") in keys:
                    row = self.shelf.first(number) + keys.index(sample["key"])
                    line = f"{', '.join(columns)}: {sample.get('error', '')}"[:400]
                    by_row.setdefault(row, []).append(line)
        yield from by_row.items()


def sort_figures(shelf: Shelf) -> list[SortFigure]:
    """What samples of a shelf can be sorted by: each modality's disagreement, errors against truth, confidence."""
    by_modality: dict[str, list[str]] = {}
    for column in shelf.columns:
        by_modality.setdefault(modality_of(column), []).append(column)
    figures: list[SortFigure] = []
    for name, columns in by_modality.items():
        kind = shelf.modalities[name]
        sources = [c for c in columns if source_of(c) != TRUTH]
        if kind.rgb:
            continue
        experts = [c for c in sources if shelf.makers[c].get("kind") != "consensus"]
        if len(experts) > 1:
            figures.append(_disagreement(name, tuple(experts), kind))
        if len(sources) < len(columns):
            figures += [_error(c, f"{name}@{TRUTH}", kind) for c in sources]
        figures += [_confidence(c, kind) for c in sources if kind.soft or kind.markup == "boxes"]
    return figures


def _disagreement(name: str, columns: tuple[str, ...], kind: Any) -> SortFigure:
    title = f"{name}: sources disagree"
    return SortFigure(f"apart:{name}", title, True, columns, lambda pairs: apart.disagreement(pairs, kind))


def _error(column: str, truth: str, kind: Any) -> SortFigure:
    def measure(pairs: dict[str, apart.ColumnPair]) -> np.ndarray | None:
        return apart.apart(pairs[column], pairs[truth], kind) if len(pairs) == 2 else None

    return SortFigure(f"error:{column}", f"{column}: error against truth", True, (column, truth), measure)


def _confidence(column: str, kind: Any) -> SortFigure:
    title = f"{column}: confidence"
    measure = lambda pairs: apart.confidence(pairs[column], kind)  # noqa: E731
    return SortFigure(f"sure:{column}", title, False, (column,), measure)


def spread(count: int) -> Iterator[int]:
    """Each number below `count` once, those far from each other first: every 2^n-th, then those between."""
    step = 1
    while step < count:
        step *= 2
    seen_every = 0
    while step >= 1:
        for number in range(0, count, step):
            if not seen_every or number % seen_every:
                yield number
        seen_every, step = step, step // 2
