"""The execution of one step: a thread that runs its stage, commits the manifest of its result, and reports as events.

It works under a claim on the step (pipeline.root.claims). Where another driver has it, it waits and takes over what
that one has finished. It never speaks to Ray: units and room on the cluster come from the pool, which another thread
owns. What goes wrong with the step is its own result; only what ends the whole run (another driver has replaced this
one) is raised, as `crash`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hyperloom.pipeline import expecting
from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.listing import Listing
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Resources, left_out
from hyperloom.pipeline.errors import ClaimError, Ended, HyperloomError, IntegrityError, StepFailed
from hyperloom.pipeline.host import faults, process, terminal
from hyperloom.pipeline.host.ending import Ending
from hyperloom.pipeline.planning.plan import PlannedStep, remember
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root.claims import LOOK, Claims
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.pool import Pool
from hyperloom.pipeline.running.run_result import reused
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.stage import StepRun


@dataclass(frozen=True)
class Shared:
    """What all steps of a run share."""

    loaded: RecipeFile
    storage: Storage
    events: Events
    pool: Pool
    ending: Ending
    check: Callable[[], None]
    """Raises when the run must not go on."""
    claims: Claims


def leave(code: int) -> int:
    """`code`, where no step of this process runs any more; else the process ends with it here and now: what a step's
    thread does in native code cannot be interrupted, and would crash while the interpreter ends."""
    if any(isinstance(thread, Execution) for thread in threading.enumerate()):
        terminal.settle()
        os._exit(code)
    return code


class Execution(threading.Thread):
    """One step, with the manifests that it reads. After it has ended `state` is done, fresh (another driver did it) or
    failed; then `error` says why."""

    def __init__(self, shared: Shared, step: PlannedStep, inputs: dict[str, Manifest], rank: int):
        super().__init__(name=f"step {step.name}", daemon=True)
        self.shared, self.step, self.inputs, self.rank = shared, step, inputs, rank
        self.state, self.problem, self.seconds = "failed", "", 0.0
        self.error: Exception | None = None
        self.crash: BaseException | None = None

    def run(self) -> None:
        try:
            self._perform()
        except BaseException as error:  # the runner raises it
            self.crash = error
        finally:
            self.shared.pool.ring()

    def _perform(self) -> None:
        step, claims = self.step, self.shared.claims
        try:
            with self.shared.pool.abroad():
                mine = self._claim()
        except ClaimError as error:
            self.shared.check()
            self.error, self.problem = error, str(error)
            return
        if not mine:
            self.state = "fresh"
            self.shared.events.emit("step_reused", step.name, **reused(step))
            return
        try:
            self._perform_mine()
        finally:
            claims.release(self._claimed)

    @property
    def _claimed(self) -> str:
        """The name of the step's claim."""
        return f"steps/{self.step.folder}"

    def _claim(self) -> bool:
        """Have the step for this driver. False when another one has finished it; then `step.manifest` is its manifest.
        Raises ClaimError when that takes too long."""
        claims, deadline, announced = self.shared.claims, time.monotonic() + self.shared.claims.wait, False
        while not claims.take(self._claimed):
            if self._finished():
                return False
            self.shared.check()
            who = claims.holder(self._claimed)
            if who is not None and time.monotonic() > deadline:
                raise ClaimError(
                    f"step {self.step.name!r} is in hand of {process.named(who)}, recipe {who['recipe']!r}. Next: "
                    "wait for it (hyperloom run --wait 86400 ...), or stop it"
                )
            if who is not None and not announced:
                claims.say(f"step {self.step.name!r} is in hand of {process.named(who)}: waiting for it")
                announced = True
            time.sleep(LOOK)
        if self._finished():
            claims.release(self._claimed)
            return False
        return True

    def _finished(self) -> bool:
        """Has another driver finished the step since it was planned?"""
        step, storage = self.step, self.shared.storage
        try:
            manifest = manifests.load(storage, step.stage.stage, step.fingerprint)
        except IntegrityError:
            return False
        if manifest is None or Listing(storage).lacks(manifest.places()):
            return False
        if expecting.wrong(step.stage, storage, manifest):
            return False
        step.manifest = manifest
        return True

    def _perform_mine(self) -> None:
        step, events, storage = self.step, self.shared.events, self.shared.storage
        about = {"stage": step.stage.stage, "fingerprint": step.fingerprint}
        began = time.monotonic()
        remember(storage, self.shared.loaded.recipe.name, step)
        read = [
            {"name": n, "stage": m.stage, "digest": m.fingerprint[:12], "uri": storage.full(m.folder)}
            for n, m in self.inputs.items()
        ]
        events.emit("step_started", step.name, **about, params=step.payload, why=step.why, inputs=read)
        try:
            step.manifest = manifest = self._work()
            self.state = "done"
        except Ended:
            raise
        except Exception as error:
            manifest, self.error, self.problem = None, error, self._failure(error)
            if self.shared.ending.begun:
                events.emit("note", step.name, text=self.problem)
            else:
                self.shared.check()
        self.seconds = time.monotonic() - began
        counts = {"rows": manifest.rows if manifest else 0, "quarantined": manifest.quarantined if manifest else 0}
        stopped = manifest is None and self.shared.ending.begun  # whatever it raised as it was stopped
        status = "interrupted" if stopped else self.state
        how = {"seconds": self.seconds, "status": status, "error": self.problem}
        events.emit("step_finished", step.name, **about, **counts, **how)

    def _failure(self, error: Exception) -> str:
        """What to tell of a failed step. An error not made for users keeps its traceback for `hyperloom failed`."""
        if isinstance(error, HyperloomError):
            return str(error)
        step = self.step
        problem = blot(f"{type(error).__name__}: {error}")
        value = {"unit": step.folder, "step": step.name, "error": problem, "trace": blot(traceback.format_exc())}
        self.shared.storage.write_json(f"{step.folder}/failures/step.json", value)
        return f"{problem}\nNext: `hyperloom failed {self.shared.loaded.path} --traces` shows where"

    def _work(self) -> Manifest:
        step, storage = self.step, self.shared.storage
        faults.point("step.started")
        if step.state == "damaged":
            self.shared.claims.confirm()
            storage.delete(f"{step.folder}/manifest.json")
        scratch: list[str] = []

        def make_scratch() -> str:
            scratch.append(tempfile.mkdtemp(prefix="hyperloom-"))
            return scratch[-1]

        job = self._step_run(make_scratch)
        try:
            result = step.stage.run(job)
        finally:
            for folder in scratch:
                shutil.rmtree(folder, ignore_errors=True)
        manifest = job.manifest(result, step.payload)
        self._judge(manifest)
        expecting.accept(job, manifest)
        self.shared.claims.confirm()
        self.shared.check()
        faults.point("manifest.before")
        manifests.commit(storage, manifest)
        faults.point("manifest.after")
        storage.delete(f"{step.folder}/failures/step.json")
        return manifest

    def _step_run(self, scratch: Callable[[], str]) -> StepRun:
        step, shared, pool = self.step, self.shared, self.shared.pool

        def cluster() -> None:
            with pool.reserve(Resources(), 0):
                pass

        inputs, compared = expecting.apart(step.stage, self.inputs)
        return StepRun(
            name=step.name,
            stage=step.stage,
            fingerprint=step.fingerprint,
            modalities=shared.loaded.recipe.modalities,
            storage=shared.storage,
            inputs=inputs,
            compared=compared,
            events=shared.events,
            run_units=lambda units, workers: pool.run(step.name, step.folder, units, workers, self.rank),
            cluster=cluster,
            scratch=scratch,
            ending=shared.ending,
            reserve=partial(pool.reserve, step=step.name),
            gpus=pool.gpus,
            meaning=step.meaning,
        )

    def _judge(self, manifest: Manifest) -> None:
        """Fail a step in which a producer left out more than the recipe allows; announce what was left out."""
        step = self.step
        for record in manifest.with_quarantine:
            samples = left_out(self.shared.storage, record.space, record.id)
            self.shared.events.emit(
                "quarantine",
                step.name,
                unit=f"{record.space}/{record.id}",
                samples=samples[:20],
                count=record.quarantined,
            )
        for space, counts in manifest.counts.items():
            total, bad = counts.rows + counts.quarantined, counts.quarantined
            if bad > step.stage.max_quarantine * total:
                raise StepFailed(
                    f"step {step.name!r}: {bad} of {total} samples of {space} are in quarantine, more than "
                    f"max_quarantine {step.stage.max_quarantine:g} allows. Next: `hyperloom failed` lists them with "
                    "their errors; mend the cause, or raise max_quarantine",
                    missing=f"{bad} of {total} samples",
                )
