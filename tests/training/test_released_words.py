"""A released student that tells a text of words: its file knows the words, for its users and beside a challenger."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hyperloom.pipeline.api.model import model_of
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.release.stage import Release
from hyperloom.stages.results import Released
from hyperloom.stages.shard.stage import Shard
from tests.training import everything
from tests.unit import inline

WORDS = {"type": "text", "length": 14, "tokenizer": {"type": "words", "most": 4, "size": 10}}


def test_a_release_answers_in_the_words_that_its_student_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knew no words, so that its answers ended in an IndexError, in Python and as a champion."""
    known = {n: everything.KNOWN[n] for n in ("rgb",)} | inline.modalities(caption=WORDS)
    monkeypatch.setattr(everything, "KNOWN", {**everything.KNOWN, **known})
    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, known, {g: [_sample(k % 3) for k in range(12)] for g in ("a", "b")})
    sharding = Shard.model_validate({"stage": "shard", "data": "frames", "split": {"pin": {"test": ["b"]}}})
    steps = {"shards": inline.finish(inline.step(sharding, storage, known, "shards", frames=frames))}
    fields = {"stage": "distill", "data": "shards", "in": "rgb@a", "targets": ["caption@a"], "updates": 150, "batch": 8,
              "model": {"trunk": {"type": "unet", "width": 4}}, "optimizer": {"lr": 0.01}}  # fmt: skip
    steps["student"] = inline.finish(inline.step(Distill.model_validate(fields), storage, known, "student", **steps))
    truth = {"truth": {"caption": "caption@a"}, "models": ["student"]}
    judge = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "champion": "x", **truth})
    steps["report"] = inline.finish(inline.step(judge, storage, known, "report", **steps))
    release = Release.model_validate(
        {"stage": "release", "model": "student", "report": "report", "name": "x", "unproven": True}
    )
    made = inline.finish(
        inline.step(release, storage, known, "release", student=steps["student"], report=steps["report"])
    )
    about = json.loads(storage.read(Released.from_manifest(made).files["student.json"]))
    assert set(about["tasks"]["caption"]["tokenizer"]["vocabulary"]) == {"sun", "up", "rain"}
    pictures = np.stack([_sample(k)["rgb@a"] for k in range(3)])
    ours = model_of(storage, steps["student"], {}, "single", "student").predict(pictures)["caption"]
    theirs = model_of(storage, made, {}, "single", "release").predict(pictures)["caption"]
    assert np.array_equal(ours, theirs)
    assert {known["caption"].words(row) for row in theirs} <= {"sun up", "rain", "rain up"}
    again = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "champion": "x", "pictures": 2, **truth})
    inputs = {name: steps[name] for name in ("shards", "student")}
    figures = inline.finish(inline.step(again, storage, known, "again", **inputs)).body["figures"]
    assert figures["champion"]["caption.accuracy"] == pytest.approx(figures["student"]["caption.accuracy"])
    assert figures["champion"]["caption.accuracy"] > 0.6


def _sample(k: int) -> dict[str, np.ndarray]:
    rgb = np.full((*everything.SIZE, 3), 60 + 80 * k, np.uint8)
    text = everything.KNOWN["caption"].fit(["sun up", "rain", "rain up"][k])
    return {"rgb@a": rgb, "caption@a": text}
