"""A tick: what one look at a schedule does. It may be called at any time, by anybody, any number of times at once.

A slot that is due is *decided* first, by one entry of the journal: it runs, or it does not and the entry says why. One
that runs is then *carried out*: under a claim, which tells whether whoever started it still lives, and under the slot's
own run id, so that a slot that was killed goes on as the same run. What is decided and not ended is taken up before
anything new is decided: the runs of a schedule never overlap.

Nothing of an earlier tick is needed: what a tick knows it read from the root.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import HyperloomError, Interrupted, SourceError, StorageError
from hyperloom.pipeline.exits import AGAIN, NEVER, Exit
from hyperloom.pipeline.host import faults, process
from hyperloom.pipeline.planning import forecast
from hyperloom.pipeline.planning.plan import PlannedStep, plan
from hyperloom.pipeline.recipes import timetable
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.recipes.schedule import CronSchedule
from hyperloom.pipeline.root.claims import LOOK, Claims, cards
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.run_result import NamedRun, RunResult
from hyperloom.pipeline.scheduling.journal import DueSlot, Journal, Standing
from hyperloom.pipeline.scheduling.trigger import TriggerCase, TriggerVerdict

FREE = AGAIN | {Exit.INTERRUPTED}
"""Ends that cost a slot no try: a busy root, no cluster, no store, somebody ended it."""
SETTLED = ("skipped", "done", "held", "failed")
LISTED = 20
"""Missed slots that an entry names; the others are counted."""
ROUNDS = 100

StartRun = Callable[[NamedRun, list[str] | None], RunResult]
"""Runs the recipe under a given id: all steps, or those named and what they need."""
HandOver = Callable[[DueSlot, int], str]
"""Hands a slot to a cluster, where a job carries it out, unless one does: the job's id; empty where so many ended."""


@dataclass(frozen=True)
class TickResult:
    """What a tick did: `state` is idle, paused, removed, skipped, running, submitted, done, held, left or failed."""

    state: str
    text: str
    exit_code: int = 0


class Tick:
    """A look at the schedule of one recipe at the instant `now`."""

    def __init__(
        self, loaded: RecipeFile, storage: Storage, now: datetime, start: StartRun, hand_over: HandOver | None = None,
        say: Callable[[str], None] = print, afterwards: Callable[[], None] = lambda: None,
    ):  # fmt: skip
        assert loaded.recipe.schedule is not None
        self.schedule: CronSchedule = loaded.recipe.schedule
        self.loaded, self.storage, self.now = loaded, storage, now
        self.start, self.hand_over, self.say, self.afterwards = start, hand_over, say, afterwards
        self.name = loaded.recipe.name
        self.journal = Journal(storage, self.name)

    def go(self, only: str = "") -> TickResult:
        """Do what is due, and once a slot is settled what comes `afterwards`; with `only` carry out that slot, if it is
        decided and open. Raises HyperloomError for what keeps it from deciding; then the slot waits."""
        result = self._go(only)
        if result.state in SETTLED:
            self.afterwards()
        return result

    def _go(self, only: str) -> TickResult:
        for _ in range(ROUNDS):
            standing = self.journal.standing()
            if standing is None or standing.status != "active":
                return self._inactive(standing)
            if standing.open is not None and only in ("", standing.open.slot):
                result = self._take_up(standing, standing.open)
                if result is not None:
                    return result
                continue
            if only:
                return TickResult("idle", f"the slot {only} is not open: it is settled, or was never decided")
            waiting = list(timetable.pending(self.schedule, self.name, timetable.instant(standing.through), self.now))
            if not waiting:
                return TickResult("idle", self._nothing(standing))
            decided, why = self._decide(standing, waiting)
            faults.point("slot.decided")
            if decided is not None and decided.open is None:
                return TickResult("skipped", f"slot {decided.through}: {why}")
        raise HyperloomError(f"the schedule {self.name!r} changes faster than it can be read. Next: tick again")

    # -- deciding ------------------------------------------------------------------------------------------------------
    def _decide(self, standing: Standing, waiting: list[datetime]) -> tuple[Standing | None, str]:
        """Settle the slots that wait: the last runs or does not, those before were missed. The new standing (None where
        another tick was faster), and why."""
        slot, missed = waiting[-1], waiting[:-1]
        verdict, sources = self._judge(standing, slot)
        after = replace(standing, through=timetable.text(slot), base=sources or standing.base)
        about: dict[str, Any] = {"slot": after.through, "decision": "run" if verdict.due else "skip"}
        if missed:
            named = [timetable.text(m) for m in missed[-LISTED:]]
            about |= {"missed": len(missed), "missed_slots": named}
        why = verdict.why + (f"; {counted(len(missed), 'slot')} missed before it" if missed else "")
        if verdict.due:
            due = DueSlot(after.through, self._run_id(slot), self._job_id(slot), why)
            after = replace(after, ran=after.through, open=due)
            about |= {"run": due.run, "job": due.job}
        return self.journal.append(standing, after, "slot", why=why, **about), why

    def _judge(self, standing: Standing, slot: datetime) -> tuple[TriggerVerdict, dict[str, str]]:
        """Does the slot run? With it the sources as they are, where all that they give is done."""
        late = self.now - timetable.due(self.schedule, self.name, slot)
        if late > self.schedule.grace and self.schedule.missed == "skip":
            return TriggerVerdict(False, f"missed: nobody was there for {_long(late)}"), {}
        if standing.ran and timedelta(0) < slot - timetable.instant(standing.ran) < self.schedule.interval:
            return TriggerVerdict(False, f"less than {_long(self.schedule.interval)} after {standing.ran}"), {}
        try:
            case = self._case(standing)
        except SourceError as error:
            if late <= self.schedule.grace:
                raise
            return TriggerVerdict(False, f"the sources cannot be read: {error}"), {}
        if all(step.state == "fresh" for step in case.steps):
            return TriggerVerdict(False, f"no new data: all {len(case.steps)} steps are fresh"), case.sources
        return self.schedule.on.judge(case), {}

    def _case(self, standing: Standing) -> TriggerCase:
        steps = plan(self.loaded, self.storage, Digests(self.storage))
        by_name = {step.name: step for step in steps}
        return TriggerCase(steps, standing.base, lambda name: self._growth(by_name[name], standing.base.get(name)))

    def _growth(self, step: PlannedStep, before: str | None) -> int | None:
        then = before and manifests.load(self.storage, step.stage.stage, before)
        if not then:
            return None
        return step.stage.growth(forecast.idle(self.storage, step, {}, self.loaded.recipe.modalities), then)

    # -- carrying out --------------------------------------------------------------------------------------------------
    def _take_up(self, standing: Standing, due: DueSlot) -> TickResult | None:
        """Carry the open slot out, unless somebody does; None where the journal has to be read again."""
        with Claims(self.storage, self.name, self.say) as claims:
            if not self._claim(claims):
                who = process.named(due.by) if due.by else "another"
                return TickResult("running", f"slot {due.slot} is run by {who}")
            faults.point("slot.claimed")
            if self.journal.standing() != standing:
                return None
            if due.tries >= self.schedule.tries:
                return self._end(due, "failed", f"it was started {due.starts} times and never ended", Exit.STEP)
            if self.hand_over is not None:
                return self._submit(due, self.hand_over)
            due = replace(due, starts=due.starts + 1, tries=due.tries + 1, by=process.this())
            after = replace(standing, open=due)
            if self.journal.append(standing, after, "start", slot=due.slot, start=due.starts) is None:
                return None
            faults.point("slot.started")
            return self._carry_out(standing, due)

    def _submit(self, due: DueSlot, hand_over: HandOver) -> TickResult:
        job = hand_over(due, self.schedule.tries)
        if not job:
            return self._end(due, "failed", f"{self.schedule.tries} jobs ended and it had not", Exit.STEP)
        return TickResult("submitted", f"slot {due.slot}: job {job}")

    def _claim(self, claims: Claims) -> bool:
        """Take the claim on the schedule, also from one that is dead (that takes a look at it). False: it lives."""
        name, beats = f"schedules/{self.name}", set[int]()
        while not claims.take(name):
            holder = claims.holder(name)
            card = next((c for c in cards(self.storage) if holder and c["owner"] == holder["owner"]), {})
            if "beat" in card:  # else it was torn, or taken away between listing and reading
                beats.add(card["beat"])
                here = (card["boot"], card["space"]) == (process.boot(), process.space())
                if here or len(beats) > 1:
                    return False
            time.sleep(LOOK)
        return True

    def _carry_out(self, standing: Standing, due: DueSlot) -> TickResult:
        try:
            state, why, base, code = self._work(standing, due)
        except (KeyboardInterrupt, Interrupted):
            self._leave(due, "interrupted", Exit.INTERRUPTED)
            raise
        except HyperloomError as error:
            if error.exit_code in FREE:
                self._leave(due, str(error), error.exit_code)
                raise
            state, why, base, code = "failed", str(error), {}, error.exit_code
        faults.point("slot.ran")
        if state == "failed" and (code in FREE or (code not in NEVER and due.tries < self.schedule.tries)):
            self._leave(due, why, code)
            return TickResult("left", f"slot {due.slot} failed and is tried again by a later tick: {why}", code)
        return self._end(due, state, why, code, base)

    def _work(self, standing: Standing, due: DueSlot) -> tuple[str, str, dict[str, str], int]:
        """How the slot ended: done, held or failed; why, the sources that it read, and an exit code."""
        verdict, case, sources = TriggerVerdict(True, due.why), self._case(standing), {}
        named = NamedRun(due.run, due.starts, {"schedule": self.name, "slot": due.slot, "why": due.why})
        while (verdict := self.schedule.on.judge(case)).first:
            result = self.start(named, list(verdict.first))
            if not result.ok:
                return "failed", *_words(result)
            sources, case = result.sources, self._case(standing)
        if not verdict.due:
            looked = {} if verdict.waits else {**case.sources, **sources}  # `first` reads some of the sources alone
            return "held", verdict.why, looked, 0
        named = replace(named, tags={**named.tags, "why": verdict.why})
        result = self.start(named, None)
        words, sources, code = _words(result)
        if verdict.why != due.why:  # known only after steps that had to be first
            words = f"{verdict.why}; {words}"
        return ("done" if result.ok else "failed"), words, sources, code

    def _leave(self, due: DueSlot, why: str, code: int) -> None:
        """Note that the slot must be started again."""
        left = replace(due, by=None, tries=due.tries - 1 if code in FREE else due.tries)
        try:
            self._settle(due, left, {}, "leave", why=why, code=code)
        except StorageError:
            pass  # then it looks as if this process had died, and is taken up as well

    def _end(self, due: DueSlot, state: str, why: str, code: int, base: dict[str, str] | None = None) -> TickResult:
        if not self._settle(
            due, None, base or {}, "end", state=state, why=why, code=code, run=due.run, starts=due.starts
        ):
            return TickResult("left", f"slot {due.slot} was taken over by another driver meanwhile", Exit.BUSY)
        faults.point("slot.ended")
        return TickResult(state, f"slot {due.slot}: {state}: {why}", code)

    def _settle(self, due: DueSlot, left: DueSlot | None, base: dict[str, str], kind: str, **about: Any) -> bool:
        """Add the entry that ends this start of the slot; False where somebody else has started it since."""
        for _ in range(ROUNDS):
            standing = self.journal.standing()
            if standing is None or standing.open is None:
                return False
            if (standing.open.slot, standing.open.starts) != (due.slot, due.starts):
                return False
            after = replace(standing, open=left, base=base or standing.base)
            if self.journal.append(standing, after, kind, slot=due.slot, **about) is not None:
                return True
        return False

    # -- words ---------------------------------------------------------------------------------------------------------
    def _inactive(self, standing: Standing | None) -> TickResult:
        if standing is None:
            raise HyperloomError(
                f"no schedule {self.name!r} was added under {self.storage}: is this the right root, is it mounted? "
                f"Next: hyperloom schedule add {self.loaded.path}"
            )
        return TickResult(standing.status, f"the schedule {self.name!r} is {standing.status}")

    def _nothing(self, standing: Standing) -> str:
        ahead = timetable.instant(standing.through) - self.now
        if ahead > timedelta(days=1):
            return (
                f"the last slot, {standing.through}, lies {_long(ahead)} ahead of this clock: one clock is wrong. "
                f"Next: hyperloom schedule resume {self.loaded.path} begins anew from now"
            )
        coming = next(timetable.slots(self.schedule, max(self.now, timetable.instant(standing.through))))
        return f"nothing is due; next slot {timetable.text(coming)}"

    def _run_id(self, slot: datetime) -> str:
        digest = hashlib.sha256(f"{self.name}/{timetable.text(slot)}".encode()).hexdigest()
        return f"{slot:%Y%m%d-%H%M%S}-{digest[:6]}"

    def _job_id(self, slot: datetime) -> str:
        digest = hashlib.sha256(f"{self.storage}\n{self.name}".encode()).hexdigest()
        return f"hyperloom-{self.name}-{digest[:8]}-{slot:%Y%m%dt%H%M%S}"


def _words(result: RunResult) -> tuple[str, dict[str, str], int]:
    """Of a run that ended: what to say of it, the sources that it read, and an exit code."""
    if not result.ok:
        words = "; ".join(f"{name}: {problem.splitlines()[0]}" for name, problem in result.problems.items())
        return words, {}, result.error.exit_code if result.error else 1
    did = [name for name, state in result.states.items() if state == "done"]
    words = "; ".join(result.outcomes.values()) or (f"{', '.join(did)} done" if did else "all steps were fresh")
    return words, result.sources, 0


def _long(time: timedelta) -> str:
    """A time in its largest fitting unit."""
    seconds = time.total_seconds()
    size, unit = next((s, u) for s, u in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")) if seconds >= s or s == 1)
    return f"{seconds / size:.3g} {unit}"
