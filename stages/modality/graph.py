"""Graphs: which things of a sample belong together, as pairs of their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hyperloom.stages import picture
from hyperloom.stages.modality.base import Defaults, Ids
from hyperloom.stages.modality.boxes import flattened, lists, too_many
from hyperloom.stages.modality.geometry import OffFrame
from hyperloom.stages.modality.knowledge import whole
from hyperloom.stages.modality.padding import filled, some

NOBODY = -1


class Graph(OffFrame, Ids):
    """(edges, 2) int64: from and to, numbers below `nodes`; rows of -1 are padding. A column is a list of structs.

    The order of the edges is kept and means nothing.
    """

    defaults: ClassVar[Defaults] = Defaults("pair", "bce", "f1", "pairs")
    readable_numbers: ClassVar[bool] = True
    nodes: int = Field(ge=1)
    """Nodes that one sample can have."""
    edges: int = Field(ge=1)
    """Edges that one sample can have."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.edges, 2)

    def grid(self, patch: int) -> tuple[int, ...]:
        return (self.nodes,)

    def given(self, values: Any) -> Any:
        return whole(values)

    def _check_values(self, array: np.ndarray) -> None:
        used = np.asarray((array >= 0).all(1))
        if array.min() < NOBODY or (used != (array >= 0).any(1)).any():
            raise ValueError("expected pairs of node numbers, or rows of -1 for padding")
        if not used[: int(used.sum())].all():
            raise ValueError("expected the padding (rows of -1) after all edges")
        if array.max() >= self.nodes:
            raise ValueError(f"expected node numbers below {self.nodes}, got {array.max()}")

    def fit(self, value: Any) -> np.ndarray:
        """From a list of pairs, or of {from, to}."""
        if isinstance(value, list | tuple) and value and all(isinstance(v, dict) for v in value):
            try:
                value = [[edge["from"], edge["to"]] for edge in value]
            except KeyError as error:
                raise ValueError(f"expected edges as {{from, to}}, got none for {error}") from error
        array = np.asarray(value)
        array = array.reshape(0, 2).astype(np.int64) if not array.size else array
        if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
            raise ValueError(f"expected pairs of node numbers, got {array.shape} {array.dtype}")
        array = array[(array != NOBODY).any(1)]
        if len(array) > self.edges:
            raise ValueError(f"expected at most {self.edges} edges, got {len(array)}; a larger `edges` holds them")
        full = np.full(self.shape, NOBODY, np.int64)
        full[: len(array)] = array
        return full

    def answer(self, mean: np.ndarray) -> np.ndarray:
        return np.stack([self._likeliest(chances) for chances in mean])

    def _likeliest(self, chances: np.ndarray) -> np.ndarray:
        """The likeliest pairs (edges, 2) of (nodes, nodes) chances, padded with -1."""
        order = np.argsort(-chances, axis=None, kind="stable")[: self.edges]
        order = order[chances.reshape(-1)[order] > 0.5]
        return filled(np.stack(np.unravel_index(order, chances.shape), 1).astype(np.int64), self.shape, NOBODY)

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        return filled(random.integers(0, self.nodes, (some(random, self.edges), 2)), self.shape, NOBODY)

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.pairs_to_rgb(value[(value >= 0).all(1)], self.nodes)

    def words(self, value: np.ndarray) -> str:
        return f"{int((value >= 0).all(1).sum())} edges"

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        """Edges a sample."""
        return (rows[..., 0] >= 0).sum(1)[:, None]

    def arrow(self) -> Any:
        import pyarrow as pa

        return pa.list_(pa.struct([("from", pa.int64()), ("to", pa.int64())]))

    def pack(self, rows: np.ndarray, valid: np.ndarray) -> Any:
        import pyarrow as pa

        used = (rows[..., 0] >= 0) & valid[:, None]
        flat, kind = rows[used], self.arrow()
        ends = [pa.array(np.ascontiguousarray(flat[:, i])) for i in range(2)]
        return lists(pa.StructArray.from_arrays(ends, fields=list(kind.value_type)), used.sum(1), valid, kind)

    def unpacked(self, array: Any, valid: np.ndarray) -> np.ndarray:
        flat, owner, place = flattened(array)
        too_many("edges", place, self.edges, "edges")
        rows = np.full((len(array), self.edges, 2), NOBODY, np.int64)
        for i, end in enumerate(("from", "to")):
            rows[owner, place, i] = flat.field(end).to_numpy(zero_copy_only=False)
        return rows
