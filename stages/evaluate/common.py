"""Common samples: those that all who are compared have answered.

An error is a mean over answers. Of an expert that is silent where it is hard (there is no flow in a film's first frame)
it is a mean over easier samples than those of a network that must answer everything, so the two figures are no
comparison. Within a sample what somebody leaves out is not looked at: `coverage` tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hyperloom.stages.measure.intervals import Draws, Sheets


class CommonSamples:
    """Of subjects by name: their `sheets`, and what these call their columns (see `Sheets.figures`)."""

    def __init__(self, sheets: Mapping[str, Sheets], names: Mapping[str, Mapping[str, Any]]):
        self._sheets, self._names = sheets, names

    def __call__(
        self, subjects: Sequence[str], modality: str
    ) -> tuple[dict[str, dict[str, float]], dict[str, Draws], int] | None:
        """Their figures and draws of a modality on the samples that all of them answered, and how many these are; None
        where they answered the same ones, or none in common."""
        names = {who: {n: kind for n, kind in self._names[who].items() if kind[0] == modality} for who in subjects}
        answered = [self._sheets[who].answered(name) for who in subjects for name in names[who]]
        common = set.intersection(*answered)
        if not common or all(each == common for each in answered):
            return None
        figures = {who: self._sheets[who].figures(names[who], common) for who in subjects}
        draws = {who: self._sheets[who].draws(names[who], common) for who in subjects}
        return figures, draws, len(common)
