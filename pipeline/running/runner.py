"""The runner: takes a plan to its end, steps side by side, and tells the story as events.

A step starts as soon as the manifests of what it reads are there, in a thread of its own (pipeline.running.execution);
the runner's thread feeds the pool that all steps share. A step that fails stops only the steps that read it. SIGTERM,
Ctrl-C and a cancellation let what beats store a checkpoint first; a second signal ends all at once. Other drivers may
work on the same root meanwhile (pipeline.root.claims). A run in which everything is fresh claims nothing, writes
nothing, and imports neither ray nor mlflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.commits.retry import Budget
from hyperloom.pipeline.errors import Cancelled, Ended, HyperloomError
from hyperloom.pipeline.host import faults, process, terminal
from hyperloom.pipeline.host.ending import GRACE_SECONDS, Ending
from hyperloom.pipeline.output import pages, remarking
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.planning.plan import PlannedStep, plan
from hyperloom.pipeline.planning.spending import OverBudget, Spending
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root import claims as claiming
from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.claims import Claims
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import cancelling
from hyperloom.pipeline.running.run_result import NamedRun, RunResult, left_out, nothing_to_do, origins, reused, sources
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking import replay

if TYPE_CHECKING:
    from hyperloom.pipeline.running.execution import Execution
    from hyperloom.pipeline.tracking.process import TrackingProcess

Connect = Callable[[], None]

AT_ONCE = 16
"""Most steps that run side by side."""
LONG_TURN, SHORT_TURN = 0.5, 0.1
"""Seconds for which the pool waits for units, when all steps wait for them and when some may soon want something."""
STOP_SECONDS = 3.0
"""How long a run that is broken off waits for its steps' own code."""


def run(
    loaded: RecipeFile,
    connect: Connect | None = None,
    root: str | None = None,
    only: list[str] | None = None,
    wait: float = 3600.0,
    progress: Progress | None = None,
    track: bool = True,
    budget: Budget | None = None,
    named: NamedRun | None = None,
    paged: bool = False,
) -> RunResult:
    """Run a recipe's steps that are not fresh.

    `connect` starts or joins a Ray cluster; None runs units in this process (tests, `memory://`). `wait`: seconds for
    another driver that does the same step. `paged`: write its report. Raises HyperloomError for what stops the whole
    run; a step's own failure is in the outcome.
    """
    storage = Storage(root or loaded.recipe.root)
    digests = Digests(storage)
    progress = progress or Progress()
    claiming.sweep(storage)
    steps = plan(loaded, storage, digests, only)
    if all(s.state == "fresh" for s in steps) and (named is None or named.start == 1):
        progress.all_fresh(steps)
        if track:
            replay.catch_up(storage, loaded, progress)
        page = pages.present(loaded, storage, steps) if paged else ""
        return nothing_to_do(steps, page)
    storage.check_writable()
    terminal.work()
    with Claims(storage, loaded.recipe.name, progress.say, wait) as claims:
        faults.point("driver.entered")
        steps = plan(loaded, storage, digests, only)  # another driver may have finished some while we waited
        named = named or NamedRun(event_log.new_run(storage))
        claims.run = named.id
        outcome = _Run(loaded, storage, steps, claims, progress, connect, budget or Budget(), named, paged).go(track)
    if track and not outcome.unshown:
        replay.catch_up(storage, loaded, progress)
    return outcome


@dataclass
class _Run:
    """The thread that owns the run: it starts steps as what they read is done, and feeds the pool meanwhile."""

    loaded: RecipeFile
    storage: Storage
    steps: list[PlannedStep]
    claims: Claims
    progress: Progress
    connect: Connect | None
    budget: Budget
    named: NamedRun
    paged: bool
    halted: bool = field(default=False, init=False)
    outcomes: dict[str, str] = field(default_factory=dict, init=False)
    remarks: dict[str, list[str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.spending = Spending(self.loaded.recipe.budget)

    @property
    def id(self) -> str:
        return self.named.id

    def go(self, track: bool) -> RunResult:
        from hyperloom.pipeline.running.pool import Pool
        from hyperloom.pipeline.workers.executor import Inline
        from hyperloom.pipeline.workers.rayslots import RayExecutor

        recipe, started = self.loaded.recipe, time.monotonic()
        outcome, status = RunResult(self.id), "failed"
        self.ending = Ending()
        self._recall()
        with Events(self.storage, self.id, self.named.writer, (self.progress.event, self._hear)) as self.events:
            self.events.emit(
                "run_started",
                name=recipe.name,
                recipe=self.loaded.text,
                path=self.loaded.path,
                params={"root": blot(str(self.storage))},
                total=len(self.steps),
                steps=[step.name for step in self.steps],
                driver=process.this(),
            )
            if self.named.tags:
                self.events.emit("tag", values=self.named.tags)
            tracker = replay.tracker(self.storage, self.loaded, self.id) if track else None
            claims, say = self.claims, self.progress.say
            executor = RayExecutor(self.storage, self._connect, say) if self.connect else Inline(self.storage)
            self.pool = Pool(self.storage, executor, self.events, claims.check, self.budget, claims, self.spending)
            try:
                with self.ending.on_signals(), self._watched():
                    self._all(outcome)
                status = "finished" if outcome.ok else "failed"
            except (KeyboardInterrupt, Ended) as error:
                status = "cancelled" if isinstance(error, Cancelled) else "interrupted"
                raise
            finally:
                self.pool.close()
                self._conclude(outcome, status, time.monotonic() - started)
                if tracker is not None:
                    self._finish(tracker, outcome)
        faults.point("run.finished")
        return outcome

    def _recall(self) -> None:
        """Hear again what an earlier start of this very run said of steps that it finished."""
        if self.named.start > 1:
            for event in event_log.read(self.storage, self.id):
                self._hear(event)

    def _hear(self, event: dict[str, Any]) -> None:
        if event["kind"] == "tag" and event["step"] and "outcome" in event["values"]:
            words = [event["values"]["outcome"], event["values"].get("reasons", "")]
            self.outcomes[event["step"]] = ". ".join(filter(None, words))
        if event["kind"] == "table" and event["name"] == "remarks":
            for row in event["rows"]:
                steps = self.remarks.setdefault(row["remark"], [])
                steps += [event["step"]] if event["step"] not in steps else []

    def _conclude(self, outcome: RunResult, status: str, seconds: float) -> None:
        outcome.quarantined, outcome.outcomes = left_out(self.steps), self.outcomes
        outcome.remarks = {t: remarking.listed(origins(t, self.steps) or by) for t, by in self.remarks.items()}
        outcome.sources = sources(self.steps)
        self.spending.keep(self.storage, self.loaded.recipe.name, self.id)
        if self.outcomes:
            self.events.emit("tag", values={"outcome": "; ".join(self.outcomes.values())})
        if self.paged and status in ("finished", "failed"):
            ending = {"run": self.id, "status": status, "seconds": seconds}
            outcome.page = pages.write(self.loaded, self.storage, self.steps, ending, self.progress.say)
        if outcome.page:
            self.events.emit("artifact", path=outcome.page, to=None)
        self.events.emit("run_finished", status=status, seconds=seconds)
        self.events.flush()

    def _finish(self, tracker: TrackingProcess, outcome: RunResult) -> None:
        """Let MLflow be shown what is left; who ends the run hears here what it lacks, others in the outcome."""
        outcome.unshown = tracker.finish(self.progress.say, patience=5.0 if self.ending.begun else 120.0)
        if self.ending.begun and outcome.unshown:
            self.progress.say(outcome.unshown)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Inside the block what others write of this run is heeded: a notice that ends it, what trainings report."""
        following = self.progress.following(self.storage, self.id)
        with cancelling.heeded(self.storage, self.id, self.ending), following:
            yield

    def _connect(self) -> None:
        assert self.connect is not None
        try:
            self.connect()
        except SystemExit as error:  # Ray's own answer to SIGTERM, while it starts
            self.ending.begin()
            raise self.ending.error() from error
        self.ending.arm()  # Ray takes signals for itself

    def _all(self, outcome: RunResult) -> None:
        """Run all steps, each as soon as what it reads is done."""
        waiting = list(self.steps)
        running: list[Execution] = []
        try:
            while waiting or running:
                waiting = [s for s in waiting if not self._begin(s, outcome, running)]
                if running:
                    self.pool.turn(LONG_TURN if self.pool.waiting == len(running) else SHORT_TURN)
                for ended in [e for e in running if not e.is_alive()]:
                    running.remove(ended)
                    self._enter(ended, outcome)
                if over := self.spending.over:
                    self.ending.begin(lambda over=over: OverBudget(over))  # type: ignore[misc]
                if self.ending.begun:
                    self._end()
        except BaseException:
            self._stop(running)
            raise
        outcome.order(list(self.loaded.recipe.steps))

    def _begin(self, step: PlannedStep, outcome: RunResult, running: list[Execution]) -> bool:
        """Start a step, or settle it without. False while what it reads is not done, one that is the same but for its
        name runs, or too many do."""
        twin = any(e.step.fingerprint == step.fingerprint for e in running)
        if twin or len(running) >= AT_ONCE or any(r not in outcome.states for r in step.reads):
            return False
        blocked = [r for r in step.reads if outcome.states[r] in ("failed", "blocked")]
        if blocked:
            outcome.states[step.name] = "blocked"
            outcome.missing[step.name] = "not run"
            outcome.problems[step.name] = f"not run, since it reads {', '.join(blocked)}"
        elif step.state == "fresh":
            outcome.states[step.name] = "fresh"
            self.events.emit("step_reused", step.name, **reused(step), reads=step.reads)
        else:
            running.append(self._execution(step))
            running[-1].start()
        return True

    def _execution(self, step: PlannedStep) -> Execution:
        from hyperloom.pipeline.running.execution import Execution, Shared

        inputs = {s.name: s.manifest for s in self.steps if s.name in step.reads and s.manifest}
        shared = Shared(self.loaded, self.storage, self.events, self.pool, self.ending, self._go_on, self.claims)
        return Execution(
            shared, step, {n: inputs[n] for n in step.reads}, list(self.loaded.recipe.steps).index(step.name)
        )

    def _go_on(self) -> None:
        self.claims.check()
        if self.halted:
            raise Ended

    def _enter(self, ended: Execution, outcome: RunResult) -> None:
        """Note how a step ended."""
        if ended.crash is not None:
            raise ended.crash
        name = ended.step.name
        outcome.states[name] = ended.state
        if ended.state == "done":
            self.spending.step(ended.step, ended.seconds, self.steps)
        if ended.error is not None:
            outcome.problems[name] = ended.problem
            outcome.missing[name] = getattr(ended.error, "missing", "") or "failed"
            if isinstance(ended.error, HyperloomError):
                outcome.errors[name] = ended.error

    def _end(self) -> None:
        """Wait for what was told to put away its work, and raise Ended."""
        if self.pool.beating or self.ending.awaited:
            self.progress.say(
                "the run is to end: what can store a checkpoint does so (a second signal ends all at once)"
            )
        deadline = time.monotonic() + GRACE_SECONDS
        while self._put_away() and time.monotonic() < deadline:
            self.pool.turn(SHORT_TURN, send=False)
        raise self.ending.error()

    def _put_away(self) -> bool:
        """Is something still being put away? Of a run that the budget ends, all that is in flight."""
        return self.pool.beating or self.ending.awaited or bool(self.spending.over and self.spending.busy)

    def _stop(self, running: list[Execution]) -> None:
        """Nothing may go on writing once the driver has stopped: end the slots, and the steps' threads."""
        self.halted = True
        self.pool.stop()
        for _ in range(2):
            deadline = time.monotonic() + STOP_SECONDS
            for execution in running:
                execution.join(timeout=max(0.0, deadline - time.monotonic()))
            if not any(e.is_alive() for e in running) or not self.pool.executor.abandon():
                return
