"""Launching: the trainings of a step, on ordinary slots or under Ray Train.

A training of one worker is a unit on a slot (`stages.train.worker`). What several workers share, or may share, goes
through Ray Train, and so does what needs a GPU that the cluster has yet to bring up. Ray Train starts the workers,
joins them with torch.distributed and starts all of them again when one dies; everything that a new start needs is in
our own storage, so Ray is given no checkpoints and a folder that is thrown away. The only report that counts is the
loop's `trained.json`. Rank 0 writes the curve as events of the run, from where it is. What the work itself raises is
tried three times (`stages.train.failures`), dead workers spend the budget of infrastructure, nodes that say they leave
(`stages.train.notice`) spend none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hyperloom.pipeline.commits.units import Resources
from hyperloom.pipeline.errors import Ended, RecipeError, StepFailed
from hyperloom.pipeline.host.project import Parcel
from hyperloom.pipeline.stage import StepRun
from hyperloom.pipeline.workers import ray_internals
from hyperloom.stages.train import failures, fitted, notice
from hyperloom.stages.train.curve import Curve
from hyperloom.stages.train.fitted import TRAINED, Fitted
from hyperloom.stages.train.job import Job, Member
from hyperloom.stages.train.notice import TrainingStopped
from hyperloom.stages.train.worker import on_slots

GROWTH_SECONDS = 30.0
"""How long an elastic training runs before it is started anew on nodes that have come."""


@dataclass(frozen=True)
class WorkerRange:
    """Fewest and most workers, whether each wants a GPU (None: if there are enough), and how often to start again."""

    least: int = 1
    most: int = 1
    gpu: bool | None = None
    max_failures: int = 20

    @property
    def description(self) -> str:
        number = str(self.most) if self.least == self.most else f"{self.least} to {self.most}"
        return f"{number} worker{'' if self.most == 1 else 's'}"


def train(step: StepRun, job: Job, members: Sequence[Member], scale: WorkerRange) -> list[Fitted]:
    """Train the `members` of `job` unless that is done, side by side where there is room and one worker trains each;
    their files are entered in the step. Raises StepFailed."""
    small = scale.most == 1 and not job.rhythm.sharded
    if small and not (scale.gpu and step.gpus() < 1):
        return on_slots(step, job, members, scale.gpu, scale.max_failures)
    return [_on_ray_train(step, job.of(member), scale) for member in members]


def _on_ray_train(step: StepRun, job: Job, scale: WorkerRange) -> Fitted:
    done = fitted.load(job.storage, job.folder)
    if done is None:
        _fit(step, job, scale)
        done = fitted.load(job.storage, job.folder)
    if done is None:
        raise _unfinished(step.name, job)
    for file in done.files:
        step.adopt(file)
    return done


def _fit(step: StepRun, job: Job, scale: WorkerRange) -> None:
    """Run `job` under Ray Train until it ends, one way or another. Raises StepFailed where Ray gives up."""
    step.cluster()
    failures.forget(job.storage, job.folder)
    notice.withdraw(job.storage, job.folder)
    use_gpu = _room(step.name, scale)
    each = Resources(0, 1) if use_gpu else Resources(1)
    try:
        with (
            step.reserve(each, scale.most),
            step.ending.telling(lambda: notice.give(job.storage, job.folder)),
            _settings(elastic=scale.least < scale.most),
        ):
            text = f"{step.name}: starting {scale.description}; that takes half a minute or so"
            step.events.emit("note", step.name, text=text)
            _trainer(step, job, scale, use_gpu).fit()
    except Ended:
        raise
    except Exception as error:  # Ray Train raises its own kinds, with what the workers raised as text
        died = bool(getattr(error, "worker_failures", None))
        what = f"gave up after its workers died {scale.max_failures} times" if died else "was broken off by Ray"
        raise StepFailed(
            f"step {step.name!r}: training {what}: {_cause(error)}. Next: run the same command again; it continues "
            "from the last checkpoint"
        ) from error


def _trainer(step: StepRun, job: Job, scale: WorkerRange, use_gpu: bool) -> Any:
    """Ray's trainer."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    workers = scale.most if scale.least == scale.most else (scale.least, scale.most)
    return TorchTrainer(
        _worker,
        train_loop_config={"job": Parcel(job), "run": step.events.run, "step": step.name},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=use_gpu, elastic_resize_monitor_interval_s=GROWTH_SECONDS
        ),
        run_config=RunConfig(
            name=job.folder.rpartition("/")[2],
            storage_path=step.scratch(),
            failure_config=FailureConfig(max_failures=scale.max_failures, controller_failure_limit=scale.max_failures),
        ),
    )


def _room(step: str, scale: WorkerRange) -> bool:
    """Does each worker get a GPU? Raises StepFailed when the cluster cannot ever hold the workers: Ray would wait."""
    import ray

    now, later = ray.cluster_resources(), ray_internals.largest_cluster()
    have = {kind: max(now.get(kind, 0), later.get(kind, 0)) for kind in ("CPU", "GPU")}
    use_gpu = scale.gpu if scale.gpu is not None else have["GPU"] >= scale.least
    kind = "GPU" if use_gpu else "CPU"
    if have[kind] < scale.least:
        advice = "gpu: false, or leave gpu out" if use_gpu and not have["GPU"] else f"workers: {int(have[kind]) or 1}"
        raise StepFailed(
            f"step {step!r}: {scale.description} need a {kind} each, and the cluster has {have[kind]:g}. "
            f"Next: {advice}, or add nodes"
        )
    return use_gpu


def _unfinished(step: str, job: Job) -> StepFailed:
    """Why the workers ended in peace without a trained model."""
    storage, folder = job.storage, job.folder
    if notice.given(storage, folder):
        notice.withdraw(storage, folder)
        return TrainingStopped(step)
    if final := failures.final(storage, folder):
        return StepFailed(f"step {step!r}: {final}")
    why = failures.last(storage, folder) or f"the workers ended without {TRAINED}"
    return StepFailed(
        f"step {step!r}: training failed {failures.count(storage, folder)} times: {why}. Next: mend the cause and run "
        "the same command again; it continues from the last checkpoint"
    )


@contextmanager
def _settings(elastic: bool) -> Iterator[None]:
    """Ray Train's settings.

    A busy machine needs more than the usual minute to start workers, and beginning anew makes it busier; but where
    fewer would do, waiting for a node that has just been lost is in vain. On one node there is no one to be preempted
    by, and the watcher's process would compete with the workers' start.
    """
    import ray

    patience = "30" if elastic else "300"
    settings = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": patience}
    if len(ray.nodes()) == 1:
        settings |= {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_METRICS_ENABLED": "0"}
    added = {k: v for k, v in settings.items() if k not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


def _worker(config: dict[str, Any]) -> None:
    import torch
    from ray.train.torch import get_device

    import hyperloom.stages  # noqa: F401  registers the plug-ins
    from hyperloom.stages.train import loop
    from hyperloom.stages.world import World

    world, job, device = World.current(), config["job"].open(), get_device()
    attempt = world.gather(failures.attempt(job.storage, job.folder))[0]
    if attempt >= failures.LIMIT:
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    curve = Curve(job.storage, config["run"], config["step"], job.member) if world.rank == 0 else None
    if curve:
        curve.began(job, world.size, device)
    try:
        with notice.Notice(job.storage, job.folder, bool(curve), _leaving()) as request:
            loop.fit(job, world, curve or _silent, request, device)
    except (failures.Final, RecipeError) as error:  # on all ranks alike
        failures.end(job.storage, job.folder, error)
    except notice.Preempted as end:
        if curve:
            curve.note(str(end))
        if end.ask is not notice.Ask.STOP:
            raise  # Ray Train starts again, where there is room
    except Exception as error:
        failures.note(job.storage, job.folder, attempt, error)
        raise
    finally:
        if curve:
            curve.events.close()


def _leaving() -> Callable[[], bool]:
    """Has Ray said that a node of this training drains?"""
    context = ray_internals.preemption()
    return lambda: getattr(context, "preemption_info", None) is not None


def _silent(at: int, values: dict[str, float]) -> None:
    """Ranks other than 0 say nothing."""


def _cause(error: BaseException) -> str:
    """The first line of what a worker raised, out of Ray's wrapping."""
    failures = getattr(error, "worker_failures", None) or {}
    inner = next(iter(failures.values()), error)
    lines = [line for line in str(inner).strip().splitlines() if line.strip()]
    return json.dumps(lines[-1].strip()) if lines else type(inner).__name__
