"""What is expected of the training split: what fails, with its line and samples, and what that changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hyperloom.pipeline import recipe
from hyperloom.pipeline.errors import RecipeError, StepFailed
from hyperloom.pipeline.events import Events, read
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.plan import check
from hyperloom.pipeline.storage import Storage
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline

SIZE = (2, 4)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["land", "road", "sea"]},
    depth={"type": "dense", "unit": "m", "storage": "float32"},
)


def _stage(expect: Any) -> Shard:
    split = {"pin": {"test": ["g3"]}}
    return Shard.model_validate({"stage": "shard", "data": "frames", "split": split, "expect": expect})


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Twelve samples that teach: depth 1 to 12 m, every fourth has none, no sea, a quarter of road."""
    storage = Storage(str(tmp_path))
    samples = [
        {
            "rgb@camera": np.full((*SIZE, 3), i, np.uint8),
            "semantic@truth": np.array([[0, 0, 0, 1]] * 2, np.uint8),
            "depth@laser": None if i % 4 == 3 else np.full((*SIZE, 1), i + 1, np.float32),
        }
        for i in range(16)
    ]
    frames = inline.ingested(storage, KNOWN, {f"g{g}": samples[4 * g : 4 * g + 4] for g in range(4)})

    def step(expect: Any) -> Any:
        one = inline.step(_stage(expect), storage, KNOWN, "shards", frames=frames)
        one.events = Events(storage, "run", "driver")
        return one

    return step


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ({"depth@laser": {"missing": 0.25, "mean": [5, 7], "range": [0, 11]}}, ""),
        ({"semantic@truth": {"classes": ["road"], "share": {"road": [0.2, None]}}, "samples": {"train": 12}}, ""),
        ({"depth@laser": {"missing": 0.2}},
         "expect: depth@laser: missing: 0.2: 0.25 of the samples have none (g0/003, g1/003, g2/003). Next: mend"),
        ({"depth@laser": {"mean": [None, 5]}}, "mean: [null, 5]: it is 6 (g2/002, g2/001, g2/000)"),
        ({"depth@laser": {"range": [3, 10]}}, "range: [3, 10]: they go from 1 to 11 (g0/000, g0/001, g2/002)"),
        ({"semantic@truth": {"classes": ["sea"]}}, "expect: semantic@truth: classes: sea: it does not occur. Next"),
        ({"semantic@truth": {"share": {"road": [0.3, 1]}}}, "share: road: [0.3, 1]: it is 0.25. Next"),
        ({"samples": {"train": 13}}, "expect: samples: train: 13: there are 12"),
        ({"groups": {"test": 2}}, "expect: groups: test: 2: there are 1"),
    ],
)  # fmt: skip
def test_what_is_not_as_expected_stops_the_step_with_its_line_and_samples(run: Any, expect: Any, words: str) -> None:
    step = run(expect)
    if not words:
        assert inline.finish(step).body["splits"]["train"]["rows"] == 12
        return
    with pytest.raises(StepFailed) as error:
        inline.finish(step)
    assert words in str(error.value)


def test_a_warning_is_said_and_stops_nothing(run: Any) -> None:
    step = run({"depth@laser": {"missing": 0.1, "warn": True}})
    made = inline.finish(step)
    step.events.flush()
    events = list(read(step.storage, "run"))
    said = "expect: depth@laser: missing: 0.1: 0.25 of the samples have none (g0/003, g1/003, g2/003)"
    assert [e["text"] for e in events if e["kind"] == "note"][1:] == [said]  # after that there is no sea
    assert {"expect.0": said} in [e["values"] for e in events if e["kind"] == "tag"]
    assert step.stage.lost(step.storage, made) == ""


def test_expectations_are_in_no_identity_and_are_asked_of_finished_steps(run: Any) -> None:
    plain, strict = _stage({}), _stage({"depth@laser": {"mean": [8, 9]}, "samples": {"train": 5}})
    assert payload(plain, lambda name: name) == payload(strict, lambda name: name)
    step = run({})
    made = inline.finish(step)
    assert plain.lost(step.storage, made) == ""
    assert strict.lost(step.storage, made) == "expect: depth@laser: mean: [8, 9]: it is 6"
    assert strict.expected() == ['depth@laser: {"mean": [8.0, 9.0]}', 'samples: {"train": 5}']


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ("{depth@laser: {mean: [2, 1]}}", "the lower number first"),
        ("{depth@laser: {maen: [1, 2]}}", "maen"),
        ("{samples: {trian: 3}}", "expected the lowest number by split"),
        ("[a]", "expected columns, samples or groups"),
    ],
)
def test_what_makes_no_sense_is_refused(expect: str, words: str) -> None:
    import yaml

    with pytest.raises((ValidationError, RecipeError), match=words):
        _stage(yaml.safe_load(expect))


RECIPE = """\
name: small
modalities:
  rgb: {{type: image, size: [8, 8]}}
  semantic: {{type: segmentation, classes: [land, road]}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "*.jpg", columns: {{semantic@truth: "{{stem}}.png"}}}}}}
  shards: {{stage: shard, data: frames, expect: {expect}}}
"""


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ("{semantic@truht: {missing: 0}}", "did you mean 'semantic@truth'"),
        ("{semantic@truth: {classes: [raod]}}", "expect: semantic@truth has no class 'raod'; did you mean 'road'"),
        ("{semantic@truth: {mean: [0, 1]}}", "semantic@truth has classes, no numbers"),
    ],
)
def test_plan_knows_columns_and_classes(expect: str, words: str) -> None:
    check(recipe.parse(RECIPE.format(expect="{semantic@truth: {classes: [road]}}"), "r.yaml"))
    with pytest.raises(RecipeError, match=words):
        check(recipe.parse(RECIPE.format(expect=expect), "r.yaml"))
