"""The champion: the model of a name that passed its gate last. The root's pointer is the truth, MLflow's alias a view.

The pointer remembers who was champion before, and before that: a release that was killed after moving it decides the
same again, and `hyperloom release --rollback` goes back. Who was rolled back is champion again only when a release
makes it so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.storage import Storage

REMEMBERED = 50
"""Champions that the pointer remembers."""


@dataclass(frozen=True)
class Champion:
    """`release`: fingerprint of the release step; `figures`: what gates compare; `data`: the shards they are of."""

    release: str
    figures: dict[str, float]
    data: str
    before: dict[str, Any] | None = None


def path(name: str) -> str:
    return f"release/champion-{name}.json"


def current(storage: Storage, name: str) -> Champion | None:
    """The present champion; None while there is none."""
    try:
        return Champion(**storage.read_json(path(name)))
    except FileNotFoundError:
        return None


def load(storage: Storage, name: str, release: str) -> Champion | None:
    """Whom the release step `release` has to beat: the champion, or the one before when that step is it already."""
    champion = current(storage, name)
    if champion is None or champion.release != release:
        return champion
    return Champion(**champion.before) if champion.before else None


def crown(storage: Storage, name: str, new: Champion, old: Champion | None) -> None:
    """Make `new` the champion after `old`."""
    storage.write_json(path(name), {**asdict(new), "before": _cut(asdict(old) if old else None, REMEMBERED)})


def line(storage: Storage, name: str) -> list[Champion]:
    """The champion and those before, newest first."""
    champions, at = [], current(storage, name)
    while at is not None:
        champions.append(at)
        at = Champion(**at.before) if at.before else None
    return champions


def names(storage: Storage) -> list[str]:
    """All names that have a champion."""
    files = (f for f in storage.names("release") if f.startswith("champion-") and f.endswith(".json"))
    return [f.removeprefix("champion-").removesuffix(".json") for f in files]


def back(storage: Storage, name: str) -> tuple[Champion, Champion]:
    """Make the champion before the present one champion again; the one that left and the one that came.

    Raises StepFailed when there is none before.
    """
    known = line(storage, name)
    if len(known) < 2:
        problem = "is the only champion there was" if known else "has no champion"
        raise StepFailed(f"{name!r} {problem}: there is nobody to go back to. Next: hyperloom release lists champions")
    storage.write_json(path(name), asdict(known[1]))
    return known[0], known[1]


def _cut(chain: dict[str, Any] | None, depth: int) -> dict[str, Any] | None:
    if chain is None or depth == 0:
        return None
    return {**chain, "before": _cut(chain.get("before"), depth - 1)}
