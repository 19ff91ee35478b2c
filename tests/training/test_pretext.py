"""Pretexts: what they do to a picture, and that a trunk can learn from it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.network.architecture import Architecture, Input, Scale
from hyperloom.stages.objective.pretext import Jigsaw, Rotation, orders
from hyperloom.stages.train import loop
from tests.unit import scenes


@pytest.mark.parametrize("size", [(6, 6), (5, 8), (9, 4)])
def test_a_rotation_turns_the_middle_of_a_picture(size: tuple[int, int]) -> None:
    planes = torch.arange(4 * 2 * size[0] * size[1], dtype=torch.float32).view(4, 2, *size) + 1
    made = Rotation(type="rotation", of="rgb@camera").changed(planes, torch.arange(4))
    side = min(size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    inside = (slice(None), slice(top, top + side), slice(left, left + side))
    for turns in range(4):
        wanted = np.rot90(planes[turns][inside].numpy(), turns, (1, 2))
        assert (made[turns][inside].numpy() == wanted).all()
        assert int((made[turns] != 0).sum()) == 2 * side * side


@settings(max_examples=30, deadline=None)
@given(grid=st.integers(2, 4), height=st.integers(8, 19), width=st.integers(8, 19), gap=st.integers(0, 1))
def test_a_jigsaw_lays_the_tiles_in_the_order_that_is_to_be_told(grid: int, height: int, width: int, gap: int) -> None:
    jigsaw = Jigsaw(type="jigsaw", of="rgb@camera", grid=grid, permutations=5, gap=gap)
    planes = torch.arange(5 * height * width, dtype=torch.float32).view(5, 1, height, width) + 1
    made = jigsaw.changed(planes, torch.arange(5))
    high, wide = height // grid, width // grid
    for sample, order in enumerate(orders(grid * grid, 5)):
        for place, tile in enumerate(order):
            laid, taken = ((n // grid * high, n % grid * wide) for n in (place, int(tile)))
            inner = [(slice(y + gap, y + high - gap), slice(x + gap, x + wide - gap)) for y, x in (laid, taken)]
            assert torch.equal(made[sample, 0][inner[0]], planes[sample, 0][inner[1]])
    kept = grid * grid * (high - 2 * gap) * (wide - 2 * gap)
    assert (made != 0).flatten(1).sum(1).tolist() == [kept] * 5  # all else is blank


@pytest.mark.parametrize(("tiles", "count", "apart"), [(4, 24, 2), (9, 24, 6)])
def test_orders_differ_in_many_places(tiles: int, count: int, apart: int) -> None:
    made = orders(tiles, count)
    assert (np.sort(made, 1) == np.arange(tiles)).all()
    assert min((a != b).sum() for a, b in itertools.combinations(made, 2)) >= apart


def test_tiles_that_would_be_blank_are_refused(tmp_path: Any) -> None:
    storage, _, shards = scenes.shards(tmp_path)
    run = scenes.step(storage, shards, extras={"told": {"type": "jigsaw", "of": "rgb@camera", "grid": 4}})
    with pytest.raises(RecipeError, match="4x6 pixels are blank with a gap of 2"):
        run.stage.job(run)


def test_what_is_no_picture_is_refused() -> None:
    weather = plugins.parse("modality", {"type": "category", "classes": ["sun", "rain"]})
    plan = Architecture((Input("weather@station", weather, Scale()),), (), plugins.parse("trunk", "vit"))
    with pytest.raises(ValueError, match="weather@station is none"):
        Rotation(type="rotation", of="weather@station").fits(plan)


def test_a_trunk_learns_to_tell_how_a_picture_was_turned(tmp_path: Any) -> None:
    """The scenes have no up and down, so a ramp of light is laid over them."""
    storage, _, shards = scenes.shards(tmp_path)
    run = scenes.step(
        storage, shards, **{**scenes.LEARN, "updates": 60, "log_every": 5, "batch": 12},
        mask="none", extras={"turns": {"type": "rotation", "of": "rgb@camera"}},
    )  # fmt: skip
    job = run.stage.job(run)
    curve: list[dict[str, float]] = []
    training = loop.Training(job, loop.World(), lambda at, values: curve.append(values))
    ramp = torch.linspace(0, 120, 24).view(1, 1, 24, 1)
    batches = iter(training.batches)
    told = []
    for _ in range(60):
        batch = next(batches)
        lit = (batch["rgb@camera"].float() * 0.5 + ramp).clamp(0, 255).to(torch.uint8)
        update, _ = training.step({**batch, "rgb@camera": lit})
        training.update += 1
        told.append(float(update.losses.values[-1].detach()))
    assert sum(told[:5]) / 5 > 1.0 and sum(told[-5:]) / 5 < 0.4  # a guess costs log 4 = 1.39
