"""The runner: takes a plan to its end, one step after the other, and tells the story as events.

A step runs, its manifest is created, then the next one starts. A step that fails stops only the steps that read it. A
run in which everything is fresh takes no lease, writes nothing, and imports neither ray nor mlflow.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline import events as event_log
from hyperloom.pipeline import faults, lease, manifest
from hyperloom.pipeline.digests import Digests
from hyperloom.pipeline.ending import Ending
from hyperloom.pipeline.errors import Ended, HyperloomError, StepFailed
from hyperloom.pipeline.events import Events
from hyperloom.pipeline.manifest import Manifest
from hyperloom.pipeline.plan import PlannedStep, plan, remember
from hyperloom.pipeline.progress import Progress
from hyperloom.pipeline.recipe import RecipeFile
from hyperloom.pipeline.retry import Budget
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.stage import StepRun
from hyperloom.pipeline.storage import Storage

Connect = Callable[[], None]


@dataclass
class RunResult:
    """How a run ended: step name -> fresh, done, failed or blocked, and what to say of the ones that failed."""

    run: str
    states: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """What is not there, in a few words for each step that did not end: "3 of 120 units", "not run"."""
    quarantined: int = 0
    error: HyperloomError | None = None

    @property
    def ok(self) -> bool:
        return not self.problems


def run(
    loaded: RecipeFile,
    connect: Connect | None = None,
    root: str | None = None,
    only: list[str] | None = None,
    wait: float = 60.0,
    progress: Progress | None = None,
    track: bool = True,
    budget: Budget | None = None,
) -> RunResult:
    """Run a recipe's steps that are not fresh.

    `connect` starts or joins a Ray cluster; None runs units in this process (tests, `memory://`). Raises
    HyperloomError for what stops the whole run; a step's own failure is in the outcome.
    """
    storage = Storage(root or loaded.recipe.root)
    digests = Digests(storage)
    progress = progress or Progress()
    lease.sweep(storage)
    steps = plan(loaded, storage, digests, only)
    if all(s.state == "fresh" for s in steps):
        progress.all_fresh(steps)
        catch_up(storage, loaded, progress, track)
        return RunResult("", {s.name: "fresh" for s in steps}, quarantined=_left_out(steps))
    storage.check_writable()
    with lease.Lease(storage, loaded.recipe.name, wait, progress.say) as held:
        faults.point("driver.leased")
        steps = plan(loaded, storage, digests, only)  # another driver may have finished some while we waited
        return _Run(loaded, storage, digests, steps, held.check, progress, connect, budget or Budget()).go(track)


@dataclass
class _Run:
    loaded: RecipeFile
    storage: Storage
    digests: Digests
    steps: list[PlannedStep]
    check: Callable[[], None]
    progress: Progress
    connect: Connect | None
    budget: Budget
    id: str = field(default_factory=lambda: time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + uuid.uuid4().hex[:6])

    def go(self, track: bool) -> RunResult:
        from hyperloom.pipeline.executor import Inline, RayExecutor
        from hyperloom.pipeline.pool import Pool

        recipe, started = self.loaded.recipe, time.monotonic()
        outcome = RunResult(self.id)
        status = "failed"
        with Events(self.storage, self.id, "driver", (self.progress.event,)) as self.events:
            self.events.emit(
                "run_started",
                name=recipe.name,
                recipe=self.loaded.text,
                path=self.loaded.path,
                params={"root": blot(str(self.storage))},
                total=len(self.steps),
            )
            tracker = _tracker(self.storage, self.loaded, self.id) if track else None
            say = self.progress.say
            executor = RayExecutor(self.storage, self.connect, say) if self.connect else Inline(self.storage)
            self.ending = Ending()
            self.pool = Pool(self.storage, executor, self.events, self.check, self.budget, ending=self.ending)
            try:
                with self.ending.on_sigterm():
                    for step in self.steps:
                        self._step(step, outcome)
                status = "finished" if outcome.ok else "failed"
            except (KeyboardInterrupt, Ended):
                status = "interrupted"
                raise
            finally:
                self.pool.close()
                outcome.quarantined = _left_out(self.steps)
                self.events.emit("run_finished", status=status, seconds=time.monotonic() - started)
                self.events.flush()
                if tracker is not None:
                    tracker.finish(self.progress.say, patience=5.0 if status == "interrupted" else 120.0)
        faults.point("run.finished")
        return outcome

    def _step(self, step: PlannedStep, outcome: RunResult) -> None:
        blocked = [r for r in step.reads if outcome.states.get(r) in ("failed", "blocked")]
        if blocked:
            outcome.states[step.name] = "blocked"
            outcome.missing[step.name] = "not run"
            outcome.problems[step.name] = f"not run, since it reads {', '.join(blocked)}"
            return
        inputs = {name: self._manifest(name) for name in step.reads}
        about = {"stage": step.stage.stage, "fingerprint": step.fingerprint}
        if step.state == "fresh":
            outcome.states[step.name] = "fresh"
            self.events.emit("step_reused", step.name, **about, rows=self._manifest(step.name).rows)
            return
        began = time.monotonic()
        remember(self.storage, self.loaded.recipe.name, step)
        read = [
            {"name": n, "stage": m.stage, "digest": m.fingerprint[:12], "uri": self.storage.full(m.folder)}
            for n, m in inputs.items()
        ]
        self.events.emit("step_started", step.name, **about, params=step.payload, why=step.why, inputs=read)
        try:
            step.manifest = self._work(step, inputs)
            state, problem = "done", ""
        except Ended:
            raise
        except Exception as error:
            self.check()
            if self.ending.begun:
                raise Ended() from error
            state, problem = "failed", self._failure(step, error)
            outcome.problems[step.name] = problem
            outcome.missing[step.name] = getattr(error, "missing", "") or "failed"
            outcome.error = outcome.error or (error if isinstance(error, HyperloomError) else None)
        outcome.states[step.name] = state
        made = step.manifest if state == "done" else None
        counts = {"rows": made.rows if made else 0, "quarantined": made.quarantined if made else 0}
        seconds = time.monotonic() - began
        self.events.emit("step_finished", step.name, **about, **counts, seconds=seconds, status=state, error=problem)

    def _failure(self, step: PlannedStep, error: Exception) -> str:
        """What to tell of a failed step. An error not made for users keeps its traceback for `hyperloom failed`."""
        if isinstance(error, HyperloomError):
            return str(error)
        problem = f"{type(error).__name__}: {error}"
        value = {"unit": step.folder, "step": step.name, "error": problem, "trace": traceback.format_exc()}
        self.storage.write_json(f"{step.folder}/failures/step.json", value)
        return f"{problem}\nNext: `hyperloom failed {self.loaded.path} --traces` shows where"

    def _work(self, step: PlannedStep, inputs: dict[str, Manifest]) -> Manifest:
        faults.point("step.started")
        if step.state == "damaged":
            self.storage.delete(f"{step.folder}/manifest.json")
        scratch: list[str] = []

        def make_scratch() -> str:
            scratch.append(tempfile.mkdtemp(prefix="hyperloom-"))
            return scratch[-1]

        job = StepRun(
            step.name, step.stage, step.fingerprint, self.loaded.recipe.modalities, self.storage, inputs, self.events,
            lambda units, workers: self.pool.run(step.name, step.folder, units, workers), self._cluster, make_scratch,
            self.ending, self.pool.executor.gpus, step.payload,
        )  # fmt: skip
        try:
            with self.progress.following(self.storage, self.id):
                result = step.stage.run(job)
        finally:
            for folder in scratch:
                shutil.rmtree(folder, ignore_errors=True)
        made = job.manifest(result, step.payload)
        self._judge(step, made)
        self.check()
        faults.point("manifest.before")
        manifest.commit(self.storage, made)
        faults.point("manifest.after")
        self.storage.delete(f"{step.folder}/failures/step.json")
        return made

    def _judge(self, step: PlannedStep, made: Manifest) -> None:
        """Fail a step in which a producer left out more than the recipe allows; announce what was left out."""
        rows: dict[str, list[int]] = {}
        for record in made.records:
            counts = rows.setdefault(record.space, [0, 0])
            counts[0] += record.rows + record.quarantined
            counts[1] += record.quarantined
            if record.quarantined:
                samples = self.storage.read_json(f"{record.space}/quarantine/{record.id}.json")
                self.events.emit(
                    "quarantine",
                    step.name,
                    unit=f"{record.space}/{record.id}",
                    samples=samples[:20],
                    count=len(samples),
                )
        for space, (total, bad) in rows.items():
            if bad > step.stage.max_quarantine * total:
                raise StepFailed(
                    f"step {step.name!r}: {bad} of {total} samples of {space} are in quarantine, more than "
                    f"max_quarantine {step.stage.max_quarantine:g} allows. Next: `hyperloom failed` lists them with "
                    "their errors; mend the cause, or raise max_quarantine",
                    missing=f"{bad} of {total} samples",
                )

    def _manifest(self, name: str) -> Manifest:
        found = next(s for s in self.steps if s.name == name).manifest
        assert found is not None, name
        return found

    def _cluster(self) -> None:
        self.pool.close()
        if self.connect is None:
            raise StepFailed("this stage needs a Ray cluster, and the run was started without one")
        self.connect()


def _left_out(steps: list[PlannedStep]) -> int:
    return sum(s.manifest.quarantined for s in steps if s.manifest)


def _tracker(storage: Storage, loaded: RecipeFile, run_id: str, patience: float = 10.0, follow: bool = True) -> Any:
    from hyperloom.pipeline.tracking.process import TrackingProcess
    from hyperloom.pipeline.tracking.store import store_uri

    uri = store_uri(storage, loaded.recipe.tracking)
    return TrackingProcess(storage, run_id, uri, loaded.recipe.name, patience, follow) if uri else None


def catch_up(storage: Storage, loaded: RecipeFile, progress: Progress, track: bool) -> None:
    """Replay to MLflow what earlier runs could not tell it."""
    waiting = event_log.pending(storage) if track else []
    if waiting:
        progress.say(f"{len(waiting)} earlier run(s) not yet in MLflow: replaying")
    for run_id in waiting:
        tracker = _tracker(storage, loaded, run_id, patience=2.0, follow=False)
        if tracker is None or not tracker.finish(progress.say):
            return
