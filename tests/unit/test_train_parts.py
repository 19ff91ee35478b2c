"""Parts of training: sizes of the network, masks, objectives and balancers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hyperloom.pipeline import plugins
from hyperloom.stages.augment.views import Colour, Flip
from hyperloom.stages.balance.balancers import Static, Uncertainty
from hyperloom.stages.modality import Boxes, Category, Clip, Dense, Image, Keypoints, Segmentation, Soft, Vector
from hyperloom.stages.network.architecture import Architecture, Input, Scale, Task
from hyperloom.stages.network.masks import ModalityMask
from hyperloom.stages.network.model import build_model, nearest_width
from hyperloom.stages.network.unet import UNet
from hyperloom.stages.objective.sites import Cosine, CrossEntropy, Huber, SoftCrossEntropy
from hyperloom.stages.world import World
from tests.unit import inline

COLUMNS = ("rgb@camera", "depth@a", "depth@b", "semantic@c")


@pytest.mark.parametrize(("width", "count"), [(6, 159_000), (10, 439_000), (16, 1_120_000), (32, 4_460_000)])
def test_the_networks_have_the_sizes_of_the_paper(width: int, count: int) -> None:
    with torch.device("meta"):
        network = torch.nn.Sequential(UNet(15, width), torch.nn.Conv2d(width, 15, 1))
    # The paper's counts include the scale and shift of a normalisation, under 1 % of the parameters.
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(count, rel=0.01)


@pytest.mark.parametrize("size", [(8, 8), (15, 17), (24, 9)])
def test_the_trunk_takes_any_size(size: tuple[int, int]) -> None:
    assert UNet(2, 3)(torch.zeros(1, 2, *size)).planes.shape == (1, 3, *size)


def test_parameters_choose_the_nearest_width() -> None:
    image, classes = (
        Image(type="image", size=(16, 16)),
        Segmentation(type="segmentation", classes=("a", "b"), size=(16, 16)),
    )
    tasks = (Task("semantic", classes, Scale()),)
    plan = Architecture((Input("rgb@camera", image, Scale()),), tasks, plugins.parse("trunk", "unet"))
    counts = {w: build_model(plan.with_trunk(plan.trunk.of_width(w))).parameter_count for w in (3, 4, 5)}
    assert nearest_width(plan, counts[4] + 1) == 4
    assert nearest_width(plan, (counts[4] + counts[5]) // 2 + 1) == 5
    assert nearest_width(plan, 1) == 1


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    keep=st.sampled_from([0.0, 0.3, 1.0]),
    by=st.sampled_from(["modality", "column"]),
    each=st.sampled_from(["sample", "batch"]),
    full=st.booleans(),
    visible=st.sampled_from([(), ("rgb",), ("depth@a",)]),
    hidden=st.sampled_from([(), ("semantic",), ("depth@b",)]),
)
def test_a_mask_never_hides_all_and_keeps_its_promises(
    seed: int, keep: float, by: str, each: str, full: bool, visible: tuple[str, ...], hidden: tuple[str, ...]
) -> None:
    mask = ModalityMask(type="modality", keep=keep, by=by, each=each, full=full, visible=visible, hidden=hidden)
    drawn = mask.sample(COLUMNS, 16, torch.Generator().manual_seed(seed))
    again = mask.sample(COLUMNS, 16, torch.Generator().manual_seed(seed))
    assert torch.equal(drawn, again)
    assert drawn.any(1).all()
    banned = torch.tensor(mask.hidden_inputs(COLUMNS))
    assert not drawn[:, banned].any()
    if visible:
        assert drawn[:, 0 if visible == ("rgb",) else 1].all()
    if not full:
        assert not (drawn | banned).all(1).any()
    if each == "batch":
        assert (drawn == drawn[0]).all()
    if by == "modality" and not visible and not hidden:
        assert torch.equal(drawn[:, 1], drawn[:, 2])


def test_a_mask_shows_what_share_it_says() -> None:
    drawn = ModalityMask(type="modality", keep=0.7).sample(COLUMNS, 4000, torch.Generator().manual_seed(0))
    assert drawn.float().mean() == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("wrong", [{"visible": "normals"}, {"hidden": ["rgb", "depth", "semantic"]}])
def test_a_mask_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="mask"):
        ModalityMask(type="modality", **wrong).check(COLUMNS)
    with pytest.raises(ValidationError, match="both"):
        ModalityMask(type="modality", visible=("rgb",), hidden=("rgb",))


def test_cross_entropy_leaves_unknown_pixels_out_and_balances() -> None:
    logits, ids = torch.zeros(1, 2, 1, 4), torch.tensor([[[0, 0, 1, 255]]], dtype=torch.uint8)
    loss, labelled = CrossEntropy(type="cross-entropy").build(None)(logits, ids)
    assert labelled.tolist() == [[[True, True, True, False]]]
    assert loss[0, 0, :3].tolist() == pytest.approx([math.log(2)] * 3)
    balanced, _ = CrossEntropy(type="cross-entropy", balance=1).build([2, 1])(logits, ids)
    assert balanced[0, 0, 2] == pytest.approx(2 * float(balanced[0, 0, 0]))
    assert balanced[0, 0, :3].mean() == pytest.approx(math.log(2))


def test_soft_targets_are_matched_at_any_temperature() -> None:
    truth = torch.tensor([0.7, 0.2, 0.1]).view(1, 3, 1, 1)
    for temperature in (1.0, 4.0):
        pixels = SoftCrossEntropy(type="kl", temperature=temperature).build(None)
        assert float(pixels(truth.log(), truth)[0]) == pytest.approx(0, abs=1e-5)
        assert float(pixels(torch.zeros_like(truth), truth)[0]) > 0.05
    assert not SoftCrossEntropy(type="kl").build(None)(truth, torch.zeros_like(truth))[1].any()


def test_a_temperature_keeps_the_order_of_small_chances() -> None:
    """What a teacher holds for a hundredth or a millionth as likely is another lesson, also after it was stored."""
    chances = np.array([0.98878, 0.01, 0.001, 2e-4, 1e-5, 1e-5, 1e-6, 0], np.float32)
    soft = Soft(type="soft", classes=tuple("abcdefgh"), size=(1, 1))
    stored = soft.decode(soft.encode([chances.reshape(1, 1, 8)]))[0].reshape(1, 8, 1, 1)
    pixels = SoftCrossEntropy(type="kl", temperature=4).build(None)
    logits = torch.zeros(1, 8, 1, 1, requires_grad=True)
    pixels(logits, torch.from_numpy(stored))[0].sum().backward()
    assert logits.grad is not None
    pulled = (-logits.grad.flatten()).tolist()  # towards what is more likely
    assert pulled == sorted(pulled, reverse=True) and len({round(p, 4) for p in pulled}) == 7
    softened = chances.clip(1e-8) ** 0.25 / (chances.clip(1e-8) ** 0.25).sum()
    assert np.allclose(pulled, 4 * (softened - 1 / 8), atol=2e-3)


def test_regressions_leave_pixels_out_that_are_no_numbers() -> None:
    target = torch.tensor([1.0, math.nan, math.inf]).view(1, 1, 1, 3)
    loss, labelled = Huber(type="huber").build(None)(torch.zeros(1, 1, 1, 3), target)
    assert labelled.flatten().tolist() == [True, False, False]
    assert loss.isfinite().all() and float(loss[..., 0]) == pytest.approx(0.5)
    straight = torch.tensor([0.0, 0.0, 2.0]).view(1, 3, 1, 1)
    assert float(Cosine(type="cosine").build(None)(straight * 3, straight)[0]) == pytest.approx(0, abs=1e-6)
    assert not Cosine(type="cosine").build(None)(straight, straight * 0)[1].any()


def test_a_task_without_labels_moves_nothing() -> None:
    model = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    for balancer in (Static(type="static"), Uncertainty(type="uncertainty")):
        module = balancer.build(["a", "b"], [False, True])
        model.grad = None
        losses = model.square() * torch.tensor([1.0, 0.0])
        module.backward(losses, torch.tensor([True, False]), [model])
        assert model.grad is not None and model.grad.tolist() == [2.0, 0.0]
        for parameter in module.parameters():
            assert parameter.grad is not None and parameter.grad[1] == 0


def test_uncertainty_settles_where_the_weight_is_the_inverse_loss() -> None:
    module = Uncertainty(type="uncertainty").build(["a", "b"], [False, True])
    losses = torch.tensor([0.5, 0.02])
    optimizer = torch.optim.SGD(module.parameters(), 0.5)
    for _ in range(300):
        optimizer.zero_grad()
        module.backward(losses, torch.tensor([True, True]), [])
        module.settle([], World())
        optimizer.step()
    (log_variance,) = module.parameters()
    assert log_variance.exp().tolist() == pytest.approx([2 * 0.5, 2 * 0.02 / 2], rel=0.01)


def test_static_weights_name_tasks() -> None:
    with pytest.raises(ValueError, match="detph"):
        Static(type="static", weights={"detph": 1}).check(["depth"])


def test_dense_modalities_keep_their_definition_in_an_architecture() -> None:
    depth = Dense(type="dense", size=(16, 16), unit="m")
    plan = Architecture(
        (Input("depth@a", depth, Scale((3.0,), (2.0,))),), (Task("depth", depth, Scale((3.0,), (2.0,))),),
        plugins.parse("trunk", {"type": "unet", "width": 3}),
    )  # fmt: skip
    assert Architecture.from_json(plan.to_json()) == plan


def _views(part: slice, seed: int = 0) -> dict[str, torch.Tensor]:
    """Flipped and recoloured samples `part` of a batch of 6 that all look the same."""
    columns = {
        "rgb@camera": Image(type="image", size=(4, 6)),
        "normals@a": Dense(type="dense", channels=3, direction=True, size=(4, 6)),
        "semantic@b": Segmentation(type="segmentation", classes=("a", "b"), size=(4, 6)),
    }
    ramp = torch.arange(6, dtype=torch.float32).view(1, 1, 6, 1).expand(6, 4, 6, 3)
    batch = {"rgb@camera": (ramp * 20 + 60).to(torch.uint8), "normals@a": ramp.clone()}
    batch |= {"semantic@b": (ramp[..., 0] > 2).to(torch.uint8), "semantic@b?": torch.ones(6, dtype=torch.bool)}
    generator = torch.Generator().manual_seed(seed)
    mine = {c: v[part] for c, v in batch.items()}
    for augment in (Flip(type="flip"), Colour(type="colour")):
        mine = augment.apply(mine, columns, augment.draw(columns, 6, part, generator))
    return mine


def test_augmentations_move_all_columns_alike_and_turn_directions() -> None:
    views = _views(slice(0, 6))
    flipped = views["semantic@b"][:, 0, 0] == 1
    assert 0 < flipped.sum() < 6
    for i in range(6):
        row = views["normals@a"][i, 0]
        expected = torch.arange(6.0).flip(0) if flipped[i] else torch.arange(6.0)
        assert torch.equal(row[:, 1], expected)
        assert torch.equal(row[:, 0], -expected if flipped[i] else expected)
        bright = views["rgb@camera"][i, 0, :, 0]
        assert bool(bright[0] > bright[-1]) == bool(flipped[i])
    assert views["rgb@camera"].flatten(1).unique(dim=0).shape[0] == 6  # each sample in another light


def test_a_mirror_turns_boxes_and_clips_and_leaves_what_has_no_width() -> None:
    columns = {
        "objects@a": Boxes(type="boxes", classes=("car",), most=2),
        "film@a": Clip(type="clip", frames=2, size=(3, 4)),
        "weather@a": Category(type="category", classes=("sun", "rain")),
    }
    boxes = torch.tensor([[[0.1, 0.2, 0.4, 1, 0, 0.5], [math.nan] * 6]] * 2)
    film = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4, 1).expand(2, 2, 3, 4, 3)
    batch = {"objects@a": boxes, "film@a": film, "weather@a": torch.tensor([0, 1])}
    flip = Flip(type="flip", probability=1)
    made = inline.augmented(flip, batch, columns, slice(0, 2))
    assert torch.allclose(made["objects@a"][0, 0], torch.tensor([0.6, 0.2, 0.9, 1, 0, 0.5]))
    assert made["objects@a"][:, 1].isnan().all() and torch.equal(made["film@a"], film.flip(3))
    assert torch.equal(made["weather@a"], batch["weather@a"])
    with pytest.raises(ValueError, match="joints@a"):
        flip.check({"joints@a": Keypoints(type="keypoints", points=("head", "tail"))})


def test_a_batch_looks_the_same_on_any_number_of_workers() -> None:
    whole, first, second = _views(slice(0, 6)), _views(slice(0, 3)), _views(slice(3, 6))
    for column, values in whole.items():
        assert torch.equal(values, torch.cat([first[column], second[column]]))
    with pytest.raises(ValueError, match="pose@a"):
        Flip(type="flip").check({"pose@a": Vector(type="vector", length=2)})
