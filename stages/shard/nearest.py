"""The nearest samples by their features, by faiss: for copies, for what stands alone, for votes of neighbours.

Beyond DIMENSIONS numbers only the directions that vary most are searched in (PCA), and the candidates compared in all
numbers. Beyond FEW samples lists of an inverted file are searched, PROBED of them, which finds nearly all; at most
that is exact. The same rows give the same neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperloom.pipeline.errors import SourceError

DIMENSIONS = 64
FEW = 8_192
PROBED = 6
TRAINED = 32_768
CROSSING = 5
"""Candidates of another set that are compared in all numbers."""


def library() -> Any:
    """faiss. Raises SourceError."""
    try:
        import faiss
    except ImportError as error:
        raise SourceError("copies by embeddings need faiss. Next: pip install 'hyperloom[audit]'") from error
    return faiss


def nearest(rows: np.ndarray, count: int, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(N, count) distances and places of each row's nearest others in (N, D) float32; -1 and infinity where there are
    not so many. Distances are Euclidean."""
    faiss = library()
    faiss.omp_set_num_threads(max(1, threads))
    total = len(rows)
    apart, place = np.full((total, count), np.inf, np.float32), np.full((total, count), -1, np.int64)
    if total < 2:
        return apart, place
    rows = np.ascontiguousarray(rows, np.float32)
    low = _reduced(faiss, rows)
    index = _index(faiss, low)
    sought = min(count + 1, total)
    for start in range(0, total, FEW):
        some = slice(start, min(start + FEW, total))
        _, near = index.search(low[some], sought)
        own = np.arange(some.start, some.stop)
        others = near.copy()
        others[(near == own[:, None]) | (near < 0)] = -1
        distance = _apart(rows, own, others)
        order = np.argsort(distance, axis=1, kind="stable")[:, :count]
        apart[some, : order.shape[1]] = np.take_along_axis(distance, order, 1)
        place[some, : order.shape[1]] = np.take_along_axis(others, order, 1)
    return apart, place


class Others:
    """The nearest of another set: for samples that lie among many of their own. The same sets give the same."""

    def __init__(self, rows: np.ndarray, single: np.ndarray):
        """`rows` (N, D) float32; `single` (N,) bool: those with nothing close beside them. By these alone the lists are
        laid out: else those around a sample would hold its own clump and nothing else."""
        self._faiss = library()
        self._faiss.omp_set_num_threads(1)
        self._rows = np.ascontiguousarray(rows, np.float32)
        self._low = _reduced(self._faiss, self._rows) if len(rows) else self._rows
        self._searched: Any = _index(self._faiss, self._low, single) if len(rows) else None

    def nearest(self, some: np.ndarray, sets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) distances and places of the nearest of another set, of the rows `some` (n,); -1 and infinity where there
        is none. `sets` (N,): whole numbers."""
        apart, place = np.full(len(some), np.inf, np.float32), np.full(len(some), -1, np.int64)
        order = np.argsort(sets[some], kind="stable")
        for mine in np.split(order, np.flatnonzero(np.diff(sets[some][order])) + 1) if len(some) else ():
            _, near = self._searched.search(self._low[some[mine]], CROSSING, params=self._without(sets, some[mine[0]]))
            distance = _apart(self._rows, some[mine], near)
            best = np.argmin(distance, axis=1)[:, None]
            apart[mine] = np.take_along_axis(distance, best, 1)[:, 0]
            place[mine] = np.take_along_axis(near, best, 1)[:, 0]
        return apart, place

    def _without(self, sets: np.ndarray, one: int) -> Any:
        """A search that passes over the set of the row `one`."""
        faiss = self._faiss
        allowed = faiss.IDSelectorBitmap(np.packbits(sets != sets[one], bitorder="little"))
        if isinstance(self._searched, faiss.IndexFlat):
            return faiss.SearchParameters(sel=allowed)
        return faiss.SearchParametersIVF(sel=allowed, nprobe=PROBED)


def _reduced(faiss: Any, rows: np.ndarray) -> np.ndarray:
    if rows.shape[1] <= DIMENSIONS:
        return rows
    some = rows[:: max(1, len(rows) // TRAINED)][:TRAINED]
    if len(some) < DIMENSIONS:
        return rows
    turn = faiss.PCAMatrix(rows.shape[1], DIMENSIONS)
    turn.train(some)
    return np.ascontiguousarray(turn.apply_py(rows))


def _index(faiss: Any, rows: np.ndarray, single: np.ndarray | None = None) -> Any:
    size = rows.shape[1]
    if len(rows) <= FEW:
        index = faiss.IndexFlatL2(size)
    else:
        lists = int(min(1024, max(64, np.sqrt(len(rows)))))
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(size), size, lists)
        index.cp.niter, index.cp.max_points_per_centroid = 8, 64
        some = rows if single is None or single.sum() < lists else rows[single]
        index.train(some[:: max(1, len(some) // TRAINED)][:TRAINED])
        index.nprobe = PROBED
    index.add(rows)
    return index


def _apart(rows: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, count) distances in all numbers; infinite where there is no other."""
    out = np.full(others.shape, np.inf, np.float32)
    for i in range(0, len(own), 256):
        some = others[i : i + 256]
        gap = rows[np.maximum(some, 0)] - rows[own[i : i + 256], None]
        distance = np.sqrt(np.einsum("ijk,ijk->ij", gap, gap))
        out[i : i + 256] = np.where(some >= 0, distance, np.inf)
    return out
