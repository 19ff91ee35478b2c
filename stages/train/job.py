"""A training job: everything `loop.fit` needs, made by a stage on the driver and sent to each worker.

It holds configuration only (plug-ins, names, numbers, the root's URL), so it pickles small and imports no torch. What
bears meaning and what is placement was decided where the recipe was read; the loop treats both alike.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import Field, model_validator

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.config import Config
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.augment.views import Augment
from hyperloom.stages.balance.balancers import Balancer
from hyperloom.stages.measure.measure import directions
from hyperloom.stages.network.architecture import Architecture
from hyperloom.stages.network.masks import Mask
from hyperloom.stages.objective.base import Objective
from hyperloom.stages.objective.extras import Extra
from hyperloom.stages.shard.mixture import Mixture, Sampler
from hyperloom.stages.train.batches import Batches
from hyperloom.stages.train.learners import Learner
from hyperloom.stages.train.network import Origin
from hyperloom.stages.train.optimizers import Optimizer
from hyperloom.stages.train.schedules import Schedule
from hyperloom.stages.train.stopping import EarlyStop

_DOUBT = r".*(spread|std|varian|sigma|uncertain|entropy|error|deviation)"


class Confidence(Config):
    """A column of one number a pixel or sample that weighs the loss there: a score (the weight itself), or with `falls`
    a spread, whose weight is exp(-spread / falls). A label without a confidence does not count."""

    column: str
    falls: float | None = Field(None, gt=0)

    @property
    def doubtful(self) -> bool:
        """Does its name say that it grows with doubt, though it is the weight itself?"""
        return self.falls is None and re.match(_DOUBT, self.column.partition("@")[0].lower()) is not None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class Target:
    """One column that teaches one task. `confidence` weighs its sites; with `hidden` only those count that were hidden,
    where the column is an input too."""

    task: str
    column: str
    weight: float
    objective: Objective
    class_counts: tuple[float, ...] | None = None
    confidence: Confidence | None = None
    hidden: bool = False


@dataclass(frozen=True)
class Rhythm:
    """How often, in updates, and by what means: nothing here changes a weight by more than the rounding of sums."""

    checkpoint: int = 100
    log: int = 10
    validate: int = 100
    threads: int = 1
    cache_mb: int = 2048
    micro: int | None = None
    """Samples that a worker takes through the network at once; gradients add up over its share of the batch."""
    compile: bool | str = False
    deterministic: bool = True
    """On a GPU: the same bytes when a training is resumed, at the price of slower kernels."""
    decode: Literal["auto", "host", "device"] = "auto"
    """Where JPEGs are decoded for updates (`stages.shard.decoder`)."""
    sharded: bool = False
    disk_cache: str = ""
    disk_cache_gb: float = 50


@dataclass(frozen=True)
class Member:
    """One of the trainings of a step, which differ in nothing but their seed: where its files go, and what it is called
    among them (nothing where it is alone)."""

    seed: int
    folder: str
    name: str = ""


@dataclass(frozen=True)
class Span:
    """A phase of a training, from update `start` up to `end`: its targets, the names of the extras that count, what it
    hides and freezes. `balancer` and `sampler` are None where they are those of the job; with `restart` the schedule of
    the rate begins anew."""

    name: str
    start: int
    end: int
    targets: tuple[Target, ...]
    extras: tuple[str, ...]
    mask: Mask
    freeze: tuple[str, ...]
    balancer: Balancer | None = None
    sampler: Sampler | None = None
    restart: bool = False


@dataclass(frozen=True)
class Teaching:
    """A network that is asked in each update: where its weights lie, and the columns that it reads."""

    origin: Origin
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A training: `shards` is the manifest of the data, `folder` where files go, both under `storage`."""

    storage: Storage
    folder: str
    shards: Manifest | Mixture
    modalities: dict[str, Any]
    architecture: Architecture
    parameters: int | None
    targets: tuple[Target, ...]
    judged: dict[str, str]
    """Task -> the column it is validated against; tasks left out are not validated."""
    fitted: dict[str, str]
    """Task -> the column that teaches it most, against which its fit to training samples is measured."""
    mask: Mask
    augment: tuple[Augment, ...]
    balancer: Balancer
    optimizer: Optimizer
    schedule: Schedule
    learner: Learner
    batches: Batches
    batch: int
    updates: int
    ema: float
    seed: int
    rhythm: Rhythm = Rhythm()
    precision: str = "fp32"
    stop: EarlyStop | None = None
    minutes: float | None = None
    """With a number of minutes `updates` is a bound that nothing reaches."""
    open_ended: bool = False
    """Does the training end when it stops getting better? Then `updates` is the most that it makes."""
    held: str = ""
    """What of the training samples was held back as the split `val`, in words."""
    only: str = ""
    """The column of a number above 0 for the training samples that count; empty where all do."""

    needs: tuple[str, ...] = ()
    """Input columns that no training sample is without, nor has hidden."""

    start: Origin | None = None
    guide: Teaching | None = None
    """The teacher that hints among the extras ask."""
    freeze: tuple[str, ...] = ()
    learn_rates: dict[str, float] = field(default_factory=dict)
    extras: dict[str, Extra] = field(default_factory=dict)
    """Objectives without a target, by name."""
    silent: frozenset[str] = frozenset()
    """Extras that do not count, in a phase."""
    spans: tuple[Span, ...] = ()
    """Phases in their order; none where the whole training is one."""
    member: str = ""
    """What this training is called among several of one step."""

    def of(self, member: Member) -> Job:
        """The same training from another seed, with a folder of its own."""
        return replace(self, seed=member.seed, folder=member.folder, member=member.name)

    @property
    def span(self) -> Span:
        """The whole training as one phase."""
        return Span("", 0, self.updates, self.targets, tuple(self.extras), self.mask, self.freeze)

    def within(self, span: Span) -> Job:
        """The job as it is in a phase."""
        shards = self.shards
        if span.sampler is not None and isinstance(shards, Mixture):
            shards = replace(shards, sampler=span.sampler)
        silent = frozenset(self.extras) - set(span.extras)
        return replace(self, targets=span.targets, mask=span.mask, freeze=span.freeze, shards=shards, silent=silent)

    @property
    def stops_on_higher(self) -> bool:
        """Is a higher figure of what early stopping looks at a better one?"""
        return self.stop is not None and directions(self.modalities[self.stop.task])[self.stop.measure]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that training reads, once each."""
        read = [*(p.column for p in self.architecture.parts), *(t.column for t in self.targets), *self.weighing]
        read += self.guide.columns if self.guide else ()
        return tuple(dict.fromkeys(read))

    @property
    def weighing(self) -> list[str]:
        """Columns of confidence."""
        return [t.confidence.column for t in self.targets if t.confidence]


def seed_of(*parts: Any) -> int:
    """A 63-bit seed that depends on all of `parts`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
