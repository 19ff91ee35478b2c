"""Lineage: from a step, or a release that no recipe names any more, back to the raw files, by what manifests say.

A manifest's payload names the steps it was made from by their fingerprints, so the way back needs no recipe. Reads
manifests alone; what was removed is said and ends the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage

_DIGEST = re.compile(r"[0-9a-f]{32,}")
SHOWN = 12
"""Characters of a fingerprint or digest that people see."""


@dataclass
class Ancestor:
    """One step on the way: `name` in the recipe (empty where none names it), `facts` digests of raw files and weights,
    `makers` of its columns in words, `reads` what it was made from (each step once; a repetition has `again`)."""

    fingerprint: str
    stage: str
    name: str = ""
    rows: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    makers: dict[str, str] = field(default_factory=dict)
    reads: list[Ancestor] = field(default_factory=list)
    again: bool = False

    def as_json(self) -> dict[str, Any]:
        """For machines; a repetition names its fingerprint alone."""
        if self.again:
            return {"fingerprint": self.fingerprint, "stage": self.stage, "step": self.name}
        about = {"step": self.name, "stage": self.stage, "fingerprint": self.fingerprint, "rows": self.rows}
        return {**about, "facts": self.facts, "columns": self.makers, "reads": [o.as_json() for o in self.reads]}


def origin(storage: Storage, stage: str, fingerprint: str, names: Mapping[str, str]) -> Ancestor:
    """The way back from a step. `names`: fingerprint -> name of the recipe's step. Raises IntegrityError, Torn."""
    return _origin(storage, stage, fingerprint, names, set())


def _origin(storage: Storage, stage: str, fingerprint: str, names: Mapping[str, str], seen: set[str]) -> Ancestor:
    stage = stage or manifests.stage_of(storage, fingerprint)
    one = Ancestor(fingerprint, stage or "gone", names.get(fingerprint, ""), again=fingerprint in seen)
    manifest = manifests.load(storage, stage, fingerprint) if stage and not one.again else None
    if manifest is None:
        return one
    seen.add(fingerprint)
    one.rows, one.facts, one.makers = manifest.rows, dict(manifest.payload.get("facts", {})), _makers(manifest)
    for ref in dict.fromkeys(manifests.refs(manifest.payload)):
        one.reads.append(_origin(storage, "", ref, names, seen))
    return one


def _makers(manifest: Manifest) -> dict[str, str]:
    """Who made each column, in words: the kind of expert with what it reads, and the digests of its weights."""
    columns = manifest.body.get("columns")
    makers = {}
    for column, maker in columns.items() if isinstance(columns, dict) else ():
        about = maker.get("about", {}) if isinstance(maker, dict) else {}
        expert, weights = about.get("expert"), about.get("weights") or {}
        who = expert.get("type", "") if isinstance(expert, dict) else about.get("source") or about.get("kind") or ""
        reads = ", ".join(expert.get("in", ())) if isinstance(expert, dict) else ""
        digests = [str(digest) for digest in (weights.values() if isinstance(weights, dict) else weights)]
        parts = [f"{who} of {reads}" if reads else str(who), *(f"weights {digest[:SHOWN]}" for digest in digests)]
        makers[column] = ", ".join(filter(None, parts))
    return makers


def lines(one: Ancestor, head: str = "", rest: str = "") -> Iterator[str]:
    """As a tree, a line a step and one for each column and raw file."""
    rows = f", {one.rows:,} rows" if one.rows else ""
    again = " (see above)" if one.again else ""
    yield f"{head}{one.name or '-'}: {one.stage} {one.fingerprint[:SHOWN]}{rows}{again}"
    below = {column for each in one.reads for column in each.makers}
    own = [f"{column}{': ' if who else ''}{who}" for column, who in one.makers.items() if column not in below]
    own += [f"from {text}" for text in _facts(one.facts)]
    for text in own:
        yield f"{rest}{'│  ' if one.reads else '   '}{text}"
    for place, each in enumerate(one.reads):
        last = place == len(one.reads) - 1
        yield from lines(each, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    """Raw files and weights: how many, and the first of them with what tells its content."""
    for name, value in facts.items():
        entries = list(value.items()) if isinstance(value, Mapping) else value
        if not isinstance(entries, list | tuple):
            entries = [entries]
        shown = [_fact(entry) for entry in entries[:3]] + (["..."] if len(entries) > 3 else [])
        yield f"{len(entries)} {name}: {'; '.join(shown)}"


def _fact(entry: Any) -> str:
    words = [str(word) for word in (entry if isinstance(entry, list | tuple) else [entry])]
    return " ".join(dict.fromkeys(word[:SHOWN] if _DIGEST.fullmatch(word) else word for word in words))
