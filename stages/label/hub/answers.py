"""What pipelines of transformers take and answer, in terms of modalities.

A pipeline answers a sample with a list of {label, score}, of boxes, of tokens, or with a text. `from_pipeline` turns
that into a plain value of the modality: the name of a class, scores in the model's order, boxes in 0..1, a tag for
each word, a text. `to_pipeline` turns an input's value into what a pipeline takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.modality.audio import heard
from hyperloom.stages.modality.boxes import strongest
from hyperloom.stages.modality.tags import WORDS, tokens
from hyperloom.stages.remarks import remark

SHORTEST = 0.1
"""Seconds of sound that are given at least: networks have windows that must be filled."""
LabelNames = Mapping[str, "str | None"]
"""The model's label -> the modality's class, null for none; what is not named keeps its name."""


def is_sound(modality: Any) -> bool:
    """Does a pipeline hear it?"""
    return bool(modality.type == "audio")


def to_pipeline(modality: Any, value: Any, column: str) -> Any:
    """An input's value as a pipeline takes it: a picture, a text, a sound without the silence that fills it up, which
    models would average over. Raises RecipeError for any other."""
    if modality.type == "image":
        from PIL import Image

        return Image.fromarray(value)
    if modality.type == "text":
        return modality.words(value)
    if is_sound(modality):
        sound = np.asarray(value, np.float32)
        own = max(heard(sound), round(SHORTEST * modality.rate))
        return {"raw": sound[:own], "sampling_rate": modality.rate}
    raise RecipeError(f"{column}: pipelines read image, text and audio columns, not {modality.type}")


def from_pipeline(
    answer: Any, modality: Any, given: Any, labels: LabelNames, least: float | None, order: list[str]
) -> Any:
    """A plain value of `modality` from one sample's answer: `given` is what was asked, `least` the score that counts
    (None: one half for each class of a multilabel, else any), `order` the model's labels.

    Raises ValueError where the answer makes no such value.
    """
    answer = _scored(answer)
    threshold = least if least is not None else 0.5 if modality.type == "multilabel" else 0.0
    if modality.type == "text":
        return _text(answer)
    if modality.type == "boxes":
        return _boxes(answer, modality, given, labels, threshold)
    if modality.type == "instances":
        return _instances(answer, modality, labels, threshold)
    if modality.type == "tags":
        return _tags(answer, given, labels)
    scores = {str(entry["label"]): float(entry["score"]) for entry in _entries(answer)}
    if modality.type == "multilabel":
        return _marks(scores, modality, labels, threshold, order)
    if hasattr(modality, "names"):
        best = max(scores, key=lambda label: scores[label])
        return _class(best, labels, modality) if scores[best] >= threshold else None
    if modality.shape == (1,):
        return [max(scores.values())]
    lacking = [label for label in order if label not in scores]
    if lacking:
        raise ValueError(f"expected a score of each label, there is none of {', '.join(lacking[:5])}")
    return _by_name(scores, modality.output_names, labels) or [scores[label] for label in order]


def _marks(
    scores: Mapping[str, float], modality: Any, labels: LabelNames, threshold: float, order: list[str]
) -> dict[str, bool]:
    """Yes or no for each class that the model knows; it says nothing of others. A label that is said and is no class
    is kept, so that the modality names it."""
    marks: dict[str, bool] = {}
    for label in dict.fromkeys((*order, *scores)):
        name, yes = _name(label, labels), scores.get(label, 0.0) >= threshold
        own = _own(name, modality.classes)
        if name is not None and (own is not None or yes):
            marks[own or name] = marks.get(own or name, False) or yes
    return marks


def _by_name(scores: Mapping[str, float], names: tuple[str, ...], labels: LabelNames) -> list[float]:
    """The scores in the order of the classes that numbers are called by; none where no label is one of these. Raises
    ValueError where some are."""
    table: dict[str, float] = {}
    for label, score in scores.items():
        if (own := _own(_name(label, labels), names)) is not None:
            table[own] = table.get(own, 0.0) + score
    if table and (lacking := [name for name in names if name not in table]):
        raise ValueError(f"no label is called {', '.join(lacking[:5])} (labels: names them, as {{LABEL: CLASS}})")
    return [table[name] for name in names] if table else []


def _own(name: str | None, names: tuple[str, ...]) -> str | None:
    """Which of `names` it is, whatever its case; None for none."""
    return None if name is None else {own.casefold(): own for own in names}.get(name.casefold())


def _scored(answer: Any) -> Any:
    """Zero-shot classification answers {labels, scores} where others answer [{label, score}]."""
    if isinstance(answer, dict) and {"labels", "scores"} <= set(answer):
        return [{"label": label, "score": score} for label, score in zip(answer["labels"], answer["scores"])]
    if isinstance(answer, dict) and "label" in answer:
        return [answer]
    return answer


def _entries(answer: Any) -> list[dict[str, Any]]:
    if isinstance(answer, list) and answer and all(isinstance(e, dict) and "label" in e for e in answer):
        return answer
    raise ValueError(f"expected labels with scores, got {str(answer)[:200]}")


def _text(answer: Any) -> str:
    entry = answer[0] if isinstance(answer, list) and answer else answer
    for key in ("generated_text", "text"):
        if isinstance(entry, dict) and isinstance(entry.get(key), str):
            return entry[key].strip()
    if isinstance(entry, dict) and "label" in entry:
        return str(max(answer, key=lambda e: e["score"])["label"])
    raise ValueError(f"expected a text, got {str(answer)[:200]}")


def _boxes(answer: Any, modality: Any, picture: Any, labels: LabelNames, threshold: float) -> list[dict[str, Any]]:
    width, height = picture.size
    boxes = []
    for entry in sorted(answer, key=lambda e: -e["score"]):
        if entry["score"] < threshold:
            continue
        kind, box = _class(str(entry["label"]), labels, modality), entry["box"]
        if kind is None:
            continue
        x0, y0, x1, y1 = (
            float(np.clip(box[name] / size, 0, 1))
            for name, size in (("xmin", width), ("ymin", height), ("xmax", width), ("ymax", height))
        )
        boxes.append({"x0": x0, "y0": y0, "x1": x1, "y1": y1, "class": kind, "score": float(entry["score"])})
    return strongest(boxes, modality.most)


def _instances(answer: Any, modality: Any, labels: LabelNames, threshold: float) -> list[dict[str, Any]]:
    """Masks of a segmentation pipeline with `subtask: instance`, or of a detector that gives masks."""
    rows = []
    for entry in sorted(answer, key=lambda e: -(e["score"] or 0)):
        if (score := float(entry["score"] or 0)) < threshold:
            continue
        kind, mask = _class(str(entry["label"]), labels, modality), np.asarray(entry["mask"]) > 0
        if kind is not None and mask.any():
            rows.append({"mask": mask, "class": kind, "score": min(score, 1.0)})
    return strongest(rows, modality.most)


def _tags(answer: Any, text: str, labels: LabelNames) -> list[str | None]:
    """The tag of each word (between spaces): that of its first piece. Of a text without spaces inside, in a script that
    puts none between words, that of each character."""
    words = list(WORDS.finditer(text))
    if tokens(text) > len(words):
        return [_name(tag, labels) for tag in _of_characters(answer, words[0])]
    starts = {int(piece["start"]): str(piece["entity"]) for piece in answer}
    tags = []
    for word in words:
        pieces = [at for at in starts if word.start() <= at < word.end()]
        if not pieces:
            raise ValueError(f"the model gave no tag for the word {word.group()!r}")
        tags.append(_name(starts[min(pieces)], labels))
    return tags


def _of_characters(answer: Any, word: re.Match[str]) -> list[str]:
    """The tag of the first piece that each character is in (of a rare one there are several, its bytes); what began
    with a piece's first character goes on in the others."""
    tags: dict[int, str] = {}
    for piece in answer:
        tag, first = str(piece["entity"]), int(piece["start"])
        for at in range(first, int(piece["end"])):
            tags.setdefault(at, f"I-{tag[2:]}" if at > first and tag.startswith("B-") else tag)
    tags = {at: tags.get(at, "") for at in range(*word.span())}
    if silent := [word.string[at] for at, tag in tags.items() if not tag]:
        raise ValueError(f"the model gave no tag for the character {silent[0]!r}")
    return list(tags.values())


def _class(label: str, labels: LabelNames, modality: Any) -> str | None:
    """The modality's class of a label, by its name whatever its case; None, and a remark, where there is none."""
    name = _name(label, labels)
    own = _own(name, modality.counted)
    if name is not None and own is None:
        remark("answers whose label is no class of the modality are left out (labels: names them)")
    return own


def _name(label: str, labels: LabelNames) -> str | None:
    return labels.get(label, label)
