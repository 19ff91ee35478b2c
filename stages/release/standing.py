"""How the champion stands when a gate compares with it: on what its figures were measured, and what was lost since the
best there was.

Figures are comparable where split, truth and the meaning of a modality are the same; other shards are said, since new
data come every night. Where the report judged the champion itself, all of that is the report's own. What each new
champion has lost to the one before adds up in `behind` and shrinks again when one gains; a release whose gate does not
compare a figure with the champion starts that figure anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.stages import champion as champions
from hyperloom.stages.evaluate.slices import judged_modality, named
from hyperloom.stages.release.gate import CHAMPION, GateCondition, Reigning, sliced
from hyperloom.stages.results import Judged


def meaning(report: Judged, modalities: Mapping[str, Any]) -> dict[str, str]:
    """By judged modality a digest of its definition."""
    return {m: fingerprint(payload(modalities[m]))[:SHORT] for m in sorted(report.truth) if m in modalities}


def standing(
    champion: champions.Champion | None, report: Judged, met: bool, meanings: Mapping[str, str]
) -> Reigning | None:
    """`met`: the report judged this very champion."""
    if champion is None:
        return None
    same = {m for m, meaning in meanings.items() if champion.meaning.get(m, meaning) == meaning}
    behind = {
        figure: loss for figure, loss in champion.behind.items() if judged_modality(figure) in same
    }  # in one unit
    refused = report.apart or {}
    apart = {f: _refused(judged_modality(f), refused) for f in champion.figures if judged_modality(f) in refused}
    if met:
        met_on = {**report.figures[CHAMPION], **sliced(report, CHAMPION)}
        return Reigning({**{f: champion.figures[f] for f in apart}, **met_on}, behind, apart)
    others = (figure for figure in champion.figures if figure not in apart)
    apart |= {figure: why for figure in others if (why := _apart(champion, report, meanings, figure))}
    return Reigning(champion.figures, behind, apart)


def _refused(modality: str, refused: Mapping[str, str]) -> str:
    return (
        f"the report did not judge the champion on {modality!r}: {refused[modality]}. Next: release once without this "
        "condition, or under another name"
    )


def elsewhere(champion: champions.Champion | None, report: Judged) -> list[str]:
    """A sentence where the champion's figures are of other shards than the report's."""
    if champion is None or champion.data == report.lineage.shards:
        return []
    return ["the champion's figures were measured on other data: " + champion.data[:12]]


def crowned(
    release: str, report: Judged, subject: str, before: Reigning | None, compared: Iterable[GateCondition],
    meanings: Mapping[str, str],
) -> champions.Champion:  # fmt: skip
    """The new champion, `compared` with the one before by these conditions."""
    figures, parts = dict(report.figures[subject]), sliced(report, subject)
    lost: dict[str, float] = {}
    for condition in compared:
        figure = condition.figure
        if named(figure)[1]:
            figures[figure] = parts[figure]  # what the next one will be compared with
        if condition.who == CHAMPION and before is not None and figure in before.figures:
            loss = (before.figures[figure] - figures[figure]) * (1 if condition.rising else -1)
            lost[figure] = max(0.0, before.behind.get(figure, 0.0) + loss)
    behind = {figure: loss for figure, loss in lost.items() if loss > 0}
    data = report.lineage.shards
    return champions.Champion(release, figures, data, report.split, dict(report.truth), dict(meanings), behind)


def _apart(champion: champions.Champion, report: Judged, meanings: Mapping[str, str], figure: str) -> str:
    """Why a figure of the champion says nothing beside one of the report; empty where it does."""
    modality = judged_modality(figure)
    truth, mine = champion.truth.get(modality), report.truth.get(modality)
    before, now = champion.meaning.get(modality), meanings.get(modality)
    if champion.split and champion.split != report.split:
        why = f"measured on the split `{champion.split}`, this one on `{report.split}`"
    elif truth and mine and truth != mine:
        why = f"measured against {truth}, this one against {mine}"
    elif before and now and before != now:
        why = f"measured when {modality!r} was defined otherwise (classes, unit, range or size)"
    else:
        return ""
    value = champion.figures[figure]
    return (
        f"the champion's {value:.4g} was {why}. Next: let the report judge the champion too (`champion:` of the "
        "evaluate step)"
    )
