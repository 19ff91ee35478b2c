"""Batches: where the batches of a training come from, as a recipe names it.

    batches: {type: "mine:Curriculum", easy: 0.3}

A source gives batches without end, each a pure function of (seed, position), of which a rank gets its part: samples
`world.slice(job.batch)` of a global batch of `job.batch`. So a training resumes to the byte and does not depend on how
many workers share it. Validation always goes through the split `val` of the shards. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import Field

from hyperloom.pipeline.plugins import Plugin
from hyperloom.pipeline.spelling import near
from hyperloom.stages.base import modality_of

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.shard.decoder import JpegDecoder
    from hyperloom.stages.shard.loader import Loader
    from hyperloom.stages.train.job import Job
    from hyperloom.stages.world import World


class BatchSource(Protocol):
    """Batches without end, on one rank."""

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """From where it stands. For each column (n, *shape) as the disk has it (float16 maps, uint8 probabilities), and
        under `column + VALID` (n,) bool, false where the sample has no value and the row is filler."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, plain values; the same on every rank."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there, on any world size. Raises ValueError for the state of other data."""


class Batches(Plugin):
    """Base of sources of batches."""

    def check(self, columns: Sequence[str], sets: int) -> None:
        """Raises ValueError where this does not go with the columns that the step reads, or with so many data sets."""

    def open(self, job: Job, columns: Sequence[str], world: World) -> BatchSource:
        """The source, at its start, of these columns."""
        raise TypeError(f"the source of batches {self.type!r} has no open()")


class Epochs(Batches):
    """The training split of the shards, shuffled anew each epoch (`stages.shard.loader`)."""

    revision: ClassVar[int] = 1

    def open(self, job: Job, columns: Sequence[str], world: World) -> BatchSource:
        return Endless(loader(job, columns, world, "train", shuffle=True, updates=True))


class Labelled(Batches):
    """Of each batch `share` are samples that have a value of the column `by`, the others have none, however many there
    are of either: pictures without labels at any ratio to those with. Each kind goes through passes of its own, in
    which every sample of it comes once, so a kind that is rare comes again the sooner. Several data steps are mixed by
    `sampler`."""

    revision: ClassVar[int] = 1
    by: str
    share: float = Field(0.5, gt=0, lt=1)

    def check(self, columns: Sequence[str], sets: int) -> None:
        if self.by not in columns:
            raise ValueError(f"by: {self.by} is no column that this step reads{near(self.by, columns)}")
        if sets > 1:
            raise ValueError("several data steps are mixed by `sampler: {type: shares, shares: [...]}`")

    def open(self, job: Job, columns: Sequence[str], world: World) -> BatchSource:
        samples = loader(job, columns, world, "train", shuffle=True, updates=True)
        samples.divide(self.by, self.share)
        return Endless(samples)


class Endless:
    """A loader that begins its next epoch when one is through."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from self.loader

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state)


def loader(job: Job, columns: Sequence[str], world: World, split: str, shuffle: bool, updates: bool = False) -> Loader:
    """The loader of a split of the job's shards; shuffled, without a last batch that is not full. JPEGs for `updates`
    are decoded where the job says; what is looked at besides always by the host."""
    from hyperloom.stages.shard.cache import DiskCache
    from hyperloom.stages.shard.loader import Loader

    rhythm = job.rhythm
    return Loader(
        job.storage,
        job.shards,
        job.modalities,
        columns,
        split=split,
        batch=job.batch,
        seed=job.seed,
        world_size=world.size,
        rank=world.rank,
        shuffle=shuffle,
        drop_last=shuffle,
        only=job.only if split == "train" else "",
        cache_mb=rhythm.cache_mb,
        disk=DiskCache(rhythm.disk_cache, rhythm.disk_cache_gb * 1e9) if rhythm.disk_cache else None,
        native=True,
        decoder=_decoder(job, columns, world.device) if updates else None,
    )


def _decoder(job: Job, columns: Sequence[str], device: torch.device) -> JpegDecoder | None:
    """What decodes JPEGs for updates on `device`; None where there are none, or the host does."""
    from hyperloom.stages.shard.decoder import JpegDecoder, decoder

    if not any(JpegDecoder.takes(job.modalities[modality_of(column)]) for column in columns):
        return None
    return decoder(job.rhythm.decode, job.rhythm.deterministic, device)
