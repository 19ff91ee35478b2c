"""Classes of a whole sample: of scores of which several are one class, and of a pipeline's labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from hyperloom.pipeline.fingerprint import payload
from hyperloom.stages.label.hub.answers import from_pipeline
from tests.unit.inline import modalities

KNOWN = modalities(
    tags={"type": "tags", "tags": ["O", "B-LOC", "I-LOC"], "length": 12},
    several={"type": "multilabel", "classes": ["cat", "dog"]},
    kind={"type": "category", "classes": ["cat", "dog"]},
)
NAMED = {"type": "named", "names": ["tabby", "tiger cat", "dog"], "labels": {"tabby": "cat", "tiger cat": "cat"}}


@pytest.mark.parametrize(
    "scores, right", [([0.9, 0.1, 0.6], [1, 1]), ([0.1, 0.9, 0.2], [1, 0]), ([0.1, 0.1, 1], [0, 1])]
)
def test_a_class_of_several_scores_is_there_where_one_says_so(scores: list[float], right: list[int]) -> None:
    several = KNOWN["several"]
    choice = plugins.parse("decoder", {"type": "choice", "map": ["cat", "cat", "dog"], "activation": "none"})
    named = plugins.parse("decoder", NAMED).meant(several, "several@net").model_copy(update={"activation": "none"})
    for decoder in (choice, named):
        assert decoder.finish(np.array(scores, np.float32), several).tolist() == right


def test_a_pipeline_says_yes_to_what_it_gives_one_half() -> None:
    answer = [{"label": "cat", "score": 0.01}, {"label": "dog", "score": 0.97}]

    def several(least: float | None, answer: Any = answer) -> Any:
        return KNOWN["several"].fit(from_pipeline(answer, KNOWN["several"], None, {}, least, ["cat", "dog"])).tolist()

    assert several(None) == [0, 1] and several(0.0) == [1, 1] and several(0.98) == [0, 0]
    assert from_pipeline(answer[:1], KNOWN["kind"], None, {}, None, ["cat", "dog"]) == "cat"  # the best, however faint


def test_a_pipeline_says_nothing_of_a_class_that_its_model_does_not_know() -> None:
    """It said no to it, and so a student learned that there never is one."""
    kind = modalities(several={"type": "multilabel", "classes": ["cat", "dog", "cow"]})["several"]
    answer = [{"label": "Tabby", "score": 0.2}, {"label": "lynx", "score": 0.9}, {"label": "DOG", "score": 0.1}]
    labels, order = {"Tabby": "cat", "lynx": "cat"}, ["Tabby", "lynx", "DOG", "hen"]
    assert kind.fit(from_pipeline(answer, kind, None, labels, None, order)).tolist() == [1, 0, 255]
    assert kind.fit(from_pipeline(answer[:2], kind, None, labels, None, order)).tolist() == [1, 0, 255], "top_k: 2"
    with pytest.raises(ValueError, match="got 'hen'"):
        kind.fit(from_pipeline([{"label": "hen", "score": 0.9}], kind, None, labels, None, order))


def test_probabilities_of_a_pipeline_are_those_of_the_classes_that_they_are_called_by() -> None:
    """In the model's order those of two sentiments were exchanged."""
    kind = modalities(mood={"type": "vector", "length": 2, "classes": ["positive", "negative"]})["mood"]
    plain = modalities(mood={"type": "vector", "length": 2})["mood"]
    answer = [{"label": "POSITIVE", "score": 0.75}, {"label": "NEGATIVE", "score": 0.25}]
    order = ["NEGATIVE", "POSITIVE"]
    assert from_pipeline(answer, kind, None, {}, None, order) == [0.75, 0.25]
    assert from_pipeline(answer, plain, None, {}, None, order) == [0.25, 0.75]
    stars = [{"label": f"{n} stars", "score": n / 15} for n in range(1, 6)]
    labels = {f"{n} stars": "negative" if n < 3 else "positive" for n in range(1, 6)}
    assert np.allclose(from_pipeline(stars, kind, None, labels, None, list(labels)), [12 / 15, 3 / 15])
    with pytest.raises(ValueError, match="no label is called negative"):
        from_pipeline(answer, kind, None, {"NEGATIVE": None}, None, order)
    unnamed = [{"label": f"LABEL_{i}", "score": s} for i, s in enumerate((0.75, 0.25))]
    assert from_pipeline(unnamed, kind, None, {}, None, ["LABEL_0", "LABEL_1"]) == [0.75, 0.25], "names say nothing"


def test_only_those_that_it_concerns_mean_something_new() -> None:
    def revision(kind: str, **fields: Any) -> int:
        return int(payload(plugins.parse(kind, fields))["revision"])

    assert revision("decoder", type="choice") == revision("decoder", type="choice", map=["cat", None, None, "dog"]) == 1
    assert revision("decoder", type="choice", map=["cat", "cat", "dog"]) == revision("decoder", **NAMED) == 2
    assert revision("decoder", type="named", names=["cat", None, None, "dog"]) == 1
    hub = {"type": "huggingface", "path": "x", "in": "rgb@camera", "out": "several@hub"}
    assert revision("expert", **hub, task="image-classification") == 2
    assert revision("expert", **hub, task="image-classification", threshold=0.5) == 1
    assert revision("expert", **hub, task="image-segmentation") == 1
    named = modalities(
        several={"type": "multilabel", "classes": 2}, mood={"type": "vector", "length": 2, "classes": ["a", "b"]},
        plain={"type": "vector", "length": 2},
    )  # fmt: skip
    for name, task, moved in (
        ("several", "image-classification", True), ("mood", "text-classification", True),
        ("plain", "text-classification", False), ("kind", "text-classification", False),
        ("mood", "feature-extraction", False),
    ):  # fmt: skip
        expert = plugins.parse("expert", {**hub, "out": f"{name}@hub", "task": task})
        assert bool(expert.revised_for({**KNOWN, **named})) is moved


def test_a_word_with_a_blank_that_does_not_break_has_one_tag() -> None:
    """As tables of CoNLL-U have them; each part had a tag, and all later words that of the one before."""
    tags = modalities(pos={"type": "tags", "tags": ["N", "V"], "length": 8})["pos"]
    text = "Vi\u1ec7t\u00a0Nam l\u00e0"
    pieces = [{"start": 0, "entity": "N"}, {"start": 5, "entity": "N"}, {"start": 9, "entity": "V"}]
    assert from_pipeline(pieces, tags, text, {}, None, []) == ["N", "V"]


def pieces(text: str, *parts: tuple[str, str]) -> list[dict[str, Any]]:
    """What a pipeline says of parts of a text: where each lies, and its tag."""
    places = [(text.index(part), part, tag) for part, tag in parts]
    return [{"start": at, "end": at + len(part), "entity": tag} for at, part, tag in places]


@pytest.mark.parametrize(
    ("text", "parts", "tags"),
    [
        ("我爱北京", [("我", "O"), ("爱", "O"), ("北", "B-LOC"), ("京", "I-LOC")], ["O", "O", "B-LOC", "I-LOC"]),
        (" 去NYC\n", [("去", "O"), ("NYC", "B-LOC")], ["O", "B-LOC", "I-LOC", "I-LOC"]),
        ("我 爱 北京", [("我", "O"), ("爱", "O"), ("北", "B-LOC"), ("京", "I-LOC")], ["O", "O", "B-LOC"]),
        ("Paris", [("Par", "B-LOC"), ("is", "I-LOC")], ["B-LOC"]),
    ],
)
def test_a_text_without_blanks_has_a_tag_for_each_character(text: str, parts: Any, tags: list[str]) -> None:
    """A sentence of Chinese was one word, with the tag of its first character."""
    assert from_pipeline(pieces(text, *parts), KNOWN["tags"], text, {}, None, []) == tags
    if len(tags) > 3:
        with pytest.raises(ValueError, match="gave no tag for the character"):
            from_pipeline(pieces(text, *parts[:-1]), KNOWN["tags"], text, {}, None, [])


def test_a_character_in_several_pieces_has_the_tag_of_the_first_as_a_word_has() -> None:
    """Of rare characters a tokenizer knows the bytes alone; the last one decided, so that names lost their begin."""
    text = "\U00020bb7京"
    said = pieces(text, (text[0], "B-LOC"), (text[0], "I-LOC"), (text[0], "I-LOC"), (text[1], "I-LOC"))
    assert from_pipeline(said, KNOWN["tags"], text, {}, None, []) == ["B-LOC", "I-LOC"]
