"""Units of work: what a slot runs, what is committed by itself, what a rerun finds done.

A `Unit` belongs to a *space* (a folder under the root, named by a fingerprint) and has an id that is unique there, so
two steps and two recipes that need the same unit share it. A `Worker` does units; it is built once per process. What
a worker writes through its `Output` is named by its content, and the unit's *record*, created exclusively after the
data, is the commit. Records hold nothing of time, host or attempt: the same work gives the same bytes.

    {root}/{space}/data/{id}-{digest}.{suffix}       data, written first
    {root}/{space}/units/{id}.json                   the record, created last
    {root}/{space}/quarantine/{id}.json              samples left out, and why (a copy of what the record counts)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from hyperloom.pipeline import plain
from hyperloom.pipeline.commits.heartbeat import Heartbeat
from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.host import faults
from hyperloom.pipeline.host.preemption import Preemption
from hyperloom.pipeline.root import sealed
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.pipeline.secrets import blot


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work. `payload` is small and JSON-able; `after` names units (space, id) that must be done before:
    a step gives each unit after those it names here."""

    space: str
    id: str
    worker: str
    payload: dict[str, Any] = field(default_factory=dict)
    after: tuple[tuple[str, str], ...] = ()
    calls: int = 0
    """Questions to a service that may cost money, at most."""
    rows: int = 0
    """Samples that it is about; 0 where that is not known beforehand."""

    @property
    def key(self) -> tuple[str, str]:
        return self.space, self.id


@dataclass(frozen=True, slots=True)
class File:
    """A committed file: path relative to the root, bytes, sha256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """The commit of a unit. `rows` counts the good samples, `quarantined` those left out; `meta` is the worker's own
    small JSON (statistics, schema)."""

    space: str
    id: str
    rows: int
    files: tuple[File, ...]
    quarantined: int = 0
    meta: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        files = [{"bytes": f.bytes, "path": f.path, "sha256": f.sha256} for f in self.files]
        value = {"id": self.id, "quarantined": self.quarantined, "rows": self.rows, "space": self.space}
        return plain.dumps({**value, "files": files, "meta": self.meta}, sort_keys=True).encode()

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Record:
        return Record(**{**value, "files": tuple(File(**f) for f in value["files"])})

    @property
    def file(self) -> File:
        """The unit's only file."""
        return self.files[0]


@dataclass(frozen=True)
class Resources:
    """What one process of a worker needs."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_mb: int = 0


class Stopped(Exception):
    """Raised by a worker that was asked to end (its machine leaves, the run ends) and has put away all that it needs to
    go on: no failure. The unit is tried `again`, in another process, unless the run ends."""

    def __init__(self, message: str, again: bool = True):
        super().__init__(message)
        self.again = again


class Worker(Protocol):
    """Does units. Travels to the process by pickle, so it holds config only until `setup`.

    A worker may have an attribute `beats: bool = True`: its units run for long and call `out.beat()` meanwhile. Then
    each goes alone, in processes that are for this worker alone, nothing waits behind it, and it is taken for hung not
    when it runs for long but when it has stopped to beat. With an attribute `budget` (pipeline.commits.retry) its
    units have attempts of their own number. With a method `ahead(unit)` it is told of a unit that waits behind the one
    that it is at, in another thread, and may begin to read.
    """

    resources: Resources

    def setup(self) -> None:
        """Once in each process, before the first unit: load weights, import heavy libraries."""

    def run(self, unit: Unit, out: Output) -> None:
        """Do one unit and hand what it made to `out`. Raising fails the attempt, never the run; StepFailed says that
        another attempt would fail in the same way; RecipeError and PluginError end the step."""


@dataclass
class Output:
    """What a worker made of one unit, gathered until it is committed.

    `attempt` counts from 1; from the third on a worker should go sample by sample: the process may have died of one.
    """

    storage: Storage
    unit: Unit
    attempt: int = 1
    rows: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    unwritten: list[Callable[[], None]] = field(default_factory=list)
    preemption: Preemption = field(default_factory=Preemption)
    """Ask it now and then in a unit that runs for long: does the machine of this process go away?"""

    def __post_init__(self) -> None:
        self.heartbeat = Heartbeat(self.storage, *self.unit.key)

    def beat(self) -> None:
        """Say that the work gets on; call it as often as you like. As long as it is called every few minutes, the unit
        is not taken for hung, however long it runs."""
        self.heartbeat.beat()

    def write(self, suffix: str, data: bytes) -> File:
        """Store `data` under a name made of the unit's id and the content's digest. Returns its file."""
        digest = sha256(data)
        path = data_path(self.unit.space, self.unit.id, digest, suffix)
        self.storage.write(path, data, durable=False)  # the commit syncs it
        file = File(path, len(data), digest)
        self.adopt(file)
        return file

    def later(self, write: Callable[[], None]) -> None:
        """Let `write`, which may call `self.write` and set `meta`, be done when the unit is committed, while the worker
        is at the next unit: encoding and waiting for the disk then cost it no time."""
        self.unwritten.append(write)

    def adopt(self, file: File) -> None:
        """Enter a file in the record that the worker has put into storage by itself, under a name of its own. Its bytes
        follow from the unit alone."""
        self.files.append(file)

    def quarantine(self, key: str, error: BaseException | str) -> None:
        """Leave the sample `key` out of this unit, saying why; it is counted, listed and can be replayed."""
        name = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.left_out.append({"key": key, "error": blot(name)})

    def crumb(self, key: str) -> None:
        """Note that the sample `key` is being worked on, for the attempt after a process that died of it."""
        self.storage.write_json(f"{self.unit.space}/crumbs/{self.unit.id}.json", key)

    def last_crumb(self) -> str | None:
        """The sample that the previous attempt was working on when it died; None if it left no note."""
        try:
            return str(self.storage.read_json(f"{self.unit.space}/crumbs/{self.unit.id}.json"))
        except (FileNotFoundError, Torn):
            return None


def read_file(storage: Storage, file: File) -> bytes:
    """The bytes of a committed file. Raises FileNotFoundError, StorageError, and Torn when they are others."""
    data = storage.read(file.path)
    if len(data) != file.bytes or sha256(data) != file.sha256:
        where = storage.full(file.path)
        raise Torn(f"{where} was cut or changed since it was committed. Next: hyperloom verify --repair")
    return data


def data_name(id_: str, sha256: str, suffix: str) -> str:
    return f"{id_}-{sha256[:12]}.{suffix}"


def data_path(space: str, id_: str, sha256: str, suffix: str) -> str:
    return f"{space}/data/{data_name(id_, sha256, suffix)}"


def record_path(space: str, id_: str) -> str:
    return f"{space}/units/{id_}.json"


def load_record(storage: Storage, space: str, id_: str) -> Record | None:
    """The committed record of a unit; None when it is not done or its record is torn."""
    try:
        return Record.from_dict(storage.read_json(record_path(space, id_)))
    except (FileNotFoundError, Torn, TypeError, KeyError):  # the latter two: of another version of ours
        return None


def record_bytes(record: Record) -> bytes:
    """What the record's file holds: it is sealed (pipeline.root.sealed)."""
    return sealed.wrap(record_path(record.space, record.id), record.to_json())


def left_out(storage: Storage, space: str, id_: str) -> list[dict[str, str]]:
    """Key and error of each sample that a unit left out. A list that is gone or torn has one entry, which says so."""
    path = f"{space}/quarantine/{id_}.json"
    try:
        samples: list[dict[str, str]] = storage.read_json(path)
        return samples
    except FileNotFoundError:
        return [{"key": "?", "error": f"the list {storage.full(path)} is gone"}]
    except Torn as error:
        return [{"key": "?", "error": str(error)}]


def is_whole(storage: Storage, record: Record) -> bool:
    """Do the record's files exist with the promised sizes? (`verify` re-reads checksums.)"""
    return all(storage.size(f.path) == f.bytes for f in record.files)


def beats(worker: Worker) -> bool:
    """Has this worker promised to beat? (See `Worker`.)"""
    return getattr(worker, "beats", False)


def execute(storage: Storage, worker: Worker, unit: Unit, attempt: int) -> Record:
    """Run one unit and commit it. One that is committed already is returned."""
    done = work(storage, worker, unit, attempt)
    return done if isinstance(done, Record) else commit(done)


def work(
    storage: Storage, worker: Worker, unit: Unit, attempt: int, preemption: Preemption | None = None
) -> Output | Record:
    """Run one unit; its record when it is committed already."""
    done = load_record(storage, *unit.key)
    if done is not None and is_whole(storage, done):
        return done
    faults.point("unit.started")
    out = Output(storage, unit, attempt, preemption=preemption or Preemption())
    try:
        worker.run(unit, out)
    finally:
        out.heartbeat.end()
    return out


def commit(out: Output) -> Record:
    """Commit what a worker made: data first, then the quarantine list, the record last."""
    storage, unit = out.storage, out.unit
    for write in out.unwritten:
        write()
    out.unwritten.clear()
    faults.point("unit.written")
    for file in out.files:
        storage.sync(file.path)
    if out.left_out:
        storage.write_json(f"{unit.space}/quarantine/{unit.id}.json", out.left_out)
    record = Record(unit.space, unit.id, out.rows, tuple(out.files), len(out.left_out), out.meta)
    if not storage.create(record_path(*unit.key), record_bytes(record)):
        rival = load_record(storage, *unit.key)
        if rival is not None and is_whole(storage, rival):
            return rival
        storage.write(record_path(*unit.key), record_bytes(record))  # a torn record, or one whose data is gone
    faults.point("unit.recorded")
    if out.attempt > 1:
        storage.delete(f"{unit.space}/crumbs/{unit.id}.json")
    return record
