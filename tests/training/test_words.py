"""Texts by words: the vocabulary comes from the shards and is part of the model and of its ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.distill import export
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.network.model import load_model
from hyperloom.stages.network.words import WordIds
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train.stage import Train
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(
    order={"type": "text", "length": 40, "tokenizer": {"type": "words", "most": 6}},
    reply={"type": "text", "length": 30, "tokenizer": {"type": "words", "most": 4, "min_count": 1}},
    plain={"type": "text", "length": 30},
)
PAIRS = [("bring  tea", "tea comes"), ("bring milk\tnow", "milk comes now"), ("take tea away", "tea goes"),
         ("take milk", "milk goes")]  # fmt: skip
FIELDS: dict[str, Any] = {
    "stage": "train",
    "data": "shards",
    "in": "order@web",
    "targets": {"reply": "reply@truth"},
    "model": {"trunk": {"type": "vit", "width": 4, "depth": 1}},
    "optimizer": {"lr": 0.01},
    "updates": 80,
    "batch": 16,
}


def samples(count: int) -> list[dict[str, Any]]:
    rows = [PAIRS[i % len(PAIRS)] for i in range(count)]
    return [{"order@web": KNOWN["order"].fit(o), "reply@truth": KNOWN["reply"].fit(r)} for o, r in rows]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Manifest, Manifest]:
    storage = Storage(str(tmp_path_factory.mktemp("root")))
    rare = {"order@web": KNOWN["order"].fit("quixotic"), "reply@truth": None}
    raw = inline.ingested(storage, KNOWN, {"a": [*samples(32), rare], "b": samples(8)})
    split = {"test": 0.2, "pin": {"test": ["b"], "train": ["a"]}}
    sharding = Shard.model_validate({"stage": "shard", "data": "frames", "split": split})
    shards = inline.finish(inline.step(sharding, storage, KNOWN, "shards", frames=raw))
    made = inline.finish(inline.step(Train.model_validate(FIELDS), storage, KNOWN, "clerk", shards=shards))
    return storage, shards, made


def test_the_training_split_gives_the_vocabulary_and_the_model_keeps_it(trained: Any) -> None:
    storage, shards, made = trained
    words = shards.body["statistics"]["order@web"]["words"]
    assert words == {"bring": 16, "milk": 16, "take": 16, "tea": 16, "away": 8, "now": 8}  # quixotic came once
    tasks = {t.name: t.modality for t in load_model(storage, made.folder).architecture.tasks}
    assert tasks["reply"].tokenizer.vocabulary == ("comes", "goes", "milk", "tea", "now")
    assert tasks["reply"].channels == 7 and tasks["reply"].grid(1) == (4,)


def test_a_split_without_words_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    rows = [{"order@web": KNOWN["order"].fit(f"once{i}"), "reply@truth": KNOWN["reply"].fit("x")} for i in range(20)]
    raw = inline.ingested(storage, KNOWN, {"a": rows})
    sharding = Shard.model_validate({"stage": "shard", "data": "frames"})
    shards = inline.finish(inline.step(sharding, storage, KNOWN, "shards", frames=raw))
    with pytest.raises(StepFailed, match=r"order@web: nothing in the training split occurs 2 times.*`min_count`"):
        inline.finish(inline.step(Train.model_validate(FIELDS), storage, KNOWN, "clerk", shards=shards))


def test_words_are_predicted_and_judged_as_texts(trained: Any) -> None:
    storage, shards, made = trained
    stage = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "models": ["clerk"], "pictures": 0})
    body = inline.finish(inline.step(stage, storage, KNOWN, "report", shards=shards, clerk=made)).body
    assert body["figures"]["clerk"]["reply.accuracy"] > 0.9


def test_an_onnx_file_takes_texts_as_they_are(trained: Any) -> None:
    storage, _, made = trained
    model = load_model(storage, made.folder)
    exported = export.to_onnx(model)
    texts = ["take  milk", " bring quixotic tea", "", "a b c d e f g tea"]
    asked = np.stack([KNOWN["order"].fit(t) for t in texts])
    session = onnxruntime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    (told,) = session.run(None, {"order@web": asked})
    with torch.inference_mode():
        ours = model.predict({"order@web": torch.from_numpy(asked)})["reply"].numpy()
    assert told == pytest.approx(ours, abs=1e-3) and told.shape == (4, 4, 7)
    reply = model.architecture.tasks[0].modality
    assert reply.words(reply.answer(told)[0]) == "milk goes"


def test_ids_are_those_of_words_between_white_space() -> None:
    ids = WordIds(("b", "café", "a"), 12, 3)
    text = KNOWN["plain"].model_copy(update={"length": 12})
    rows = torch.from_numpy(np.stack([text.fit(t) for t in ("a b  café", "\tcafé\n", "zz a", "a a a b b", "")]))
    assert ids(rows).tolist() == [[4, 2, 3], [3, 0, 0], [1, 4, 0], [4, 4, 4], [0, 0, 0]]


def test_bytes_are_the_default_and_move_no_fingerprint() -> None:
    assert payload(KNOWN["plain"]) == {"type": "text", "revision": 1, "length": 30}
    assert KNOWN["plain"].channels == 257 and KNOWN["plain"].places == 30
