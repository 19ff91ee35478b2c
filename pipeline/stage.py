"""The contract between the engine and a stage.

A `Stage` is a plug-in of kind `stage`: its fields are what a step of a recipe may write. The engine asks it for what
it reads (`StepName` fields), what is wrong and what it gives (`check`), which modalities its identity depends on
(`uses`), which outside facts (`facts`), and then runs it with a `StepRun`. What `run` returns becomes the manifest's
body, written by the engine after `run` ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from hyperloom.pipeline import expecting
from hyperloom.pipeline.commits.manifest import Manifest, as_read, folder
from hyperloom.pipeline.commits.units import File, Record, Resources, Unit, Worker
from hyperloom.pipeline.config import Config, placement
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.pipeline.host.ending import Ending
from hyperloom.pipeline.result import Result
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage, sha256

if TYPE_CHECKING:
    from hyperloom.pipeline.planning.check import Schema, StepCheck
    from hyperloom.pipeline.root.digests import Digests


class Stage(Config):
    """Base of every stage. Subclasses add fields and `run`."""

    revision: ClassVar[int] = 1
    stage: str
    max_quarantine: float = placement(0.2, ge=0, le=1)
    """Largest share of a step's samples that may be left out before the step fails."""
    expect: dict[str, Any] = placement({})
    """What must be so of what the step makes, by column, or the step fails; see hyperloom.stages.expect.expectation."""

    _expected = field_validator("expect", mode="before")(expecting.parsed)

    def uses(self) -> set[str]:
        """Names of the modalities whose definitions belong to this step's identity (beyond those of its inputs)."""
        return set()

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """What of this step's meaning has changed with the code in a recipe of these modalities alone, each by a name
        and a number that enter its identity; nothing for who keeps what was made."""
        return {}

    def check(self, step: StepCheck) -> Schema | None:
        """Note in `step` what the config and the schemas of the inputs show to be wrong; the schema of what this step
        gives. Called while a recipe is planned, so it reads no file. None: nobody knows it, and whoever reads this step
        is not checked against it."""
        return None

    def facts(self, digests: Digests) -> dict[str, Any]:
        """What outside the recipe bears meaning: digests of raw files, of weights. Raises SourceError."""
        return {}

    def facts_before(self, digests: Digests) -> tuple[dict[str, Any], Collection[str]] | None:
        """Where what a step makes can become one of its own facts (a champion from which the next training starts): the
        facts before the latest such change, and the identities of all steps that led to it. A step that is among them
        keeps the facts it had: it is done, not stale."""
        return None

    def forecast(self, step: StepRun) -> Forecast | None:
        """What the step would do with these inputs, found out without doing or importing much: for `plan`. The inputs
        may be forecasts themselves. None when only a run can tell."""
        return None

    @property
    def lasts(self) -> float | None:
        """Seconds that the step takes by its own word; NaN where only a run tells; None where that follows from its
        effort or samples."""
        return None

    def effort(self, samples: int) -> float:
        """How much work the step is beside its units, with so many samples; in any measure that a forecast may scale
        its seconds by (updates). 0 where that is the number of samples."""
        return 0.0

    def learned(self, inputs: Mapping[str, Manifest]) -> int:
        """Of what these inputs hold the samples that the effort counts; 0 where it counts all of the run's sources."""
        return 0

    @property
    def portion(self) -> int:
        """Samples that one unit of the effort is about (those of an update): its seconds grow with them."""
        return 1

    @property
    def repeats(self) -> int:
        """How many times the effort is made, as by the seeds of a training; part of what `effort` says."""
        return 1

    def growth(self, step: StepRun, before: Manifest) -> int | None:
        """How many samples the step would have that `before`, an earlier manifest of it, has not; found out like a
        forecast. A partition that changed counts by what it grew, and at least 1. None when only a run can tell."""
        return None

    def lost(self, storage: Storage, manifest: Manifest) -> str:
        """Of what a finished step has left outside its manifest (a pointer that others read): what is gone, in words,
        so that the step runs again; empty where nothing is. Cheap, since every plan asks."""
        return ""

    def figures(self, manifest: Manifest) -> dict[str, float]:
        """Figures of the whole run that a finished step stands for, by the names that it gave them while it ran: a run
        that reuses it has them too."""
        return {}

    def notices(self, storage: Storage) -> list[str]:
        """What a person should hear before the step works (what a licence forbids), a sentence each, for `plan`."""
        return []

    def producers(self, manifest: Manifest) -> dict[str, str]:
        """What to call the makers of a manifest's records (real or forecast), by the records' space."""
        return {}

    def run(self, step: StepRun) -> Result | dict[str, Any]:
        """Do the work; return the result, or the manifest's body itself (JSON, deterministic)."""
        raise TypeError(f"the stage {self.stage!r} has no run()")


@dataclass(frozen=True)
class Forecast:
    """The units that a step would do, and what its manifest would say for the steps that read it: records have the
    right space, id and meta, and no files."""

    units: Iterable[Unit]
    manifest: Manifest


@dataclass
class StepRun:
    """Everything a stage may touch while it runs."""

    name: str
    stage: Stage
    fingerprint: str
    modalities: dict[str, Any]
    storage: Storage
    inputs: dict[str, Manifest]
    events: Events
    run_units: Callable[[Iterable[Unit], dict[str, Worker]], Sequence[Record]]
    """Run units on the cluster until each is committed; records in the units' order. The units are gone through once,
    as slots become free; each follows those it needs. Raises StepFailed."""
    cluster: Callable[[], None]
    """Make sure that Ray is up, for what a stage does with it by itself."""
    scratch: Callable[[], str]
    """A local folder of this run, for libraries that insist on files; emptied at the end."""
    ending: Ending = field(default_factory=Ending)
    """Whether the run is to end; `with step.ending.telling(callback)` says so to what has something to put away."""
    gpus: Callable[[], float] = lambda: 0.0
    """How many GPUs the cluster has."""
    meaning: dict[str, Any] = field(default_factory=dict)
    """What the fingerprint is of."""
    reserve: Callable[[Resources, int], AbstractContextManager[int]] = lambda _, count: nullcontext(count)
    """`with step.reserve(resources, count) as number:` keeps room on the cluster for processes of the stage's own (Ray
    Train's workers), as many as it can ever hold; other steps use the rest. It waits until there is room."""
    compared: dict[str, Manifest] = field(default_factory=dict)
    """Steps that what is expected of this one is compared with."""
    records: Sequence[Record] = ()
    files: list[File] = field(default_factory=list)

    @property
    def folder(self) -> str:
        """This step's folder, relative to the root."""
        return folder(self.stage.stage, self.fingerprint)

    def manifest(self, result: Result | dict[str, Any], payload: dict[str, Any]) -> Manifest:
        """The manifest of this step once `run` has ended with `result`."""
        body = as_read(result.body() if isinstance(result, Result) else result)
        return Manifest(self.stage.stage, self.fingerprint, payload, self.records, tuple(self.files), body)

    def identity(self, stage: Stage) -> str:
        """The fingerprint that this step would have with another configuration, and all else alike."""
        config = payload(stage, lambda name: self.inputs[name].fingerprint)
        meaning = {key: value for key, value in self.meaning.items() if key != "revised"}
        revised = stage.revised_for(self.modalities)
        return fingerprint({**meaning, "config": config, **({"revised": revised} if revised else {})})

    def write(self, name: str, data: bytes) -> File:
        """Store a file of the step itself (weights, a picture) and enter it in the manifest."""
        file = File(f"{self.folder}/{name}", len(data), sha256(data))
        self.storage.write(file.path, data)
        self.adopt(file)
        return file

    def adopt(self, file: File) -> None:
        """Enter a file in the manifest that is in storage already. Its bytes are not read: whoever wrote it says what
        they are."""
        self.files.append(file)
