"""The expert protocol: anything that maps columns to columns.

An expert is a plug-in of kind `expert`. Its fields are the recipe's; `build()` loads it once in a worker process and
returns the function that the label stage calls with batches. Heavy imports belong inside `build`, so that planning
stays cheap. An expert sees arrays only: reading, decoding, checking, bisection of bad batches and writing are the
label worker's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from pydantic import Field, field_validator

from hyperloom.pipeline.commits.units import Resources
from hyperloom.pipeline.config import as_tuple, placement
from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages import licence
from hyperloom.stages.label import hooks

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.commits.manifest import Manifest
    from hyperloom.pipeline.planning.check import StepCheck
    from hyperloom.pipeline.recipes.recipe import Where
    from hyperloom.pipeline.root.digests import Digests
    from hyperloom.pipeline.root.storage import Storage

Batch: TypeAlias = "dict[str, np.ndarray]"
"""Column name -> (N, *shape) array. Segmentation is (N, H, W) uint8 with 255 for unknown, image (N, H, W, 3) uint8 RGB,
dense (N, H, W, C) float32.

An expert with `offsets` also gets, for each, `rgb@camera[-1]`: the same rows of the frame before, and `index` and
`index[-1]`, (N,) int64: the frames' numbers in their group. Where the group has no such frame (or it is missing), the
row repeats the frame itself and both indices are equal. One that is `timed` gets `time` and `time[-1]` too, in seconds.

An expert that `accepts_missing` also gets `rgb@camera?`, (N,) bool: False where the sample has no such value and the
row is zeros."""

Function: TypeAlias = Callable[["Batch"], "Batch"]


CPU_BATCH = 1
"""Usual batch of torch on CPUs: it picks kernels by shape, so that answers depend on the batch in their last bits, and
networks of convolutions are quickest one by one, where a sample's activations stay in the cache."""


class Expert(Plugin):
    """Base of every expert: declared inputs and outputs, and `build`.

    `in` and `out` take one column or a list. Subclasses may give them defaults.
    """

    accepts_missing: ClassVar[bool] = False
    """False: a sample with a missing input is a null in every output, and the expert never sees it. True: it is called
    as long as one input is there."""

    in_: tuple[str, ...] = Field(alias="in")
    out: tuple[str, ...]
    batch: int | None = placement(None, gt=0)
    """Samples per call; left out, it is `usual_batch` or found by trial."""
    cpus: float = placement(1.0, gt=0)
    gpus: float = placement(0.0, ge=0)
    """The share of a GPU that one process takes; left out, big networks get one where there is one
    (`stages.label.share`), and 0 is none in any case."""
    memory_mb: int = placement(0, ge=0)
    """Memory that one process of this expert needs; 0: little. With it, or with a share of a GPU, a process is for this
    expert alone; otherwise one process hosts all experts that ask for as many CPUs."""

    licence: str = placement("")
    """Under which terms its weights are to be had, as their owners call it."""

    only: str = ""
    """A column of one number: samples where it is 0 or missing are not asked about, and are nulls in `out`."""

    _tuple = field_validator("in_", "out", mode="before")(as_tuple)

    @property
    def all_in(self) -> tuple[str, ...]:
        """All columns that it must have: `in`, and what says which samples it is asked about."""
        return (*self.in_, self.only) if self.only else self.in_

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        hooks.watch(cls)

    @property
    def resources(self) -> Resources:
        return Resources(self.cpus, self.gpus, self.memory_mb)

    @property
    def usual_batch(self) -> int | None:
        """Samples per call where the recipe says nothing; None: the size under which a sample is cheapest, by trial.

        A number is for experts whose every call costs money, or whose answers depend on the batch in their last bits:
        a size found by the clock would then show in the labels' bytes.
        """
        return None

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """What of its meaning has changed with the code where its columns are of these modalities alone, as
        `Stage.revised_for` says it."""
        return {}

    def calls(self, rows: int) -> int:
        """How many questions that may cost money it asks of so many samples, at most."""
        return 0

    def offsets(self) -> dict[str, tuple[int, ...]]:
        """Neighbouring frames wanted: {"rgb@camera": (-1,)} for the frame before. They count rows within the group."""
        return {}

    @property
    def timed(self) -> bool:
        """Does it go by `time`, the seconds at which frames are shown?"""
        return False

    def weights(self) -> tuple[str, ...]:
        """Files (paths or URLs) whose content belongs to this expert's identity."""
        return ()

    def heft(self, storage: Storage) -> int:
        """Bytes of the weights of a network that a GPU would run; 0 where there is none, or nobody can tell yet."""
        return 0

    def content(self, digests: Digests) -> list[str]:
        """Digests of all content that belongs to this expert's identity; where it lies belongs to none. Raises
        SourceError for what is not there."""
        return [digests.file(path).sha256 for path in self.weights()]

    def terms(self, storage: Storage) -> dict[str, str]:
        """Whose licences come with what it makes, and which they are; `stages.licence` says what they forbid."""
        return {"+".join(self.out): self.licence} if self.licence else {}

    def remarks(self, storage: Storage) -> list[str]:
        """What a person should hear before the expert works, such as what its licence forbids."""
        sentences = (licence.remark(who, name) for who, name in self.terms(storage).items())
        return [text for text in sentences if text]

    def checked(self, step: StepCheck, where: Where) -> Self:
        """This expert with what the schemas of the steps it names tell of it (`in`), before any of them ran; what is
        wrong is noted in `step` below `where`."""
        return self

    def bind(self, inputs: Mapping[str, Manifest]) -> Self:
        """This expert with what it needs of the steps it names (`StepName` fields); `inputs`: their manifests by name.

        Called on the driver before identities are made; a copy may fill in `in` and placement fields such as a folder.
        """
        return self

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        """Load everything, once per process. `modalities` are the recipe's, by name (target sizes, classes); `storage`
        is the root, for experts that read another step's files.

        The function gets (N, ...) arrays of `in` and returns (N, ...) arrays of `out`; a masked array's masked rows,
        or None in a list, stand for "no answer for this sample", an exception in a list for "this sample failed". It
        may raise pipeline.errors.BadSample.
        """
        raise TypeError(f"the expert {self.type!r} has no build()")

    def measures(self, batch: Batch, outputs: Batch, modalities: dict[str, Any]) -> dict[str, np.ndarray]:
        """Figures of each sample, (N,) float64, NaN for "does not apply"; the worker keeps their sums and counts."""
        return {}
