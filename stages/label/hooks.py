"""What an expert of a person's own says of itself, looked at where it is asked: a method that raises, or that returns
something else than the engine counts on, is one sentence with its file and line, whoever asks and whenever."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from hyperloom.pipeline.errors import HyperloomError, PluginError
from hyperloom.stages import usercode


def watch(expert: type[Any]) -> None:
    """Have the methods that a class of a person's own defines looked at."""
    if expert.__module__.startswith("hyperloom."):
        return
    for name, (taken, expected) in HOOKS.items():
        own = expert.__dict__.get(name)
        if callable(own):
            setattr(expert, name, _watched(own, f"{expert.__name__}.{name}()", taken, expected))


def _watched(own: Callable[..., Any], name: str, taken: Callable[[Any], Any], expected: str) -> Callable[..., Any]:
    @functools.wraps(own)
    def guarded(*given: Any, **named: Any) -> Any:
        try:
            value = own(*given, **named)
        except HyperloomError:
            raise
        except Exception as error:  # a person's code may raise anything
            raise PluginError(f"{name} raised {type(error).__name__}: {error}{line(error, own)}") from error
        try:
            return taken(value)
        except (TypeError, ValueError) as error:
            raise PluginError(f"{name} returned {_short(value)}. Next: return {expected}") from error

    return guarded


def line(error: BaseException, function: Any) -> str:
    """` (mine.py, line 5)`: where in the file of `function` an error came about; empty where that is not known."""
    return usercode.line(getattr(getattr(function, "__code__", None), "co_filename", ""), error)


def _offsets(value: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(value, Mapping):
        raise TypeError
    return {_text(column): tuple(map(_whole, _several(steps))) for column, steps in value.items()}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, _several(value)))


def _several(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise TypeError
    return value


def _text(value: Any) -> str:
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError
    return text


def _whole(value: Any) -> int:
    if isinstance(value, bool) or value != int(value):
        raise TypeError
    return int(value)


def _count(value: Any) -> int:
    if (count := _whole(value)) < 0:
        raise ValueError
    return count


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


HOOKS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "offsets": (_offsets, 'a dict of tuples of whole numbers, such as {"rgb@camera": (-1,)} for the frame before'),
    "weights": (_texts, 'a tuple of paths, such as ("net.onnx",)'),
    "remarks": (_texts, "a list of sentences"),
    "calls": (_count, "how many paid questions it asks, 0 or more"),
}
"""By method: what is taken of its answer, and the words for that."""
