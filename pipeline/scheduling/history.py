"""What a schedule did, as rows for people, newest first: one a slot that was decided, one for each change by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.scheduling.journal import Journal, JournalEntry


def rows(journal: Journal, count: int) -> list[dict[str, Any]]:
    """Up to `count` rows. `state` of a slot: skipped, waiting (decided, not started), running (started, and neither
    left nor ended; its process may be dead), left, done, held or failed."""
    out: list[dict[str, Any]] = []
    later: list[JournalEntry] = []
    for entry in journal.entries():
        if len(out) == count:
            break
        if entry.kind in ("start", "leave", "end"):
            later.append(entry)
        elif entry.kind == "slot":
            out.append(_slot(entry, later))
            later = []
        else:
            out.append({"slot": entry.at, "state": entry.kind, "why": entry.about.get("why", ""), "outcome": ""})
    return out


def overview(storage: Storage, names: list[str]) -> Iterator[dict[str, Any]]:
    """A row for each schedule: where it stands, and how its last slot went."""
    for name in names:
        journal = Journal(storage, name)
        standing = journal.standing()
        if standing is not None:
            last = next((r for r in rows(journal, 20) if r["state"] not in ("add", "pause", "resume", "remove")), {})
            yield {
                "schedule": name,
                "status": standing.status,
                "slot": last.get("slot", ""),
                "state": last.get("state", ""),
                "outcome": last.get("outcome") or last.get("why", ""),
            }


def _slot(entry: JournalEntry, later: list[JournalEntry]) -> dict[str, Any]:
    """`later`: what became of it, newest first."""
    about = entry.about
    row = {"slot": about["slot"], "state": "skipped", "why": about["why"], "outcome": ""}
    if about["decision"] == "run":
        last = later[0] if later else None
        states = {"start": "running", "leave": "left"}
        row["state"] = "waiting" if last is None else states.get(last.kind) or last.about["state"]
        row["outcome"] = last.about.get("why", "") if last else ""
        row |= {"run": about["run"], "job": about["job"], "starts": sum(e.kind == "start" for e in later)}
    return {**row, "missed": about.get("missed", 0), "missed_slots": about.get("missed_slots", [])}
