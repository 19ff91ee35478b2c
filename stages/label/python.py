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
from typing import Any, Literal

from pydantic import JsonValue, field_validator

from hyperloom.pipeline.errors import HyperloomError, RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.contract import Contract, form, place
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.modality.values import fitted, to_strings
from hyperloom.stages.usercode import dotted, imported, source_file


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
        return dotted(value)

    def weights(self) -> tuple[str, ...]:
        file = source_file(self.call.partition(":")[0])
        return (file,) if file else ()

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        contract = self._contract(modalities)
        function = self._function(imported(self.call), modalities)
        contract.check(function)
        targets = {column: modalities[modality_of(column)] for column in self.out}
        words = [c for c in self.in_ if modalities[modality_of(c)].textual]

        def call(batch: Batch) -> Batch:
            given: dict[str, Any] = {**batch, **{c: to_strings(modalities[modality_of(c)], batch[c]) for c in words}}
            if self.per == "sample":
                outputs: Mapping[str, Any] = self._each(contract, function, [given[c] for c in self.in_])
            else:
                outputs = contract.columns(contract.call(function, given), self.out)
            return {c: fitted(targets[c], outputs[c]) for c in self.out}

        return call

    def _contract(self, modalities: dict[str, Any]) -> Contract:
        ins = [(c, modalities[modality_of(c)]) for c in self.in_]
        outs = [(c, modalities[modality_of(c)]) for c in self.out]
        if self.per == "sample":
            given = " and ".join(f"{c} ({_form(m)})" for c, m in ins)
            gives = f"{'one value' if len(outs) == 1 else 'a tuple'}: {', '.join(f'{c} ({_form(m)})' for c, m in outs)}"
            return Contract(self.call, len(ins), f"the values of one sample, {given}", gives)
        given = ", ".join(f"{c!r}: {_form(m, True)}" for c, m in ins)
        gives = ", ".join(f"{c!r}: {_form(m, True)}" for c, m in outs)
        other = "take the arrays by these names, or set per: sample to be given the values of one sample"
        return Contract(self.call, 1, f"a batch, the dict {{{given}}}", f"the dict {{{gives}}}", other)

    def _function(self, target: Any, modalities: dict[str, Any]) -> Callable[..., Any]:
        options: dict[str, Any] = dict(self.options)
        try:
            parameters = inspect.signature(target).parameters
        except (TypeError, ValueError):  # a builtin
            parameters = {}  # type: ignore[assignment]
        if "modalities" in parameters:
            options.setdefault("modalities", modalities)
        if not (self.factory or inspect.isclass(target)):
            if unknown := [name for name in self.options if not _takes(parameters, name)]:
                raise RecipeError(f"{self.call} does not take the options {unknown}; it has {list(parameters)}")
            return functools.partial(target, **options) if callable(target) else target
        try:
            return target(**options)  # type: ignore[no-any-return]
        except (HyperloomError, ConnectionError, TimeoutError, MemoryError):
            raise
        except Exception as error:  # a person's code may raise anything
            text = f"{type(error).__name__}: {error}{place(error, getattr(target, '__init__', target))}"
            raise RecipeError(f"{self.call} does not take the options {list(self.options)}: {text}") from error

    def _each(self, contract: Contract, function: Callable[..., Any], columns: Sequence[Any]) -> dict[str, list[Any]]:
        outputs: dict[str, list[Any]] = {column: [] for column in self.out}
        for values in zip(*columns, strict=True):
            try:
                answer = contract.call(function, *values)
            except (HyperloomError, ConnectionError, TimeoutError, MemoryError):
                raise
            except Exception as error:  # it is this sample's fault
                answer = error
            for column, value in zip(self.out, self._apart(answer), strict=True):
                outputs[column].append(value)
        return outputs

    def _apart(self, answer: Any) -> Sequence[Any]:
        """One sample's answer as a value for each column."""
        if isinstance(answer, Mapping) and answer and set(answer) <= {*self.out}:
            return [answer.get(column) for column in self.out]
        if len(self.out) == 1 or answer is None or isinstance(answer, Exception):
            return [answer] * len(self.out)
        if isinstance(answer, tuple) and len(answer) == len(self.out):
            return answer
        got = f"{len(answer)} values" if isinstance(answer, tuple) else type(answer).__name__
        error = ValueError(f"{self.call}: expected a tuple of {len(self.out)} ({', '.join(self.out)}), got {got}")
        return [error] * len(self.out)


def _form(modality: Any, batch: bool = False) -> str:
    if modality.textual:
        return "N strings" if batch else "a string"
    return form(modality, batch)


def _takes(parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
