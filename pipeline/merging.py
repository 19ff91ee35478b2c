"""Lines over other lines: what `like` and `base` mean by a change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the lines of `own`: mappings merge key by key, but one with another `type` replaces the whole, as
    lists and scalars do; None takes a line away."""
    out = dict(base)
    for key, value in own.items():
        inherited = out.get(key)
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(inherited, dict) and _same(value, inherited, "type"):
            out[key] = merged(inherited, value)
        else:
            out[key] = value
    return out


def merged_steps(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The same of the steps of two recipes: one with another `stage`, or that is `like` another, is a new step."""
    kept = {
        name: step
        for name, step in base.items()
        if not isinstance(own.get(name), dict) or all(_same(own[name], step, key) for key in ("stage", "like"))
    }
    return {name: step for name, step in merged({**dict.fromkeys(base), **kept}, own).items() if step is not None}


def _same(one: Mapping[str, Any], other: Any, key: str) -> bool:
    return key not in one or (isinstance(other, dict) and one[key] == other.get(key))
