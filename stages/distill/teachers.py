"""Teachers: who taught a student, as manifests have it, in words.

A column is a model's when the model labelled it, or when it was made of columns that the model labelled: a consensus in
which its answers count, another label step over them. `about["models"]` of a column's producer names the models behind
it by the fingerprints of their steps, so answers that another version of a teacher has stored are not this teacher's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hyperloom.pipeline.fingerprint import SHORT
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.stages.base import Producer
from hyperloom.stages.schema import ModelSchema, Offer, made_by


def check(step: StepCheck, teacher: str, columns: Iterable[str], offered: Offer) -> None:
    """Note a teacher that is behind none of the target `columns`."""
    model = step.read(("teacher",), teacher, ModelSchema)
    named = {c: offered.columns[c] for c in columns if c in offered.columns}
    if model is None or not named or not offered.complete or any(model.identity in c.models for c in named.values()):
        return
    makers = (f"{c} ({', '.join(map(_short, sorted(one.models))) or one.made_by})" for c, one in named.items())
    step.mistake(
        ("teacher",),
        f"teacher: {teacher!r} made none of the targets, which are {', '.join(makers)}. Next: targets that a label "
        f"step with {{type: model, model: {teacher}}} made, the teacher that did make them, or leave `teacher:` out: "
        "then the student learns from labels alone",
    )


def taught_by(
    teacher: tuple[str, str], targets: Mapping[str, Mapping[str, float]], producers: Mapping[str, Producer]
) -> dict[str, str]:
    """Target column -> who made it, in words. `teacher`: its name in the recipe (empty for none) and fingerprint."""
    columns = dict.fromkeys(c for weighted in targets.values() for c in weighted)
    return {c: _maker(producers[c].about if c in producers else {}, *teacher) for c in columns}


def hinted_by(teacher: tuple[str, str], hints: Iterable[str]) -> dict[str, str]:
    """By hint the teacher that it asks in each update, in words."""
    return {name: f"the model {teacher[0]} ({_short(teacher[1])}) in each update" for name in hints}


def sentence(taught: Mapping[str, str]) -> str:
    """What a log line, a report and a card say."""
    return "learned from " + "; ".join(f"{who} through {column}" for column, who in sorted(taught.items()))


def _maker(about: Mapping[str, Any], teacher: str, fingerprint: str) -> str:
    models = [
        f"{teacher} ({_short(model)})" if model == fingerprint else _short(model) for model in about.get("models", ())
    ]
    by = made_by(about)
    if by == "model":
        return f"the model{'s' if len(models) > 1 else ''} {', '.join(models)}"
    what = {"raw": "raw data", "people": "people"}.get(by) or f"the {by} {about['expert'].get('type', '')}"
    return f"{what}, in which answers of {', '.join(models)} count" if models else what


def _short(model: str) -> str:
    """A fingerprint by its beginning; a step's name, before anything ran, whole."""
    return model[:SHORT] if len(model) == 64 else repr(model)
