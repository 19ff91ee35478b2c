"""The champion: the model of a name that passed its gate last. The root's pointer is the truth, MLflow's alias a view.

The pointer remembers who was champion before: a release that was killed after moving it decides the same again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.storage import Storage


@dataclass(frozen=True)
class Champion:
    """`release`: fingerprint of the release step; `figures`: what gates compare; `data`: the shards they are of."""

    release: str
    figures: dict[str, float]
    data: str
    before: dict[str, Any] | None = None


def path(name: str) -> str:
    return f"release/champion-{name}.json"


def load(storage: Storage, name: str, release: str) -> Champion | None:
    """Whom the release step `release` has to beat: the champion, or the one before when that step is it already."""
    try:
        found = Champion(**storage.read_json(path(name)))
    except FileNotFoundError:
        return None
    if found.release != release:
        return found
    return Champion(**found.before) if found.before else None


def crown(storage: Storage, name: str, new: Champion, old: Champion | None) -> None:
    """Make `new` the champion after `old`."""
    before = None if old is None else {**asdict(old), "before": None}
    storage.write_json(path(name), {**asdict(new), "before": before})
