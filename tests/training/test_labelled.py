"""Unlabelled pictures at any ratio to labelled ones, out of the same shards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline.errors import RecipeError, StepFailed
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import VALID
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import loop
from hyperloom.stages.train.batches import loader
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.train.stage import Train
from hyperloom.stages.world import World
from tests.training import ranks
from tests.unit import inline, scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("root"))


def made(data: Any, name: str, **batches: Any) -> Job:
    run = scenes.step(data[0], data[2], batches={"type": "labelled", **batches})
    return replace(run.stage.job(run), folder=f"train/{name}")


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_a_batch_has_its_share_of_labels_on_any_number_of_workers(data: Any, share: float) -> None:
    """Every third of the scenes has no depth."""
    job = made(data, "share", by="depth@laser", share=share)
    ranks_ = [iter(job.batches.open(job, job.columns, World(rank, 2))) for rank in (0, 1)]
    whole = iter(job.batches.open(job, job.columns, World()))
    seen = []
    for _ in range(9):
        batch, parts = next(whole), [next(r) for r in ranks_]
        for column in ("depth@laser" + VALID, "rgb@camera"):
            assert torch.equal(batch[column], torch.cat([part[column] for part in parts]))
        seen.append(int(batch["depth@laser" + VALID].sum()))
    assert all(abs(n - 4 * share) <= 1 for n in seen) and sum(seen) == pytest.approx(36 * share, abs=2)


def test_it_resumes_to_the_byte(data: Any) -> None:
    calm, rough = (made(data, n, by="depth@laser", share=0.5) for n in ("calm", "rough"))
    loop.fit(calm)
    with pytest.raises(Preempted):
        loop.fit(rough, request=ranks.At(5))
    loop.fit(rough)
    assert scenes.trained(rough.storage, rough.folder) == scenes.trained(calm.storage, calm.folder)


def test_mistakes_are_said(data: Any) -> None:
    with pytest.raises(RecipeError, match=r"by: depth@lasr is no column that this step reads; did you mean"):
        made(data, "x", by="depth@lasr")
    with pytest.raises(RecipeError, match=r"every training sample has a value of rgb@camera"):
        job = made(data, "x", by="rgb@camera")
        job.batches.open(job, job.columns, World())


KNOWN = inline.modalities(
    seen={"type": "vector", "length": 2},
    kind={"type": "category", "classes": ["a", "b"]},
    pick={"type": "scalar"},
)


def chosen(tmp_path: Any, **fields: Any) -> Any:
    """A training over twelve samples, of which 1, 4, 7 and 10 are chosen; 8 to 11 are the split val."""
    storage = Storage(str(tmp_path))
    rows = [
        {"seen@eye": np.float32([i, 0]), "kind@truth": np.int64(i % 2), "pick@choice": np.float32([i % 3 == 1])}
        for i in range(12)
    ]
    frames = inline.ingested(storage, KNOWN, {"t": rows[:8], "v": rows[8:]})
    stage = Shard.model_validate({"stage": "shard", "data": "frames", "split": {"pin": {"val": ["v"]}}})
    shards = inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=frames))
    train = {"stage": "train", "data": "shards", "in": "seen@eye", "targets": ["kind@truth"], "epochs": 3, "batch": 3}
    train |= {"only": "pick@choice", "model": {"trunk": "vit", "parameters": "4k"}, **fields}
    return inline.step(Train.model_validate(train), storage, KNOWN, "model", shards=shards)


def test_no_update_sees_what_is_held_back(tmp_path: Any) -> None:
    run = chosen(tmp_path)
    job = run.stage.job(run)
    assert job.updates == 3, "three epochs of the three training samples that are chosen"
    batches = iter(job.batches.open(job, job.columns, World()))
    assert [sorted(next(batches)["seen@eye"][:, 0].tolist()) for _ in range(3)] == [[1, 4, 7]] * 3
    whole = loader(job, job.columns, World(), "val", shuffle=False)
    assert [i for batch in whole for i in batch["seen@eye"][:, 0].tolist()] == [8, 9, 10, 11]


def test_a_choice_that_is_none_is_said(tmp_path: Any) -> None:
    for fields, words in (
        ({"batch": 4}, "batch 4 is more than the 3 training rows"),
        ({"only": "kind@truth"}, "only: kind@truth is not one number a sample"),
        ({"only": "pick@chioce"}, "pick@chioce.*did you mean 'pick@choice'"),
    ):
        run = chosen(tmp_path / words[:5], **fields)
        with pytest.raises((RecipeError, StepFailed), match=words):
            run.stage.job(run)
