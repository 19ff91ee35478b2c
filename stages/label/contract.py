"""What a function of a person's own is given and has to give, and the words for where it does not.

A mistake that each call would repeat (other parameters, async, a generator, nothing returned) is a PluginError, which
ends the step at its first attempt. What the code raises is about the samples it was given, and says the line of the
person's file, and for the errors that come of other arguments than expected, what those are.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import BadSample, HyperloomError, PluginError
from hyperloom.stages.base import modality_of
from hyperloom.stages.label import hooks, memory
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.steps import Steps
from hyperloom.stages.modality.values import same_numbers

if TYPE_CHECKING:
    from hyperloom.pipeline.root.storage import Storage

UNTOUCHED = (HyperloomError, BadSample, ConnectionError, TimeoutError)
"""What a function may raise to be understood as it is."""
OF_ARGUMENTS = (TypeError, AttributeError, LookupError, ValueError)
"""What Python raises where arguments are other than the code expects."""


class ExpertError(Exception):
    """A person's code failed on what it was given."""


class Contract:
    """`name` is the function's in the recipe, `count` how many arguments it gets, `given` and `gives` what those and
    its answers are, `other` what to write where another form is meant."""

    def __init__(self, name: str, count: int, given: str, gives: str, other: str = ""):
        self.name, self.count, self.given, self.gives, self.other = name, count, given, gives, other

    def check(self, function: Any) -> None:
        """Raise PluginError for what can be no such function."""
        if not callable(function):
            raise PluginError(f"{self.name} is {_kind(function)}, which cannot be called. It is given {self.given}")
        bare = _bare(function)
        if inspect.iscoroutinefunction(bare) or inspect.isasyncgenfunction(bare):
            raise PluginError(f"{self.name} is async, and nobody awaits it. Next: def, with asyncio.run() inside")
        if inspect.isgeneratorfunction(bare):
            raise PluginError(f"{self.name} has a yield, and gives its answers at once. Next: return {self.gives}")
        try:
            inspect.signature(function).bind(*[None] * self.count)
        except TypeError as error:
            raise PluginError(f"{self.name} cannot be called so ({error}): it is given {self._next()}") from error
        except ValueError:
            pass  # a builtin without a signature

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What it returns. Raises ExpertError for what it raises, PluginError where it returns nothing that counts."""
        try:
            output = function(*arguments)
        except UNTOUCHED:
            raise
        except (Exception, SystemExit) as error:  # a person's code may raise anything
            if memory.ran_out(error):
                raise
            given = f". It is given {self._next()}" if isinstance(error, OF_ARGUMENTS) else ""
            text = f"{self.name} raised {type(error).__name__}: {error}{place(error, function)}{given}"
            raise ExpertError(text) from error
        if inspect.isgenerator(output) or inspect.isawaitable(output) or inspect.isasyncgen(output):
            raise PluginError(f"{self.name} returned {_kind(output)}. Next: return {self.gives}")
        return output

    def columns(self, output: Any, out: Sequence[str]) -> Mapping[str, Any]:
        """The output of a batch by column. Raises PluginError where it is none."""
        if output is None:
            raise PluginError(f"{self.name} returned nothing (is there a return?). Next: return {self.gives}")
        if not isinstance(output, Mapping) and len(out) == 1:
            output = {out[0]: output}
        if not isinstance(output, Mapping):
            raise PluginError(f"{self.name} returned {_kind(output)}. Next: return {self.gives}")
        if absent := [column for column in out if column not in output]:
            has = ", ".join(repr(key) for key in list(output)[:5]) or "nothing"
            raise PluginError(f"{self.name} returned a dict of {has}, without {', '.join(absent)}. Next: {self.gives}")
        columns = {column: self._array(output[column]) for column in out}
        for column, values in columns.items():
            if not hasattr(values, "__len__") or isinstance(values, str | bytes | Mapping | set):
                what = _kind(values)
                raise PluginError(f"{self.name} returned {what} as {column} of a batch. Next: return {self.gives}")
        return columns

    def _array(self, values: Any) -> Any:
        """An array of another library as NumPy's; of names, as a list."""
        import numpy as np

        if not isinstance(values, np.ndarray) and hasattr(values, "__array__") and not np.isscalar(values):
            try:
                values = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
            except (TypeError, ValueError, RuntimeError) as error:
                text = f"{self.name} returned {_kind(values)} of which NumPy makes no array: {error}"
                raise PluginError(f"{text}. Next: return {self.gives}") from error
        return values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind in "OUST" else values

    def _next(self) -> str:
        return f"{self.given}. Next: {self.other}" if self.other else self.given


def built(expert: Expert, modalities: dict[str, Any], storage: Storage) -> Function | Steps:
    """What `build` of an expert gives, under this contract where the expert is a person's own plug-in."""
    if type(expert).__module__.startswith("hyperloom."):
        return expert.build(modalities, storage)
    name = f"the expert {expert.type!r}"
    build = type(expert).build
    if build is Expert.build:
        raise PluginError(f"{name} has no build(). Next: def build(self, modalities, storage), returning a function")
    if inspect.iscoroutinefunction(build) or inspect.isgeneratorfunction(build):
        raise PluginError(f"{name}: build() is async or has a yield. Next: def, returning a function")
    try:
        inspect.signature(expert.build).bind(modalities, storage)
    except TypeError as error:
        raise PluginError(f"{name}: {error}. Next: def build(self, modalities, storage)") from error
    try:
        function = expert.build(modalities, storage)
    except ImportError as error:
        raise PluginError(f"{name}: {error}. Next: install it on every node") from error
    except UNTOUCHED:
        raise
    except (Exception, SystemExit) as error:  # a person's code may raise anything
        if memory.ran_out(error):
            raise
        text = f"build() raised {type(error).__name__}: {error}{place(error, build)}"
        raise PluginError(f"{name}: {text}. It is given the recipe's modalities by name and the root") from error
    if isinstance(function, Steps):
        return function
    given = ", ".join(f"{c!r}: {form(modalities[modality_of(c)], True)}" for c in expert.in_)
    gives = ", ".join(f"{c!r}: {form(modalities[modality_of(c)], True)}" for c in expert.out)
    contract = Contract(f"the function of {name}", 1, f"a batch, the dict {{{given}}}", f"the dict {{{gives}}}")
    contract.check(function)

    def call(batch: Batch) -> Batch:
        columns = contract.columns(contract.call(function, batch), expert.out)
        return {c: same_numbers(modalities[modality_of(c)], values) for c, values in columns.items()}

    call.notes = getattr(function, "notes", ())  # type: ignore[attr-defined]
    return call


def form(modality: Any, batch: bool = False) -> str:
    """Shape and dtype of one value or of a batch, in words."""
    shape = ", ".join(["N", *map(str, modality.shape)] if batch else map(str, modality.shape))
    return f"({shape}) {modality.dtype}" if shape else str(modality.dtype)


def place(error: BaseException, function: Any) -> str:
    """` (mine.py, line 5)`: where in the file of `function` an error came about; empty where that is not known."""
    return hooks.line(error, _bare(function))


def _bare(function: Any) -> Any:
    """The function itself, without what was bound to it; of an object that is called, its `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = getattr(function, "__call__", function)  # noqa: B004
    return inspect.unwrap(function)


def _kind(value: Any) -> str:
    return "None" if value is None else f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"
