"""Gates: conditions on figures that decide whether a model becomes the champion.

    gate:
      semantic.miou: ">= 0.3"                   # absolute
      depth.mae: "<= champion + 0.05"           # against the present champion; passes while there is none
      normals.angle: "< best_expert"            # against the best single expert of the report, or any subject of it

A gate is parsed when the recipe is read, and judged from the report alone. It moves nothing: see stages.release.stage.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hyperloom.stages.measure.measure import figures_known
from hyperloom.stages.results import Judged

CHAMPION, BEST_EXPERT = "champion", "best_expert"
_OPERATORS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_CONDITION = re.compile(
    r"(?P<op>>=|<=|>|<)\s*"
    r"(?:(?P<number>-?\d*\.?\d+(?:e-?\d+)?)|(?P<who>[A-Za-z_][\w -]*?)\s*(?:(?P<sign>[+-])\s*(?P<by>\d*\.?\d+))?)"
)


@dataclass(frozen=True)
class GateCondition:
    """`figure` compared with a number, or with somebody's figure plus `offset`."""

    figure: str
    op: str
    who: str
    offset: float

    def __str__(self) -> str:
        if not self.who:
            return f"{self.figure} {self.op} {self.offset:g}"
        by = f" {'+' if self.offset > 0 else '-'} {abs(self.offset):g}" if self.offset else ""
        return f"{self.figure} {self.op} {self.who}{by}"


@dataclass(frozen=True)
class Decision:
    """A condition, whether it holds, and why in words."""

    condition: GateCondition
    passed: bool
    reason: str


def parse(figure: str, text: str) -> GateCondition:
    """The condition that a recipe wrote. Raises ValueError saying what is wrong with it."""
    measure, known = figure.rpartition(".")[2], figures_known()
    if "." not in figure or measure not in known:
        raise ValueError(f"{figure!r} is no figure: write modality.measure, with {', '.join(known)}")
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{figure}: {text!r} is no condition: write '>= 0.3', '>= champion - 0.005' or '> best_expert'"
        )
    if known[measure] is not None and match["op"].startswith(">") != known[measure]:
        better = "larger" if known[measure] else "smaller"
        raise ValueError(f"{figure}: {text!r} points the wrong way, {measure} is better when {better}")
    if match["number"]:
        return GateCondition(figure, match["op"], "", float(match["number"]))
    offset = float(match["by"] or 0) * (-1 if match["sign"] == "-" else 1)
    return GateCondition(figure, match["op"], match["who"], offset)


def judge(condition: GateCondition, subject: str, report: Judged, champion: Mapping[str, float] | None) -> Decision:
    """Does `condition` hold for `subject` of a report? `champion` is the champion's figures, None without one.

    Raises ValueError when the report lacks a figure that the condition needs.
    """
    value = _figure(report, subject, condition.figure)
    if condition.who == CHAMPION and (champion is None or condition.figure not in champion):
        reason = "there is no champion yet" if champion is None else "the champion has no such figure"
        return Decision(condition, True, f"{condition}: holds, {reason} (it is {value:.4g})")
    limit = condition.offset
    if condition.who == CHAMPION:
        assert champion is not None
        limit += champion[condition.figure]
    elif condition.who:
        limit += _figure(report, _named(condition, report), condition.figure)
    passed = bool(_OPERATORS[condition.op](value, limit))
    against = "" if not condition.who else f" against {limit:.4g}"
    return Decision(condition, passed, f"{condition}: {'holds' if passed else 'FAILS'} (it is {value:.4g}{against})")


def _named(condition: GateCondition, report: Judged) -> str:
    if condition.who != BEST_EXPERT:
        return condition.who
    modality = condition.figure.rpartition(".")[0]
    expert = report.best_expert.get(modality)
    if expert is None:
        raise ValueError(f"{condition}: the report has no expert of {modality!r}")
    return expert


def _figure(report: Judged, subject: str, figure: str) -> float:
    figures = report.figures
    if subject not in figures:
        raise ValueError(f"the report knows no {subject!r}; it judged {', '.join(sorted(figures))}")
    if figure not in figures[subject]:
        raise ValueError(f"the report has no {figure} of {subject!r}; it has {', '.join(sorted(figures[subject]))}")
    return figures[subject][figure]
