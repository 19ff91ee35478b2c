"""Blends of samples: pictures and what teaches of them are cut, pasted and mixed alike, on any number of workers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.augment.blends import OTHER, OWN, SHARE, Pairs, answers
from hyperloom.stages.augment.views import Colour
from hyperloom.stages.base import VALID
from hyperloom.stages.network.model import build_model
from hyperloom.stages.train.clipping import Clipping
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.preparation import Preparation
from hyperloom.stages.train.stage import Train
from hyperloom.stages.world import World
from tests.unit import inline, scenes

SIZE = (12, 16)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["a", "b", "c"]},
    soft={"type": "soft", "of": "semantic"},
    bytes={"type": "soft", "of": "semantic", "storage": "uint8"},
    depth={"type": "dense"},
    weather={"type": "category", "classes": ["sun", "rain"]},
)


def _batch(count: int = 4) -> dict[str, torch.Tensor]:
    """Of sample i every value says i."""
    each = torch.arange(count)
    ids = (each % 3).view(-1, 1, 1).expand(-1, *SIZE)
    batch = {
        "rgb@a": (each * 40).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, *SIZE, 3),
        "semantic@a": ids.to(torch.uint8),
        "soft@a": torch.nn.functional.one_hot(ids, 3).half(),
        "bytes@a": torch.nn.functional.one_hot(ids, 3).to(torch.uint8) * 255,
        "depth@a": each.view(-1, 1, 1, 1).expand(-1, *SIZE, 1).half(),
        "weather@a": each % 2,
    }
    return {**batch, **{c + VALID: torch.ones(count, dtype=torch.bool) for c in batch}}


def _blended(blend: Any, order: list[int], batch: Any = None, part: slice | None = None, seed: int = 0) -> Any:
    batch, columns = batch or _batch(), {c: KNOWN[c.partition("@")[0]] for c in _batch() if not c.endswith(VALID)}
    plugin, count = plugins.parse("augment", blend), len(order)
    part = part or slice(0, count)
    mine, others = {k: v[part] for k, v in batch.items()}, {k: v[order][part] for k, v in batch.items()}
    inputs = {"rgb@a", "depth@a"} if plugin.type == "mixup" else {"rgb@a"}
    drawn = plugin.draw(columns, count, part, torch.Generator().manual_seed(seed))
    return plugin.blend(Pairs(mine, others, columns, inputs), drawn)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), kind=st.sampled_from(["cutmix", "classmix"]))
def test_maps_of_all_kinds_are_pasted_where_the_picture_is(seed: int, kind: str) -> None:
    blend = {"type": kind, **({"of": "soft@a"} if kind == "classmix" else {})}
    made = _blended(blend, order := [1, 2, 3, 0], seed=seed)
    for i, j in enumerate(order):
        pasted = made["rgb@a"][i, ..., 0] == 40 * j
        assert torch.equal(pasted | (made["rgb@a"][i, ..., 0] == 40 * i), torch.ones(SIZE, dtype=torch.bool))
        assert float(made[SHARE][i]) == pytest.approx(1 - float(pasted.float().mean()), abs=1e-6)
        for column in ("semantic@a", "soft@a", "bytes@a", "depth@a"):
            own, other = _batch()[column][i], _batch()[column][j]
            where = pasted if own.ndim == 2 else pasted[..., None]
            assert torch.equal(made[column][i], torch.where(where, other, own)), column
    assert answers(made, "soft@a") == [(["soft@a"], None)]
    (own, share), (other, rest) = answers(made, "weather@a")
    assert own == ["weather@a"] and other == ["weather@a" + OTHER] and torch.equal(share + rest, torch.ones(4))
    assert made["weather@a" + OTHER].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("kind", ["cutmix", "classmix"])
def test_a_finer_map_is_pasted_in_the_same_place(kind: str) -> None:
    blend = {"type": kind, **({"of": "soft@a"} if kind == "classmix" else {})}
    rgb = inline.modalities(rgb={"type": "image", "size": [2 * SIZE[0], 2 * SIZE[1]]})["rgb"]
    batch, order, columns = _batch(), [1, 2, 3, 0], {"soft@a": KNOWN["soft"], "rgb@a": rgb}
    batch["rgb@a"] = batch["rgb@a"].repeat_interleave(2, 1).repeat_interleave(2, 2)
    others = {k: v[order] for k, v in batch.items()}
    plugin = plugins.parse("augment", blend)
    drawn = plugin.draw(columns, 4, slice(0, 4), torch.Generator().manual_seed(3))
    made = plugin.blend(Pairs(batch, others, columns, {"rgb@a"}), drawn)
    for i, j in enumerate(order):
        own, other = (int(batch["soft@a"][n, 0, 0].argmax()) for n in (i, j))
        for half in (slice(0, None, 2), slice(1, None, 2)):
            pasted = made["rgb@a"][i, half, half, 0] == 40 * j
            assert torch.equal(made["soft@a"][i].argmax(-1), torch.where(pasted, other, own))
    assert bool((made["rgb@a"] != batch["rgb@a"]).any())


def test_half_of_the_classes_of_a_picture_are_pasted() -> None:
    batch = _batch()
    batch["semantic@a"] = batch["semantic@a"].clone()
    batch["semantic@a"][1, :4], batch["semantic@a"][1, 4:8], batch["semantic@a"][1, 8:] = 0, 2, 255
    found = set()
    for seed in range(20):
        made = _blended({"type": "classmix", "of": "semantic@a"}, [1, 0, 3, 2], batch, seed=seed)
        pasted = made["rgb@a"][0, ..., 0] == 40
        assert pasted[:, :].float().mean() == pytest.approx(1 / 3) and not pasted[8:].any()
        found.add(bool(pasted[0, 0]))
    assert found == {True, False}, "either class has its turn"


def test_a_mixture_by_hand() -> None:
    """Pictures are summed up; both answers teach, so that the loss has the shares of the picture."""
    made = _blended({"type": "mixup", "alpha": 1.0}, order := [1, 2, 3, 0])
    share = made[SHARE]
    assert len(share.unique()) == 4 and bool(((share >= 0) & (share <= 1)).all())
    for i, j in enumerate(order):
        assert float(made["rgb@a"][i, 0, 0, 0]) == pytest.approx(float(40 * (share[i] * i + (1 - share[i]) * j)))
        assert float(made["depth@a"][i, 0, 0, 0]) == pytest.approx(float(share[i] * i + (1 - share[i]) * j))
    assert torch.equal(made["depth@a" + OWN], _batch()["depth@a"])  # as an answer it is what it was
    assert [names for names, _ in answers(made, "depth@a")] == [["depth@a" + OWN], ["depth@a" + OTHER]]
    assert made["semantic@a" + OTHER][:, 0, 0].tolist() == [1, 2, 0, 0]


def test_a_mixture_is_as_long_as_the_series_that_counts_most() -> None:
    """It ended where the shorter one does, whichever that is; a hole in a map made a hole in the other's, too."""
    kind = inline.modalities(track={"type": "series", "steps": 6, "channels": 2})["track"]
    lengths, order = [2, 6, 5, 3], [1, 0, 3, 2]
    track = torch.stack([torch.from_numpy(kind.fit(np.full((n, 2), 10.0 * n, np.float32))) for n in lengths])
    batch = {"track@a": track, "track@a" + VALID: torch.ones(4, dtype=torch.bool)}
    others = {k: v[order] for k, v in batch.items()}
    plugin, seen = plugins.parse("augment", {"type": "mixup", "alpha": 1.0}), set()
    for seed in range(4):
        drawn = plugin.draw({"track@a": kind}, 4, slice(0, 4), torch.Generator().manual_seed(seed))
        made = plugin.blend(Pairs(batch, others, {"track@a": kind}, {"track@a"}), drawn)
        for i, j in enumerate(order):
            share = float(made[SHARE][i])
            larger = lengths[i if share >= 0.5 else j]
            both, rows = min(lengths[i], lengths[j]), made["track@a"][i, :, 0]
            expected = [share * 10 * lengths[i] + (1 - share) * 10 * lengths[j]] * both
            assert rows[:larger].tolist() == pytest.approx(expected + [10.0 * larger] * (larger - both), rel=1e-5)
            assert bool(rows[larger:].isnan().all())
            seen.add((larger == lengths[i], larger > both))
    assert len(seen) == 4, "the own and the other one, the longer and the shorter one"


def test_only_mixtures_of_what_may_end_mean_something_else() -> None:
    known = {**KNOWN, **inline.modalities(track={"type": "series", "steps": 6})}
    known |= inline.modalities(film={"type": "clip", "size": [4, 4], "frames": 2})
    known |= inline.modalities(chances={"type": "vector", "length": 2, "classes": ["left", "right"], "mirror": []})
    for augment, column, changed in (
        (["mixup"], "track@a", True), ([{"type": "one-of", "of": ["cutmix", "mixup"]}], "depth@a", True),
        (["mixup"], "rgb@a", False), (["mixup"], "film@a", False),
        (["cutmix"], "depth@a", False), ([], "track@a", False),
    ):  # fmt: skip
        fields = {"data": "shards", "in": column, "targets": {"weather": "weather@a"}, "augment": augment}
        stage = Train.model_validate({"stage": "train", "updates": 1, **fields})
        assert ("mixtures" in stage.revised_for(known)) == changed
    for augment, column, changed in (
        (["flip"], "chances@a", True),
        ([], "chances@a", False),
        (["flip"], "rgb@a", False),
    ):
        fields = {"data": "shards", "in": column, "targets": {"weather": "weather@a"}, "augment": augment}
        stage = Train.model_validate({"stage": "train", "updates": 1, **fields})
        assert ("sided numbers" in stage.revised_for(known)) == changed


def test_what_has_other_columns_is_not_blended() -> None:
    batch = _batch()
    batch["soft@a" + VALID], batch["depth@a" + VALID] = (
        batch["soft@a" + VALID].clone(),
        batch["depth@a" + VALID].clone(),
    )
    batch["soft@a" + VALID][1] = batch["depth@a" + VALID][2] = False
    pasted = _blended("cutmix", [1, 0, 3, 2], batch)
    assert torch.equal(pasted[SHARE], torch.ones(4)) and torch.equal(pasted["rgb@a"], batch["rgb@a"])
    mixed = _blended({"type": "mixup", "alpha": 1.0}, [1, 0, 3, 2], batch)
    assert (mixed[SHARE] < 1).tolist() == [True, True, False, False], "answers may differ, inputs may not"
    assert mixed["soft@a" + OTHER + VALID].tolist() == [False, True, True, True]


@pytest.mark.parametrize("blend", ["cutmix", "mixup", {"type": "one-of", "of": ["mixup", "cutmix"]}])
def test_a_blend_is_the_same_on_any_number_of_workers(blend: Any) -> None:
    whole = _blended(blend, [2, 3, 1, 0])
    parts = [_blended(blend, [2, 3, 1, 0], part=part) for part in (slice(0, 1), slice(1, 4))]
    for name, values in whole.items():
        assert torch.equal(values, torch.cat([part[name] for part in parts])), name


def test_both_answers_teach_by_their_shares(tmp_path: Any) -> None:
    """The loss of a batch that was mixed is the sum of the losses against either answer, of all objectives."""
    storage, _, shards = scenes.shards(tmp_path)
    fields: dict[str, Any] = {
        "in": ["rgb@camera"],
        "targets": {"semantic": {"soft@teacher": 1.0, "semantic@truth": 0.5}, "depth": "depth@laser"},
        "losses": {"semantic@truth": {"type": "focal"}},
        "mask": "none",
    }
    run = scenes.step(storage, shards, **fields, augment=[{"type": "mixup", "alpha": 1.0}])
    job = run.stage.job(run)
    torch.manual_seed(0)
    criterion = Criterion(job, build_model(job.architecture, job.parameters).eval())
    batch = next(iter(job.batches.open(job, job.columns, World())))
    ready = Preparation(job, criterion, World(), Clipping(World()))(0, batch)
    with torch.no_grad():
        made = criterion(ready.columns, ready.visible, World()).values
        shares = ready.columns[SHARE]
        assert float(shares.min()) < 0.9
        total, amounts = torch.zeros(2), torch.zeros(2)
        for i in range(4):
            one = {k: v[i : i + 1] for k, v in ready.columns.items()}
            seen = ready.visible[i : i + 1]
            for counted, share in ((1.0, float(shares[i])), (0.0, 1 - float(shares[i]))):
                view = {**one, SHARE: torch.tensor([counted])}
                count = criterion.count([view], [seen], World()).float()
                total += share * criterion(view, seen, World()).values * count
                amounts += share * count
    assert made.tolist() == pytest.approx((total / amounts).tolist(), rel=1e-5)


def test_what_cannot_be_blended_is_refused_by_name(tmp_path: Any) -> None:
    storage, _, shards = scenes.shards(tmp_path)

    def refused(augment: list[Any], **fields: Any) -> str:
        with pytest.raises((RecipeError, ValueError)) as caught:
            run = scenes.step(storage, shards, augment=augment, **fields)
            run.stage.job(run)
        return str(caught.value)

    assert "mixup has no sum of two values of semantic@noisy. Next: cutmix" in refused(["mixup"])
    assert "classmix: of: soft@techer is not read" in refused([{"type": "classmix", "of": "soft@techer"}])
    assert "rgb@camera has no classes of pixels" in refused([{"type": "classmix", "of": "rgb@camera"}])
    assert "one blend, or {type: one-of, of: [mixup, cutmix]}" in refused(["mixup", "cutmix"])
    assert "flip is no blend" in refused([{"type": "one-of", "of": ["cutmix", "flip"]}])
    boxes = inline.modalities(rgb={"type": "image", "size": [4, 4]}, things={"type": "boxes", "classes": ["car"]})
    with pytest.raises(ValueError, match="cutmix cannot paste a part of things@a"):
        plugins.parse("augment", "cutmix").takes({"rgb@a": boxes["rgb"]}, {"things@a": boxes["things"]})


def _lit(rgb: np.ndarray, **fields: Any) -> torch.Tensor:
    none = {"contrast": 0, "brightness": 0, "balance": 0}
    colour = Colour.model_validate({"type": "colour", **none, **fields})
    pictures = torch.from_numpy(np.stack([rgb] * 3))
    lit: torch.Tensor = inline.augmented(colour, {"rgb@a": pictures}, {"rgb@a": KNOWN["rgb"]}, slice(0, 3))["rgb@a"]
    return lit


def test_exposure_is_a_factor_that_leaves_dark_frames_what_they_show() -> None:
    dusk = np.random.default_rng(0).integers(4, 30, (*SIZE, 3)).astype(np.uint8)
    factors = _lit(dusk, exposure=1.0).numpy() / dusk
    assert np.ptp(factors, axis=(1, 2, 3)).max() < 1e-4, "one factor a sample"
    assert (
        len({round(float(f), 3) for f in factors[:, 0, 0, 0]}) == 3 and (factors >= 0.5).all() and (factors <= 2).all()
    )
    assert (_lit(dusk, exposure=1.0) > 0).all() and (_lit(dusk, brightness=0.5) <= 0).any()
    both, light = (_lit(dusk, saturation=0.5, grey=0.5, exposure=e) for e in (1e-9, 0.0))
    assert np.allclose(both, light, atol=1e-3), "what else is drawn stays"


def test_light_by_hand() -> None:
    rgb = np.random.default_rng(0).integers(40, 200, (*SIZE, 3)).astype(np.uint8)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    grey = _lit(rgb, grey=1.0)
    assert np.allclose(grey[0], luma[..., None].repeat(3, -1), atol=1e-2)
    turned = _lit(rgb, hue=0.1)
    assert (
        np.allclose((turned[1].numpy() @ [0.299, 0.587, 0.114]), luma, atol=1.5) and (turned[1] - rgb).abs().max() > 5
    )
    assert np.allclose(_lit(rgb, gamma=0.5)[0].mean((0, 1)), rgb.mean((0, 1)), atol=60)
    flat = np.full((*SIZE, 3), 100, np.uint8)
    assert np.allclose(_lit(flat, blur=2.0, saturation=0.5)[0], flat, atol=1e-2)
    point = np.zeros((*SIZE, 3), np.uint8)
    point[6, 8] = 255
    blurred = _lit(point, blur=1.0)
    assert float(blurred[0].sum()) == pytest.approx(3 * 255, rel=0.01) and float(blurred[0].max()) < 255
    noisy = _lit(flat, noise=8.0)
    assert 0 < float(noisy.std()) < 8 and not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize(
    "kind", [{"type": "keypoints", "points": ["left", "right"]}, {"type": "boxes", "classes": ["a"], "most": 2}]
)
def test_points_and_boxes_have_no_sum(kind: dict[str, Any]) -> None:
    """Half of a point that is seen and of one that is hidden is a point that nobody saw."""
    things, mixup = inline.modalities(things=kind)["things"], plugins.parse("augment", {"type": "mixup"})
    with pytest.raises(ValueError, match="no sum of two values of things@a. Next: leave mixup out"):
        mixup.takes({"things@a": things, "rgb@a": KNOWN["rgb"]}, {})
    mixup.takes({"rgb@a": KNOWN["rgb"], "depth@a": KNOWN["depth"]}, {"things@a": things})
