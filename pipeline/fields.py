"""The fields of a class as planning sees them: asked a thousand times, so known by class.

`fields` has all of them; `deep` those in which a step's name, a plug-in or a secret may stand: of a training half of
the fields are numbers.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hyperloom.pipeline.config import STEP_REF, is_secret

SCALARS = (str, int, float, type(None))
"""What holds nothing else (a bool is an int)."""


class FieldForm(NamedTuple):
    """`name`, and what recipes call it; whether it names a step, is placement or a secret; the `default`, which nobody
    may change, and whether that names no step either."""

    name: str
    alias: str
    refers: bool
    placement: bool
    secret: bool
    required: bool
    default: Any
    quiet: bool


@cache
def fields(kind: type[BaseModel]) -> tuple[FieldForm, ...]:
    """The fields of a class, in their order."""
    return tuple(_form(name, field) for name, field in kind.model_fields.items())


@cache
def deep(kind: type[BaseModel]) -> tuple[FieldForm, ...]:
    """Those that refer to steps, are secret, or may hold more than a scalar."""
    annotations = {name: field.annotation for name, field in kind.model_fields.items()}
    return tuple(f for f in fields(kind) if f.refers or f.secret or not _flat(annotations[f.name]))


def is_placement(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("placement"))


def step_refs(config: BaseModel) -> dict[str, tuple[str | int, ...]]:
    """Names of the steps that `config` reads, nested plug-ins included, in order of appearance, once each, with the
    path of the field that names each first."""
    places: dict[str, tuple[str | int, ...]] = {}
    _visit(config, False, (), places)
    return places


def _visit(value: Any, ref: bool, place: tuple[str | int, ...], places: dict[str, tuple[str | int, ...]]) -> None:
    if isinstance(value, SCALARS):
        if ref and isinstance(value, str):
            places.setdefault(value, place)
    elif isinstance(value, dict):
        for key, item in value.items():
            if ref or not isinstance(item, SCALARS):
                _visit(item, ref, (*place, key), places)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            if ref or not isinstance(item, SCALARS):
                _visit(item, ref, (*place, number), places)
    elif isinstance(value, BaseModel):
        for field in deep(type(value)):
            item = getattr(value, field.name)
            if not (field.quiet and item is field.default):
                _visit(item, field.refers, (*place, field.alias), places)


def _form(name: str, field: FieldInfo) -> FieldForm:
    default = field.get_default(call_default_factory=True) if field.default_factory else field.default
    refers, inside = STEP_REF in field.metadata or _mentions_ref(field.annotation), dict[str, tuple[str | int, ...]]()
    _visit(default, refers, (), inside)
    marks = refers, is_placement(field), is_secret(field), field.is_required()
    return FieldForm(name, field.alias or name, *marks, default, quiet=not inside)


def _mentions_ref(annotation: Any) -> bool:
    if STEP_REF in getattr(annotation, "__metadata__", ()):
        return True
    return any(_mentions_ref(a) for a in get_args(annotation))


def _flat(annotation: Any) -> bool:
    """Does it allow scalars alone?"""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _flat(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return all(map(_flat, get_args(annotation)))
    return origin is Literal or annotation in (*SCALARS, bool, None)
