"""Identity: `fingerprint = sha256(canonical JSON of what bears meaning)`.

`payload(config)` keeps the fields that bear meaning and differ from their defaults, so a new field with a default
moves nothing. Placement fields are left out here, and only here, and so are the user and password of a URL: who asks
is not what is asked for. Anything that has no canonical form raises.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from hyperloom.pipeline.fields import fields

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_NUMBERS, _WHOLE = (int, float), (str, int)
"""What has a form of its own (a bool is an int), and what has it whatever its value. Asked first: most values are."""
SHORT = 12
"""How many hex digits name a folder."""


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, exact floats. Raises TypeError for anything but JSON's own types."""
    _check(value, "$")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """64 hex digits of sha256 over the canonical form."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def payload(config: BaseModel, step: Callable[[str], str] | None = None) -> dict[str, Any]:
    """What of `config` bears meaning. `step` turns a step's name into that step's fingerprint (names mean nothing)."""
    out: dict[str, Any] = {}
    if getattr(config, "type", ""):
        out["type"] = config.type  # type: ignore[attr-defined]
    if isinstance(revision := getattr(type(config), "revision", None), int):
        out["revision"] = config.revised() if hasattr(config, "revised") else revision
    for field in fields(type(config)):
        if field.placement or field.name in ("type", "stage"):
            continue
        value = getattr(config, field.name)
        if not field.required and _same(value, field.default):
            continue
        out[field.alias] = _plain(value, step if field.refers else None, step)
    return out


def _same(value: Any, default: Any) -> bool:
    """Does a value say no more than the default? Plug-ins may differ in placement alone."""
    if value is default or value == default:
        return True
    return not isinstance(value, _NUMBERS) and _plain(value, None, None) == _plain(default, None, None)


def _plain(value: Any, ref: Callable[[str], str] | None, step: Callable[[str], str] | None) -> Any:
    if value is None or isinstance(value, _NUMBERS):
        return value
    if isinstance(value, str):
        if ref is not None:
            return {"step": ref(value)}
        return _USERINFO.sub("", value) if "://" in value else value
    if isinstance(value, dict):
        return {str(k): _plain(v, ref, step) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, ref, step) for v in value]
    return payload(value, step) if isinstance(value, BaseModel) else value


def _check(value: Any, where: str) -> None:
    if value is None or isinstance(value, _WHOLE):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where}: {value!r} has no canonical form")
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: the key {key!r} is not a string")
            if not isinstance(item, _WHOLE):
                _check(item, f"{where}.{key}")
        return
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            if not isinstance(item, _WHOLE):
                _check(item, f"{where}[{i}]")
        return
    hint = "; give paths as placement" if isinstance(value, PurePath) else ""
    raise TypeError(f"{where}: {type(value).__name__} has no canonical form{hint}")
