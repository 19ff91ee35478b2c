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
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hyperloom.pipeline.config import STEP_REF, is_secret

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_NUMBERS, _WHOLE = (int, float), (str, int)
"""What has a form of its own (a bool is an int), and what has it whatever its value. Asked first: most values are."""
SCALARS = (str, int, float, type(None))
"""What holds nothing else."""
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
    if value == default:
        return True
    return not isinstance(value, _NUMBERS) and _plain(value, None, None) == _plain(default, None, None)


def is_placement(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("placement"))


def is_step_ref(field: FieldInfo) -> bool:
    return STEP_REF in field.metadata or _mentions_ref(field.annotation)


def _mentions_ref(annotation: Any) -> bool:
    if STEP_REF in getattr(annotation, "__metadata__", ()):
        return True
    return any(_mentions_ref(a) for a in get_args(annotation))


class FieldForm(NamedTuple):
    """What planning asks of a field, a thousand times: its name and what recipes call it, whether it names a step, is
    placement or a secret, and the default, which nobody may change."""

    name: str
    alias: str
    refers: bool
    placement: bool
    secret: bool
    required: bool
    default: Any


@cache
def fields(kind: type[BaseModel]) -> tuple[FieldForm, ...]:
    """The fields of a class, in their order."""

    def form(name: str, field: FieldInfo) -> FieldForm:
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        marks = is_step_ref(field), is_placement(field), is_secret(field)
        return FieldForm(name, field.alias or name, *marks, field.is_required(), default)

    return tuple(form(name, field) for name, field in kind.model_fields.items())


def step_refs(config: BaseModel) -> dict[str, tuple[str | int, ...]]:
    """Names of the steps that `config` reads, nested plug-ins included, in order of appearance, once each, with the
    path of the field that names each first."""
    places: dict[str, tuple[str | int, ...]] = {}

    def visit(value: Any, ref: bool, place: tuple[str | int, ...]) -> None:
        if value is None or isinstance(value, _NUMBERS):
            return
        if isinstance(value, str):
            if ref:
                places.setdefault(value, place)
        elif isinstance(value, dict):
            for key, item in value.items():
                visit(item, ref, (*place, key))
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                visit(item, ref, (*place, number))
        elif isinstance(value, BaseModel):
            for field in fields(type(value)):
                item = getattr(value, field.name)
                if field.refers or not isinstance(item, SCALARS):
                    visit(item, field.refers, (*place, field.alias))

    visit(config, False, ())
    return places


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
