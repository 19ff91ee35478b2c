"""The documentation of training: its steps can be read as they stand, and it names every plug-in of a training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hyperloom import stages
from hyperloom.pipeline import plugins

TEXT = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
STEPS = [step for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) for step in yaml.safe_load(block).items()]


@pytest.mark.parametrize(("name", "step"), STEPS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(STEPS)])
def test_a_step_of_the_page_can_be_read(name: str, step: dict[str, Any]) -> None:
    made = plugins.load("stage", step["stage"]).model_validate(step)
    assert made.stage == step["stage"]


KINDS = ("trunk", "mask", "balancer", "extra", "ensemble", "optimizer", "schedule", "learner", "batches")


@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_of_a_training_is_on_the_page(kind: str) -> None:
    known = set(stages.PLUGINS[kind]) - {"none", "single"}
    assert known and not {name for name in known if not re.search(rf"\b{name}\b", TEXT)}
