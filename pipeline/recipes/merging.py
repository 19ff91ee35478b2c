"""Lines over other lines: what `like` and `base` mean by a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

STEP = ("stage", "like", "type")
"""What makes a step that says another one a new step."""


def merged(base: Mapping[str, Any], own: Mapping[str, Any], keep: bool = False) -> dict[str, Any]:
    """`base` with the lines of `own`: mappings merge key by key, but one with another `type` replaces the whole, as
    lists and scalars do; None takes a line away. With `keep` it stays, since `base` is to be laid over lines that may
    have it too."""
    out = dict(base)
    for key, value in own.items():
        inherited: Any = out.get(key)
        if value is None and not keep:
            out.pop(key, None)
        elif merges(value, inherited, "type"):
            out[key] = merged(inherited, value, keep)
        else:
            out[key] = value
    return out


def merged_steps(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The same of the steps of two recipes: one with another `stage`, or that is `like` another, is a new step. A line
    taken from a step that is `like` another stays as None, until `like` is resolved."""
    steps = dict(base)
    for name, step in own.items():
        if step is None:
            steps.pop(name, None)
        elif merges(step, base.get(name), *STEP):
            steps[name] = merged(base[name], step, keep="like" in base[name])
        else:
            steps[name] = step
    return steps


def merges(own: Any, base: Any, *keys: str) -> bool:
    """Is `own` lines over those of `base`, and no other thing in its place: by none of these keys?"""
    return isinstance(own, dict) and isinstance(base, dict) and all(k not in own or own[k] == base.get(k) for k in keys)


def stays(where: Sequence[str | int], own: Any, base: Any) -> bool:
    """Does what `base` says at this place of a recipe stand in `own` over it?"""
    for depth, part in enumerate(where):
        step = depth == 2 and where[0] == "steps"
        if not merges(own, base, *(STEP if step else ("type",))):
            return False
        if part not in own:
            return True
        own, base = own[part], base.get(part)
    return False
