"""The verdict stage: claims about reports, each with a word, an interval and the smallest effect that could be seen.

    verdict:
      stage: verdict
      report: [report-*]                   # of a matrix: each report is a fold
      claims: {over_plain: {ours: joint, theirs: plain, figure: digit.accuracy}}
      beside: {over_expert: {ours: joint, theirs: expert, figure: digit.accuracy}}

`claims` give the verdict together; what is `beside` is shown and does not count. The rule: `stages.verdict.claims`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from hyperloom.pipeline.config import StepName, as_tuple
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages.evaluate.compare import BEST_EXPERT
from hyperloom.stages.measure.measure import directions, measure_of
from hyperloom.stages.schema import ReportSchema, recheck
from hyperloom.stages.verdict.arms import Reports
from hyperloom.stages.verdict.bootstrap import Statistic, bootstrap
from hyperloom.stages.verdict.claims import Claim, together
from hyperloom.stages.verdict.conclusion import Concluded, Conclusion

PICTURE = "verdict.png"


class VerdictStage(Stage):
    """`report`: an evaluate step, or several of a matrix, each a fold of other samples or other trainings."""

    revision: ClassVar[int] = 1
    report: tuple[StepName, ...] = Field(min_length=1)
    claims: dict[str, Claim] = Field(min_length=1)
    beside: dict[str, Claim] = {}

    _steps = field_validator("report", mode="before")(as_tuple)

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """Whoever left out samples had them left out of his figure alone, so that it seemed better."""
        figures = (claim.figure.rpartition(".") for claim in self._all().values())
        of_answers = any(m in modalities and f in measure_of(modalities[m]).of_answers for m, _, f in figures)
        return {"in common": 2} if of_answers else {}

    def uses(self) -> set[str]:
        return {claim.figure.rpartition(".")[0] for claim in self._all().values()}

    def check(self, step: StepCheck) -> None:
        for i, name in enumerate(self.report):
            report = step.read(("report", i), name, ReportSchema)
            for part, claims in (("claims", self.claims), ("beside", self.beside)):
                for key, claim in claims.items() if report else ():
                    _check(step, (part, key), name, claim, report)

    def run(self, step: StepRun) -> Concluded:
        from hyperloom.stages.verdict.picture import picture

        recheck(step)
        reports = Reports(step.storage, {name: step.inputs[name] for name in self.report}, step.modalities)
        concluded = {name: conclude(claim, reports) for name, claim in self._all().items()}
        word = together([concluded[name].word for name in self.claims])
        rows = [{"claim": name, **one.row()} for name, one in concluded.items()]
        step.events.emit("table", step.name, name="claims", rows=rows)
        tags = {f"verdict.{name}": f"{name}: {one.word}" for name, one in concluded.items()}
        step.events.emit("tag", step.name, values={"outcome": f"claims: {word}", **tags})
        for text in dict.fromkeys(reports.remarks):
            step.events.emit("note", step.name, text=text)
        for name, one in concluded.items():
            step.events.emit("note", step.name, text=f"{name}: {self._all()[name].figure} {one.sentence()}")
        step.events.emit("note", step.name, text=f"verdict: {word.upper()}")
        file = step.write(PICTURE, picture(concluded, word))
        step.events.emit("artifact", step.name, path=file.path, to="pictures")
        beside = {name: concluded[name] for name in self.beside}
        return Concluded(word, {n: concluded[n] for n in self.claims}, beside, len(self.report), reports.samples)

    def _all(self) -> dict[str, Claim]:
        return {**self.beside, **self.claims}


def conclude(claim: Claim, reports: Reports) -> Conclusion:
    """What the reports say of a claim."""
    sign, names = reports.sign(claim.figure), list(claim.subjects())
    arms = reports.arms(names, claim.figure)
    outcome = bootstrap(arms, _statistic(claim, names, sign))
    word = claim.word(outcome.interval, outcome.seeds)
    smallest = None if outcome.interval is None else (outcome.interval[1] - outcome.interval[0]) / 2
    sides = {arm.name: float(arm.values.mean()) for arm in arms}
    return Conclusion(
        word, outcome.value, outcome.interval, outcome.seeds, outcome.folds, smallest, claim.border, sides
    )


def _statistic(claim: Claim, names: Sequence[str], sign: int) -> Statistic:
    """What a claim is about, of the means of its subjects; more of it is better."""

    def difference(means: Mapping[str, np.ndarray], ours: str, theirs: str) -> np.ndarray:
        return sign * (means[ours] - means[theirs])

    def statistic(values: Sequence[np.ndarray]) -> np.ndarray:
        means = dict(zip(names, values, strict=True))
        if claim.is_ == "keeps":
            ours, theirs = means[claim.ours], means[claim.theirs]
            above, below = (ours, theirs) if sign > 0 else (theirs, ours)
            return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
        if claim.is_ == "grows":
            gains = [sign * (means[who] - means.get(claim.theirs, 0)) for who in claim.dial]
            return _slope(np.array(list(claim.dial.values())), np.stack(gains))
        if claim.is_ == "ranks":
            gains = [difference(means, pair.ours, pair.theirs) for pair in claim.pairs.values()]
            return _rank_correlation(np.array([p.predictor for p in claim.pairs.values()]), np.stack(gains))
        gain = difference(means, claim.ours, claim.theirs)
        return gain if claim.than is None else gain - difference(means, claim.than.ours, claim.than.theirs)

    return statistic


def _slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the least-squares line through (values of the dial, (values, N) gains)."""
    centred = x - x.mean()
    return (centred[:, None] * y).sum(0) / (centred**2).sum()


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's, of (pairs,) and each column of (pairs, N); ties get the mean of their ranks. NaN where a gain is not
    known: compared with others it would be the smallest."""

    def ranks(values: np.ndarray) -> np.ndarray:
        return ((values[:, None] > values[None]).sum(1) + (values[:, None] >= values[None]).sum(1)) / 2

    a, b = ranks(x[:, None]), ranks(y)
    a, b = a - a.mean(0), b - b.mean(0)
    norm = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    known = np.divide((a * b).sum(0), norm, out=np.zeros(b.shape[1]), where=norm > 0)
    return np.where(np.isfinite(y).all(0), known, np.nan)


def _check(step: StepCheck, where: tuple[str, str], name: str, claim: Claim, report: ReportSchema | None) -> None:
    """Note what a report will not be able to answer."""
    assert report is not None
    modality, _, measure = claim.figure.rpartition(".")
    if report.judged is not None and modality not in report.judged:
        step.unknown((*where, "figure"), modality, f"{where[1]}: {name!r} judges no modality", report.judged)
    elif modality in step.modalities and measure not in directions(step.modalities[modality]):
        known = directions(step.modalities[modality])
        step.unknown((*where, "figure"), measure, f"{where[1]}: {modality!r} is not measured by", known)
    subjects = None if report.subjects is None else report.subjects - {BEST_EXPERT}
    for who in claim.subjects():
        if subjects is not None and who not in subjects:
            step.unknown(where, who, f"{where[1]}: {name!r} knows no", subjects)
