"""Manifests: the only truth about what a finished step holds.

`{root}/{stage}/{fingerprint[:12]}/manifest.json` is created last and exclusively. Readers trust it and never a listing.
It holds nothing of time, host or attempt, so an interrupted and resumed step ends in the same bytes.

It is JSON with a line for each record, `[<number of its space>, <what pipeline.commits.records keeps>]`. Lines are
written and read as they are, without a look into them: a step may have a million. Its last entry is the sha256 of all
bytes before that line. A manifest that was cut or changed, or that lies in another step's folder, is `Torn`, and
nothing in it is believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hyperloom.pipeline import plain
from hyperloom.pipeline.commits.records import Counts, FilePlace, RecordReader, Records, place
from hyperloom.pipeline.commits.units import File, Record
from hyperloom.pipeline.errors import IntegrityError, Torn
from hyperloom.pipeline.fingerprint import SHORT
from hyperloom.pipeline.root.storage import Storage

PART = 1 << 20
"""Bytes written at a time."""
_DIGEST = b' "sha256": "'
"""How the line with the digest begins; no other does."""


@dataclass(frozen=True)
class Manifest:
    """A finished step. `body` is the stage's own JSON (schema, statistics, metrics); `records` are its units in order;
    `files` are files that belong to the step and to no unit (weights, pictures)."""

    stage: str
    fingerprint: str
    payload: dict[str, Any]
    records: Sequence[Record] = ()
    files: tuple[File, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return folder(self.stage, self.fingerprint)

    @property
    def counts(self) -> dict[str, Counts]:
        """By space: how many records, samples, samples left out and bytes."""
        return self._records.counts()

    @property
    def rows(self) -> int:
        return sum(c.rows for c in self.counts.values())

    @property
    def quarantined(self) -> int:
        return sum(c.quarantined for c in self.counts.values())

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return sum(c.bytes for c in self.counts.values()) + sum(f.bytes for f in self.files)

    @property
    def with_quarantine(self) -> Iterator[Record]:
        """The records of units that left samples out."""
        return self._records.with_quarantine()

    def places(self) -> Iterator[FilePlace]:
        """Where all files must lie, and how long they must be."""
        yield from self._records.places()
        yield from map(place, self.files)

    def lines(self, spaces: dict[str, int]) -> Iterator[bytes]:
        """The records as they stand in the file, many at a time, with what separates them; `spaces` is filled with the
        number of each space."""
        comma = b""
        for space, lines in self._records.blocks():
            start = b"\n  [%d," % spaces.setdefault(space, len(spaces))
            yield comma + start + (b"," + start).join([line[1:] for line in lines])
            comma = b","

    @cached_property
    def _records(self) -> Records:
        return self.records if isinstance(self.records, Records) else Records(self.records)

    def all_files(self) -> Iterator[File]:
        for record in self.records:
            yield from record.files
        yield from self.files


def folder(stage: str, fingerprint: str) -> str:
    """Where a step's manifest lies, relative to the root. (Some stores refuse the colon of a stage `module:Class`.)"""
    return f"{stage.replace(':', '.')}/{fingerprint[:SHORT]}"


def load(storage: Storage, stage: str, fingerprint: str) -> Manifest | None:
    """The manifest of a finished step; None when the step is not finished. Raises Torn, and IntegrityError where two
    steps have the same short fingerprint."""
    path = f"{folder(stage, fingerprint)}/manifest.json"
    try:
        manifest = read(storage, path)
    except FileNotFoundError:
        return None
    if manifest.fingerprint != fingerprint:
        raise IntegrityError(
            f"{storage.full(path)} belongs to another step ({manifest.fingerprint[:12]}); remove its folder"
        )
    return manifest


def anywhere(storage: Storage, fingerprint: str, likely: str = "") -> Manifest | None:
    """The manifest of a finished step of whatever stage, looked for under `likely` first; None when there is none."""
    stage = stage_of(storage, fingerprint, likely)
    return load(storage, stage, fingerprint) if stage else None


def descent(storage: Storage, *ends: Manifest) -> list[str]:
    """The identities of the steps of `ends` and of all that led to them, sorted. Of others than `ends` only what says
    what they read is looked at, not their records."""
    known = {end.fingerprint: end.payload for end in ends}
    waiting = [ref for end in ends for ref in refs(end.payload)]
    while waiting:
        fingerprint = waiting.pop()
        if fingerprint not in known:
            stage = stage_of(storage, fingerprint)
            known[fingerprint] = _payload(storage, stage, fingerprint) if stage else {}
            waiting += refs(known[fingerprint])
    return sorted(known)


def read(storage: Storage, path: str) -> Manifest:
    """The manifest at `path`. Raises FileNotFoundError, StorageError, and Torn when it is not what was committed."""
    try:
        manifest = _parsed(storage.lines(path))
        if path != f"{manifest.folder}/manifest.json":
            raise ValueError(f"it is the one of {manifest.folder}")
        return manifest
    except Torn:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Torn(f"{storage.full(path)}: not a whole manifest: {error}. Next: hyperloom verify --repair") from error


def _parsed(lines: Iterator[bytes]) -> Manifest:
    """Raises ValueError and its like for what is not a whole manifest."""
    records, rest, digest = RecordReader(), [], hashlib.sha256()
    for line in lines:
        if line.startswith(_DIGEST):
            break
        digest.update(line)
        if line.startswith(b"  ["):
            records.take(line)
        else:
            rest.append(line)
    else:
        raise ValueError("its end is missing")
    if line + b"".join(lines) != _end(digest):
        raise ValueError("it was changed: its digest is another one")
    value = json.loads(b"".join(rest).rstrip(b",\n") + b"}")
    promised, whole = value.pop("units"), records.end(value.pop("spaces"))
    if value.pop("records") or len(whole) != promised:
        raise ValueError(f"{len(whole)} records instead of {promised}")
    files = tuple(File(**f) for f in value.pop("files"))
    return Manifest(records=whole, files=files, body=_shared(value.pop("body"), {}), **value)


def commit(storage: Storage, manifest: Manifest) -> None:
    """Create the manifest; finding the same one there already is fine, another one is not."""
    path = f"{manifest.folder}/manifest.json"
    if not storage.create(path, _parts(manifest)) and storage.read(path) != b"".join(_parts(manifest)):
        raise IntegrityError(
            f"{storage.full(path)} exists with other content; another driver made it. Next: hyperloom verify"
        )


def starting(storage: Storage, prefix: str) -> tuple[str, str] | None:
    """Stage and fingerprint of the step whose fingerprint starts so; None where there is none, or several."""
    if len(prefix) < 6:
        return None
    places = [
        (stage, name)
        for stage in storage.names("")
        for name in storage.names(stage)
        if name.startswith(prefix[:12]) and storage.exists(f"{stage}/{name}/manifest.json")
    ]
    if len(places) != 1:
        return None
    stage, name = places[0]
    fingerprint = read(storage, f"{stage}/{name}/manifest.json").fingerprint
    return (stage, fingerprint) if fingerprint.startswith(prefix) else None


def stage_of(storage: Storage, fingerprint: str, likely: str = "") -> str:
    """The folder of the stage that made a step; empty when there is none."""
    names = ([likely] if likely else []) + [name for name in storage.names("") if name != likely]
    return next((n for n in names if storage.exists(f"{folder(n, fingerprint)}/manifest.json")), "")


def _payload(storage: Storage, stage: str, fingerprint: str) -> dict[str, Any]:
    mark, path = b' "payload": ', f"{folder(stage, fingerprint)}/manifest.json"
    try:
        for line in storage.lines(path):
            if line.startswith(mark):
                return json.loads(line.removeprefix(mark).rstrip(b",\n"))
        raise ValueError("it says nothing of what it was made from")
    except Torn:
        raise
    except ValueError as error:
        raise Torn(f"{storage.full(path)}: not a whole manifest: {error}. Next: hyperloom verify --repair") from error


def refs(value: Any) -> Iterator[str]:
    """Fingerprints of the steps that a payload names."""
    if isinstance(value, dict) and set(value) == {"step"} and isinstance(value["step"], str):
        yield value["step"]
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from refs(item)


def as_read(body: dict[str, Any]) -> dict[str, Any]:
    """A body as whoever reads the manifest later gets it, so that a step finds the same in this run as in a later one:
    keys in order, lists for tuples. Raises TypeError for anything but JSON's own types."""
    return json.loads(_json(body))


def _parts(manifest: Manifest) -> Iterator[bytes]:
    """The manifest's bytes, about PART at a time."""
    part: list[bytes] = []
    size, digest = 0, hashlib.sha256()
    for line in _lines(manifest):
        digest.update(line)
        part.append(line)
        size += len(line)
        if size > PART:
            yield b"".join(part)
            part, size = [], 0
    yield b"".join([*part, _end(digest)])


def _lines(manifest: Manifest) -> Iterator[bytes]:
    files = [{"bytes": f.bytes, "path": f.path, "sha256": f.sha256} for f in manifest.files]
    yield b"{\n"
    for name, value in (("body", manifest.body), ("files", files), ("fingerprint", manifest.fingerprint)):
        yield b' "%s": %s,\n' % (name.encode(), _json(value))
    yield b' "payload": %s,\n "records": [' % _json(manifest.payload)
    spaces: dict[str, int] = {}
    yield from manifest.lines(spaces)
    yield b'\n ],\n "spaces": %s,\n "stage": %s,\n' % (_json(list(spaces)), _json(manifest.stage))
    yield b' "units": %d,\n' % len(manifest.records)


def _end(digest: hashlib._Hash) -> bytes:
    """What follows the bytes that `digest` is of."""
    return b'%s%s"\n}\n' % (_DIGEST, digest.hexdigest().encode())


def _json(value: Any) -> bytes:
    return plain.dumps(value, sort_keys=True).encode()


def _shared(value: Any, known: dict[str, str]) -> Any:
    """`value` with equal strings kept once: group names and ids repeat thousands of times."""
    if isinstance(value, str):
        return known.setdefault(value, value)
    if isinstance(value, list):
        value[:] = [_shared(v, known) for v in value]
    elif isinstance(value, dict):
        for key, item in value.items():
            value[key] = _shared(item, known)
    return value
