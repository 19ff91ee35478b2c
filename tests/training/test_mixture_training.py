"""Training on a mixture of data sets, from the recipe's words to the weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import loop
from hyperloom.stages.train.stage import Train
from tests.unit import inline, scenes


def test_a_training_mixes_shard_steps_and_resumes_to_the_same_bytes(tmp_path) -> None:
    """`data: [shards, more]`: rows and statistics are those of both, and an interruption changes no weight."""
    storage, frames, made = scenes.shards(tmp_path)
    few: dict[str, Any] = {"stage": "shard", "data": "frames", "columns": ["rgb@camera", "semantic@truth"]}
    few["split"] = {"pin": {"test": ["g0", "g1"]}}
    more = inline.finish(inline.step(Shard.model_validate(few), storage, scenes.KNOWN, "more", frames=frames))

    def job(folder: str) -> Any:
        config = {**scenes.TRAIN, "data": ["shards", "more"], "updates": 6, "checkpoint_every": 2}
        config |= {"sampler": {"type": "shares", "shares": [1, 3]}, "epochs": None}
        step = inline.step(Train.model_validate(config), storage, scenes.KNOWN, "teacher", shards=made, more=more)
        return replace(step.stage.job(step), folder=folder)

    whole = job("x").shards.whole
    assert whole.rows("train") == 12 + 8
    one, two = (m.body["statistics"]["semantic@truth"] for m in (made, more))
    assert whole.statistics["semantic@truth"]["unknown"] == one["unknown"] + two["unknown"]
    assert whole.statistics["depth@laser"] == made.body["statistics"]["depth@laser"], "only one set has it"
    calm, rough = job("calm"), job("rough")
    loop.fit(calm)

    def interrupt(at: int, values: dict[str, float]) -> None:
        if at >= 3 and "loss" in values:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.fit(rough, log=interrupt)
    loop.fit(rough)
    assert scenes.weights(storage, "calm") == scenes.weights(storage, "rough")
    with pytest.raises(ValueError, match="several different ones"):
        Train.model_validate({**scenes.TRAIN, "data": ["shards", "shards"]})
