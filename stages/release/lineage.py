"""Lineage: from a registered version back to the model's step, the shards, the experts and their weights, and the code.

Digests and fingerprints only, so that whoever holds the version can ask any root and any checkout whether it is theirs.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.stages.distill import teachers
from hyperloom.stages.provenance import LONGEST
from hyperloom.stages.results import Judged, Trained

SOURCES = ("pipeline", "stages")
HERE = Path(__file__).parents[2]


def tags(model: Manifest, report: Manifest) -> dict[str, str]:
    """What the version is tagged with. `made_by/COLUMN` names the expert behind each column of the shards."""
    judged_on = Judged.from_manifest(report).lineage
    fixed = {
        "model": f"{model.stage}/{model.fingerprint}",
        "report": f"{report.stage}/{report.fingerprint}",
        "shards": judged_on.shards,
        "trained_on": _data(model),
        "source.sha256": snapshot(),
        "source.commit": commit(),
    }
    taught = Trained.from_manifest(model).taught
    fixed |= {"learned_from": teachers.sentence(taught)[:LONGEST]} if taught else {}
    columns = {column: maker(about) for column, about in sorted(judged_on.columns.items())}
    return fixed | {f"made_by/{column}": producer for column, producer in columns.items()}


def maker(about: Mapping[str, Any]) -> str:
    """The expert behind a column: kind, type, revision, and the sha256 of its weights."""
    about = about.get("about", about)
    expert = about.get("expert") or {}
    if not expert:
        return "raw data"
    weights = "".join(f" weights:{digest}" for digest in about.get("weights") or ())
    return f"{about.get('kind', 'expert')} {expert.get('type', '')} revision {about.get('revision', 1)}{weights}"


@cache
def snapshot() -> str:
    """sha256 over the Python sources of the engine and the stages: which code this was. Looked at once a process, whose
    code does not change when its files do."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for file in sorted(Path(HERE, folder).rglob("*.py")):
            digest.update(file.relative_to(HERE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def commit() -> str:
    """The git commit of the checkout, with `-dirty` after it when files differ; empty where there is no checkout."""
    if not (HERE / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        ran = subprocess.run(
            command, cwd=HERE, capture_output=True, text=True, timeout=10, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _data(model: Manifest) -> str:
    """The fingerprint of the shards that the model's step read, as far as its payload says."""
    return str((model.payload.get("config") or {}).get("data", ""))
