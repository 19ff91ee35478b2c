"""The expert `python`: a function or class of the user's own, named in the recipe, without a plug-in class around it.

    {type: python, call: "mine:brightness", in: rgb@camera, out: brightness@mine, options: {gamma: 0.8}}

A function is called as `function(batch, **options)` with a dict of arrays (N, *shape), and gives such a dict, or the
one array where there is one output. With `per: sample` it gets the values of one sample instead, in the order of `in`,
and gives one value, or a tuple with one for each output; None is "no answer". A class is made once in a process, as
`Class(**options)`, and its instance called so; `factory: true` says the same of a function that returns one. Whoever
has a parameter `modalities` gets the definitions of the columns' modalities by name. Columns of text come as strings.

Arrays must be what the modality says; plain values (text, numbers, lists, names of classes) are brought into its form.
The module's source is the expert's weights: changed code is another expert. What that module imports is not looked at.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import BuiltinImporter, PathFinder
from typing import Any, Literal

from pydantic import JsonValue, field_validator

from hyperloom.pipeline import project
from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.pipeline.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.values import fitted, to_strings


class Python(Expert):
    """Columns in, columns out, by the user's own code. Raises PluginError when it cannot be imported."""

    call: str
    """`module:name`; the name may be dotted."""
    options: dict[str, JsonValue] = {}
    per: Literal["batch", "sample"] = "batch"
    factory: bool = False

    @field_validator("call")
    @classmethod
    def _dotted(cls, value: str) -> str:
        module, colon, name = value.partition(":")
        if not (colon and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))):
            raise ValueError(f"expected 'module:callable', got {value!r}")
        return value

    def weights(self) -> tuple[str, ...]:
        file = source_file(self.call.partition(":")[0])
        return (file,) if file else ()

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        function = self._function(_found(self.call), modalities)
        targets = {column: modalities[modality_of(column)] for column in self.out}
        words = [c for c in self.in_ if modalities[modality_of(c)].textual]

        def call(batch: Batch) -> Batch:
            given: dict[str, Any] = {**batch, **{c: to_strings(modalities[modality_of(c)], batch[c]) for c in words}}
            if self.per == "sample":
                outputs = self._each(function, [given[c] for c in self.in_])
            else:
                outputs = function(given)
                outputs = outputs if isinstance(outputs, Mapping) or len(self.out) > 1 else {self.out[0]: outputs}
            if not isinstance(outputs, Mapping):
                return outputs  # the worker says what is wrong with it
            answers: dict[str, Any] = {c: fitted(targets[c], outputs[c]) for c in self.out if c in outputs}
            return answers

        return call

    def _function(self, target: Any, modalities: dict[str, Any]) -> Callable[..., Any]:
        options: dict[str, Any] = dict(self.options)
        try:
            if "modalities" in inspect.signature(target).parameters:
                options.setdefault("modalities", modalities)
            called = self.factory or inspect.isclass(target)
            function = target(**options) if called else functools.partial(target, **options)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{self.call} does not take the options {list(self.options)}: {error}") from error
        if not callable(function):
            raise RecipeError(f"{self.call} made {type(function).__name__}, which cannot be called with a batch")
        return function

    def _each(self, function: Callable[..., Any], columns: Sequence[Any]) -> dict[str, list[Any]]:
        outputs: dict[str, list[Any]] = {column: [] for column in self.out}
        for values in zip(*columns, strict=True):
            try:
                answer = function(*values)
            except (ConnectionError, TimeoutError, MemoryError):
                raise
            except Exception as error:  # the user's code may raise anything; it is this sample's fault
                answer = error
            several = answer if len(self.out) > 1 and isinstance(answer, tuple) else (answer,) * len(self.out)
            if len(several) != len(self.out):
                several = (ValueError(f"expected {len(self.out)} values, got {len(several)}"),) * len(self.out)
            for column, value in zip(self.out, several, strict=True):
                outputs[column].append(value)
        return outputs


def source_file(module: str) -> str:
    """The file that holds a module, found without importing it or its packages; "" for one without a file.

    Raises PluginError when there is no such module.
    """
    places: Any = None
    parts = module.split(".")
    for i in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: i + 1]), places) if i else project.find(module)
        if spec is None:
            if BuiltinImporter.find_spec(module) is not None:
                return ""
            raise PluginError(f"no module {module!r}. Next: put it beside the recipe, or install it on every node")
        places = spec.submodule_search_locations
    return (spec.origin or "") if spec is not None and spec.has_location else ""


def _found(call: str) -> Any:
    module, _, name = call.partition(":")
    try:
        return functools.reduce(getattr, name.split("."), project.load(module))
    except ImportError as error:
        raise PluginError(f"{call}: the module cannot be imported here: {error}") from error
    except AttributeError as error:
        raise PluginError(f"{call}: {error}") from error
