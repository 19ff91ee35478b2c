"""Tags of a trained model are as many as its text has words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.api.model import TrainedModel
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.model import Model
from hyperloom.stages.label.stage import Label
from hyperloom.stages.network.ensemble import predictor
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import loop
from hyperloom.stages.train.stage import Train
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(
    note={"type": "text", "length": 24}, heard={"type": "vector", "length": 2},
    words={"type": "tags", "tags": ["N", "V"], "length": 5},
)  # fmt: skip
TEXTS = {"dogs run": 2, "go": 1, "a b c d e f g": 5, "我去北京": 4, "": 0}


def labelled(folder: Path, read: str) -> tuple[list[Any], list[str]]:
    """How many tags a model that reads the column gives each text, and what is said."""
    storage = Storage(str(folder))
    samples = [
        {"note@a": KNOWN["note"].fit(text), "heard@a": KNOWN["heard"].fit([i, 1]), "words@a": KNOWN["words"].fit("N V")}
        for i, text in enumerate(TEXTS)
    ]
    frames = inline.ingested(storage, KNOWN, {"g": samples}, 8)
    shards = inline.finish(inline.step(Shard(stage="shard", data="frames"), storage, KNOWN, "shards", frames=frames))
    fields = {"stage": "train", "data": "shards", "in": read, "targets": {"words": "words@a"}, "updates": 1, "batch": 4}
    model = {"trunk": {"type": "vit", "width": 64, "depth": 1}}
    run = inline.step(Train.model_validate({**fields, "model": model}), storage, KNOWN, "net", shards=shards)
    loop.fit(run.stage.job(run))
    net = inline.finish(run)
    experts = [{"type": "model", "model": "net", "out": "words@net"}]
    label = Label.model_validate({"stage": "label", "data": "frames", "experts": experts})
    made = inline.finish(inline.step(label, storage, KNOWN, "words", frames=frames, net=net))
    values = inline.column(storage, KNOWN, made, "words@net").values()
    trained = TrainedModel(predictor(storage, net), (read,))
    answered = trained.predict({read: [sample[read] for sample in samples]})["words"]
    assert (answered == np.stack(list(values))).all(), "as Python gets them"
    said = [
        e["text"] for e in events.read(storage, "test") if e["kind"] == "note" and "tag for each place" in e["text"]
    ]
    return [int((value >= 0).sum()) for value in values], said


def test_tags_end_where_their_text_does(tmp_path: Path) -> None:
    """A model answered at each place that there may be: five tags for one word."""
    assert labelled(tmp_path, "note@a") == (list(TEXTS.values()), [])


def test_tags_of_no_text_have_no_end_that_anybody_knows(tmp_path: Path) -> None:
    counts, said = labelled(tmp_path, "heard@a")
    assert counts == [5] * len(TEXTS) and len(said) == 1 and said[0].startswith("5 samples")


@pytest.mark.parametrize(("out", "changed"), [("words@net", {"ends of tags": 2}), ("heard@net", {})])
def test_only_tags_are_made_anew(out: str, changed: dict[str, int]) -> None:
    expert = Model.model_validate({"type": "model", "model": "net", "out": out}).model_copy(update={"folders": ("f",)})
    assert expert.revised_for(KNOWN) == changed
