"""What a report proves of a model that is to be released, in the words of the gate and of the card.

Figures from samples that taught it, against what its own teachers made, or of a rehearsal, prove nothing: such a model
is registered and does not become the champion, unless the recipe says `unproven: true`, and then that is said.
"""

from __future__ import annotations

from collections.abc import Iterable

from hyperloom.stages.evaluate.slices import judged_modality
from hyperloom.stages.release.gate import BEST_EXPERT, GateCondition
from hyperloom.stages.results import Judged


def doubts(report: Judged, subject: str, conditions: Iterable[GateCondition]) -> list[str]:
    """Why the figures that decide prove nothing; of a release without a gate all figures do."""
    decisive = {judged_modality(condition.figure) for condition in conditions} or set(report.truth)
    untrue = [f"NO TRUTH: {why}" for modality, why in report.untrue.items() if modality in decisive]
    short = [f"REHEARSAL: {subject} was trained for {how}"] if (how := report.rehearsals.get(subject)) else []
    return [*short, *report.leaks.get(subject, ()), *untrue]


def remarks(report: Judged, subject: str, conditions: Iterable[GateCondition]) -> list[str]:
    """What else a decision rests on: inputs that were not there, and rivals that were judged on what taught them."""
    without = [
        f"{subject} was judged without {column} in {missing} of {report.samples} samples"
        for column, missing in report.lacking.get(subject, {}).items()
        if 2 * missing >= report.samples
    ]
    rivals = {
        report.best_expert.get(judged_modality(c.figure)) or "" if c.who == BEST_EXPERT else c.who for c in conditions
    }
    unfair = [why for who in sorted(rivals - {subject}) for why in report.leaks.get(who, ())]
    return [*without, *unfair]


def seen(report: Judged, subject: str) -> str:
    """What a card says of the samples behind a model's figures."""
    if subject in report.unseen:
        return "unseen in training"
    if taught := report.seen.get(subject):
        return f"{taught} of which it learned from" + ("" if subject in report.leaks else " (copies)")
    if subject in report.leaks:
        return "which prove nothing"
    return "not known to be unseen in training"
