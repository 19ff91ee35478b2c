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
    several={"type": "multilabel", "classes": ["cat", "dog"]}, kind={"type": "category", "classes": ["cat", "dog"]}
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
