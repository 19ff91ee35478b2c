"""How long a training is: by a number, by time, until it stops getting better; the rate that it finds; and the split
`val` that it makes for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.holdout import held_out
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.train import range_test
from hyperloom.stages.train.length import COOLING, OPEN_ENDED, Length
from hyperloom.stages.train.stage import Train
from tests.unit import scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("root"))


def config(**fields: Any) -> Train:
    """A training without a number of updates, unless it is given one."""
    given = {k: v for k, v in {**scenes.TRAIN, "updates": None, **fields}.items() if v is not None}
    return Train.model_validate(given)


# -- the number of updates ---------------------------------------------------------------------------------------------
def test_by_time_the_share_of_updates_is_the_share_of_time() -> None:
    length, update = Length(10**9, minutes=1.0), 0
    shares = []
    while update < length.updates:
        update += 1
        length.spend(0.5 if update <= 40 else 0.25, update)  # the machine gets faster
        shares.append((update / length.updates, length.seconds / 60))
    assert 59 < length.seconds < 62 and 199 <= update <= 205  # 40 slow ones and 160 quick ones
    assert all(abs(ours - time) < 0.05 for ours, time in shares)


def test_a_resumed_training_by_time_has_what_was_left() -> None:
    whole, first, second = (Length(10**9, minutes=1.0) for _ in range(3))
    for update in range(1, 50):
        whole.spend(0.5, update)
        first.spend(0.5, update)
    second.restore(first.state())
    for update in range(50, 121):
        whole.spend(0.5, update)
        second.spend(0.5, update)
    assert second.state() == whole.state() and whole.updates == 120


def test_an_open_ended_rate_rises_holds_and_falls() -> None:
    stage = config()
    length = Length(10_000, open_ended=True)
    rate = lambda update: length.rate(update, stage.schedule, stage.optimizer.known())  # noqa: E731
    assert rate(0) < 0.02 and rate(100) == rate(5_000) == 1.0
    assert not length.ripe(400, exhausted=False)
    assert length.ripe(400, exhausted=True) and length.updates == 400 + 400 * COOLING
    assert rate(399) == 1.0 and rate(401) < 1.0 and rate(499) > rate(500) == pytest.approx(stage.optimizer.floor)
    assert not length.ripe(450, exhausted=True) and length.updates == 500  # once is enough


def test_an_open_ended_training_cools_down_before_its_last_update() -> None:
    length = Length(1_000, open_ended=True)
    ripe = [update for update in range(1, 1_001) if length.ripe(update, exhausted=False)]
    assert ripe == [800] and length.updates == 1_000


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"updates": 5, "minutes": 1}, "one of updates, epochs and minutes"),
        ({"schedule": "step"}, "needs an end"),
        ({"phases": [{"share": 1.0}]}, "need a number"),
        ({"phases": [{"share": 1.0}], "minutes": 1}, "need a number"),
        ({"minutes": 1, "schedule": {"type": "tests.training.plugins:Doubling"}}, "needs a number of updates"),
        (
            {"targets": {}, "extras": {"x": {"type": "contrastive", "between": "rgb@camera"}}},
            "nothing says when to stop",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(**fields)


def test_what_a_recipe_says_goes_before_the_defaults_without_a_number() -> None:
    told = config(batch=2, optimizer={"lr": 0.01}, ema=0.0)
    assert (told.batch, told.optimizer.lr, told.ema, told.open_ended) == (2, 0.01, 0.0, True)
    untold = config(batch=None)
    assert (untold.batch, untold.optimizer.lr) == (OPEN_ENDED["batch"], "auto")
    assert untold.stop is not None and untold.stop.share == OPEN_ENDED["stop"]["share"]
    assert untold.balancer.type == "leading" and config(targets={"depth": "depth@laser"}).balancer.type == "static"
    assert untold.model.residual is True and config(model={"residual": False}).model.residual is False
    assert config(updates=8).model.residual is False
    assert config(balancer="static").balancer.type == config(parallel="fsdp").balancer.type == "static"
    assert config(updates=8).optimizer.lr == 0.002 and config(updates=8).stop is None


# -- the range test ----------------------------------------------------------------------------------------------------
def test_the_rate_is_a_part_of_the_one_where_the_loss_was_lowest() -> None:
    place = 60
    losses = [2.0 - i / place for i in range(place)] + [1.0 + i / 4 for i in range(10)]
    rate = range_test.chosen(losses)
    assert rate == pytest.approx(range_test.PART * range_test.rate_of(place), rel=0.35)
    assert range_test.chosen([*losses, float("nan")]) == rate


@pytest.mark.parametrize("easy", [0, 3])
def test_an_easy_batch_at_the_start_is_no_low_loss(easy: int) -> None:
    losses = [2.0] * 40 + [2.0 - i / 50 for i in range(30)] + [1.4 + i for i in range(10)]
    rate = range_test.chosen(losses)
    losses[easy] = 0.2  # the smoothed loss begins with it, and no later one is as low
    assert range_test.chosen(losses) == rate > 50 * range_test.PART * range_test.LOW


def test_where_all_rates_but_the_first_are_too_high_the_lowest_is_taken() -> None:
    assert range_test.chosen([2.0, 5.0, float("inf")]) <= range_test.PART * range_test.rate_of(2)
    assert range_test.chosen([]) == range_test.PART * range_test.LOW


# -- val out of train --------------------------------------------------------------------------------------------------
def _manifest(groups: dict[str, int], row_group: int = 3) -> Manifest:
    files = [
        {"path": f"{g}.parquet", "split": "test" if g == "exam" else "train", "rows": n, "row_group": row_group}
        for g, n in groups.items()
    ]
    body = {"schema": {}, "shards": [{**f, "group": str(f["path"]).partition(".")[0]} for f in files], "splits": {}}
    return Manifest("shard", "0" * 64, {}, body=body)


def _rows(manifest: Manifest, split: str) -> dict[str, int]:
    return {s["group"]: s["rows"] for s in manifest.body["shards"] if s["split"] == split}


def test_whole_groups_are_held_back_by_their_names_alone() -> None:
    groups = {f"g{i}": 10 for i in range(30)} | {"exam": 40}
    one, turned = held_out(_manifest(groups)), held_out(_manifest(dict(reversed(groups.items()))))
    held = _rows(one.manifest, "val")
    assert len(held) == 3 and held == _rows(turned.manifest, "val")
    more = _rows(held_out(_manifest({**groups, "new": 10})).manifest, "val")
    assert len(set(held) & set(more)) >= 2  # a group that comes changes little
    assert not set(held) & set(_rows(one.manifest, "train")) and _rows(one.manifest, "test") == {"exam": 40}
    assert one.manifest.body["splits"]["train"]["rows"] == 270 and "of the 30 training groups" in one.words


def test_a_group_that_is_most_of_the_data_is_not_held_back() -> None:
    for name in (f"huge{i}" for i in range(20)):
        groups = {name: 1000, **{f"g{i}": 10 for i in range(9)}}
        assert name in _rows(held_out(_manifest(groups)).manifest, "train")


def test_of_few_groups_the_end_of_each_is_held_back(data: Any) -> None:
    storage, _, shards = data
    held = held_out(shards)
    assert "flatter" in held.words

    def column(manifest: Manifest, split: str) -> list[bytes]:
        batches: Any = Loader(storage, manifest, scenes.KNOWN, ["rgb@camera"], split, batch=1, shuffle=False)
        pictures: list[Tensor] = [batch["rgb@camera"][0] for batch in batches]
        return [np.asarray(p).tobytes() for p in pictures]

    train, val, before = column(held.manifest, "train"), column(held.manifest, "val"), column(shards, "train")
    assert len(val) == 3 and sorted(train + val) == sorted(before) and not set(train) & set(val)
    assert val == [before[3], before[7], before[11]]  # the last of each group of four


def test_one_sample_cannot_be_held_back() -> None:
    assert held_out(_manifest({"only": 1})).words == ""


def test_shards_say_nothing_of_it(tmp_path: Path) -> None:
    storage, _, shards = scenes.shards(tmp_path)
    assert isinstance(storage, Storage) and all(set(s) <= {
        "path", "split", "rows", "row_group", "bytes", "group"} for s in shards.body["shards"])  # fmt: skip
