"""Common samples: those that all who are compared have answered.

An error is a mean over answers. Of an expert that is silent where it is hard (there is no flow in a film's first frame)
it is a mean over easier samples than those of a network that must answer everything, so the two figures are no
comparison. Within a sample what somebody leaves out is not looked at: `coverage` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hyperloom.stages.measure.intervals import Draws, Sheets

OnCommon = tuple[dict[str, dict[str, float]], dict[str, Draws], int]
"""Figures and draws by subject, and on how many samples."""


class CommonSamples:
    """Of subjects by name: `sheets` reads theirs, which are large and not kept; `names` are what these call their
    columns (see `Sheets.figures`), `figures` those on all samples."""

    def __init__(
        self,
        sheets: Callable[[str], Sheets],
        names: Mapping[str, Mapping[str, Any]],
        figures: Mapping[str, Mapping[str, float]],
    ):
        self._sheets, self._names, self._figures = sheets, names, figures
        self._known: dict[tuple[tuple[str, ...], str], OnCommon | None] = {}

    def __call__(self, subjects: Sequence[str], modality: str) -> OnCommon | None:
        """Their figures and draws of a modality on the samples that all of them answered, of 0 samples nothing; None
        where they answered the same ones."""
        if all(self._figures[who].get(f"{modality}.coverage") == 1 for who in subjects):
            return None
        pair = (tuple(subjects), modality)
        if pair not in self._known:
            self._known[pair] = self._shared(*pair)
        return self._known[pair]

    def _shared(self, subjects: Sequence[str], modality: str) -> OnCommon | None:
        names = {who: {n: kind for n, kind in self._names[who].items() if kind[0] == modality} for who in subjects}
        sheets = {who: self._sheets(who) for who in subjects}
        answered = [sheets[who].answered(n, kind) for who in subjects for n, (_, kind) in names[who].items()]
        common = set.intersection(*answered)
        if all(each == common for each in answered):
            return None
        if not common:
            return {who: {} for who in subjects}, {}, 0
        figures = {who: sheets[who].figures(names[who], common) for who in subjects}
        draws = {who: sheets[who].draws(names[who], common) for who in subjects}
        return figures, draws, len(common)
