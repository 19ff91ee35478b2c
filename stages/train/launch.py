"""Launching: a training job under Ray Train.

Ray Train starts the workers, joins them with torch.distributed and starts all of them again when one dies; everything
that a new start needs is in our own storage, so Ray is given no checkpoints and a folder that is thrown away. The only
report that counts is the loop's `trained.json`. Rank 0 writes the curve as events of the run, from where it is. What
the work itself raises is tried three times (`stages.train.failures`), dead workers spend the budget of infrastructure.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline import events as event_log
from pipeline.errors import StepFailed
from pipeline.events import Events
from pipeline.stage import StepRun
from pipeline.storage import Storage, sha256
from stages.train import failures
from stages.train.job import TRAINED, Job


def train(step: StepRun, job: Job, workers: int, gpu: bool | None, max_failures: int) -> None:
    """Train `job` on `workers` processes of the cluster unless that is done. Raises StepFailed."""
    if finished(job):
        return
    step.cluster()
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    alone = len(ray.nodes()) == 1
    use_gpu = gpu if gpu is not None else ray.cluster_resources().get("GPU", 0) >= workers
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "run": step.events.run, "step": step.name},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=step.fingerprint[:12],
            storage_path=step.scratch(),
            failure_config=FailureConfig(max_failures=max_failures),
        ),
    )
    failures.forget(job.storage, job.folder)
    try:
        with _settings(alone):
            trainer.fit()
    except SystemExit as error:  # Ray Train's answer to Ctrl-C: it ends its workers and would end us with status 0
        raise KeyboardInterrupt from error
    except Exception as error:  # Ray Train raises its own kinds, with what the workers raised as text
        raise StepFailed(
            f"step {step.name!r}: training gave up after its workers died {max_failures} times: {_cause(error)}. "
            "Next: run the same command again; it continues from the last checkpoint"
        ) from error
    if not finished(job):
        why = failures.last(job.storage, job.folder) or f"the workers ended without {TRAINED}"
        raise StepFailed(
            f"step {step.name!r}: training failed {failures.count(job.storage, job.folder)} times: {why}. Next: mend "
            "the cause and run the same command again; it continues from the last checkpoint"
        )


@contextmanager
def _settings(alone: bool) -> Iterator[None]:
    """Ray Train's settings, and this process's own SIGINT handler again afterwards, which Ray Train replaces.

    A busy machine needs more than the usual minute to start workers, and beginning anew makes it busier. On one node
    there is no one to be preempted by, and the watcher's process would compete with the workers' start.
    """
    wanted = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300"}
    if alone:
        wanted |= {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_METRICS_ENABLED": "0"}
    added = {k: v for k, v in wanted.items() if k not in os.environ}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)
        if main:
            signal.signal(signal.SIGINT, handler)


def finished(job: Job) -> bool:
    """Is the training done, and are its files what it left?"""
    try:
        files = job.storage.read_json(f"{job.folder}/{TRAINED}")["files"]
        return all(sha256(job.storage.read(f"{job.folder}/{n}")) == digest for n, digest in files.items())
    except (FileNotFoundError, ValueError, KeyError):
        return False


class Curve:
    """Passes figures on as events of the run, those that a died worker has passed on already left out."""

    def __init__(self, storage: Storage, run: str, step: str):
        self.events, self.step = Events(storage, run, f"train-{step}"), step
        mine = (e for e in event_log.read(storage, run) if e["writer"] == self.events.writer and e["kind"] == "metric")
        self.told = {(key, e["at"]) for e in mine for key in e["values"]}

    def __call__(self, at: int, values: dict[str, float]) -> None:
        new = {k: v for k, v in values.items() if (k, at) not in self.told}
        if new:
            self.events.metric(self.step, new, at)


def _worker(config: dict[str, Any]) -> None:
    import stages  # noqa: F401  registers the plug-ins
    from stages.train import loop
    from stages.train.world import World

    world, job = World.current(), config["job"]
    attempt = world.gather(failures.count(job.storage, job.folder))[0]
    if attempt >= failures.LIMIT:
        return
    curve = Curve(job.storage, config["run"], config["step"]) if world.rank == 0 else None
    try:
        loop.fit(job, world, curve or _silent)
    except Exception as error:
        failures.note(job.storage, job.folder, attempt, error)
        raise
    finally:
        if curve:
            curve.events.close()


def _silent(at: int, values: dict[str, float]) -> None:
    """Ranks other than 0 say nothing."""


def _cause(error: BaseException) -> str:
    """The first line of what a worker raised, out of Ray's wrapping."""
    failures = getattr(error, "worker_failures", None) or {}
    inner = next(iter(failures.values()), error)
    lines = [line for line in str(inner).strip().splitlines() if line.strip()]
    return json.dumps(lines[-1].strip()) if lines else type(inner).__name__
