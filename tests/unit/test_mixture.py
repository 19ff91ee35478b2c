"""Mixtures: shares kept to the sample, every sample of a set once in each of its passes, and continuing anywhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.shard.mixture import FixedShares, Mixture, Temperature, drawn, mixed, stratified
from tests.unit.test_loader import DEPTH, ID, KNOWN, PICK, ids, shards, together

SETTINGS = settings(max_examples=40, deadline=None)
SHARES = st.lists(st.integers(1, 9), min_size=2, max_size=4).map(lambda w: tuple(x / sum(w) for x in w))


@SETTINGS
@given(shares=SHARES, count=st.integers(0, 10**12))
def test_what_was_drawn_follows_the_shares_and_only_grows(shares, count) -> None:
    now, then = drawn(shares, count), drawn(shares, count + 1)
    assert sum(now) == count
    assert all(abs(n - count * p) < len(shares) for n, p in zip(now, shares))
    assert sorted(b - a for a, b in zip(now, then)) == [0] * (len(shares) - 1) + [1]


@SETTINGS
@given(
    sizes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=2, max_size=3),
    weights=st.lists(st.integers(1, 20), min_size=3, max_size=3), pool=st.integers(1, 8), seed=st.integers(0, 3),
)  # fmt: skip
def test_every_sample_of_a_set_comes_once_in_each_pass(sizes, weights, pool, seed) -> None:
    sets = [np.array(s) for s in sizes]
    shares = FixedShares(shares=weights[: len(sets)]).shares([1] * len(sets))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(sets))])
    line: list[int] = []
    for number in range(4):
        order = mixed(sets, shares, seed, number, pool)
        line += (starts[order.numbers[order.visits]] + order.rows).tolist()
        assert (order.last_use() >= -1).all()
    first = 0
    for rows in (int(s.sum()) for s in sets):
        mine = [i - first for i in line if first <= i < first + rows]
        for start in range(0, len(mine), rows):
            whole = mine[start : start + rows]
            assert len(set(whole)) == len(whole), "within a pass nothing comes twice"
        first += rows
    for end in range(0, len(line), 7):
        given_ = Counter(int(np.searchsorted(np.cumsum([s.sum() for s in sets]), i, "right")) for i in line[:end])
        assert all(abs(given_[i] - end * p) < len(sets) for i, p in enumerate(shares))


@SETTINGS
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=9), share=st.floats(0.05, 0.95), draw=st.randoms(),
    pool=st.integers(1, 8), seed=st.integers(0, 3),
)  # fmt: skip
def test_samples_with_a_label_have_their_share_however_few_they_are(sizes, share, draw, pool, seed) -> None:
    total = sum(sizes)
    chosen = np.array([draw.random() < 0.3 for _ in range(total)])
    chosen[draw.randrange(total)] = True
    if chosen.all():
        return
    starts, line = np.cumsum([0, *sizes]), []
    for number in range(3):
        order = stratified(np.array(sizes), chosen, (share, 1 - share), seed, number, pool)
        assert len(order.visits) == total
        line += (starts[order.numbers[order.visits]] + order.rows).tolist()
    for kind, part in ((True, share), (False, 1 - share)):
        mine, rows = [i for i in line if chosen[i] == kind], int((chosen == kind).sum())
        assert all(len(set(mine[at : at + rows])) == len(mine[at : at + rows]) for at in range(0, len(mine), rows))
        assert all(abs(sum(chosen[i] == kind for i in line[:end]) - end * part) < 2 for end in range(len(line)))


def test_in_proportion_to_the_sizes_an_epoch_is_every_sample_once() -> None:
    sets = [np.array([3, 3, 1]), np.array([4]), np.array([5] * 20)]
    shares = Temperature().shares([7, 4, 100])
    for number in range(3):
        order = mixed(sets, shares, 0, number, 8)
        seen = Counter(zip(order.numbers[order.visits].tolist(), order.rows.tolist(), strict=True))
        assert len(seen) == 111 and set(seen.values()) == {1}


def test_temperature_and_weights() -> None:
    assert Temperature().shares([900, 100]) == pytest.approx((0.9, 0.1))
    assert Temperature(temperature=2).shares([900, 100]) == pytest.approx((0.75, 0.25))
    assert Temperature(temperature=1e9).shares([900, 100]) == pytest.approx((0.5, 0.5))
    assert Temperature(weights=[1, 3]).shares([300, 100]) == pytest.approx((0.5, 0.5))
    assert plugins.parse("sampler", {"type": "shares", "shares": [3, 1]}).shares([1, 10]) == (0.75, 0.25)
    with pytest.raises(RecipeError, match="2 weights for 3 data sets"):
        Temperature(weights=[1, 3]).shares([1, 1, 1])
    with pytest.raises(ValueError, match="above 0"):
        Temperature(weights=[1, 0])


def test_a_sampler_that_leaves_nothing_of_a_set_is_refused() -> None:
    """By the rows that are there, not by those that a recipe's check makes up; shares were not tried at all."""
    faint = Temperature(weights=[1, 4e-7])
    faint.check(2)
    assert Mixture((), faint).shares([10**6, 10**8]) == pytest.approx((1 / 1.00004, 4e-5 / 1.00004))
    with pytest.raises(RecipeError, match="nothing of data set 2 of 2, of 1 samples beside 1. Next: a higher temp"):
        Mixture((), faint).shares([1, 1])
    with pytest.raises(RecipeError, match="nothing of data set 1 of 2, of 10 samples beside 1000000"):
        Mixture((), Temperature(temperature=0.01)).shares([10, 10**6])  # no number above 0, by which all were divided
    with pytest.raises(RecipeError, match="nothing of data set 2 of 2, of 50 samples beside 90. Next: a larger share"):
        Mixture((), FixedShares(shares=[1, 1e-20])).shares([90, 50])
    for sampler in (Temperature(), FixedShares(shares=[1, 1, 1])):
        with pytest.raises(RecipeError, match="no sample of data set 2 of 3 .in the order of `data`. is left"):
            Mixture((), sampler).shares([4, 0, 3])


def manifest(storage: Storage, sizes: list[int], columns: tuple[str, ...], split: str = "train") -> Manifest:
    listed = [{**shard, "split": split} for shard in shards(storage, sizes, 4)]
    return Manifest("shard", "f" * 64, {}, body={"schema": {c: {} for c in columns}, "shards": listed})


@pytest.fixture
def mixture(tmp_path) -> tuple[Storage, Mixture]:
    """Two sets under one root, of 30 and 10 samples; the second knows no depth."""
    storage = Storage(str(tmp_path))
    made = []
    for name, sizes, columns in (("a", [20, 10], (ID, DEPTH)), ("b", [10], (ID,))):
        made.append(manifest(Storage(str(tmp_path / name)), sizes, columns))
        for shard in made[-1].body["shards"]:
            shard["path"] = f"{name}/{shard['path']}"
    return storage, Mixture(tuple(made), Temperature(temperature=1e9))


def test_a_set_without_a_column_has_no_value_of_it(mixture) -> None:
    storage, both = mixture
    for batch in Loader(storage, both, KNOWN, (ID, DEPTH), batch=8, drop_last=True):
        there = batch[DEPTH + "?"]
        assert not batch[DEPTH][~there].any()
        assert (batch[DEPTH][there][:, 0, 0] == batch[ID][there]).all()
        assert 2 <= int(there.sum()) <= 4, "half of a batch is of each set, and a third of the first has no depth"
    with pytest.raises(RecipeError, match=r"no column rgb@x; there are: depth@test, id@test"):
        Loader(storage, both, KNOWN, (ID, "rgb@x"), batch=8)


def test_a_mixture_of_empty_sets_has_no_batch(tmp_path) -> None:
    """It was a division by zero."""
    empty = manifest(Storage(str(tmp_path)), [0], (ID,))
    with pytest.raises(RecipeError, match="the split 'train' has 0 samples, fewer than one batch of 4"):
        Loader(Storage(str(tmp_path)), Mixture((empty, empty), Temperature()), KNOWN, (ID,), batch=4)


def test_shares_of_a_mixture_are_those_of_what_is_chosen(mixture) -> None:
    storage, both = mixture
    for data_set in both.sets:
        data_set.body["schema"][PICK] = {}
    chosen = Loader(storage, replace(both, sampler=Temperature(temperature=1)), KNOWN, (ID,), batch=4, only=PICK)
    assert chosen.rows == 20 and chosen.shares == (0.75, 0.25)  # 15 of 30 and 5 of 10: numbered from 0 in each
    assert {i % 4 for batch in chosen for i in ids(batch)} == {1, 2}
    del both.sets[1].body["schema"][PICK]
    with pytest.raises(RecipeError, match="only: pick@test is above 0 for no sample"):
        Loader(storage, both, KNOWN, (ID,), batch=4, only=PICK)


@pytest.mark.parametrize("worlds", [(1, 3), (3, 2)])
def test_a_mixture_continues_on_another_world_size(mixture, worlds) -> None:
    storage, both = mixture

    def ranks(size: int) -> list[Loader]:
        return [Loader(storage, both, KNOWN, (ID,), batch=6, world_size=size, rank=r) for r in range(size)]

    def walk(loaders: list[Loader], count: int) -> list[list[int]]:
        found: list[list[int]] = []
        while len(found) < count:
            found += [together(map(ids, p)) for p in islice(zip(*loaders, strict=True), count - len(found))]
        return found

    undisturbed = walk(ranks(1), 18)
    before, after = ranks(worlds[0]), ranks(worlds[1])
    assert walk(before, 9) == undisturbed[:9]
    for one in after:
        one.load_state_dict(before[0].state_dict())
    assert walk(after, 9) == undisturbed[9:]
    other = Loader(storage, Mixture(both.sets, FixedShares(shares=[3, 1])), KNOWN, (ID,), batch=6)
    with pytest.raises(ValueError, match="other data or another seed"):
        other.load_state_dict(before[0].state_dict())


def test_looking_through_gives_each_set_once_and_passes_over_one_without_the_split(mixture) -> None:
    storage, both = mixture
    seen = together(map(ids, Loader(storage, both, KNOWN, (ID,), batch=7, shuffle=False)))
    assert seen == [*range(30), *range(10)]
    for shard in both.sets[1].body["shards"]:
        shard["split"] = "val"
    assert len(together(map(ids, Loader(storage, both, KNOWN, (ID,), "val", batch=7, shuffle=False)))) == 10
    with pytest.raises(RecipeError, match="no shard is in the split 'train'; there are: val"):
        Loader(storage, both, KNOWN, (ID,), batch=7)
