"""The verdict: rows of figures and, said plainly, whether each model beats the best single expert.

For each modality the measure is the modality's own (mean IoU, mean absolute error, mean angle). The best expert is the
best by that measure among those that answered at least half of what the truth knows: one that answers a few easy
pixels is no rival. Consensus and models are not experts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.counting import placed
from hyperloom.stages.evaluate.subject import Subject
from hyperloom.stages.measure.measure import better, directions, measure_of

if TYPE_CHECKING:
    from hyperloom.stages.evaluate.compare import Common
    from hyperloom.stages.evaluate.grounds import Grounds

ENOUGH = 0.5
"""The share of known truth that an expert must answer to be the best."""

Figures = Mapping[str, Mapping[str, float]]
"""Subject -> "modality.measure" -> value."""


def table(
    who: Sequence[Subject],
    figures: Figures,
    modalities: Mapping[str, Any],
    costs: Mapping[str, Mapping[str, int]],
    rehearsals: Mapping[str, str],
) -> list[dict[str, Any]]:
    """One row a subject: its measure of each modality, the share it answered where somebody did not answer all, its
    steadiness where that was measured, and of models the parameters, and the operations for one sample in millions.
    None where there is none. `rehearsals`: who was trained by a pilot, and how far."""
    columns = []
    for name, modality in modalities.items():
        columns.append(f"{name}.{modality.metric}")
        if any(mine.get(f"{name}.coverage", 1) < 1 for mine in figures.values()):
            columns.append(f"{name}.coverage")
        steady = (f"{name}.{measure}" for measure in ("consistency", "flicker"))
        columns += [c for c in steady if any(c in mine for mine in figures.values())]
    return [
        {
            "who": s.name,
            "kind": kind_of(s.name, s.kind, rehearsals),
            **{c: figures[s.name].get(c) for c in columns},
            "parameters": costs.get(s.name, {}).get("parameters"),
            "megaflops": round(costs[s.name]["flops"] / 1e6, 3) if s.name in costs else None,
        }
        for s in who
        if figures.get(s.name)
    ]


def kind_of(name: str, kind: str, rehearsals: Mapping[str, str]) -> str:
    """What a table calls somebody of this kind: a rehearsal, and how far it went, where a pilot trained it."""
    return f"rehearsal: {rehearsals[name]}" if name in rehearsals else kind


def decisive(decided: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """`student.semantic.miou` and the like: the figures of a run's models, of the verdict on each."""
    known = ((f"{model}.{m}.{d['measure']}", d["value"]) for model, mine in decided.items() for m, d in mine.items())
    return {name: float(value) for name, value in known if value is not None}


def best(who: Sequence[Subject], figures: Figures, kind: str, name: str, modality: Any) -> str | None:
    """The best subject of a kind by the metric of `modality`, called `name`; None when none of them answered enough."""
    key, leader, higher = f"{name}.{modality.metric}", None, directions(modality)[modality.metric]
    for one in _able(who, figures, kind, name, modality):
        if leader is None or better(figures[one][key], figures[leader][key], higher):
            leader = one
    return leader


def _able(who: Sequence[Subject], figures: Figures, kind: str, name: str, modality: Any) -> Iterator[str]:
    """The subjects of a kind that answered enough of a modality to be its best."""
    for one in (s.name for s in who if s.kind == kind):
        mine = figures.get(one, {})
        known = math.isfinite(mine.get(f"{name}.{modality.metric}", math.nan))
        if known and mine[f"{name}.coverage"] >= ENOUGH:
            yield one


def verdict(
    who: Sequence[Subject],
    figures: Figures,
    modalities: Mapping[str, Any],
    teachers: Mapping[str, Collection[str]] | None = None,
    common: Common | None = None,
) -> dict[str, Any]:
    """For each model and modality: its figure, the best expert's, and whether it is better; of students, whose teachers
    are judged under the names in `teachers`, also what share of both they keep.

    By a figure that only counts answers (`Measure.of_answers`) model and expert are compared on the samples that both
    answered, where these differ: `common` says which of the two figures and how many samples these are. The best expert
    may then have had the easiest samples: where a model does not beat another one, that is the expert, and `best` the
    best.

    {model: {modality: {"measure", "value", "expert": name or None, "expert_value", "beats": bool or None,
    "keeps": {"teacher": name, "of_teacher", "of_expert"}}}}
    """
    decided: dict[str, Any] = {}
    for subject in who:
        if subject.kind != "model" or subject.columns:
            continue
        for name, modality in modalities.items():
            key = f"{name}.{modality.metric}"
            if not math.isfinite(figures.get(subject.name, {}).get(key, math.nan)):
                continue
            row = _hardest(subject.name, who, figures, name, modality, common)
            if teachers and teachers.get(subject.name):
                above = [s for s in who if s.name in teachers[subject.name]]
                teacher = best(above, figures, "model", name, modality)
                kept = None if teacher is None else _share(row["value"], figures[teacher][key], modality)
                row["keeps"] = {"teacher": teacher, "of_teacher": kept, "of_expert": row.pop("keeps")}
            else:
                del row["keeps"]
            decided.setdefault(subject.name, {})[name] = row
    return decided


def _hardest(
    subject: str, who: Sequence[Subject], figures: Figures, name: str, modality: Any, common: Common | None
) -> dict[str, Any]:
    """The row of the verdict on a model: against the best expert, or the one that is farthest ahead of it of those that
    it does not beat."""
    key, rises = f"{name}.{modality.metric}", directions(modality)[modality.metric]

    def row(rival: str | None) -> dict[str, Any]:
        against = None if rival is None else figures[rival][key]
        shared = _shared(common, subject, rival, name, modality)
        return _against(figures[subject][key], rival, against, shared, modality)

    def ahead(one: Mapping[str, Any]) -> float:
        mine = one.get("common", one)
        return float(mine["expert_value"] - mine["value"]) * (1 if rises else -1)

    leader = best(who, figures, "expert", name, modality)
    first = row(leader)
    if first["beats"] is False or common is None or modality.metric not in measure_of(modality).of_answers:
        return first
    others = [row(one) for one in _able(who, figures, "expert", name, modality) if one != leader]
    hardest = max((one for one in others if one["beats"] is False), key=ahead, default=None)
    return first if hardest is None else {**hardest, "best": leader}


def _against(
    value: float, rival: str | None, against: float | None, shared: Mapping[str, Any] | None, modality: Any
) -> dict[str, Any]:
    """A row of the verdict; `keeps`: what share of the expert's figure."""
    higher = directions(modality)[modality.metric]
    mine: Any = shared["value"] if shared else value
    theirs: Any = shared["expert_value"] if shared else against
    row = {"measure": modality.metric, "value": value, "expert": rival, "expert_value": against}
    known = mine is not None and theirs is not None
    row["beats"] = better(mine, theirs, higher) if known else None
    row["keeps"] = _share(mine, theirs, modality) if known else None
    return {**row, "common": dict(shared)} if shared else row


def _shared(common: Common | None, who: str, rival: str | None, name: str, modality: Any) -> dict[str, Any] | None:
    """The figures of both on the samples that both answered; None where that makes no difference."""
    if rival is None or common is None or modality.metric not in measure_of(modality).of_answers:
        return None
    shared = common([who, rival], name)
    if shared is None:
        return None
    figures, _, count = shared
    key = f"{name}.{modality.metric}"
    return {"value": figures[who].get(key), "expert_value": figures[rival].get(key), "samples": count}


def _share(value: float, of: float, modality: Any) -> float | None:
    """What `value` keeps of another figure: their ratio, or the reverse where lower figures are better; None of a
    figure that is nothing to keep, or of which there is none."""
    above, below = (value, of) if directions(modality)[modality.metric] else (of, value)
    return above / below if below > 0 and above >= 0 else None


def doubted(decided: Mapping[str, Any], grounds: Grounds) -> None:
    """Note in a verdict what proves nothing: `unproven` says why, and nobody `beats` anybody by it; `rehearsal` says
    how far a pilot trained the model."""
    for name, modalities in decided.items():
        for modality, row in modalities.items():
            leaks = grounds.of[name].leaks if name in grounds.of else ()
            if how := grounds.rehearsals.get(name):
                row |= {"beats": None, "unproven": f"a pilot's rehearsal ({how})", "rehearsal": how}
            elif why := grounds.untrue.get(modality) or next(iter(leaks), ""):
                row |= {"beats": None, "unproven": why}


def doubted_differences(rows: Sequence[dict[str, Any]], rehearsals: Mapping[str, str]) -> None:
    """Note in differences that nothing is shown by or against a pilot's rehearsal: `unproven` says whose."""
    for row in rows:
        for who in (row[side] for side in ("who", "against") if row[side] in rehearsals):
            row |= {"better": None, "unproven": f"{who} is a rehearsal ({rehearsals[who]})"}


def sentences(
    decided: Mapping[str, Any], grounds: Grounds | None = None, differences: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """The verdict, with what `doubted` noted, in words, one sentence a model and modality. That it beats the experts is
    said where it is proved, not where the interval of the difference from the best expert, among `differences`, holds
    zero."""
    close = {(d["who"], d["against"], d["figure"]) for d in differences if d["low"] is not None and d["better"] is None}
    lines = []
    for name, modalities in decided.items():
        for modality, d in modalities.items():
            figure = f"{name}{grounds.mark(name) if grounds else ''}: {modality} {d['measure']} {d['value']:.4g}"
            best = f"(best: {d['expert']} {d['expert_value']:.4g})" if d["expert"] is not None else ""
            if d.get("best"):
                best = f"({d['expert']} {d['expert_value']:.4g}; the best, {d['best']}, answers other samples)"
            if d.get("rehearsal"):
                lines.append(f"{figure} after a rehearsal of {d['rehearsal']}: not judged {best}".rstrip())
                continue
            if d.get("unproven"):
                what = "no truth" if grounds and modality in grounds.untrue else "what it learned from"
                lines.append(f"{figure}, which proves nothing: it was judged by {what} {best}".rstrip())
            elif d["expert"] is None:
                lines.append(f"{figure}; no expert to compare with")
            elif d["beats"] is None:
                lines.append(f"{figure}; it and the best expert answer no sample in common: not compared {best}")
            else:
                undecided = (name, d["expert"], f"{modality}.{d['measure']}") in close
                lines.append(f"{figure} {_relation(d, undecided)} {best}{_in_common(d.get('common'))}")
            lines[-1] += _kept(d)
    return lines


def _relation(row: Mapping[str, Any], undecided: bool) -> str:
    """Of a model and the best expert, or the one that it does not beat."""
    beats, whom = row["beats"], "every single expert" if row.get("best") else "the best expert"
    if undecided:
        return f"is {'above' if beats else 'not above'} {whom}, too close to call"
    return "beats every single expert" if beats else f"DOES NOT beat {whom}"


def _in_common(row: Mapping[str, Any] | None) -> str:
    """What was compared where the expert left samples out."""
    if row is None:
        return ""
    return f"; on the {row['samples']} samples that both answer {row['value']:.4g} against {row['expert_value']:.4g}"


def _kept(row: Mapping[str, Any]) -> str:
    """What a student keeps, as the end of its sentence."""
    keeps, expert = row.get("keeps", {}), row["expert"] if row.get("best") else "the best expert"
    shares = [("of_teacher", f"its teacher ({keeps.get('teacher')})"), ("of_expert", expert)]
    kept = [f"{keeps[key]:.2f} of {whom}" for key, whom in shares if keeps.get(key) is not None]
    return f"; keeps {', '.join(kept)}" if kept else ""


def difference_sentences(
    rows: Sequence[Mapping[str, Any]], modalities: Mapping[str, Any], level: float, grounds: Grounds | None = None
) -> list[str]:
    """The differences by each modality's own measure and in steadiness, in words, where they have bounds."""
    lines = []
    for row in rows:
        name, _, measure = row["figure"].rpartition(".")
        if row["low"] is None or measure not in (modalities[name].metric, "consistency", "flicker"):
            continue
        outcome = {True: "better", False: "WORSE", None: "no difference shown"}[row["better"]]
        outcome = f"not judged, as {row['unproven']}" if row.get("unproven") else outcome
        who, against = (f"{row[side]}{grounds.mark(row[side]) if grounds else ''}" for side in ("who", "against"))
        lines.append(
            f"{who} against {against}: {row['figure']} {placed(row['difference'], 4, '+')} "
            f"({100 * level:g} % interval {placed(row['low'], 4, '+')} to {placed(row['high'], 4, '+')}): {outcome}"
            + (f", on the {row['samples']} samples that both answer" if row.get("samples") else "")
        )
    return lines
