"""The pool through its own door: units stream, partitions are finished in order, slots go to the worker that limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from hyperloom.pipeline.commits import manifest
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.records import Records, line_of
from hyperloom.pipeline.commits.retry import Budget
from hyperloom.pipeline.commits.units import File, Output, Record, Resources, Unit, data_path, execute
from hyperloom.pipeline.errors import IntegrityError, StepFailed
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.pool import Pool
from hyperloom.pipeline.running.work import WINDOW
from hyperloom.pipeline.workers.executor import Inline, Job, Outcome
from hyperloom.pipeline.workers.startup import FailedStarts


@dataclass
class Writer:
    """Writes its unit's id; fails where told to."""

    resources: Resources = field(default_factory=Resources)
    fails: tuple[str, ...] = ()
    seconds: float = 1.0
    """How long a unit takes in the simulated cluster below."""

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        if unit.id in self.fails:
            raise ValueError("not this one")
        out.write("txt", unit.id.encode())
        out.rows = 1


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(f"memory://{tmp_path.name}")


def pool(storage: Storage, executor: Any = None) -> Pool:
    return Pool(storage, executor or Inline(storage), Events(storage, "test", "driver"))


def chain(count: int, *names: str) -> Iterator[Unit]:
    """`count` partitions through a chain of experts: each reads the one before it."""
    for i in range(count):
        for before, name in zip((None, *names), names):
            yield Unit(name, f"p{i:04d}", name, after=((before, f"p{i:04d}"),) if before else ())


def test_units_are_taken_as_they_are_needed(storage: Storage) -> None:
    ahead = 0

    def units() -> Iterator[Unit]:
        nonlocal ahead
        for i in range(3 * WINDOW):
            ahead = max(ahead, i - len(storage.names("s/units")))
            yield Unit("s", f"u{i:04d}", "w")

    made = pool(storage).run("step", "step/1", units(), {"w": Writer()})
    assert [r.id for r in made] == [f"u{i:04d}" for i in range(3 * WINDOW)]
    assert ahead <= WINDOW


def test_what_is_committed_is_found_and_what_is_torn_is_made_again(storage: Storage) -> None:
    units = [Unit("s", f"u{i}", "w") for i in range(6)]
    first = list(pool(storage).run("step", "step/1", units, {"w": Writer()}))
    before = {p: storage.read(p) for p in storage.walk("s")}
    storage.write(first[1].file.path, b"u")  # cut short
    storage.delete(first[2].file.path)
    storage.write("s/units/u3.json", before["s/units/u3.json"][:20])
    storage.delete("s/units/u4.json")
    events = Events(storage, "again", "driver", (told := []).append and (lambda e: told.append(e),))
    again = Pool(storage, Inline(storage), events).run("step", "step/1", units, {"w": Writer()})
    assert list(again) == first
    assert {p: storage.read(p) for p in storage.walk("s")} == before
    assert [e["reused"] for e in told if e["kind"] == "progress"][-1] == 2


def test_a_unit_that_is_given_twice_is_done_once_and_counted_twice(storage: Storage) -> None:
    made = pool(storage).run(
        "step", "step/1", [Unit("s", "u", "w"), Unit("s", "v", "w"), Unit("s", "u", "w")], {"w": Writer()}
    )
    assert [r.id for r in made] == ["u", "v", "u"]


def test_what_needs_a_failed_unit_fails_with_it_and_the_rest_is_done(storage: Storage) -> None:
    workers = {"a": Writer(fails=("p0003",)), "b": Writer(), "c": Writer()}
    with pytest.raises(StepFailed, match=r"3 of 30 units failed") as failed:
        pool(storage).run("step", "step/1", chain(10, "a", "b", "c"), workers)
    assert "it needs a/p0003, which failed" in str(failed.value)
    assert [len(storage.names(f"{n}/units")) for n in "abc"] == [9, 9, 9]
    made = pool(storage).run("step", "step/1", chain(10, "a", "b", "c"), dict.fromkeys("abc", Writer()))
    assert len(made) == 30
    assert storage.names("a/failures") == []


class Stillborn:
    """An executor whose processes fail to start, each with the next of `errors`; then they do what they are given."""

    def __init__(self, storage: Storage, *errors: str):
        self.storage, self.errors = storage, list(errors)
        self.starts = self.ends = 0
        self.failed = FailedStarts()

    def open(self, resources: Resources) -> Any:
        if self.starts != self.ends:
            return None
        self.starts += 1
        return self

    def start(self, job: Job, workers: dict[str, Any]) -> None:
        if not self.errors:
            job.handle = [Outcome(u, execute(self.storage, workers[u.worker], u, 1)) for u in job.units]
            return
        reason, hopeless = self.failed.add(self.errors.pop(0))
        job.handle = [Outcome(u, None, reason, infrastructure=True, hopeless=hopeless) for u in job.units]

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        return {id(j): j.handle for j in jobs}

    def close(self) -> None:
        self.ends = self.starts


def again(storage: Storage, executor: Any) -> Pool:
    """A pool that tries again at once."""
    return Pool(storage, executor, Events(storage, "test", "driver"), budget=Budget(backoff=0.0))


MISSING = """\
The actor died because of an error raised in its creation task, ray::Slot.__init__() (pid={0}, actor_id={0:032x})
  File "x.py", line 1
ModuleNotFoundError: No module named 'pandas'
"""


def test_processes_that_fail_to_start_twice_with_one_error_end_the_step(storage: Storage) -> None:
    """Between them may lie another; ids of processes do not make two of one."""
    units = [Unit("s", f"u{i}", "w") for i in range(40)]
    executor = Stillborn(storage, MISSING.format(11), "OSError: [Errno 5] bad disk", MISSING.format(12))
    with pytest.raises(StepFailed, match="No module named 'pandas'") as failed:
        again(storage, executor).run("step", "s/1", units, {"w": Writer()})
    assert executor.starts == 3
    assert "step 'step'" in str(failed.value) and "Next: " in str(failed.value) and "line 1" in str(failed.value)


def test_processes_that_fail_to_start_once_are_started_again(storage: Storage) -> None:
    executor = Stillborn(storage, MISSING.format(11), "OSError: [Errno 5] bad disk")
    fast = Budget(backoff=0.0)
    units = [Unit("s", "u", "w")]
    made = Pool(storage, executor, Events(storage, "test", "driver"), budget=fast).run(
        "a", "s/1", units, {"w": Writer()}
    )
    assert [r.id for r in made] == ["u"]


# -- a cluster in simulated time -------------------------------------------------------------------------------------


class Simulated:
    """An executor of `cpus` CPUs and `gpus` GPUs whose units take the time their workers say, by a clock of its own.
    `log` holds (start, end, space, id, slot)."""

    def __init__(self, storage: Storage, cpus: float = 2, gpus: float = 0):
        self.storage, self.cpus, self.gpus = storage, cpus, gpus
        self.now = 0.0
        self.slots: list[SimulatedSlot] = []
        self.opened: list[SimulatedSlot] = []
        self.log: list[tuple[float, float, str, str, int]] = []

    def open(self, resources: Resources) -> SimulatedSlot | None:
        used = [s.resources for s in self.slots] + [resources]
        if sum(r.cpus for r in used) > self.cpus or sum(r.gpus for r in used) > self.gpus:
            return None
        self.slots.append(SimulatedSlot(self, resources, len(self.opened)))
        self.opened.append(self.slots[-1])
        return self.slots[-1]

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        self.now = max(self.now, min(j.handle[0] for j in jobs))
        return {id(j): j.handle[1] for j in jobs if j.handle[0] <= self.now}

    def close(self) -> None:
        pass


class SimulatedSlot:
    def __init__(self, cluster: Simulated, resources: Resources, number: int):
        self.cluster, self.resources, self.number = cluster, resources, number
        self.free = cluster.now
        self.workers: set[str] = set()

    def start(self, job: Job, workers: dict[str, Any]) -> None:
        began = max(self.free, self.cluster.now)
        outcomes = []
        for unit in job.units:
            self.workers.add(unit.worker)
            took = workers[unit.worker].seconds
            outcomes.append(Outcome(unit, execute(self.cluster.storage, workers[unit.worker], unit, 1), seconds=took))
            end = began + took
            self.cluster.log.append((began, end, unit.space, unit.id, self.number))
            began = end
        self.free = began
        job.handle = (began, outcomes)

    def close(self) -> None:
        self.cluster.slots.remove(self)


def simulate(storage: Storage, cluster: Simulated, units: Iterator[Unit], workers: dict[str, Writer]) -> None:
    pool(storage, cluster).run("step", "step/1", units, workers)


def test_a_partition_goes_on_as_soon_as_what_it_needs_is_there(storage: Storage) -> None:
    cluster = Simulated(storage)
    simulate(storage, cluster, chain(40, "depth", "normals"), {"depth": Writer(), "normals": Writer()})
    began = {(space, id_): start for start, _, space, id_, _ in cluster.log}
    ended = {(space, id_): end for _, end, space, id_, _ in cluster.log}
    lag = [began["normals", f"p{i:04d}"] - ended["depth", f"p{i:04d}"] for i in range(40)]
    assert min(lag) >= 0
    assert max(lag) <= 2  # a slot may be in the middle of another unit, never of another expert's whole step
    assert ended["normals", "p0000"] < began["depth", "p0005"]


def test_idle_slots_go_to_the_expert_that_limits(storage: Storage) -> None:
    """Two experts of one size, one of them nine times slower: no slot is ever idle before the end."""
    cluster = Simulated(storage, cpus=4)
    workers = {"fast": Writer(seconds=1), "slow": Writer(seconds=9)}
    units = (Unit(name, f"p{i:04d}", name) for i in range(120) for name in ("fast", "slow"))
    simulate(storage, cluster, units, workers)
    assert len(cluster.opened) == 4
    busy = [sum(end - start for start, end, _, _, n in cluster.log if n == slot) for slot in range(4)]
    assert min(busy) > 0.9 * cluster.now
    assert sum("slow" in s.workers for s in cluster.opened) == 4
    assert sum(len(s.workers) for s in cluster.opened) < 8, "not every slot had to load every expert"


def test_experts_of_different_size_share_the_machine_and_keep_their_slots(storage: Storage) -> None:
    """A GPU expert and a CPU expert that feeds it: each has slots of its own, opened once."""
    cluster = Simulated(storage, cpus=4, gpus=1)
    workers = {
        "cpu": Writer(seconds=2),
        "gpu": Writer(Resources(1, 0.5), seconds=1),
    }
    simulate(storage, cluster, chain(60, "cpu", "gpu"), workers)
    assert len(cluster.opened) <= 6, "slots are not opened and closed all the time"
    assert {frozenset(s.workers) for s in cluster.opened} == {frozenset({"cpu"}), frozenset({"gpu"})}
    assert min(start for start, _, space, *_ in cluster.log if space == "gpu") <= 4
    assert cluster.now < 1.2 * 180 / 4, "the machine was busy"
    assert max(sum(1 for a, b, space, *_ in cluster.log if space == "gpu" and a <= t < b) for t in range(130)) <= 2


def test_experts_that_do_not_fit_beside_each_other_take_turns(storage: Storage) -> None:
    cluster = Simulated(storage, cpus=2)
    workers = {"wide": Writer(Resources(2)), "narrow": Writer(Resources(1))}
    simulate(storage, cluster, chain(20, "wide", "narrow"), workers)
    assert len(storage.names("narrow/units")) == len(storage.names("wide/units")) == 20
    assert len(cluster.opened) <= 12


def test_a_gpu_slot_is_for_one_expert_alone(storage: Storage) -> None:
    cluster = Simulated(storage, cpus=4, gpus=1)
    workers = {n: Writer(Resources(1, 0.5)) for n in ("a", "b")}
    simulate(storage, cluster, (Unit(n, f"p{i}", n) for i in range(20) for n in workers), workers)
    assert sorted(tuple(s.workers) for s in cluster.opened) == [("a",), ("b",)]


def test_a_short_unit_has_its_follower_at_hand_and_a_long_one_does_not(storage: Storage) -> None:
    for seconds, most in ((0.4, 2), (5.0, 1)):
        cluster, seen = Simulated(storage, cpus=1), []
        wait = cluster.wait
        cluster.wait = lambda jobs, s, wait=wait, seen=seen: (seen.append(len(jobs)), wait(jobs, s))[1]  # type: ignore[method-assign]
        units = (Unit(f"s{most}", f"p{i}", "w") for i in range(10))
        simulate(storage, cluster, units, {"w": Writer(seconds=seconds)})
        assert max(seen) == most


# -- records in bulk and manifests -----------------------------------------------------------------------------------


def record(i: int, space: str = "s") -> Record:
    sha = f"{i:064x}"
    files = (File(data_path(space, f"u{i}", sha, "parquet"), 10 + i, sha), File("elsewhere/x.bin", 1, sha))
    return Record(space, f"u{i}", i, files[: i % 3], i % 2, {"missing": {"a@b": i}, "name": "é"})


def test_records_come_back_as_they_were_in_any_order_of_arrival() -> None:
    wanted = [record(i, f"space{i % 3}") for i in range(20)]
    made = Records()
    for i in sorted(range(20), key=lambda i: (i * 7) % 20):
        made.put(i, wanted[i])
    assert made == wanted and list(made) == wanted and made[3:5] == wanted[3:5] and made[-1] == wanted[-1]
    assert made != wanted[:-1] and made != [*wanted[:-1], record(99)]
    assert made.filled == len(made) == 20
    summed = made.counts()
    assert len(list(made.places())) == 19 and made.counts() == summed, "walking over all says the same"
    made.put(4, record(1, "space1"))
    wanted[4] = record(1, "space1")
    assert made.counts() == Records(wanted).counts() and list(made.with_quarantine()) == [
        r for r in wanted if r.quarantined
    ]


def test_a_manifest_is_json_with_a_line_a_record_and_comes_back(storage: Storage) -> None:
    made = Manifest(
        "label", "f" * 64, {"stage": "label"}, Records(record(i) for i in range(5)), (), {"b": [1], "a": "x"}
    )
    manifest.commit(storage, made)
    manifest.commit(storage, made)  # the same once more is fine
    text = storage.read(f"{made.folder}/manifest.json")
    assert json.loads(text)["records"][2] == [0, *json.loads(line_of(record(2)).text)]
    assert manifest.load(storage, "label", "f" * 64) == made
    with pytest.raises(IntegrityError, match="other content"):
        manifest.commit(storage, Manifest("label", "f" * 64, {}, made.records))


@pytest.mark.parametrize("cut", [1, 40, -3, "record"])
def test_a_torn_manifest_is_never_taken_for_whole(storage: Storage, cut: int | str) -> None:
    made = Manifest("label", "f" * 64, {}, Records(record(i) for i in range(5)))
    manifest.commit(storage, made)
    path = f"{made.folder}/manifest.json"
    data = storage.read(path)
    lines = data.splitlines(keepends=True)
    whole = b"".join(line for line in lines if b'"u2"' not in line) if cut == "record" else data[: int(cut)]
    storage.write(path, whole)
    with pytest.raises(IntegrityError, match="not a whole manifest"):
        manifest.load(storage, "label", "f" * 64)
