"""Unlabelled pictures at any ratio to labelled ones, out of the same shards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import VALID
from hyperloom.stages.train import loop
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.train.world import World
from tests.training import ranks
from tests.unit import scenes


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
