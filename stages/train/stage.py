"""The train stage: one model that predicts several modalities from any subset of its inputs.

    teacher:
      stage: train
      data: shards
      in: [rgb@camera, depth@flow, semantic@color, semantic@texture]
      targets: {semantic: semantic@consensus, depth: depth@consensus}
      model: {trunk: unet, parameters: 430k}
      mask: {type: modality, keep: 0.5}
      balancer: {type: uncertainty}
      epochs: 30
      batch: 16
      stop: {metric: semantic.miou, patience: 5}
      workers: [1, 4]

Each input column is an input of its own to the network, so two sources of one modality are two inputs. A task may have
several target columns with weights, soft ones (a teacher's probabilities) among them. The stage turns a recipe into a
`Job`, has `stages.train.launch` run it, on a slot or on Ray Train, and enters the files that `stages.train.loop` left.
Its import needs no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.commits.manifest import Manifest, folder
from hyperloom.pipeline.config import StepName, as_tuple, placement
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.plugins import of
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages.balance.balancers import Static
from hyperloom.stages.base import modality_of
from hyperloom.stages.network.masks import NoMask
from hyperloom.stages.objective.base import Chosen
from hyperloom.stages.results import Trained
from hyperloom.stages.schema import ModelSchema
from hyperloom.stages.shard.mixture import Temperature
from hyperloom.stages.train import coherence, length, revision
from hyperloom.stages.train.batches import Epochs
from hyperloom.stages.train.check import checked
from hyperloom.stages.train.fitted import Fitted
from hyperloom.stages.train.job import Confidence, Job, Member
from hyperloom.stages.train.learners import Gradient
from hyperloom.stages.train.network import TaughtNetwork
from hyperloom.stages.train.optimizers import AdamW
from hyperloom.stages.train.outcome import outcome
from hyperloom.stages.train.phases import Phase
from hyperloom.stages.train.schedules import CosineSchedule
from hyperloom.stages.train.stopping import EarlyStop
from hyperloom.stages.train.targets import weighed

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests
    from hyperloom.pipeline.root.storage import Storage


class Train(Stage):
    """`data` is a shard step, or several that `sampler` mixes, `in` the input columns, `targets` what teaches each
    task, with the sources' weights."""

    revision: ClassVar[int] = 2
    exported: ClassVar[bool] = False
    """Does it end in an ONNX file?"""
    data: StepName | tuple[StepName, ...]
    sampler: Annotated[Any, of("sampler")] = Temperature(type="temperature")
    inputs: tuple[str, ...] = Field(alias="in", min_length=1)
    targets: dict[str, dict[str, float]] = {}
    """May be left out where extras teach."""
    raw: tuple[str, ...] = ()
    """Tasks whose targets and predictions stay in their own units, for losses whose meaning depends on these."""
    losses: dict[str, Chosen] = {}
    """Objectives by column, modality or task, where a modality's own default is not wanted."""
    confidence: dict[str, Confidence] = {}
    """By target column, the column that weighs its loss pixel by pixel or sample by sample."""
    only: str = ""
    """A column of one number, as a select step makes: no update sees training samples where it is 0 or missing."""
    count: Literal["all", "hidden"] = "all"
    """Of a target that is an input too: does every pixel count, or only what was hidden?"""
    extras: dict[str, Annotated[Any, of("extra")]] = {}
    """Objectives that need no target, such as `{type: contrastive, between: [rgb@camera, caption@web]}`, by names of
    their own."""
    validate_on: dict[str, str] = Field({}, alias="validate")
    """Task -> column of the split `val` that it is compared with; by default its first target that is not soft."""
    model: TaughtNetwork = TaughtNetwork()
    mask: Annotated[Any, of("mask")] = NoMask(type="none")
    augment: tuple[Annotated[Any, of("augment")], ...] = ()
    balancer: Annotated[Any, of("balancer")] = Static(type="static")
    optimizer: Annotated[Any, of("optimizer")] = AdamW()
    """AdamW when no type is named."""
    schedule: Annotated[Any, of("schedule")] = CosineSchedule(type="cosine")
    learner: Annotated[Any, of("learner")] = Gradient(type="gradient")
    """The method of one update."""
    batches: Annotated[Any, of("batches")] = Epochs(type="epochs")
    """Where batches come from."""
    phases: tuple[Phase, ...] = ()
    """Stretches of the training that teach differently, in their order."""
    updates: int | None = Field(None, gt=0)
    epochs: float | None = Field(None, gt=0)
    minutes: float | None = Field(None, gt=0)
    """As many updates as fit this time, which follows the machine (`stages.train.length`). Without any of the three the
    training ends when it stops getting better."""
    batch: int = Field(16, gt=0)
    """Samples in one update, over all workers."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of an exponential average of the weights, which is then what is kept; 0 for none. It warms up by itself
    (`stages.train.averages`)."""
    seed: int = Field(0, ge=0)
    seeds: int = Field(1, gt=0)
    """How many trainings there are, from `seed` on: a family whose members differ in nothing else."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: the network runs in bfloat16 where that is safe; weights, losses and what is stored stay float32."""
    stop: EarlyStop | None = None
    """End early, by the split `val`, and keep the best weights."""
    rehearses: int | None = Field(None, ge=0)
    """A pilot sets it: of how many updates this is a rehearsal, 0 where nobody knows. Its model is not judged."""
    workers: int | tuple[int, int] = placement(1)
    """Processes that share each batch; [least, most] takes what the cluster has in between, and follows it when nodes
    come or go."""
    parallel: Literal["ddp", "fsdp"] = placement("ddp")
    """ddp: each worker holds the whole model. fsdp: weights, gradients and optimizer are split over the workers, for
    models that do not fit one."""
    micro: int | None = placement(None, gt=0)
    """Samples that a worker takes through the network at once, when its share of the batch does not fit its memory."""
    compile: bool | Literal["graphs"] = placement(False)
    """torch.compile: slow to start (a minute or more), faster afterwards, mostly on GPUs. graphs: by CUDA graphs."""
    deterministic: bool = placement(True)
    """On GPUs: resumes to the byte. false takes the fastest kernels, whose sums differ in their last bits from run to
    run. On CPUs all trainings are exact."""
    decode: Literal["auto", "host", "device"] = placement("auto")
    """Where JPEG columns are decoded for updates. device: by nvImageCodec (extra `gpu`) where the training runs, whose
    pixels differ from the host's in their last bit. auto: there where the training is on a GPU, the extra is installed
    and `deterministic: false` allows it; else by the host."""
    gpu: bool | None = placement(None)
    """Left out: GPUs are used when the cluster has one for each worker."""
    threads: int = placement(1, gt=0)
    """Of each worker, on the CPU."""
    checkpoint_every: int = placement(100, gt=0)
    log_every: int = placement(10, gt=0)
    validate_every: int = placement(100, gt=0)
    cache_mb: int = placement(2048, ge=0)
    """Memory in which each worker may keep decoded samples."""
    disk_cache: str = placement("")
    """Folder on each worker's own disk that keeps what was read of a remote root; empty for none."""
    disk_cache_gb: float = placement(50, gt=0)
    max_failures: int = placement(20, ge=0)
    """How often the workers are started again after one died."""

    @field_validator("inputs", mode="before", json_schema_input_type=str | list[str] | dict[str, str | list[str]])
    @classmethod
    def _columns(cls, value: Any) -> Any:
        if isinstance(value, dict):
            columns = {name: [one] if isinstance(one, str) else list(one) for name, one in value.items()}
            wrong = [f"{n}: {c}" for n, cs in columns.items() for c in cs if str(c).partition("@")[0] != n]
            if wrong:
                raise ValueError(f"an input is listed under its own modality, unlike {', '.join(wrong)}")
            return tuple(c for cs in columns.values() for c in cs)
        return (value,) if isinstance(value, str) else value

    _tasks = field_validator("raw", mode="before")(as_tuple)

    @field_validator("optimizer", mode="before")
    @classmethod
    def _adamw(cls, value: Any) -> Any:
        return {"type": "adamw", **value} if isinstance(value, dict) else value

    @field_validator("targets", mode="before")
    @classmethod
    def _weighted(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = {str(c).partition("@")[0]: c for c in value}
        if not isinstance(value, dict):
            return value
        return {task: weighed(columns) for task, columns in value.items()}

    @model_validator(mode="after")
    def _coherent(self) -> Train:
        coherence.check(self)
        return self

    @model_validator(mode="after")
    def _taught(self) -> Train:
        if not self.losing:
            raise ValueError("nothing teaches. Give targets, or extras, which need none")
        if unknown := sorted(set(self.raw) - set(self.targets)):
            raise ValueError(f"raw: {', '.join(unknown)} is no task; they are {', '.join(self.targets)}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _without_number(cls, value: Any) -> Any:
        """What a training is given that ends when it stops getting better, where the recipe says nothing."""
        if not isinstance(value, dict) or any(value.get(name) for name in ("updates", "epochs", "minutes", "phases")):
            return value
        return length.open_ended(value)

    @property
    def open_ended(self) -> bool:
        """Does it end when it stops getting better?"""
        return not any((self.updates, self.epochs, self.minutes, self.phases))

    @property
    def losing(self) -> list[str]:
        """What has a loss: tasks, extras, and what the method of an update adds."""
        return [*self.targets, *self.extras, *self.learner.terms]

    @property
    def guide(self) -> str:
        """The step whose network is asked in each update; empty for none."""
        return ""

    @property
    def scale(self) -> tuple[int, int]:
        """Fewest and most workers."""
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)

    lasts: ClassVar[Any] = property(length.lasts)
    effort: ClassVar[Any] = length.effort
    portion: ClassVar[Any] = property(length.portion)
    repeats: ClassVar[Any] = property(length.repeats)

    def learned(self, inputs: Mapping[str, Manifest]) -> int:
        return length.learned(self.only, inputs)

    def facts(self, digests: Digests) -> dict[str, Any]:
        facts = self.model.start.facts(digests) if self.model.start else {}
        return {"start": facts} if facts else {}

    def facts_before(self, digests: Digests) -> tuple[dict[str, Any], Collection[str]] | None:
        known = self.model.start.facts_before(digests) if self.model.start else None
        return known and ({"start": known[0]} if known[0] else {}, known[1])

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        return revision.revised(self, modalities)

    def uses(self) -> set[str]:
        columns = [*self.inputs, *self.validate_on.values(), *(c for cs in self.targets.values() for c in cs)]
        columns += [*(c.column for c in self.confidence.values()), *([self.only] if self.only else [])]
        return {*self.targets, *(modality_of(c) for c in columns)}

    def check(self, step: StepCheck) -> ModelSchema:
        return checked(self, step)

    def notices(self, storage: Storage) -> list[str]:
        return self.model.start.notices() if self.model.start else []

    def run(self, step: StepRun) -> Trained:
        from hyperloom.stages.train import launch

        for text in self.notices(step.storage):
            step.events.emit("note", step.name, text=f"{step.name}: {text}")
        members = self.members(step)
        scale = launch.WorkerRange(*self.scale, self.gpu, self.max_failures)
        job = self.job(step)
        return self.collect(step, job, members, launch.train(step, job, members, scale))

    @property
    def family(self) -> dict[str, int]:
        """Name -> seed of each training of a family; empty for one alone."""
        return {f"seed{s}": s for s in range(self.seed, self.seed + self.seeds)} if self.seeds > 1 else {}

    def members(self, step: StepRun) -> list[Member]:
        """The trainings of this step, the first seed first. Each is the very training that a step of its own with this
        seed would be, in that step's folder."""
        training = self.training
        alone = {n: training.model_copy(update={"seed": s, "seeds": 1}) for n, s in self.family.items()}
        members = [Member(s.seed, folder(s.stage, step.identity(s)), name) for name, s in alone.items()]
        whole = step.folder if training is self else folder(training.stage, step.identity(training))
        return members or [Member(self.seed, whole)]

    @property
    def training(self) -> Train:
        """This step without what it does once the network is trained, so that a change of that trains nothing anew."""
        return self

    def collect(self, step: StepRun, job: Job, members: Sequence[Member], done: Sequence[Fitted]) -> Trained:
        """The result: what the model is and how it ended; of a family, how the best of it did."""
        return outcome(self, step, job, members, done)

    def job(self, step: StepRun) -> Job:
        """What the loop needs. Raises RecipeError or StepFailed when the shards do not offer what the recipe wants."""
        from hyperloom.stages.train.assembly import Assembly

        return Assembly(self, step).job()
