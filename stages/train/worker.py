"""The worker of training: one training of one worker, on a slot, so that it begins where a process is at hand.

The unit's space is the folder of the training and its record names the trained files by digest; checkpoints, the curve
and `trained.json` are as under Ray Train, since both run `stages.train.loop`. Attempts are the pool's: what the work
raises is tried three times, a process that died `max_failures` times, a loss that is no number not again. A notice
leads to a checkpoint; then the unit goes on in another process, or the run ends. Imports no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hyperloom.pipeline.commits.retry import Budget
from hyperloom.pipeline.commits.units import Output, Record, Resources, Stopped, Unit, Worker
from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.train import fitted, notice
from hyperloom.stages.train.curve import Curve
from hyperloom.stages.train.fitted import Fitted
from hyperloom.stages.train.job import Job, Member

if TYPE_CHECKING:
    import torch

TRAINING = "training"


@dataclass
class Trainer:
    """Trains members of `job` for the step `step` of the run `run_id`. A unit's payload is {"seed", "name"}."""

    job: Job
    step: str
    run_id: str
    budget: Budget
    resources: Resources = field(default_factory=Resources)
    beats: ClassVar[bool] = True

    def setup(self) -> None:
        import hyperloom.stages  # noqa: F401  registers the plug-ins

    def run(self, unit: Unit, out: Output) -> None:
        job = self.job.of(Member(folder=unit.space, **unit.payload))
        done = fitted.load(job.storage, job.folder) or self._train(job, out)
        for file in done.files:
            out.adopt(file)
        out.meta = done.about

    def _train(self, job: Job, out: Output) -> Fitted:
        from hyperloom.stages.train import loop
        from hyperloom.stages.world import World

        curve, device = Curve(job.storage, self.run_id, self.step, job.member), self._device()
        curve.began(job, 1, device)
        try:
            with out.preemption, notice.Notice(job.storage, job.folder, True, out.preemption) as request:
                loop.fit(job, World(), curve, request, device, out.beat)
        except notice.Preempted as end:
            curve.note(str(end))
            raise Stopped(str(end), again=end.ask is not notice.Ask.STOP) from end
        finally:
            curve.events.close()
        done = fitted.load(job.storage, job.folder)
        assert done is not None, job.folder
        return done

    def _device(self) -> torch.device:
        import torch

        return torch.device("cuda", torch.cuda.current_device()) if self.resources.gpus else torch.device("cpu")


def on_slots(step: StepRun, job: Job, members: Sequence[Member], gpu: bool | None, max_failures: int) -> list[Fitted]:
    """Train `members`, side by side as far as there is room; their records are entered in the step. `gpu`: None takes
    one for each where the cluster has any. Raises StepFailed."""
    with_gpu = step.gpus() >= 1 if gpu is None else gpu
    resources = Resources(job.rhythm.threads, 1.0 if with_gpu else 0.0)
    worker = Trainer(job, step.name, step.events.run, Budget(infrastructure=max_failures + 1), resources)
    units = [Unit(m.folder, TRAINING, TRAINING, {"seed": m.seed, "name": m.name}) for m in members]
    records = _run(step, units, {TRAINING: worker})
    step.records = [*step.records, *records]
    return [Fitted(r.meta, r.files) for r in records]


def _run(step: StepRun, units: list[Unit], workers: dict[str, Worker]) -> Sequence[Record]:
    """The units' records. When the run is to end, each training is told to, at a checkpoint."""

    def tell() -> None:
        for unit in units:
            notice.give(step.storage, unit.space)

    for unit in units:
        notice.withdraw(step.storage, unit.space)
    try:
        with step.ending.telling(tell):
            return step.run_units(units, workers)
    except StepFailed as error:
        if any(notice.given(step.storage, u.space) for u in units):
            raise notice.TrainingStopped(step.name) from error
        raise
    finally:
        for unit in units:
            notice.withdraw(step.storage, unit.space)
