"""The loader: shards to batches of tensors, in an order that can be stopped and continued anywhere.

    loader = Loader(storage, manifest, modalities, ["rgb@camera", "depth@motion"], "train", batch=32)
    for batch in loader:            # the rest of the epoch; the next loop is the next epoch
        batch["rgb@camera"]         # (B, H, W, 3) uint8, this rank's part of the global batch
        batch["rgb@camera?"]        # (B,) bool: False where the sample has no such value, and the row is filler

Invariants: the global batches are a pure function of (shards, seed, epoch); ranks take slices of them, so any world
size sees the same batches and every sample exactly once an epoch; `state_dict` counts the samples of the epoch handed
out so far, and restores on any world size. Only the bytes of the columns asked for are read, by a thread that runs
ahead. It knows nothing of Ray, and neither augments nor permutes axes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from pipeline.errors import RecipeError
from pipeline.manifest import Manifest
from pipeline.storage import Storage
from stages.base import modality_of
from stages.modality import Modality, Soft
from stages.shard.order import Epoch, epoch, share
from stages.shard.prefetch import Prefetch
from stages.shard.rows import Decoded, RowGroups

VALID = "?"
"""Suffix of a column's mask in a batch."""


class Loader:
    """Batches of one split, as seen by one rank.

    Meaning: `batch` (global, over all ranks), `seed`, `shuffle`, `pool` (row groups shuffled together), `drop_last`
    (leave out a last batch that is not full). Placement: `world_size`, `rank`, `cache_mb` (decoded samples kept in
    memory), `threads` (that read), `ahead` (batches put together ahead; 0 does that in the caller's thread), `native`
    (tensors in the dtype of the disk: float16 maps, uint8 probabilities; converting is left to the caller).
    Without `drop_last` the last batch of a rank may be empty, so that all ranks take the same number of steps.
    Raises RecipeError when the split or a column is not there, or no batch would be full.
    """

    def __init__(
        self,
        storage: Storage,
        shards: Manifest | Sequence[Mapping[str, Any]],
        modalities: Mapping[str, Modality],
        columns: Sequence[str],
        split: str = "train",
        *,
        batch: int,
        seed: int = 0,
        shuffle: bool = True,
        pool: int = 32,
        drop_last: bool = False,
        world_size: int = 1,
        rank: int = 0,
        cache_mb: float = 256,
        ahead: int = 2,
        threads: int = 2,
        native: bool = False,
    ):
        if not 0 <= rank < world_size or batch < 1:
            raise ValueError(f"expected 0 <= rank < world_size and batch >= 1, got {rank}, {world_size}, {batch}")
        mine = _chosen(shards, columns, split)
        self.modalities = {column: modalities[modality_of(column)] for column in columns}
        self.batch, self.drop_last, self.native, self.ahead = batch, drop_last, native, ahead
        self.world_size, self.rank, self.threads = world_size, rank, threads
        self.epoch = self.position = 0
        self.seed, self.shuffle, self.pool = seed, shuffle, pool
        self._groups = RowGroups(storage, mine, self.modalities, cache_mb)
        if not len(self):
            raise RecipeError(
                f"the split {split!r} has {self.rows} samples, fewer than one batch of {batch}, and batches that are "
                "not full are left out. Next: take a smaller batch"
            )

    @property
    def rows(self) -> int:
        """Samples of the split, over all ranks."""
        return sum(self._groups.sizes)

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self.rows // self.batch if self.drop_last else -(-self.rows // self.batch)

    def state_dict(self) -> dict[str, int]:
        """Where the loader stands: epoch and samples of it handed out. `rows` and `seed` are there to be checked."""
        return {"epoch": self.epoch, "position": self.position, "rows": self.rows, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from there, on any world size. Raises ValueError for the state of other data or another seed."""
        here = self.state_dict()
        if any(state[name] != here[name] for name in ("rows", "seed")):
            raise ValueError(f"the state {dict(state)} belongs to other data or another seed than {here}")
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rest of this epoch; once it is through, the loader stands at the start of the next."""
        batches = self._batches()
        if self.ahead:
            with Prefetch(batches, self.ahead) as ready:
                yield from self._counted(ready)
        else:
            yield from self._counted(batches)

    def _counted(self, batches: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        for end, tensors in batches:
            self.position = end
            yield tensors
        self.epoch, self.position = self.epoch + 1, 0

    def _batches(self) -> Generator[tuple[int, dict[str, Any]], None, None]:
        """Where each global batch ends in the epoch, and this rank's tensors of it. Row groups are read ahead."""
        order = epoch(self._groups.sizes, self.seed, self.epoch, self.pool, self.shuffle)
        last, opened = order.last_use(), dict[int, Future[Decoded]]()
        plan = self._plan(order)
        readers = ThreadPoolExecutor(self.threads, "row-groups")
        try:
            window = deque(islice(plan, 2))
            while window:
                for number in dict.fromkeys(int(n) for _, rows in window for n in rows[:, 0]):
                    if number not in opened:
                        opened[number] = readers.submit(self._groups.read, number)
                end, rows = window.popleft()
                yield end, self._tensors(rows, opened)
                for number in [n for n in opened if last[n] < end]:
                    del opened[number]
                window.extend(islice(plan, 1))
        finally:
            readers.shutdown(cancel_futures=True)

    def _plan(self, order: Epoch) -> Iterator[tuple[int, np.ndarray]]:
        """This rank's rows of each global batch, (n, 2) row group and row, with where the batch ends."""
        for end, batch in order.batches(self.position, self.batch):
            if len(batch) == self.batch or not self.drop_last:
                yield end, share(batch, self.rank, self.world_size)

    def _tensors(self, rows: np.ndarray, opened: Mapping[int, Future[Decoded]]) -> dict[str, Any]:
        """Gather rows (n, 2) out of the row groups."""
        import torch

        found = {c: np.empty((len(rows), *m.shape), m.stored) for c, m in self.modalities.items()}
        valid = {c: np.empty(len(rows), bool) for c in self.modalities}
        starts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1))
        for start, stop in zip(starts, np.append(starts, len(rows))[1:]):
            mine = rows[start:stop, 1]
            for column, (values, there) in opened[int(rows[start, 0])].result().items():
                np.take(values, mine, axis=0, out=found[column][start:stop], mode="clip")
                valid[column][start:stop] = there[mine]
        batch: dict[str, Any] = {}
        for column, modality in self.modalities.items():
            tensor = torch.from_numpy(found[column])
            as_stored = self.native and (modality.stored.kind == modality.dtype.kind or isinstance(modality, Soft))
            batch[column] = tensor if as_stored else _to_memory(tensor, modality)
            batch[column + VALID] = torch.from_numpy(valid[column])
        return batch


def _to_memory(tensor: Any, modality: Modality) -> Any:
    """`Modality.to_memory` for a tensor, many times faster than NumPy for float16."""
    import torch

    if modality.stored.kind == modality.dtype.kind:
        return tensor.to(getattr(torch, modality.dtype.name))
    return torch.from_numpy(modality.to_memory(tensor.numpy()))


def _chosen(
    shards: Manifest | Sequence[Mapping[str, Any]], columns: Sequence[str], split: str
) -> list[Mapping[str, Any]]:
    """The shards of one split. Raises RecipeError when there are none, or a column is not among theirs."""
    if isinstance(shards, Manifest):
        absent = [c for c in columns if c not in shards.body["schema"]]
        if absent:
            there = ", ".join(shards.body["schema"])
            raise RecipeError(f"the shards have no column {', '.join(absent)}; there are: {there}")
        listed: Sequence[Mapping[str, Any]] = shards.body["shards"]
    else:
        listed = shards
    mine = [shard for shard in listed if shard["split"] == split]
    if not mine:
        there = ", ".join(sorted({shard["split"] for shard in listed})) or "none at all"
        raise RecipeError(f"no shard is in the split {split!r}; there are: {there}. Next: see the shard step's split")
    return mine
