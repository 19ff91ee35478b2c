"""Masks of patches: shares, guards, what is never or always shown, and that workers share one drawing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from hyperloom.stages.modality import Category, Image, Segmentation, Text
from hyperloom.stages.network.architecture import Architecture, Input, Scale, Task
from hyperloom.stages.network.patches import allotment
from hyperloom.stages.network.visible import Visible, shown

IMAGE = Image(type="image", size=(20, 32))
CLASSES = Segmentation(type="segmentation", classes=("a", "b"), size=(20, 32))
COLUMNS = {
    "rgb@a": IMAGE,
    "semantic@b": CLASSES,
    "caption@c": Text(type="text", length=17),
    "weather@d": Category(type="category", classes=("a", "b")),
}
PLAN = Architecture(
    tuple(Input(c, m, Scale()) for c, m in COLUMNS.items()),
    (Task("semantic", CLASSES, Scale()),),
    plugins.parse("trunk", {"type": "vit", "patch": 8, "width": 2}),
)
GRIDS = [(3, 4), (3, 4), (5,), (1,)]


def _drawn(mask: dict[str, Any], seed: int, count: int = 8) -> Visible:
    return plugins.parse("mask", mask).draw(PLAN, count, torch.Generator().manual_seed(seed))


def _sites(drawn: Visible) -> list[torch.Tensor]:
    return [drawn.sites(i, grid).expand(-1, *grid).flatten(1) for i, grid in enumerate(GRIDS)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["patch", "both", "dirichlet"]),
    keep=st.sampled_from([0.05, 0.3, 0.9]),
    visible=st.sampled_from([(), ("caption",)]),
    hidden=st.sampled_from([(), ("rgb@a",), ("semantic", "weather")]),
)
def test_a_drawing_keeps_its_promises(
    seed: int, kind: str, keep: float, visible: tuple[str, ...], hidden: tuple[str, ...]
) -> None:
    inner = {"patches": {"keep": keep}} if kind == "both" else {"keep": keep}
    mask = {"type": kind, "visible": visible, "hidden": hidden, **inner}
    drawn, again = _drawn(mask, seed), _drawn(mask, seed)
    sites = _sites(drawn)
    assert all(torch.equal(a, b) for a, b in zip(sites, _sites(again), strict=True))
    assert torch.cat(sites, 1).any(1).all()  # never nothing
    for i, column in enumerate(COLUMNS):
        name = column.partition("@")[0]
        if column in hidden or name in hidden:
            assert not sites[i].any()
        elif name in visible:
            assert sites[i].all()
        elif kind != "dirichlet" and len(sites[i][0]) > 1:
            assert not sites[i].all(1).any()  # never all of what may be hidden
    halves = [drawn[slice(0, 3)], drawn[slice(3, 8)]]
    assert all(torch.equal(torch.cat(parts), s) for s, *parts in zip(sites, *map(_sites, halves), strict=True))


def test_patches_show_the_share_they_say() -> None:
    shares = [s.float().mean(1) for s in _sites(_drawn({"type": "patch", "keep": 0.25}, 0, 500))]
    assert all((share == round(0.25 * n) / n).all() for share, n in zip(shares[:3], (12, 12, 5), strict=False))
    assert shares[3].mean() == pytest.approx(0.25, abs=0.06)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    share=st.floats(0.01, 0.99),
    alpha=st.sampled_from([0.02, 1.0, 50.0]),
)
def test_an_allotment_deals_exactly_what_there_is(seed: int, sizes: list[int], share: float, alpha: float) -> None:
    wanted = max(1, round(share * sum(sizes)))
    dealt = allotment(torch.tensor(sizes), wanted, alpha, 16, torch.Generator().manual_seed(seed))
    assert (dealt.sum(1) == wanted).all()
    assert (dealt >= 0).all() and (dealt <= torch.tensor(sizes)).all()


def test_alpha_says_how_even_an_allotment_is() -> None:
    def spread(alpha: float) -> float:
        dealt = allotment(torch.tensor([40, 40, 40]), 30, alpha, 300, torch.Generator().manual_seed(0))
        return float(dealt.float().std(1).mean())

    assert spread(0.1) > 1.5 * spread(1.0) > 3 * spread(100.0)


def test_what_is_absent_joins_the_mask_and_a_sample_never_goes_blind() -> None:
    drawn = _drawn({"type": "dirichlet", "keep": 0.05, "alpha": 0.01}, 3, 64)
    there = torch.ones(64, 4, dtype=torch.bool)
    there[:32, 0] = False
    seen = shown(there, drawn)
    sites = torch.cat(_sites(seen), 1)
    assert not _sites(seen)[0][:32].any()
    assert sites.any(1).all()
    only_rgb = torch.cat(_sites(drawn)[1:], 1).any(1).logical_not()[:32]
    assert only_rgb.any()
    total = sum(math.prod(g) for g in GRIDS[1:])
    assert (sites[:32][only_rgb].sum(1) == total).all()  # what the mask would have hidden, too


def test_squares_lie_alike_on_every_grid() -> None:
    squares = torch.tensor([[[True, False], [False, True]]])
    visible = Visible(torch.ones(1, 1, dtype=torch.bool), (squares,))
    pixels = visible.sites(0, (4, 6))[0]
    assert pixels[:2, :3].all() and pixels[2:, 3:].all() and pixels.sum() == 12


@pytest.mark.parametrize("kind", ["modality", "both"])
def test_a_share_of_the_samples_shows_the_picture_alone(kind: str) -> None:
    plain, alone = (_drawn({"type": kind, "keep": 0.5, **a}, 3, 4000) for a in ({}, {"alone": 0.2}))
    only = torch.tensor([True, False, False, False])
    shares = [(d.inputs == only).all(1).float().mean().item() for d in (plain, alone)]
    assert shares[1] - shares[0] == pytest.approx(0.2 * (1 - shares[0]), abs=0.02)
    others = ~(alone.inputs == only).all(1)
    assert torch.equal(alone.inputs[others], plain.inputs[others])  # the rest is drawn as without
    hidden = _drawn({"type": kind, "keep": 0.5, "hidden": "rgb", "alone": 0.9}, 3)
    assert not hidden.inputs[:, 0].any() and hidden.inputs.any(1).all()
