"""Texts by the tokenizer of a file: trained, resumed to the byte, validated, judged and labelled without the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.distill import export
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.network.model import load_model
from hyperloom.stages.network.predictor import Predictor
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import loop
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.train.stage import Train
from tests.training import ranks, test_words
from tests.unit import inline, scenes
from tests.unit.test_token_files import saved

PAIRS = [("bring  tea", "take tea"), ("bring milk\tnow", "take milk now"), ("take tea away", "bring tea")]
FIELDS = {**test_words.FIELDS, "updates": 60, "checkpoint_every": 20}


def data(folder: Path, path: Path) -> tuple[Storage, Any, Any]:
    """Storage, modalities and shards of orders and replies."""
    storage, tokenizer = Storage(str(folder / "root")), {"type": "file", "path": str(path), "most": 6}
    text = {"type": "text", "length": 30, "tokenizer": tokenizer}
    known = inline.modalities(order=text, reply=text, plain={"type": "text", "length": 30})
    rows = [PAIRS[i % len(PAIRS)] for i in range(40)]
    samples = [{"order@web": known["order"].fit(o), "reply@truth": known["reply"].fit(r)} for o, r in rows]
    raw = inline.ingested(storage, known, {"a": samples[:32], "b": samples[32:]})
    split = {"test": 0.2, "pin": {"test": ["b"], "train": ["a"]}}
    sharding = Shard.model_validate({"stage": "shard", "data": "frames", "split": split})
    return storage, known, inline.finish(inline.step(sharding, storage, known, "shards", frames=raw))


def test_a_model_reads_and_answers_by_a_file_that_it_holds(tmp_path: Path) -> None:
    path = saved(tmp_path / "tokenizer.json")
    storage, known, shards = data(tmp_path, path)
    trained = inline.finish(inline.step(Train.model_validate(FIELDS), storage, known, "clerk", shards=shards))
    content = path.read_text(encoding="utf-8")
    path.unlink()
    about = json.loads(scenes.weights(storage, trained.folder, "model.json"))
    assert about["tasks"][0]["modality"]["tokenizer"]["content"] == content
    assert str(tmp_path).encode() not in scenes.weights(storage, trained.folder, "model.json")
    model = load_model(storage, trained.folder)
    reply = model.architecture.tasks[0].modality
    asked = np.stack([known["order"].fit(order) for order, _ in PAIRS])
    told = reply.answer(Predictor(model, [[True]])({"order@web": asked}).mean["reply"])
    assert [reply.words(row) for row in told] == [answer for _, answer in PAIRS]
    stage = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "models": ["clerk"], "pictures": 0})
    report = inline.finish(inline.step(stage, storage, known, "report", shards=shards, clerk=trained))
    assert report.body["figures"]["clerk"]["reply.accuracy"] > 0.9
    with pytest.raises(StepFailed, match="cannot take order@web.*`words`"):
        export.to_onnx(model)


def test_a_training_that_reads_by_a_file_is_resumed_to_the_byte(tmp_path: Path) -> None:
    storage, known, shards = data(tmp_path, saved(tmp_path / "tokenizer.json"))
    stage = Train.model_validate({**FIELDS, "updates": 6, "checkpoint_every": 2})
    job = stage.job(inline.step(stage, storage, known, "clerk", shards=shards))
    calm, rough = (replace(job, folder=f"train/{name}") for name in ("calm", "rough"))
    loop.fit(calm)
    for update in (1, 3):
        with pytest.raises(Preempted):
            loop.fit(rough, request=ranks.At(update))
    loop.fit(rough)
    assert scenes.weights(storage, "train/calm", "model.json") == scenes.weights(storage, "train/rough", "model.json")
    assert scenes.trained(storage, "train/calm") == scenes.trained(storage, "train/rough")
