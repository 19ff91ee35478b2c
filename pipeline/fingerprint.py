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
from functools import cache
from pathlib import PurePath
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hyperloom.pipeline.config import STEP_REF

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
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
    if isinstance(getattr(type(config), "revision", None), int):
        out["revision"] = type(config).revision  # type: ignore[attr-defined]
    for (name, alias, refers), field in zip(_fields(type(config)), type(config).model_fields.values(), strict=True):
        if name in ("type", "stage") or is_placement(field):
            continue
        value = getattr(config, name)
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
            if value == default or _plain(value, None, None) == _plain(default, None, None):
                continue  # the second comparison is for plug-ins that differ in placement alone
        out[alias] = _plain(value, step if refers else None, step)
    return out


def is_placement(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("placement"))


def is_step_ref(field: FieldInfo) -> bool:
    return STEP_REF in field.metadata or _mentions_ref(field.annotation)


def _mentions_ref(annotation: Any) -> bool:
    if STEP_REF in getattr(annotation, "__metadata__", ()):
        return True
    return any(_mentions_ref(a) for a in get_args(annotation))


@cache
def _fields(kind: type[BaseModel]) -> tuple[tuple[str, str, bool], ...]:
    """Each field's name, what recipes call it, and whether it names a step. Kept: planning asks a thousand times."""
    return tuple((name, field.alias or name, is_step_ref(field)) for name, field in kind.model_fields.items())


def step_refs(config: BaseModel) -> dict[str, tuple[str | int, ...]]:
    """Names of the steps that `config` reads, nested plug-ins included, in order of appearance, once each, with the
    path of the field that names each first."""
    places: dict[str, tuple[str | int, ...]] = {}

    def visit(value: Any, ref: bool, place: tuple[str | int, ...]) -> None:
        if isinstance(value, BaseModel):
            for name, alias, refers in _fields(type(value)):
                visit(getattr(value, name), refers, (*place, alias))
        elif isinstance(value, dict):
            for key, item in value.items():
                visit(item, ref, (*place, key))
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                visit(item, ref, (*place, number))
        elif ref and isinstance(value, str):
            places.setdefault(value, place)

    visit(config, False, ())
    return places


def _plain(value: Any, ref: Callable[[str], str] | None, step: Callable[[str], str] | None) -> Any:
    if isinstance(value, BaseModel):
        return payload(value, step)
    if isinstance(value, dict):
        return {str(k): _plain(v, ref, step) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, ref, step) for v in value]
    if isinstance(value, str) and ref is not None:
        return {"step": ref(value)}
    if isinstance(value, str) and "://" in value:
        return _USERINFO.sub("", value)
    return value


def _check(value: Any, where: str) -> None:
    if value is None or isinstance(value, bool | str | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where}: {value!r} has no canonical form")
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: the key {key!r} is not a string")
            _check(item, f"{where}.{key}")
        return
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check(item, f"{where}[{i}]")
        return
    hint = "; give paths as placement" if isinstance(value, PurePath) else ""
    raise TypeError(f"{where}: {type(value).__name__} has no canonical form{hint}")
