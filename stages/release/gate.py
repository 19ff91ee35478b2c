"""Gates: conditions on figures that decide whether a model becomes the champion.

    gate:
      semantic.miou: ">= 0.3"                   # absolute
      depth.mae: "<= champion + 0.05"           # against the present champion; passes while there is none
      normals.angle: "< best_expert"            # against the best single expert of the report, or any subject of it
      semantic.miou[weather@truth=night]: ">= 0.2"   # on a slice of the report (stages.evaluate.slices)

A tolerance to the champion counts from the best there was: what champions have lost one after the other is added up
(`Reigning.behind`), so that many small steps down are not more than one. A figure that is no number decides nothing.
A gate is parsed when the recipe is read, and judged from the report alone. It moves nothing: see stages.release.stage.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from hyperloom.stages.evaluate.slices import judged_modality, named
from hyperloom.stages.measure.measure import figures_known
from hyperloom.stages.results import Judged

CHAMPION, BEST_EXPERT = "champion", "best_expert"
_OPERATORS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
ROUNDING = 1e-9
"""The share of a figure that sums and differences lose by rounding: figures that differ by less are equal."""
_SIGNS = str.maketrans({"−": "-", "–": "-", "≥": ">=", "≤": "<="})
"""What people and their editors write for the signs of a keyboard."""
_SIDES = re.compile(r"(>=|<=|>|<)\s*(.+)")
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LIMIT = re.compile(rf"[+-]?{_NUMBER}")
_AGAINST = re.compile(rf"(?P<who>.*?)\s*(?P<sign>[+-])\s*(?P<by>{_NUMBER})")
_NAME = re.compile(r"\w[\w .-]*")
_NO_NUMBERS = ("nan", "inf", "infinity")


@dataclass(frozen=True)
class GateCondition:
    """`figure` compared with a number, or with somebody's figure plus `offset`. `whole` is what was written after the
    sign: a model may be called `net-2`, see `meant`."""

    figure: str
    op: str
    who: str
    offset: float
    whole: str = ""

    def __str__(self) -> str:
        if not self.who:
            return f"{self.figure} {self.op} {self.offset:g}"
        by = f" {'+' if self.offset > 0 else '-'} {abs(self.offset):g}" if self.offset else ""
        return f"{self.figure} {self.op} {self.who}{by}"

    def meant(self, names: Collection[str]) -> GateCondition:
        """This condition among those who are called so: `net-2` is somebody where there is one, else `net` less 2."""
        return replace(self, who=self.whole, offset=0.0) if self.whole in names else self

    @property
    def rising(self) -> bool:
        """Is more pair?"""
        return self.op.startswith(">")

    @property
    def lenient(self) -> bool:
        """May the model be worse than whom it is compared with?"""
        return bool(self.who) and (self.offset < 0) == self.rising and self.offset != 0


@dataclass(frozen=True)
class Reigning:
    """The champion as a gate sees it: `figures`, how far each lies `behind` the best there was (never below 0), and by
    figure why it cannot be compared (`apart`)."""

    figures: Mapping[str, float]
    behind: Mapping[str, float] = field(default_factory=dict)
    apart: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """A condition, whether it holds, and why in words."""

    condition: GateCondition
    passed: bool
    reason: str


def parse(figure: str, text: str) -> GateCondition:
    """The condition that a recipe wrote. Raises ValueError saying what is wrong with it."""
    measure, known = named(figure)[0].rpartition(".")[2], figures_known()
    if "." not in figure or measure not in known or ("[" in figure and not named(figure)[1]):
        raise ValueError(f"{figure!r} is no figure: write modality.measure, with {', '.join(known)}")
    sides = _SIDES.fullmatch(text.translate(_SIGNS).strip())
    if sides is None:
        raise ValueError(_wrong(figure, text))
    op, whole = sides[1], sides[2]
    if known[measure] is not None:
        check_direction(figure, text, op, bool(known[measure]))
    if _LIMIT.fullmatch(whole):
        return GateCondition(figure, op, "", _finite(figure, text, whole))
    if whole.lower().lstrip("+-") in _NO_NUMBERS:
        raise ValueError(f"{figure}: {text!r}: {whole} is no number that a figure could be compared with")
    if "%" in whole:
        raise ValueError(f"{figure}: {text!r}: a gate knows no per cent; write the share itself, as in 0.01")
    against = _AGAINST.fullmatch(whole)
    who = against["who"] if against else whole
    if not _NAME.fullmatch(who) or who[-1] in "+-" or _LIMIT.fullmatch(who) or re.search(r"\s[+-]", who):
        raise ValueError(_wrong(figure, text))
    offset = _finite(figure, text, against["by"]) * (-1 if against["sign"] == "-" else 1) if against else 0.0
    return GateCondition(figure, op, who, offset, whole)


def check_direction(figure: str, text: str, op: str, up: bool) -> None:
    """Raises ValueError where `op` asks for the worse side of a figure that is better when larger (`up`) or smaller."""
    if op.startswith(">") != up:
        better, measure = "larger" if up else "smaller", named(figure)[0].rpartition(".")[2]
        raise ValueError(f"{figure}: {text!r} points the wrong way, {measure} is better when {better}")


def judge(
    condition: GateCondition, subject: str, report: Judged, champion: Mapping[str, float] | Reigning | None
) -> Decision:
    """Does `condition` hold for `subject` of a report? `champion` is how the champion stands, None without one.

    Raises ValueError when the report lacks a figure that the condition needs.
    """
    standing = champion if champion is None or isinstance(champion, Reigning) else Reigning(champion)
    condition = condition.meant({*report.figures, *(report.seeds or {})})
    value = _figure(report, subject, condition.figure)
    where = f"{_count(report, condition.figure)} samples of the split `{report.split}`"
    without = [c for c, missing in report.lacking.get(subject, {}).items() if missing >= report.samples]
    lacking = f", judged without {', '.join(without)}" if without else ""
    measured = f"it is {value:.4g}{lacking}, on {where}{_interval(report, subject, condition.figure)}"
    if condition.who == CHAMPION and standing is not None and condition.figure in standing.apart:
        return _undecided(condition, f"{standing.apart[condition.figure]} ({measured})")
    if condition.who == CHAMPION and (standing is None or condition.figure not in standing.figures):
        reason = "there is no champion yet" if standing is None else "the champion has no such figure"
        if math.isnan(value):
            return _undecided(condition, f"{subject}'s figure is no number ({value})")
        return Decision(condition, True, f"{condition}: holds, {reason} ({measured})")
    other, against = condition.offset, ""
    if condition.who == CHAMPION and standing is not None:
        behind = standing.behind.get(condition.figure, 0.0) if condition.lenient else 0.0
        base = standing.figures[condition.figure] + (behind if condition.rising else -behind)
        best = f", counted from the best there was, {base:.4g}; the champion has lost {behind:.4g}" if behind else ""
        other, against = base + condition.offset, f" against {base + condition.offset:.4g}{best}"
    elif condition.who:
        return _rivalled(condition, subject, report, measured)
    for who, figure in ((subject, value), (condition.who or "the limit", other)):
        if not math.isfinite(figure):
            return _undecided(condition, f"{who}'s figure is no number ({figure})")
    passed = _passes(condition, value, other)
    return Decision(condition, passed, f"{condition}: {'holds' if passed else 'FAILS'} ({measured}{against})")


def _passes(condition: GateCondition, value: float, other: float) -> bool:
    """Is a figure on the right side of another? .8 is not above .7 + .1, and nobody is better by a last bit."""
    if math.isclose(value, other, rel_tol=ROUNDING):
        return "=" in condition.op
    return bool(_OPERATORS[condition.op](value, other))


def _rivalled(condition: GateCondition, subject: str, report: Judged, measured: str) -> Decision:
    """Against somebody of the report, by what both answered where these are other samples than each answered."""
    reasons = []
    for rival in _named(condition, report, subject):
        value, base, samples = _met(report, subject, rival, condition.figure)
        for who, figure in ((subject, value), (condition.who, base)):
            if not math.isfinite(figure):
                return _undecided(condition, f"{who}'s figure is no number ({figure})")
        other = base + condition.offset
        common = f"; on the {samples} samples that {rival} answers too {value:.4g}" if samples else ""
        against = f"{common} against {other:.4g}{_difference(report, subject, rival, condition.figure)}"
        if not _passes(condition, value, other):
            return Decision(condition, False, f"{condition}: FAILS ({measured}{against})")
        reasons.append(against)
    return Decision(condition, True, f"{condition}: holds ({measured}{''.join(reasons)})")


def _met(report: Judged, subject: str, rival: str, figure: str) -> tuple[float, float, int]:
    """The figures of both, and on how many samples where the report compared them on those that both answered (0: each
    on its own): an error of somebody who is silent where it is hard is of easier samples."""
    modality, _, measure = figure.rpartition(".")
    for row in report.differences or ():
        if (row["who"], row["against"], row["figure"]) == (subject, rival, figure) and row.get("samples"):
            return row["value"], row["reference"], row["samples"]
    row = report.verdict.get(subject, {}).get(modality, {})
    if (row.get("expert"), row.get("measure")) == (rival, measure) and (shared := row.get("common")):
        mine, theirs = (math.nan if shared[k] is None else shared[k] for k in ("value", "expert_value"))
        return mine, theirs, shared["samples"]
    return _figure(report, subject, figure), _figure(report, rival, figure), 0


def _count(report: Judged, figure: str) -> int:
    """Samples that the figure is of."""
    part = named(figure)[1]
    return next((row["samples"] for row in report.slices or () if part and row["slice"] == part), report.samples)


def _undecided(condition: GateCondition, why: str) -> Decision:
    return Decision(condition, False, f"{condition}: CANNOT BE DECIDED, {why}")


def _interval(report: Judged, subject: str, figure: str) -> str:
    """`, 95 % interval 0.57 to 0.63`; nothing where none was asked for or too little was known."""
    bounds = ((report.bounds or {}).get(subject) or {}).get(figure)
    if not bounds or not report.intervals:
        return ""
    return f", {100 * report.intervals['level']:g} % interval {bounds[0]:.4g} to {bounds[1]:.4g}"


def _difference(report: Judged, subject: str, other: str, figure: str) -> str:
    """Bounds of the difference to somebody, where the report has them."""
    pair = (subject, other, figure)
    for row in report.differences or ():
        if (row["who"], row["against"], row["figure"]) == pair and row["low"] is not None:
            return f"; the difference is {row['low']:+.4g} to {row['high']:+.4g}"
    return ""


def _named(condition: GateCondition, report: Judged, subject: str) -> list[str]:
    """Whom a condition means: of the best expert also the one that the report says is harder to beat."""
    if condition.who != BEST_EXPERT:
        return [condition.who]
    modality = judged_modality(condition.figure)
    expert = report.best_expert.get(modality)
    if expert is None:
        raise ValueError(f"{condition}: the report has no expert of {modality!r}")
    row = report.verdict.get(subject, {}).get(modality, {})
    harder = row.get("best") and condition.figure == f"{modality}.{row['measure']}"
    return [expert, row["expert"]] if harder else [expert]


def _figure(report: Judged, subject: str, figure: str) -> float:
    """Of a subject, or the mean of a family of seeds."""
    if subject not in report.figures and figure in ((report.seeds or {}).get(subject) or {}):
        return float(report.seeds[subject][figure]["mean"])  # type: ignore[index]
    figures = report.figures
    if subject not in figures:
        raise ValueError(f"the report knows no {subject!r}; it judged {', '.join(sorted(figures))}")
    if named(figure)[1]:
        mine = sliced(report, subject)
        if figure not in mine:
            parts = dict.fromkeys(row["slice"] for row in report.slices or ())
            raise ValueError(f"the report has no {figure} of {subject!r}; its slices are {', '.join(parts) or 'none'}")
        return math.nan if mine[figure] is None else float(mine[figure])
    if figure not in figures[subject]:
        raise ValueError(f"the report has no {figure} of {subject!r}; it has {', '.join(sorted(figures[subject]))}")
    value = figures[subject][figure]
    return math.nan if value is None else float(value)


def sliced(report: Judged, subject: str) -> dict[str, float]:
    """The subject's figures of parts of the samples, as a gate names them."""
    return {f"{r['figure']}[{r['slice']}]": r["value"] for r in report.slices or () if r["who"] == subject}


def _finite(figure: str, text: str, number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{figure}: {text!r}: {number} is no number that a figure could be compared with")
    return value


def _wrong(figure: str, text: str) -> str:
    return f"{figure}: {text!r} is no condition: write '>= 0.3', '>= champion - 0.005' or '> best_expert'"
