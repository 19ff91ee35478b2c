"""Lessons: the samples that taught or chose something, as manifests hand them on from step to step.

A model notes what it was trained on and what its weights were chosen by; a label that a model made notes what that
model learned; who is trained on such a label inherits its lessons, and so does a student, an ensemble, a training that
starts from other weights, and a release. So whoever judges a model knows all that it goes back to without walking
through the steps between, which may be gone. A lesson names shards and a split; which samples these are, the manifest
of the shards says (stages.shard.content).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from hyperloom.pipeline.output.remarking import listed
from hyperloom.stages.base import HUMAN, TRUTH, source_of

LESSONS, ORIGINS = "lessons", "origins"
"""Keys of what a column's maker says of itself (`Producer.about`)."""
LessonKind = Literal["trained", "chosen", "fitted", "weights", "start", "unknown", "licence"]

OWN_WORDS = ("unknown", "fitted", "start", "licence")
"""Lessons that say the same whoever hands them on."""


class Lesson(NamedTuple):
    """`shards`: stage/fingerprint of the step that holds the samples, of which those of `split` count. `how`: weights
    were trained on them, or chosen by them (early stopping, the best of several seeds). `by`: through which column,
    teacher or start it came, nothing where it is the model's own.

    Others name no shards: an estimate that was `fitted` on truth, whatever its split, and what is `unknown`, of which
    `by` says all that is known; `weights` of an expert, and of a `start`, are files with the sha256 `shards`, which may
    be models of this very root (`stages.provenance.resolved`). A `licence` is under which terms `by` may be used
    (`stages.licence`)."""

    shards: str
    split: str
    how: LessonKind
    by: str = ""


def lessons(rows: Iterable[Sequence[Any]]) -> list[Lesson]:
    """Lessons as a manifest holds them."""
    return [Lesson(*row) for row in rows]


def handed_on(learned: Iterable[Lesson], by: str) -> list[Lesson]:
    """What somebody inherits `by` a column, a teacher or a start; of what is unknown its own words stay."""
    return [lesson if lesson.how in OWN_WORDS else lesson._replace(by=by) for lesson in learned]


def merged(learned: Iterable[Lesson]) -> list[Lesson]:
    """Each once, in order; what is one's own rather than what came by others."""
    known: dict[tuple[str, ...], Lesson] = {}
    for lesson in sorted(learned):
        key = lesson if lesson.how in ("fitted", "unknown", "licence") else lesson[:3]
        known.setdefault(key, lesson)
    return list(known.values())


def of_column(column: str, about: Mapping[str, Any]) -> list[Lesson]:
    """What whoever reads `column` inherits, from what its maker says."""
    return handed_on(lessons(about.get(LESSONS, ())), column)


def maker(about: Mapping[str, Any]) -> dict[str, Any]:
    """What files say of who made a column: all but what it goes back to, which manifests alone hold."""
    return {key: value for key, value in about.items() if key not in (LESSONS, ORIGINS)}


def origins(column: str, about: Mapping[str, Any]) -> list[str]:
    """The raw columns that a column goes back to: itself where nobody made it."""
    return list(about.get(ORIGINS) or [column])


def truths(column: str, about: Mapping[str, Any]) -> list[str]:
    """Those of them that are truth: what came as such, and what people said."""
    return [origin for origin in origins(column, about) if source_of(origin) in (TRUTH, HUMAN)]


def inherited(
    out: str, reads: Mapping[str, Mapping[str, Any]], models: Iterable[Lesson], fits: bool
) -> dict[str, list[Any]]:
    """What the maker of `out` says of itself here: the raw columns and the lessons behind it. `reads`: by input column
    what its maker says; `models`: lessons of the models that it asks; `fits`: does it estimate something from all that
    it reads?"""
    learned = [*models, *(lesson for column, about in reads.items() for lesson in of_column(column, about))]
    raw = sorted({origin for column, about in reads.items() for origin in origins(column, about)})
    if fits:
        learned += [Lesson("", "", "fitted", f"{out} on {c}") for c in raw if source_of(c) == TRUTH]
    rows = {LESSONS: [list(lesson) for lesson in merged(learned)]} if learned else {}
    return {ORIGINS: raw, **rows}


def rehearsed(models: Iterable[str], reads: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What the maker of a column says of itself where one of the `models` that it asks, or that made what it `reads`,
    is a pilot's rehearsal: how far the first was trained."""
    how = next(filter(None, [*models, *(about.get("rehearsal", "") for about in reads)]), "")
    return {"rehearsal": how} if how else {}


def rehearsal(models: Mapping[str, str], useful: str = "") -> str:
    """What a pilot's outcome is called wherever it is said: in the report, by MLflow, on the last lines. `models`: by
    name how far each was trained; `useful`: what there is to look at already."""
    names = listed([f"{name} ({how})" for name, how in models.items()])
    return f"a pilot: {useful}{names} {'are rehearsals' if len(models) > 1 else 'is a rehearsal'}, NOT JUDGED"
