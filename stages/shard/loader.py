"""The loader: shards to batches of tensors, in an order that can be stopped and continued anywhere.

    loader = Loader(storage, manifest, modalities, ["rgb@camera", "depth@motion"], "train", batch=32)
    for batch in loader:            # the rest of the epoch; the next loop is the next epoch
        batch["rgb@camera"]         # (B, H, W, 3) uint8, this rank's part of the global batch
        batch["rgb@camera?"]        # (B,) bool: False where the sample has no such value, and the row is filler

Invariants: the global batches are a pure function of (shards, shares, seed, epoch); ranks take slices of them, so any
world size sees the same batches and every sample exactly once an epoch (of a mixture: once in each pass of its data
set, see `stages.shard.mixture`); `state_dict` counts the samples of the epoch handed out so far, and restores on any
world size. Only the bytes of the columns asked for are read. Some threads read and decode row groups, others put
batches together, whose memory is used again once nobody holds it. It knows nothing of Ray, and neither augments nor
permutes axes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import VALID, modality_of
from hyperloom.stages.column import FileRows
from hyperloom.stages.modality import Modality
from hyperloom.stages.results import ShardFile, Shards
from hyperloom.stages.shard.buffers import Buffers
from hyperloom.stages.shard.cache import DiskCache
from hyperloom.stages.shard.chosen import ChosenRows
from hyperloom.stages.shard.mixture import Mixture, mixed, stratified
from hyperloom.stages.shard.order import Epoch, share
from hyperloom.stages.shard.rows import Decoded, Part, RowGroups, WantedRow

if TYPE_CHECKING:
    from hyperloom.stages.shard.decoder import JpegDecoder

MOST_THREADS = 4

Entries = Sequence[Mapping[str, Any]]
"""`shards` of a shard manifest's body: path, split, rows, row_group, bytes."""


class BatchPiece(NamedTuple):
    """Rows of one row group, which is `number`, and their place in a batch."""

    place: slice
    rows: np.ndarray
    number: int
    columns: Decoded


class Loader:
    """Batches of one split, as seen by one rank.

    Meaning: `batch` (global, over all ranks), `seed`, `shuffle`, `pool` (row groups shuffled together), `drop_last`
    (leave out a last batch that is not full), `only` (a column of one number: samples where it is 0 or missing are left
    out), and the shares of a mixture. Placement: `world_size`, `rank`, `cache_mb`
    (decoded samples kept in memory), `disk` (a cache for remote stores), `threads` (that read and decode; by default
    one a core, up to 4), `ahead` (batches put together ahead; 0 does one when it is asked for), `pinned` (memory from
    which a GPU copies while we go on; by default when there is a GPU), `native` (tensors in the dtype of the disk:
    float16 maps, uint8 probabilities; converting is left to the caller), `decoder` (of JPEG columns where they are
    wanted, see `stages.shard.decoder`; their batches then lie on its device, and files stay in memory as they are).
    Without `drop_last` the last batch of a rank may be empty, so that all ranks take the same number of steps.
    Raises RecipeError when the split or a column is not there, or no batch would be full.
    """

    _chosen: np.ndarray | None = None
    """Which samples, in their stored order, are of the first of two kinds."""
    _only: ChosenRows | None = None
    epoch = position = 0
    rows: int
    """Samples of the split, over all ranks and data sets."""

    def __init__(
        self,
        storage: Storage,
        shards: Manifest | Mixture | Entries,
        modalities: Mapping[str, Modality],
        columns: Sequence[str],
        split: str = "train",
        *,
        batch: int,
        seed: int = 0,
        shuffle: bool = True,
        pool: int = 32,
        drop_last: bool = False,
        only: str = "",
        world_size: int = 1,
        rank: int = 0,
        cache_mb: float = 256,
        disk: DiskCache | None = None,
        ahead: int = 2,
        threads: int | None = None,
        pinned: bool | None = None,
        native: bool = False,
        decoder: JpegDecoder | None = None,
    ):
        if not 0 <= rank < world_size or batch < 1:
            raise ValueError(f"expected 0 <= rank < world_size and batch >= 1, got {rank}, {world_size}, {batch}")
        sets = _chosen(shards, [*columns, only] if only else columns, split, shuffle)
        self.modalities = {column: modalities[modality_of(column)] for column in columns}
        self.batch, self.drop_last, self.native, self.ahead = batch, drop_last, native, ahead
        self.world_size, self.rank, self.seed, self.shuffle, self.pool = world_size, rank, seed, shuffle, pool
        self.threads = threads or min(MOST_THREADS, len(os.sched_getaffinity(0)))
        self._sets = [np.concatenate([part.sizes for part in parts]) for parts in sets]
        self.decoder, self._sent = decoder, _on_device(self.modalities, decoder)
        self._groups = RowGroups(storage, list(chain(*sets)), self.modalities, cache_mb, disk, self._sent)
        self._take_only(only, modalities, split)
        rows = [int(sizes.sum()) for sizes in self._sets]
        self.rows = sum(rows)
        self._expect_a_batch(split)
        self.shares = shards.shares(rows) if isinstance(shards, Mixture) and shuffle else (1.0,)
        self._buffers = Buffers(_has_gpu() if pinned is None else pinned)

    def _expect_a_batch(self, split: str) -> None:
        if not len(self):
            raise RecipeError(_too_few(split, self.rows, self.batch))

    def _take_only(self, column: str, modalities: Mapping[str, Modality], split: str) -> None:
        """Let there be no other rows than those that a column chooses, if one is named. Raises RecipeError where a set
        has none."""
        if not column:
            return
        chosen = self._groups.chosen(column, modalities[modality_of(column)])
        kept = self._only = ChosenRows(self._groups.sizes, chosen)
        self._sets = np.split(kept.sizes, np.cumsum([len(sizes) for sizes in self._sets])[:-1])
        if any(not sizes.sum() for sizes in self._sets):
            what = f"only: {column} is above 0 for no sample of the split {split!r}"
            raise RecipeError(f"{what}. Next: see the step that makes it (hyperloom data show)")

    def divide(self, column: str, share: float) -> None:
        """Of all that is handed out let `share` be samples that have a value of `column`, the others have none. Before
        the first batch, of one data set. Raises RecipeError where all samples have one, or none has."""
        chosen = self._groups.valid(column)
        chosen = chosen if self._only is None else chosen[self._only.chosen]
        if chosen.all() or not chosen.any():
            every = "every" if chosen.all() else "no"
            raise RecipeError(f"{every} training sample has a value of {column}: there are no two kinds to be mixed")
        self._chosen, self.shares = chosen, (share, 1 - share)

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self.rows // self.batch if self.drop_last else -(-self.rows // self.batch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: epoch and samples of it handed out. The other entries are there to be checked."""
        mixed = {"shares": list(self.shares)} if len(self.shares) > 1 else {}
        return {"epoch": self.epoch, "position": self.position, "rows": self.rows, "seed": self.seed, **mixed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from there, on any world size. Raises ValueError for the state of other data or another seed."""
        here = self.state_dict()
        if any(state.get(name) != here.get(name) for name in ("rows", "seed", "shares")):
            raise ValueError(f"the state {dict(state)} belongs to other data or another seed than {here}")
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rest of this epoch; once it is through, the loader stands at the start of the next."""
        for end, tensors in self._batches():
            self.position = end
            yield tensors
            del tensors  # so that the caller alone decides when its memory is free
        self.epoch, self.position = self.epoch + 1, 0

    def order(self) -> Epoch:
        """The order of the epoch in which the loader stands."""
        if self._chosen is not None:
            sizes, shares = np.concatenate(self._sets), (self.shares[0], self.shares[1])
            return stratified(sizes, self._chosen, shares, self.seed, self.epoch, self.pool)
        return mixed(self._sets, self.shares, self.seed, self.epoch, self.pool, self.shuffle)

    def _batches(self) -> Generator[tuple[int, dict[str, Any]], None, None]:
        """Where each global batch ends in the epoch, and this rank's tensors of it."""
        order = self.order()
        last, plan = order.last_use(), self._plan(order)
        opened: dict[int, Future[Decoded]] = {}
        coming: deque[tuple[int, Future[dict[str, Any]]]] = deque()
        readers = ThreadPoolExecutor(self.threads, "row-groups")
        makers = ThreadPoolExecutor(max(1, self.ahead), "batches")
        try:
            while True:
                while len(coming) <= self.ahead and (planned := next(plan, None)):
                    end, rows = planned
                    visits = np.unique(rows[:, 0]).tolist()
                    for visit in (v for v in visits if v not in opened):
                        opened[visit] = readers.submit(self._groups.read, int(order.numbers[visit]))
                    groups = {v: (int(order.numbers[v]), opened[v]) for v in visits}
                    coming.append((end, makers.submit(self._tensors, rows, groups)))
                    for visit in [v for v in opened if last[v] < end]:
                        del opened[visit]
                if not coming:
                    return
                end, future = coming.popleft()
                tensors = future.result()
                del future  # so that nothing here keeps the batch's memory
                yield end, tensors
                del tensors
        finally:
            readers.shutdown(cancel_futures=True)
            makers.shutdown(cancel_futures=True)

    def _plan(self, order: Epoch) -> Iterator[tuple[int, np.ndarray]]:
        """This rank's rows of each global batch, (n, 2) visit and row, with where the batch ends."""
        for end, batch in order.batches(self.position, self.batch):
            if len(batch) == self.batch or not self.drop_last:
                mine = share(batch, self.rank, self.world_size)
                if self._only is not None:
                    mine = np.stack([mine[:, 0], self._only.places(order.numbers[mine[:, 0]], mine[:, 1])], 1)
                yield end, mine

    def _tensors(self, rows: np.ndarray, groups: Mapping[int, tuple[int, Future[Decoded]]]) -> dict[str, Any]:
        """Gather rows (n, 2) out of the row groups: by visit, the number and what it holds."""
        import torch

        starts, visits = np.flatnonzero(np.diff(rows[:, 0], prepend=-1)), rows[:, 0].tolist()
        stops = np.append(starts, len(rows))[1:]
        opened = [(slice(a, b), *groups[visits[a]]) for a, b in zip(starts.tolist(), stops.tolist())]
        pieces = [BatchPiece(place, rows[place, 1], number, group.result()) for place, number, group in opened]
        files: list[WantedRow] = []
        here = [c for c in self.modalities if c not in self._sent]
        tensors = {c: self._gathered(c, pieces, len(rows), files) for c in here}
        self._groups.decode(files)
        batch: dict[str, Any] = {}
        for column, modality in self.modalities.items():
            tensor = tensors[column] if column in tensors else self._on_device(column, pieces)
            as_stored = self.native and modality.read_as_stored
            batch[column] = tensor if as_stored else _to_memory(tensor, modality)
            known = [np.empty(0, bool), *(p.columns[column][1][p.rows] for p in pieces)]
            batch[column + VALID] = torch.from_numpy(np.concatenate(known))
        return batch

    def _gathered(self, column: str, pieces: Sequence[BatchPiece], count: int, files: list[WantedRow]) -> Any:
        """A column's tensor of `count` rows; those that are to be decoded into it are added to `files`."""
        modality, most = self.modalities[column], -(-self.batch // self.world_size)
        array, tensor = self._buffers.take(count, most, modality.shape, modality.stored)
        for piece in pieces:
            out, values = array[piece.place], piece.columns[column][0]
            if isinstance(values, FileRows):
                each = zip(piece.rows.tolist(), out, strict=True)
                files += [WantedRow(piece.number, column, values, r, o) for r, o in each]
            else:
                np.take(values, piece.rows, axis=0, out=out, mode="clip")
        return tensor

    def _on_device(self, column: str, pieces: Sequence[BatchPiece]) -> Any:
        """A column of files as the device decodes it; what it leaves is decoded here, and sent."""
        each = [(p.number, p.columns[column][0], row) for p in pieces for row in p.rows.tolist()]
        data = [values.encoded(row) if isinstance(values, FileRows) else None for _, values, row in each]
        assert self.decoder is not None
        modality = self.modalities[column]
        tensor, left = self.decoder.decode(data, modality)
        if left:
            array = np.empty((len(left), *modality.shape), modality.stored)
            rows = ((each[place], out) for place, out in zip(left, array, strict=True))
            self._groups.decode(WantedRow(n, column, values, row, out) for (n, values, row), out in rows)  # type: ignore[arg-type]
            self.decoder.put(tensor, left, array)
        return tensor


def _on_device(modalities: Mapping[str, Modality], decoder: JpegDecoder | None) -> frozenset[str]:
    """The columns that the decoder takes."""
    return frozenset(c for c, m in modalities.items() if decoder is not None and decoder.takes(m))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _to_memory(tensor: Any, modality: Modality) -> Any:
    """`Modality.to_memory` for a tensor, many times faster than NumPy for float16."""
    import torch

    if modality.stored.kind == modality.dtype.kind:
        return tensor.to(getattr(torch, modality.dtype.name))
    return torch.from_numpy(modality.to_memory(tensor.numpy()))


def _too_few(split: str, rows: int, batch: int) -> str:
    return (
        f"the split {split!r} has {rows} samples, fewer than one batch of {batch}, and batches that are "
        "not full are left out. Next: take a smaller batch"
    )


def _chosen(
    shards: Manifest | Mixture | Entries, columns: Sequence[str], split: str, shuffle: bool
) -> list[list[Part]]:
    """The shards of one split, for each data set. Raises RecipeError when there are none, or a column is in no set.

    What is drawn from must be there in every set; what is only looked through (validation) may be missing in some.
    """
    given = shards.sets if isinstance(shards, Mixture) else (shards,)
    sets = [Shards.from_manifest(data_set) if isinstance(data_set, Manifest) else data_set for data_set in given]
    schemas = [set(data_set.schema) if isinstance(data_set, Shards) else set(columns) for data_set in sets]
    absent = [c for c in columns if not any(c in schema for schema in schemas)]
    if absent:
        present = ", ".join(sorted(set().union(*schemas)))
        raise RecipeError(f"the shards have no column {', '.join(absent)}; there are: {present}")
    chosen = []
    for data_set, schema in zip(sets, schemas, strict=True):
        lacks = frozenset(columns) - schema
        listed = data_set.shards if isinstance(data_set, Shards) else [ShardFile(**shard) for shard in data_set]
        mine = [s for s in listed if s.split == split]
        if mine:
            chosen.append([Part(s.path, s.rows, s.row_group, s.bytes, lacks, *(s.part or ())) for s in mine])
        elif shuffle or len(sets) == 1:
            present = ", ".join(sorted({shard.split for shard in listed})) or "none at all"
            raise RecipeError(
                f"no shard is in the split {split!r}; there are: {present}. Next: see the shard step's split"
            )
    if not chosen:
        raise RecipeError(f"no data set has a shard in the split {split!r}. Next: see the shard steps' splits")
    return chosen
