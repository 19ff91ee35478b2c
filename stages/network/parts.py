"""Parts: names for the weights of a network by which a recipe speaks of them.

    encoders.rgb@camera.project.weight      fusion.kinds      trunk.enter.0.0.weight      heads.depth.0.bias

A network's own names number its inputs; these say their columns, so they stay when inputs are added or change places. A
pattern is such a name or the beginning of one, with `*` for anything: `trunk`, `heads.depth`, `encoders.*@camera`.
Imports no torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

PARTS = ("encoders", "fusion", "trunk", "heads", "residuals")
_NUMBERED = re.compile(r"fusion\.stems\.(\d+)\.(.+)")


def named(names: Iterable[str], columns: Sequence[str]) -> dict[str, str]:
    """By a network's own name of a weight, the name of its part; `columns` are the network's inputs in order."""
    out = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        out[name] = f"encoders.{columns[int(match[1])]}.{match[2]}" if match else name
    return out


def matches(pattern: str, name: str) -> bool:
    """Does a pattern mean the weight of this name, or a part that it is in?"""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def check(patterns: Iterable[str], columns: Sequence[str], tasks: Iterable[str]) -> None:
    """Raises ValueError, with the near spelling, for a pattern that cannot mean anything in a network with these inputs
    and tasks. What lies deeper than `heads.depth` only the network itself can tell (`absent`)."""
    known = [*PARTS, *(f"heads.{t}" for t in tasks), *(f"encoders.{c}" for c in columns)]
    for pattern in patterns:
        deeper = any(pattern.startswith(f"{k}.") for k in known if k not in ("heads", "encoders"))
        if not deeper and not any(matches(pattern, k) for k in known) and not _within(pattern, known):
            raise ValueError(absent(pattern, known))


def absent(pattern: str, known: Iterable[str]) -> str:
    """What to say of a pattern that means nothing."""
    every = list(dict.fromkeys(known))
    close = difflib.get_close_matches(pattern, every, n=1, cutoff=0.5)
    return (
        f"{pattern!r} names no part of the network{f'; did you mean {close[0]!r}?' if close else ''}. "
        f"Its parts are {', '.join(k for k in every if k.count('.') < 2)}"
    )


def _within(pattern: str, known: Sequence[str]) -> bool:
    """Does a pattern with wildcards begin like a part, as `heads.*.0` does?"""
    first, _, rest = pattern.partition(".")
    return "*" in rest and any(fnmatchcase(k, f"{first}.{rest.split('.')[0]}") for k in known)
