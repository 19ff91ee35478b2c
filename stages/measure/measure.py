"""Measures: how far predictions of one kind of value are from the truth. A modality names its measure by plug-in name.

A measure makes statistics of a few samples, which add up exactly (`stages.measure.sums`), and figures of their sums.
So figures are the same however the work was spread, and a bootstrap can weigh samples without asking a model again.
Where the truth is unknown nothing counts. What to do where the truth is known and there is no answer is the measure's
to say: `coverage` tells the share answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np

from hyperloom.pipeline import plugins, registry
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality


class Measure(Plugin):
    """Base of every measure. Subclasses implement `statistics` and `measured`."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {}
    """Every figure that it gives, and its direction."""
    of_answers: ClassVar[frozenset[str]] = frozenset()
    """Figures in which what has no answer does not count: of two who answered different samples they say who had the
    easier ones, so they are compared on the samples that both answered."""

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        """Statistics of (N, *shape) values whose truth is known; `answered`, (N,) bool, says which have a `prediction`.

        `known` and `answered` count the truth and that part of it which has an answer, in the measure's own unit
        (pixels, samples, points). All others are counts or sums: whatever adds up over samples, none of them a mean.
        """
        raise TypeError(f"the measure {self.type!r} has no statistics()")

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        """Figures of the sums of at least one answer; a figure of which nothing is known is left out."""
        raise TypeError(f"the measure {self.type!r} has no measured()")

    def figures(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        """`measured`, and `coverage`; empty where there is no answer."""
        if not sums.get("answered"):
            return {}
        coverage = {"coverage": sums["answered"] / sums["known"]} if sums["known"] else {}
        return self.measured(modality, sums) | coverage

    def omitted(self, modality: Modality, sums: Mapping[str, Any]) -> str:
        """What a figure of the sums of at least one answer leaves out, to be said once; empty where none does."""
        return ""

    def known(self, sums: Mapping[str, Any]) -> int:
        """How much of the truth is known."""
        return int(sums["known"])

    def answers(self, sums: Mapping[str, Any]) -> Any:
        """How much of the known truth was answered; by sample where statistics (N, ...) of N samples are given."""
        return sums["answered"]

    def by_class(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
        """Figure -> class -> value, None for a class that does not occur; empty where there are no classes."""
        return {}

    def change(self, modality: Modality, now: np.ndarray, before: np.ndarray, valid: np.ndarray) -> Sums:
        """How much one value (H, W, ...) differs from what it was a frame before, brought to the same place, where that
        is `valid` (H, W): `same` of `moved` pixels, or `change` over `changes`. Empty where that means nothing."""
        return {}


def measure_of(modality: Modality) -> Measure:
    """The measure that a modality names. Raises PluginError or RecipeError when it is none."""
    return _measure(modality.measure)


def directions(modality: Modality) -> dict[str, bool]:
    """Every figure that may be measured of a modality, and whether a higher one is better."""
    return {**measure_of(modality).higher_is_better, **ALWAYS}


def figures_known() -> dict[str, bool | None]:
    """The figures of all registered measures and of all that are loaded, and whether a higher one is better (None where
    measures do not agree): for those who read a figure's name before they know whose it is."""
    for name in registry.known("measure"):
        _measure(name)
    known: dict[str, bool | None] = dict(ALWAYS)
    for measure in _derived(Measure):
        for figure, up in measure.higher_is_better.items():
            known[figure] = up if known.get(figure, up) == up else None
    return known


def _derived(base: type[Measure]) -> Iterator[type[Measure]]:
    for measure in base.__subclasses__():
        yield measure
        yield from _derived(measure)


ALWAYS = {"consistency": True, "flicker": False, "ece": False}
"""Figures that come with motion and with probabilities, whatever the measure."""


@cache
def _measure(name: str) -> Measure:
    measure = plugins.parse("measure", name)
    if not isinstance(measure, Measure):
        raise RecipeError(f"the measure {name!r} is {type(measure).__name__}, which does not derive from Measure")
    return measure


def better(one: float, other: float, higher: bool) -> bool:
    """Is `one` strictly better than `other`, where higher figures are, or lower ones?"""
    return one > other if higher else one < other
