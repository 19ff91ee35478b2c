"""The ledger: what is counted against units that fail, and what a step says of its units in the end.

Failures follow `retry.Budget`. A unit that fails for good leaves `{space}/failures/{id}.json`, which is removed when it
is done in a later run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hyperloom.pipeline.commits import packs
from hyperloom.pipeline.commits.retry import Budget
from hyperloom.pipeline.commits.units import Record, load_record, record_path
from hyperloom.pipeline.errors import HyperloomError, PluginError, RecipeError, StepFailed, StorageError
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.work import Work
from hyperloom.pipeline.workers.executor import Outcome

MISTAKES = (RecipeError.__name__, PluginError.__name__)


@dataclass
class Ledger:
    """Of all steps of a run."""

    storage: Storage
    events: Events
    budget: Budget

    def failed(self, work: Work, outcome: Outcome) -> None:
        """Count a failure; try the unit again or give it up. One error that ends the step is enough."""
        if work.hopeless and outcome.hopeless:
            return
        attempts, unit = work.attempts, outcome.unit
        tally = attempts.of(unit.key)
        self.events.emit(
            "failure",
            work.step,
            unit=f"{unit.space}/{unit.id}",
            error=outcome.error,
            attempt=tally.attempt,
            infrastructure=outcome.infrastructure,
        )
        if outcome.hopeless:
            work.hopeless = outcome.error
            if _mistake(outcome.error):
                self._keep_trace(work, outcome)
            return
        budget = getattr(work.workers[unit.worker], "budget", self.budget)
        if outcome.infrastructure:
            tally.infrastructure += 1
            spent = tally.infrastructure >= budget.infrastructure
        else:
            tally.task += 1
            same = outcome.repeatable and tally.error == outcome.error
            tally.error = outcome.error if outcome.repeatable else ""
            spent = outcome.final or same or tally.task >= budget.task
        attempts.keep(unit.key, tally)
        if not spent:
            work.again(unit, budget.pause(work.deaths if outcome.infrastructure else 0))
            return
        self._keep_trace(work, outcome)
        work.give_up(unit, outcome.error)

    def _keep_trace(self, work: Work, outcome: Outcome) -> None:
        """What `hyperloom failed` shows."""
        unit = outcome.unit
        failure = {"unit": f"{unit.space}/{unit.id}", "step": work.step, "error": outcome.error, "trace": outcome.trace}
        self.storage.write_json(_failure_path(*unit.key), failure)

    def finish(self, work: Work) -> Sequence[Record]:
        """Records of a step's units. Raises StepFailed, naming the units that failed for good."""
        self.progress(work, 0, force=True)
        if work.hopeless:
            if _mistake(work.hopeless):
                work.attempts.clear()  # nothing died
            raise _hopeless(work)
        work.attempts.clear()
        self._forgive(work)
        if work.failed:
            shown = "".join(f"\n  {space}/{id_}: {error}" for (space, id_), error in list(work.failed.items())[:5])
            more = f"\n  and {len(work.failed) - 5} more" if len(work.failed) > 5 else ""
            raise StepFailed(
                f"step {work.step!r}: {len(work.failed)} of {work.total} units failed for good:{shown}{more}\n"
                "Next: `hyperloom failed` shows their tracebacks; the same command tries them again",
                missing=f"{len(work.failed)} of {work.total} units",
            )
        return work.records

    def _forgive(self, work: Work) -> None:
        """Remove what an earlier run left about units that failed then and are done now."""
        for space in work.spaces:
            for name in self.storage.names(f"{space}/failures"):
                key = space, name.removesuffix(".json")
                if key not in work.failed and load_record(self.storage, *key) is not None:
                    self.storage.delete(_failure_path(*key))

    def progress(self, work: Work, workers: int, force: bool = False) -> None:
        """Say how far a step is, and how many slots work on it, at most once a second."""
        now = time.monotonic()
        if force or now - work.shown > 1.0:
            work.shown = now
            self.events.emit(
                "progress",
                work.step,
                done=work.records.filled,
                total=work.total,
                reused=work.reused,
                failed=len(work.failed),
                workers=workers,
            )


def forget(storage: Storage, records: Sequence[Record]) -> None:
    """Take back the commits of units and their lists of what was left out, so that the next run does them again."""
    packs.drop(storage, (record.space for record in records))
    for record in records:
        storage.delete(record_path(record.space, record.id))
        storage.delete(f"{record.space}/quarantine/{record.id}.json")


def _hopeless(work: Work) -> HyperloomError:
    """Why no unit of a step can be done, whatever its budget."""
    if work.hopeless.startswith("StorageError: "):
        return StorageError(work.hopeless.removeprefix("StorageError: "), transient=False)
    if mistake := _mistake(work.hopeless):
        return RecipeError(f"step {work.step!r}: {mistake}")
    return StepFailed(f"step {work.step!r}: {work.hopeless}", missing=f"{work.total - work.records.filled} units")


def _mistake(error: str) -> str:
    """What is wrong with the recipe or a plug-in; empty where it is another kind of error."""
    kind, _, text = error.partition(": ")
    return text if kind in MISTAKES else ""


def _failure_path(space: str, id_: str) -> str:
    return f"{space}/failures/{id_}.json"
