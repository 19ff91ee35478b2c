"""Plug-ins: what a recipe chooses by `type:`, each a class of its kind, imported when a recipe names it.

A plug-in class is a `Config`: its fields are what a recipe writes, its methods are what it does, and heavy imports
live inside the methods, so that planning stays cheap. A type is a registered name, an entry point of the group
`hyperloom.<kind>`, or `module:Class` for a user's own.

    class Vote(Plugin):
        revision: ClassVar[int] = 1      # bump when the meaning changes
        temperature: float = 1.0

    registry.register("consensus", {"vote": "hyperloom.stages.consensus.vote:Vote"})
    votes: Annotated[Vote, of("consensus")]       # in another Config; `vote` alone is short for {type: vote}
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from pydantic import BeforeValidator, ValidationError
from pydantic_core import PydanticCustomError

from hyperloom.pipeline import registry
from hyperloom.pipeline.config import Config
from hyperloom.pipeline.errors import HyperloomError, PluginError
from hyperloom.pipeline.host import project
from hyperloom.pipeline.spelling import near

KIND = "x-plugin"
"""Key of a JSON Schema where a plug-in stands; its value is the kind."""
SHORT = "x-short"
"""Key beside it, or in a class, where a recipe may also write something shorter."""
_own: dict[tuple[str, str], type[Any]] = {}


class Plugin(Config):
    """Base of every plug-in. `type` is the name under which the recipe asked for it."""

    revision: ClassVar[int] = 1
    type: str = ""

    def revised(self) -> int:
        """The revision of what this one means: the class's. A class in which the meaning of some fields alone has
        changed gives a higher one where they are used; who does not use them keeps what was made."""
        return type(self).revision

    @classmethod
    def written_out(cls, value: dict[str, Any]) -> dict[str, Any]:
        """The mapping that a recipe's short one stands for, maybe of another type. Raises PluginError."""
        return value


def exists(kind: str, type_: str) -> bool:
    """Is there a plug-in of that type, as far as can be told without importing it?"""
    known = registry.target(kind, type_) is not None or ":" in type_
    return known or (bool(type_) and _entry_point(kind, type_) is not None)


def load(kind: str, type_: str) -> type[Any]:
    """The class behind `type_`. Raises PluginError, naming what is known, when there is none."""
    target = registry.target(kind, type_) or (type_ if ":" in type_ else _entry_point(kind, type_))
    if target is None:
        known = registry.known(kind)
        raise PluginError(
            f"no {kind} of type {type_!r}{near(type_, known)}; known: {', '.join(known)}; or give 'module:Class'"
        )
    module, _, name = target.partition(":")
    if target is not type_ and (cls := getattr(sys.modules.get(module), name, None)) is not None:
        return cls  # type: ignore[no-any-return]
    try:
        cls = getattr(project.load(module) if target is type_ else importlib.import_module(module), name)
        if target is type_:
            _own[kind, type_] = cls
        return cls
    except (HyperloomError, MemoryError):
        raise
    except ImportError as error:
        raise PluginError(f"{kind} {type_!r} needs {target!r}, which cannot be imported: {error}") from error
    except AttributeError as error:
        if module in sys.modules:
            raise PluginError(f"{kind} {type_!r}: module {module!r} has no {name!r}") from error
        raise PluginError(_broken(kind, type_, error)) from error
    except Exception as error:  # a person's module may raise anything
        raise PluginError(_broken(kind, type_, error)) from error


def _broken(kind: str, type_: str, error: Exception) -> str:
    text, lines = str(error).strip().partition("\n")[0], traceback.extract_tb(error.__traceback__)
    place = next((line for line in reversed(lines) if line.name == "<module>"), lines[-1])
    where = "" if isinstance(error, SyntaxError) else f" ({os.path.basename(place.filename)}, line {place.lineno})"
    return f"{kind} {type_!r} cannot be imported: {type(error).__name__}: {text}{where}"


def types(kind: str) -> list[str]:
    """All types of a kind: registered names, entry points, and what recipes of this process gave as module:Class."""
    own = (type_ for of_, type_ in _own if of_ == kind)
    return [*sorted({*registry.known(kind), *_entry_points(kind, _installed())}), *own]


def parse(kind: str, value: Any) -> Any:
    """A plug-in instance from what a recipe wrote: a mapping with `type`, a bare type name, or an instance."""
    if isinstance(value, Config):
        return value
    if isinstance(value, str):
        value = {"type": value}
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise PluginError(f"a {kind} is a mapping with a 'type' ({', '.join(registry.known(kind))}), got {value!r}")
    cls, value = _written_out(kind, value)
    if not (inspect.isclass(cls) and issubclass(cls, Plugin)):
        what = "function" if inspect.isroutine(cls) else "class" if inspect.isclass(cls) else type(cls).__name__
        other = f", or for a function {{type: python, call: {value['type']!r}}}" if kind == "expert" else ""
        raise PluginError(
            f"{kind} {value['type']!r} is a {what}, not a plug-in class. Next: derive a class from the {kind} of "
            f"Hyperloom{other}"
        )
    return cls.model_validate(value)


def _written_out(kind: str, value: dict[str, Any]) -> tuple[type[Any], dict[str, Any]]:
    """The class, and what it is to be made of."""
    cls = load(kind, value["type"])
    full = cls.written_out(value) if inspect.isclass(cls) and issubclass(cls, Plugin) else value
    return (cls, value) if full is value else (load(kind, full["type"]), full)


@dataclass(frozen=True)
class Of(BeforeValidator):
    """What `of` gives: a validator that a JSON Schema shows as its kind of plug-in (`pipeline.recipes.schema`)."""

    kind: str = ""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        wrapped = core.get("function", {}).get("function") is not self.func  # by a validator that takes short forms
        return {KIND: self.kind, SHORT: True} if wrapped else {KIND: self.kind}


def of(kind: str) -> Of:
    """Annotation that turns a recipe's mapping into the plug-in it names: `Annotated[Any, of("expert")]`."""

    def validate(value: Any) -> Any:
        try:
            return parse(kind, value)
        except PluginError as error:
            raise PydanticCustomError("plugin", "{message}", {"message": str(error)}) from error
        except ValidationError as error:
            full = {"type": value} if isinstance(value, str) else value
            raise NestedValidation(error, _written_out(kind, full)[0]) from error

    return Of(validate, kind=kind)


class NestedValidation(ValueError):
    """Carries a plug-in's own validation errors (with their field paths) out through pydantic's outer error."""

    def __init__(self, error: ValidationError, model: type[Config]):
        super().__init__(str(error))
        self.error, self.model = error, model


def _entry_point(kind: str, type_: str) -> str | None:
    return _entry_points(kind, _installed()).get(type_)


def _installed() -> tuple[tuple[str, int], ...]:
    """Where packages lie and when each place was changed: a notebook may install one while it runs."""
    return tuple((path, _changed(path)) for path in sys.path)


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


@cache
def _entry_points(kind: str, installed: tuple[tuple[str, int], ...]) -> Mapping[str, str]:
    """Names of installed plug-ins and where each is. Of what is `installed` once: it opens a file of every package."""
    from importlib.metadata import entry_points

    return {e.name: e.value for e in reversed(tuple(entry_points(group=f"hyperloom.{kind}")))}  # the first one counts
