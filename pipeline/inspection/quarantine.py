"""What went wrong and is kept: samples in quarantine, units that failed for good, and how to try them again.

A worker leaves `{space}/quarantine/{unit}.json` beside its record, the ledger leaves `{space}/failures/{unit}.json`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hyperloom.pipeline.commits.manifest import refs
from hyperloom.pipeline.commits.units import Record, left_out, load_record
from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.inspection import verify
from hyperloom.pipeline.planning import forecast
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import ledger


@dataclass(frozen=True)
class Trouble:
    """One sample left out (`key` names it) or one failed unit (`key` is empty, `trace` says where it broke)."""

    unit: str
    key: str
    error: str
    trace: str = ""
    step: str = ""


def of_recipe(
    storage: Storage, steps: list[PlannedStep], modalities: dict[str, Any], kept: list[Trouble]
) -> list[Trouble]:
    """Those of `kept` whose units are of these steps: units that they hold, or that they would run. Where only a run
    can tell what a step's units are, what failed under its name is its."""
    named = {f"{r.space}/{r.id}": s.name for s in steps if s.manifest for r in s.manifest.with_quarantine}
    folders = {step.folder: step.name for step in steps}
    unknown = set()
    if any(trouble.unit not in named for trouble in kept):
        expected = forecast.units(storage, steps, modalities)
        unknown = {name for name, units in expected.items() if units is None}
        named |= {f"{u.space}/{u.id}": name for name, units in expected.items() for u in units or ()}
    own = []
    for trouble in kept:
        name = named.get(trouble.unit) or folders.get(trouble.unit.rpartition("/")[0])
        if name or trouble.step in unknown:
            own.append(replace(trouble, step=name or trouble.step))
    return own


def grouped(kept: Iterable[Trouble], by: str) -> list[dict[str, Any]]:
    """Rows by `error` (numbers in it and the sample's key do not count) or `step`, the largest first."""
    groups: dict[str, list[Trouble]] = {}
    for trouble in kept:
        error = trouble.error.replace(trouble.key, "...") if trouble.key else trouble.error
        groups.setdefault(trouble.step or "-" if by == "step" else re.sub(r"\d+", "#", error), []).append(trouble)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [
        {
            "count": len(group),
            "steps": ", ".join(sorted({t.step or "-" for t in group})),
            "what": _what(group),
            "example": group[0].key or group[0].unit,
            "error": group[0].error,
        }
        for group in ordered
    ]


def _what(group: Sequence[Trouble]) -> str:
    """What became of them; how many of each where some are units and some samples."""
    failed = sum(not trouble.key for trouble in group)
    if failed in (0, len(group)):
        return "failed" if failed else "quarantined"
    return f"{failed} failed, {len(group) - failed} quarantined"


def troubles(storage: Storage, steps: list[PlannedStep]) -> Iterator[Trouble]:
    """Everything kept under the root, failures first; `step` is set where a finished step holds the unit."""
    owner = {(r.space, r.id): s.name for s in steps if s.manifest for r in s.manifest.with_quarantine}
    spaces = _spaces(storage)
    for space in spaces:
        for name in storage.names(f"{space}/failures"):
            try:
                value = storage.read_json(f"{space}/failures/{name}")
            except Torn as error:
                value = {"unit": f"{space}/{name.removesuffix('.json')}", "error": str(error), "trace": "", "step": ""}
            yield Trouble(value["unit"], "", value["error"], value["trace"], value["step"])
    for space in spaces:
        for name in storage.names(f"{space}/quarantine"):
            unit = name.removesuffix(".json")
            for sample in left_out(storage, space, unit):
                yield Trouble(f"{space}/{unit}", sample["key"], sample["error"], "", owner.get((space, unit), ""))


def replay(storage: Storage, steps: list[PlannedStep], check: Callable[[], None] = lambda: None) -> list[str]:
    """Take back the commits of units with samples in quarantine, and of all that was made from them, so that the next
    run does them again. Returns the names of the steps that will run. Data files stay until `gc`.

    A step that failed because of its quarantine has no manifest: units that no manifest holds are taken back as well.
    `check` is called before anything is removed; it raises where that must not be any more.
    """
    loose = _unheld(storage)
    reopened: list[str] = []
    for step in steps:
        if step.manifest is None:
            continue
        downstream = any(r in reopened for r in step.reads)
        bad = {_part(r) for r in step.manifest.with_quarantine}
        if not (bad or downstream):
            continue
        check()
        storage.delete(f"{step.folder}/manifest.json")
        ledger.forget(storage, [r for r in step.manifest.records if downstream or _part(r) in bad])
        reopened.append(step.name)
    check()
    ledger.forget(storage, loose)
    unfinished = [s.name for s in steps if s.manifest is None and loose]
    return [s.name for s in steps if s.name in {*reopened, *unfinished}]


def left(storage: Storage, taken: Collection[str]) -> list[str]:
    """Folders of the finished steps of other recipes, or of a recipe as it was, that go back to steps with the
    fingerprints `taken`. Some may have become champion, and nobody may be able to make them again: they stay."""
    reads = {each.fingerprint: (each.folder, set(refs(each.payload))) for each in verify.manifests(storage)}
    behind, last = set(taken), 0
    while len(behind) > last:
        last = len(behind)
        behind |= {fingerprint for fingerprint, (_, read) in reads.items() if read & behind}
    return sorted(folder for fingerprint, (folder, _) in reads.items() if fingerprint in behind - set(taken))


def _part(record: Record) -> str:
    """The part of the data that a unit is about: of one step's units about it, some may be made from others."""
    return str(record.meta.get("pid", record.id))


def _unheld(storage: Storage) -> list[Record]:
    """Units with samples in quarantine that belong to no finished step of any recipe in this root."""
    held = {(r.space, r.id) for manifest in verify.manifests(storage) for r in manifest.with_quarantine}
    unheld = []
    for space in _spaces(storage):
        ids = (name.removesuffix(".json") for name in storage.names(f"{space}/quarantine"))
        records = (load_record(storage, space, id_) for id_ in ids if (space, id_) not in held)
        unheld += [record for record in records if record is not None]
    return unheld


def _spaces(storage: Storage) -> list[str]:
    return [f"{top}/{sub}" for top in storage.names("") for sub in storage.names(top)]
