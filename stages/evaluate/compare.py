"""Comparison: figures with their bounds, means over seeds, and differences between subjects with bounds of their own.

A difference is bounded by its own draws, not by those of its two sides: both met the same resampled frames (and, for
two families of seeds of the same size, the same resampled seeds), which is what makes small differences visible. A
family's draws resample its members too, so its bounds cover both frames and seeds; `seeds` holds each member's value
and the interval of the mean by Student's t.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.stages.evaluate.common import OnCommon
from hyperloom.stages.evaluate.subject import Subject
from hyperloom.stages.measure.intervals import Draws, Intervals, student_t

BEST_EXPERT = "best_expert"

ReportRow = dict[str, Any]


Common = Callable[[Sequence[str], str], OnCommon | None]
"""Subjects and a modality -> what they come to on the samples that all of them answered; None where that makes no
difference."""


class Comparison:
    """Over the figures and draws of all subjects, by name. `families`: name -> models that differ in their seed.
    `rises`: figure -> is a higher one better? Figures that are not among its keys are not compared. `common` is for
    figures that only count answers, `of_answers`."""

    def __init__(
        self,
        config: Intervals,
        figures: Mapping[str, Mapping[str, float]],
        draws: Mapping[str, Draws],
        families: Mapping[str, Sequence[str]],
        rises: Mapping[str, bool],
        common: Common | None = None,
        of_answers: Collection[str] = (),
    ):
        self.common, self.of_answers = common, of_answers
        self.config, self.families, self.rises = config, families, rises
        self.figures: dict[str, Mapping[str, float]] = dict(figures)
        self.draws: dict[str, Draws] = dict(draws)
        for name, members in families.items():
            self.figures[name] = self._mean(members)
            self.draws[name] = self._drawn(members)

    def bounds(self) -> dict[str, dict[str, list[float] | None]]:
        """Subject or family -> figure -> [low, high], None where too little was known."""
        return {
            name: {key: self._bounds(self.draws.get(name, {}).get(key)) for key in figures}
            for name, figures in self.figures.items()
        }

    def seeds(self) -> dict[str, dict[str, ReportRow]]:
        """Family -> figure -> mean, sd, every member's value, and the mean's interval by Student's t."""
        families: dict[str, dict[str, ReportRow]] = {}
        for name, members in self.families.items():
            for key, mean in self.figures[name].items():
                values = [self.figures[m][key] for m in members]
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
                interval = student_t(values, self.config.level)
                row = {"mean": mean, "sd": spread, "values": values, "interval": interval}
                families.setdefault(name, {})[key] = row
        return families

    def differences(
        self,
        who: Sequence[Subject],
        against: Sequence[str],
        best: Mapping[str, str | None],
        harder: Mapping[tuple[str, str], str] | None = None,
    ) -> list[ReportRow]:
        """Rows {who, against, figure, value, reference, difference, low, high, better: True, False or None (open)}.

        `best`: modality -> name of its best expert; `harder`: subject and modality -> an expert that is compared beside
        the best. Raises KeyError for a reference nobody knows.
        """
        judged = [s.name for s in who if s.kind != "expert"] + list(self.families)
        rows = []
        for reference in against:
            if reference != BEST_EXPERT and reference not in self.figures:
                raise KeyError(reference)
            for name in judged:
                for key in (key for key in self.figures[name] if key in self.rises):
                    modality = key.rpartition(".")[0]
                    experts = [best.get(modality), (harder or {}).get((name, modality))]
                    for rival in experts if reference == BEST_EXPERT else [reference]:
                        if rival and rival != name and key in self.figures[rival]:
                            row = self._difference(name, rival, key)
                            rows += [] if row is None else [row]
        return rows

    # -- inside --------------------------------------------------------------------------------------------------------
    def _difference(self, name: str, rival: str, key: str) -> ReportRow | None:
        """On the samples that both answered, `samples` of them, where others would tell who had the easier ones; None
        where the figure is not known of these."""
        among = [m for who in (name, rival) for m in self.families.get(who, [who])]
        shared = self.common(among, key.rpartition(".")[0]) if self.common and key in self.of_answers else None
        if shared is not None:
            figures, draws, count = shared
            if not all(key in figures[who] for who in among):
                return None
            families = {who: self.families[who] for who in (name, rival) if who in self.families}
            alone = Comparison(self.config, figures, draws, families, self.rises)
            return {**alone._row(name, rival, key), "samples": count}
        return self._row(name, rival, key)

    def _row(self, name: str, rival: str, key: str) -> ReportRow:
        value, other = self.figures[name][key], self.figures[rival][key]
        one, two = self.draws.get(name, {}).get(key), self.draws.get(rival, {}).get(key)
        bounds = None if one is None or two is None else self._bounds(one - two)
        row = {"who": name, "against": rival, "figure": key, "value": value, "reference": other}
        row |= {"difference": value - other, "low": bounds and bounds[0], "high": bounds and bounds[1]}
        interval = self._by_seed(name, rival, key)
        row |= {"seeds_low": interval and interval[0], "seeds_high": interval and interval[1]}
        up = self.rises[key]
        row["better"] = None if bounds is None or bounds[0] <= 0 <= bounds[1] else (bounds[0] > 0) == up
        return row

    def _by_seed(self, name: str, rival: str, key: str) -> list[float] | None:
        """The interval of the mean difference seed by seed, for two families of the same size."""
        mine, theirs = self.families.get(name, ()), self.families.get(rival, ())
        if len(mine) != len(theirs):
            return None
        pairs = [self.figures[a][key] - self.figures[b][key] for a, b in zip(mine, theirs, strict=True)]
        return student_t(pairs, self.config.level)

    def _bounds(self, draws: np.ndarray | None) -> list[float] | None:
        return None if draws is None else self.config.bounds(draws)

    def _mean(self, members: Sequence[str]) -> dict[str, float]:
        keys = [k for k in self.figures[members[0]] if all(k in self.figures[m] for m in members)]
        return {k: float(np.mean([self.figures[m][k] for m in members])) for k in keys}

    def _drawn(self, members: Sequence[str]) -> Draws:
        """Draws of the mean: each of as many members as there are, with repetition, alike for families of one size."""
        count = len(members)
        random = np.random.default_rng([self.config.seed, count])
        times = random.multinomial(count, [1 / count] * count, self.config.draws) / count  # (draws, members)
        keys = [k for k in self.draws.get(members[0], {}) if all(k in self.draws.get(m, {}) for m in members)]
        return {k: (np.stack([self.draws[m][k] for m in members], 1) * times).sum(1) for k in keys}
