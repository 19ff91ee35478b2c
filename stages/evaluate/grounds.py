"""The grounds of a report: what keeps a figure from proving what it seems to prove.

Three things do. Somebody was judged on samples that taught him, through whatever steps; what the truth is called was
made by those whom it judges; a model was asked without an input that it was trained with. Each is a sentence of the
report, of the gate and of the card, and of the first two a release makes no champion. Only where everything that a
model goes back to was compared is it called unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.fields import step_refs
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import modality_of
from hyperloom.stages.evaluate import unanswered
from hyperloom.stages.evaluate.check import CHAMPION
from hyperloom.stages.evaluate.overlap import JudgedSamples, Overlap
from hyperloom.stages.evaluate.subject import Subject
from hyperloom.stages.lesson import LESSONS, Lesson, merged, of_column, origins, truths
from hyperloom.stages.provenance import resolved
from hyperloom.stages.results import Shards, Trained, lessons_of
from hyperloom.stages.schema import made_by

if TYPE_CHECKING:
    from hyperloom.stages.evaluate.rival import Rival
    from hyperloom.stages.evaluate.stage import Evaluate

FEW = 0.01
"""Below this share of the samples, copies of what taught somebody are named and hold nothing up."""
SHOWN = 3
REHEARSAL = "{} is a pilot's rehearsal ({}): it shows that every step works and what it takes, and is NOT JUDGED"
WHOLE = "; the labels of the experts are those of the whole run already"


@dataclass(frozen=True)
class Ground:
    """What one subject's figures rest on. `leaks`: why they prove nothing; `notes`: what else to know; `unseen`: was it
    checked that no judged sample taught it? `samples`: how many did; `lacking`: input -> judged samples without it;
    `rehearsal`: how far a pilot trained it."""

    leaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unseen: bool = False
    samples: int = 0
    lacking: Mapping[str, int] = field(default_factory=dict)
    rehearsal: str = ""

    def mark(self, rows: int) -> str:
        """What stands in brackets behind the name, in the very line of a figure."""
        marks = ["judged on what it learned from"] if self.leaks else []
        without = [c for c, missing in self.lacking.items() if missing == rows]
        marks += [f"judged without {', '.join(without)}"] if without else []
        return f" ({'; '.join(marks)})" if marks else ""


class Grounds:
    """Of everybody in one evaluation: `of` by subject; `untrue` by modality why its truth is none; `rehearsals` by
    subject, or family of which one is a rehearsal, how far a pilot trained it."""

    def __init__(
        self,
        stage: Evaluate,
        step: StepRun,
        who: Sequence[Subject],
        truth: Mapping[str, str],
        rival: Rival | None,
        families: Mapping[str, Sequence[str]],
    ):
        manifest = step.inputs[stage.data]
        self.judged = JudgedSamples(step.storage, manifest, stage.split, step.inputs.values())
        self._stage, self._step, self._truth, self._rival = stage, step, truth, rival
        shards = Shards.from_manifest(manifest)
        self._makers = {c: p.about for c, p in shards.columns.items()}
        self._inputs = unanswered.JudgedInputs(manifest, stage.split)
        self._offered, self._families = shards.schema, families
        self.untrue = untrue(truth, self._makers)
        self._models = {subject.name for subject in who if subject.kind == "model"}
        self.of = {subject.name: self._ground(subject) for subject in who}
        self.rehearsals = self._rehearsals()

    def sentences(self) -> list[str]:
        """What a report says first."""
        no_truth = [
            f"NO TRUTH: {why}; figures of {modality!r} say how near it others come, not how good they are"
            for modality, why in self.untrue.items()
        ]
        grounds = [ground for name, ground in self.of.items() if name != CHAMPION]  # of whom its own sentence says it
        own = [sentence for ground in grounds for sentence in (*ground.leaks, *ground.notes)]
        makers, short = self._makers.values(), {n: g.rehearsal for n, g in self.of.items() if g.rehearsal}
        own += [rehearsal_sentence(name, how, makers) for name, how in short.items()]
        return [*no_truth, *own, *(self._champion(self._rival) if self._rival else [])]

    def _champion(self, rival: Rival) -> list[str]:
        """What its own sentences say of the champion, who sees pictures and nothing else."""
        lacking = self._inputs.lacking([rival.column]) if rival.meanings else {}
        return [*rival.sentences(self.judged), *unanswered.sentences(CHAMPION, lacking, len(self.judged.samples))]

    def mark(self, name: str) -> str:
        """What stands in brackets behind a name; of a family what stands behind one of its members."""
        marks = (self.of[n].mark(len(self.judged.samples)) for n in self._families.get(name, (name,)) if n in self.of)
        return next((mark for mark in marks if mark), "")

    def body(self) -> dict[str, Any]:
        """What the result holds of it, by its names there."""
        mine = self.of.items()
        return {
            "leaks": {name: list(ground.leaks) for name, ground in mine if ground.leaks},
            "untrue": self.untrue,
            "lacking": {name: dict(ground.lacking) for name, ground in mine if ground.lacking},
            "seen": {name: ground.samples for name, ground in mine if ground.samples},
            "rehearsals": self.rehearsals,
            "unseen": [name for name, ground in mine if ground.unseen and name in self._models],
        }

    def _rehearsals(self) -> dict[str, str]:
        each = {name: ground.rehearsal for name, ground in self.of.items() if ground.rehearsal}
        means = {f: next((each[m] for m in members if m in each), "") for f, members in self._families.items()}
        return {**{family: how for family, how in means.items() if how}, **each}

    def _ground(self, subject: Subject) -> Ground:
        if subject.columns:
            learned = [lesson for c in subject.columns for lesson in of_column(c, self._makers.get(c, {}))]
            mine = ground(subject.name, self._resolved(learned), self.judged, self._own_truth(subject.columns))
            short = (self._makers.get(c, {}).get("rehearsal", "") for c in subject.columns)
            return replace(mine, rehearsal=next(filter(None, short), ""))
        candidate = self._stage.candidates(self._step).get(subject.name)
        if candidate is None:  # the champion
            learned = list(self._rival.learned) if self._rival else []
            return ground(subject.name, learned, self.judged)
        models = [self._step.inputs[name] for name in step_refs(candidate.model)]
        learned = [lesson for manifest in models for lesson in lessons_of(manifest)]
        trained = Trained.from_manifest(self._step.inputs[candidate.model.model])
        given = [c for c in trained.visible if c in self._offered]
        shown = {truth for c in given for truth in (trained.shows or {}).get(c, ()) if truth in self._truth.values()}
        lacking = self._inputs.lacking(trained.visible)
        mine = ground(subject.name, self._resolved(learned), self.judged, sorted(shown), lacking)
        needed = self._inputs.unanswered(models, candidate.model.ensemble)
        silent = unanswered.sentences(subject.name, needed, len(self.judged.samples))
        return replace(mine, rehearsal=trained.rehearsal, notes=(*mine.notes, *silent))

    def _own_truth(self, columns: Iterable[str]) -> list[str]:
        """The truth by which columns are judged and of which they are made."""
        judged = {c: self._truth.get(modality_of(c)) for c in columns}
        return sorted({t for c, t in judged.items() if t and c != t and t in truths(c, self._makers.get(c, {}))})

    def _resolved(self, learned: Iterable[Lesson]) -> list[Lesson]:
        return resolved(self._step.storage, learned)


def ground(
    name: str,
    learned: Iterable[Lesson],
    judged: JudgedSamples,
    shown: Iterable[str] = (),
    lacking: Mapping[str, int] | None = None,
) -> Ground:
    """Of the subject `name`. `learned`: what it goes back to; `shown`: the truth that it is judged by and that it is
    made of or asked with; `lacking`: see Ground."""
    leaks: list[str] = []
    notes: list[str] = []
    seen, unknown = 0, False
    for lesson in merged(learned):
        if lesson.how == "licence":
            continue
        if lesson.how == "unknown":
            notes.append(f"{name}: whether it learned from the judged samples was not checked: {lesson.by}")
            unknown = True
        elif lesson.how == "fitted":
            leaks.append(f"the weights of {lesson.by} were fitted on all samples, the judged ones among them")
        else:
            overlap = judged.overlap(lesson)
            seen = max(seen, overlap.samples)
            unknown |= not overlap.compared or bool(overlap.namesakes or overlap.alike)
            leak, note = _sentences(name, lesson, overlap, len(judged.samples))
            leaks, notes = leaks + leak, notes + note
    rows = len(judged.samples)
    part = [
        f"{c} in {missing} of {rows} samples" for c, missing in (lacking or {}).items() if rows > missing >= rows / 2
    ]
    notes += [f"{name} was judged without {', '.join(part)}"] if part else []
    leaks += [f"it is made of {truth}, by which it is judged" for truth in shown]
    whole = f"LEAK: {name}: {'; '.join(dict.fromkeys(leaks))}: its figures prove nothing"
    unseen = not leaks and not unknown and not seen
    return Ground((whole,) if leaks else (), tuple(dict.fromkeys(notes)), unseen, seen, lacking or {})


def rehearsal_sentence(name: str, rehearsal: str, makers: Iterable[Mapping[str, Any]]) -> str:
    """Of a pilot's model. `makers`: what those of the judged columns say of themselves."""
    return REHEARSAL.format(name, rehearsal) + (WHOLE if "expert" in map(made_by, makers) else "")


def untrue(truth: Mapping[str, str], makers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """By modality why its truth is none: experts, a consensus or a model made it. What is computed from truth alone, or
    by an algorithm with truth among what it reads, is truth."""
    reasons = {}
    for modality, column in truth.items():
        about = makers.get(column, {})
        by = made_by(about)
        derived = by == "expert" and truths(column, about) and not about.get(LESSONS)
        if by in ("raw", "people") or derived:
            continue
        kind = {"consensus": "a consensus", "model": "a model", "expert": "an expert"}[by]
        sources = ", ".join(about.get("inputs") or origins(column, about))
        reasons[modality] = f"{column} is no ground truth: {kind} made it from {sources}"
    return reasons


def _sentences(name: str, lesson: Lesson, overlap: Overlap, rows: int) -> tuple[list[str], list[str]]:
    """What makes a lesson a leak, and what to say of it besides."""
    who = f"{lesson.by}, from which it learned," if lesson.by else "it"
    notes = []
    if not overlap.compared:
        why = f"{lesson.shards[:18]} is gone, or does not say which samples it holds"
        notes.append(f"{name}: whether it learned from the judged samples was not checked: {why}")
    if overlap.namesakes:
        notes.append(
            f"{name}: {counted(len(overlap.namesakes), 'judged group')} called like groups that it learned from "
            f"({_some(overlap.namesakes)}), without a sample in common; if they are the same, it is judged on what "
            "it learned from"
        )
    if overlap.alike:
        notes.append(
            f"{name}: {overlap.alike} of the {rows} samples that are judged look like copies of such that it "
            f"learned from, in another encoding or size (groups {_some(overlap.like)}); if they are, it is judged on "
            "what it learned from"
        )
    if not overlap.samples:
        return [], notes
    how = "was trained on" if lesson.how == "trained" else "was chosen by (early stopping, the best of several seeds)"
    copies = f", {overlap.copies} of them copies, byte for byte" if overlap.copies else ""
    where = f"groups {_some(overlap.groups)}{copies}"
    sentence = f"{who} {how} {overlap.samples} of the {rows} samples that are judged ({where})"
    if overlap.samples == overlap.copies and overlap.copies < FEW * rows:
        return [], [*notes, f"{name}: {sentence}"]
    return [sentence], notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
