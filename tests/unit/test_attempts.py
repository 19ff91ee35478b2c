"""What a worker may say of an attempt: not again, elsewhere, not now; and budgets of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.commits.retry import Budget
from hyperloom.pipeline.commits.units import Output, Resources, Stopped, Unit
from hyperloom.pipeline.errors import PluginError, RecipeError, StepFailed, StorageError
from hyperloom.pipeline.host.preemption import Preemption, unblock
from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.pool import Pool
from hyperloom.pipeline.workers.executor import Inline

QUICK = Budget(backoff=0.0)


@dataclass
class Raises:
    """Raises the errors one after the other, then works."""

    errors: list[Exception]
    budget: Budget = QUICK
    resources: Resources = field(default_factory=Resources)
    beats: bool = True
    attempts: int = 0

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr("hyperloom.pipeline.running.pool.STOPPED_PAUSE", 0.0)
    storage = Storage(str(tmp_path))
    return Pool(storage, Inline(storage), Events(storage, "r", "driver"))


def _run(pool: Pool, worker: Raises) -> Any:
    return pool.run("s", "toy/s", [Unit("toy/s", "u", "w")], {"w": worker})


def _failures(pool: Pool) -> int:
    pool.events.flush()
    return sum(e["kind"] == "failure" for e in event_log.read(pool.storage, "r"))


def test_a_worker_says_that_another_attempt_is_of_no_use(pool: Pool) -> None:
    worker = Raises([StepFailed("no number. Next: lower the rate"), ValueError()])
    with pytest.raises(StepFailed, match=r"toy/s/u: no number\. Next: lower the rate"):
        _run(pool, worker)
    assert worker.attempts == 1 and _failures(pool) == 1


@pytest.mark.parametrize("error", [RecipeError("no output 'y'"), PluginError("pip install it")])
def test_a_mistake_of_the_recipe_ends_the_step_at_its_first_attempt(pool: Pool, error: Exception) -> None:
    worker = Raises([error] * 9)
    units = [Unit("toy/s", name, "w") for name in "abcdef"]
    with pytest.raises(RecipeError, match=f"step 's': {error}"):
        pool.run("s", "toy/s", units, {"w": worker})
    assert worker.attempts <= 2, "the next unit lay in the slot already"
    assert _failures(pool) == 1
    assert pool.storage.names("toy/s/failures") == ["a.json"], "its traceback can be looked at"
    assert pool.storage.names("toy/s/attempts") == [], "nobody died"
    worker.errors.clear()
    assert len(pool.run("s", "toy/s", units, {"w": worker})) == 6
    assert pool.storage.names("toy/s/failures") == []


@pytest.mark.parametrize(
    "errors, attempts",
    [
        ([TypeError("not 'dict'")] * 9, 2),
        ([ValueError("one"), ValueError("two"), ValueError("one")], 3),
        ([RuntimeError("the device is busy")] * 9, 3),
        ([OSError("too many open files")] * 9, 3),
    ],
)
def test_the_same_error_of_the_work_itself_comes_twice_at_most(
    pool: Pool, errors: list[Exception], attempts: int
) -> None:
    worker = Raises(errors)
    with pytest.raises(StepFailed):
        _run(pool, worker)
    assert worker.attempts == attempts


def test_a_worker_that_was_told_to_leave_costs_no_attempt(pool: Pool) -> None:
    worker = Raises([Stopped("leaving")] * 5)
    assert len(_run(pool, worker)) == 1
    assert worker.attempts == 6 and _failures(pool) == 0


def test_a_worker_that_was_told_to_end_is_not_begun_again(pool: Pool) -> None:
    worker = Raises([Stopped("stop on notice", again=False)] * 2)
    with pytest.raises(StepFailed, match="stop on notice"):
        _run(pool, worker)
    assert worker.attempts == 1 and _failures(pool) == 0
    assert pool.storage.names("toy/s/failures") == []


def test_a_worker_has_attempts_of_its_own_number(pool: Pool) -> None:
    worker = Raises([StorageError("away")] * 9, Budget(infrastructure=2, backoff=0.0))
    with pytest.raises(StepFailed):
        _run(pool, worker)
    assert worker.attempts == 2


def test_sigterm_ends_a_process_unless_somebody_heeds_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    preemption = Preemption()
    try:
        preemption.on_sigterm()
        with preemption:
            assert not preemption()
            os.kill(os.getpid(), signal.SIGTERM)
            assert preemption()
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    pid = os.fork()
    if not pid:
        Preemption().on_sigterm()
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_a_slot_whose_sigterm_is_blocked_takes_no_notice_and_its_children_can_be_ended() -> None:
    """So it is in a private cluster, where the driver is told too and says what is to be done."""
    pid = os.fork()
    if not pid:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        preemption = Preemption()
        preemption.on_sigterm()
        unblock()
        os.kill(os.getpid(), signal.SIGTERM)
        child = subprocess.Popen(["sleep", "50"])  # returns once it is that
        child.terminate()
        ended = child.wait()
        os._exit(7 if not preemption() and ended == -signal.SIGTERM else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
