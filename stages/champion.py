"""The champion: the model of a name that passed its gate last. The root's pointer is the truth, MLflow's alias a view.

The pointer remembers who was champion before, and before that: a release that was killed after moving it decides the
same again, and `hyperloom release --rollback` goes back. Who was rolled back is champion again only when a release
makes it so. It is moved only from the champion that was judged against: where another release came in between, nothing
is moved, and the same command judges anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hyperloom.pipeline.errors import StepFailed, Superseded
from hyperloom.pipeline.root.pointer import Pointer, Version
from hyperloom.pipeline.root.storage import Storage

REMEMBERED = 50
"""Champions that the pointer remembers."""


@dataclass(frozen=True)
class Champion:
    """`release`: fingerprint of the release step; `figures`: what gates compare; `data`: the shards they are of, with
    `split`, `truth` (modality -> column) and the `meaning` of each modality (a digest); `behind`: how far a figure lies
    behind the best that there was."""

    release: str
    figures: dict[str, float]
    data: str
    split: str = ""
    truth: dict[str, str] = field(default_factory=dict)
    meaning: dict[str, str] = field(default_factory=dict)
    behind: dict[str, float] = field(default_factory=dict)
    before: dict[str, Any] | None = None


def pointer(storage: Storage, name: str) -> Pointer:
    """`{root}/release/champion-{name}/`: what says who is champion."""
    return Pointer(storage, f"release/champion-{name}", f"the champion of {name!r}")


def current(storage: Storage, name: str) -> Champion | None:
    """The present champion; None while there is none."""
    return _champion(pointer(storage, name).read())


def load(storage: Storage, name: str, release: str) -> Champion | None:
    """Whom the release step `release` has to beat: the champion, or the one before when that step is it already."""
    champion = current(storage, name)
    if champion is None or champion.release != release:
        return champion
    return Champion(**champion.before) if champion.before else None


def crown(storage: Storage, name: str, new: Champion, old: Champion | None) -> None:
    """Make `new` the champion after `old`; nothing happens where it is that already. Raises Superseded where somebody
    else than `old` is champion."""
    seen = pointer(storage, name).read()
    present = _champion(seen)
    if present is not None and present.release == new.release:
        return
    if (present and present.release) != (old and old.release):
        who = f"{present.release[:12]} is" if present else "nobody is"
        raise Superseded(
            f"{new.release[:12]} does not become the champion of {name!r}: {who} champion now, who was not judged "
            "against. Next: run the same command again; it judges anew"
        )
    pointer(storage, name).write({**asdict(new), "before": _cut(asdict(old) if old else None, REMEMBERED)}, seen)


def line(storage: Storage, name: str) -> list[Champion]:
    """The champion and those before, newest first."""
    return _line(current(storage, name))


def _line(at: Champion | None) -> list[Champion]:
    champions = []
    while at is not None:
        champions.append(at)
        at = Champion(**at.before) if at.before else None
    return champions


def names(storage: Storage) -> list[str]:
    """All names that have a champion."""
    return [f.removeprefix("champion-") for f in storage.names("release") if f.startswith("champion-")]


def back(storage: Storage, name: str, release: str | None = None) -> tuple[Champion, Champion]:
    """Make the champion before the present one champion again, or the one of `release`; the one that left and the one
    that came.

    Raises StepFailed when there is none before, Superseded when the champion changes meanwhile.
    """
    seen = pointer(storage, name).read()
    known = _line(_champion(seen))
    if len(known) < 2:
        problem = "is the only champion there was" if known else "has no champion"
        raise StepFailed(f"{name!r} {problem}: there is nobody to go back to. Next: hyperloom release lists champions")
    come = next((one for one in known[1:] if release in (None, one.release)), None)
    if come is None:
        raise StepFailed(
            f"{release} was never champion of {name!r} before {known[0].release[:12]}, so nothing says how good it is. "
            "Next: hyperloom release lists champions"
        )
    pointer(storage, name).write(asdict(come), seen)
    return known[0], come


def _champion(version: Version) -> Champion | None:
    return Champion(**version.value) if version.value else None


def _cut(chain: dict[str, Any] | None, depth: int) -> dict[str, Any] | None:
    if chain is None or depth == 0:
        return None
    return {**chain, "before": _cut(chain.get("before"), depth - 1)}
