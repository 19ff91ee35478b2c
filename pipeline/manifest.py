"""Manifests: the only truth about what a finished step holds.

`{root}/{stage}/{fingerprint[:12]}/manifest.json` is created last and exclusively. Readers trust it and never a listing.
It holds nothing of time, host or attempt, so an interrupted and resumed step ends in the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.errors import IntegrityError
from pipeline.fingerprint import SHORT
from pipeline.storage import Storage
from pipeline.units import File, Record


@dataclass(frozen=True)
class Manifest:
    """A finished step. `body` is the stage's own JSON (schema, statistics, metrics); `records` are its units in order;
    `files` are files that belong to the step and to no unit (weights, pictures)."""

    stage: str
    fingerprint: str
    payload: dict[str, Any]
    records: tuple[Record, ...] = ()
    files: tuple[File, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return folder(self.stage, self.fingerprint)

    @property
    def rows(self) -> int:
        return sum(r.rows for r in self.records)

    @property
    def quarantined(self) -> int:
        return sum(r.quarantined for r in self.records)

    def all_files(self) -> list[File]:
        return [f for r in self.records for f in r.files] + list(self.files)


def folder(stage: str, fingerprint: str) -> str:
    """Where a step's manifest lies, relative to the root. (Some stores refuse the colon of a stage `module:Class`.)"""
    return f"{stage.replace(':', '.')}/{fingerprint[:SHORT]}"


def load(storage: Storage, stage: str, fingerprint: str) -> Manifest | None:
    """The manifest of a finished step; None when the step is not finished. Raises IntegrityError when it is torn."""
    path = f"{folder(stage, fingerprint)}/manifest.json"
    try:
        value = json.loads(storage.read(path))
        records = tuple(Record.from_dict(r) for r in value.pop("records"))
        files = tuple(File(**f) for f in value.pop("files"))
        manifest = Manifest(records=records, files=files, **value)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(
            f"{storage.full(path)} is not a manifest ({error}). Next: remove that file, then run the same command again"
        ) from error
    if manifest.fingerprint != fingerprint:
        raise IntegrityError(
            f"{storage.full(path)} belongs to another step ({manifest.fingerprint[:12]}); remove its folder"
        )
    return manifest


def commit(storage: Storage, manifest: Manifest) -> None:
    """Create the manifest; finding the same one there already is fine, another one is not."""
    path = f"{manifest.folder}/manifest.json"
    data = json.dumps(asdict(manifest), sort_keys=True, indent=1).encode()
    if not storage.create(path, data) and storage.read(path) != data:
        raise IntegrityError(
            f"{storage.full(path)} exists with other content; another driver made it. Next: hyperloom verify"
        )
