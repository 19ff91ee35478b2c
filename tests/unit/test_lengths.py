"""Samples of other numbers of tokens: what a trunk makes of each is what it would make of it alone, at the cost of the
tokens that are there; and heads of attention that follow from the width."""

from __future__ import annotations

import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.stages.network import lengths
from hyperloom.stages.network.lengths import apart
from hyperloom.stages.network.vit import VisibleTokens, ViT, dropped

LENGTHS = {
    "few kinds": (5, 9, 13, 5, 9, 13),
    "many kinds": (3, 4, 5, 6, 7, 9, 11, 13),
    "one": (7, 7, 7),
    "nearly one": (12, 13, 13, 13),
    "one sample": (4,),
}


def tokens(kept: tuple[int, ...], width: int = 32) -> VisibleTokens:
    """Tokens of which each sample keeps so many, at random places."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(len(kept), 13, width, generator=generator)
    keep = torch.rand(len(kept), 13, generator=generator).argsort(1).argsort(1) < torch.tensor(kept)[:, None]
    return dropped(values, keep)


@pytest.mark.parametrize("kept", LENGTHS.values(), ids=LENGTHS)
def test_in_parts_a_trunk_makes_of_each_sample_what_it_makes_of_it_alone(kept: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net, given = ViT(32, 2, 1, 4, (8, 8), True), tokens(kept)
    whole = net(given)
    for i, count in enumerate(kept):
        mask = slice(None) if given.padding is None else given.padding[i]
        one = net(VisibleTokens(given.values[i : i + 1][:, mask]))
        assert one.memory.shape[1] == count
        memory = whole.memory[i] if whole.padding is None else whole.memory[i][whole.padding[i]]
        torch.testing.assert_close(memory, one.memory[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(whole.pooled[i], one.pooled[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(whole.planes[i], one.planes[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kept", LENGTHS.values(), ids=LENGTHS)
def test_in_parts_a_trunk_learns_what_it_learns_of_the_padded_batch(kept: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net, given, gradients = ViT(32, 1, 0, 4, (8, 8), True), tokens(kept), []
    for net.in_parts in (True, False):
        net.zero_grad()
        features = net(given)
        (features.pooled.square().sum() + features.planes.square().mean()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


def test_a_gpu_gets_no_parts_that_are_too_small_for_it() -> None:
    """On torch's device without values, as on any that is no CPU."""
    short, long = (len(apart(tuple(n * i for i in range(1, 65)), torch.device("meta"))) for n in (2, 20))
    assert (short, long) == (lengths.FEW, lengths.MOST)


def test_parts_cost_what_is_in_them() -> None:
    def cost(kept: tuple[int, ...]) -> float:
        parts = apart(kept, torch.device("cpu"))
        rows = [len(kept) if p.rows is None else len(p.rows) for p in parts]
        assert sum(rows) == len(kept) and len(parts) <= lengths.MOST
        return sum(n * p.most for n, p in zip(rows, parts, strict=True)) / sum(kept)

    assert cost((257, 513, 769) * 8) == 1 and cost((300,) * 8) == 1
    assert cost(tuple(range(20, 84))) < 1.08 and cost(tuple(range(1, 257))) < 1.13
    assert len(apart((100, 99, 98, 100), torch.device("cpu"))) == 1, "nothing to be gained"
    assert all(p.even for p in apart((5, 9, 5, 9), torch.device("cpu"))), "no mask slows attention down"


@pytest.mark.parametrize(
    ("fields", "head"),
    [({"width": 47}, None), ({"width": 48}, 64), ({"width": 96, "head": 32}, 32), ({"width": 4, "head": 64}, 64)],
)
def test_a_new_network_that_is_wide_has_heads_of_64_channels(fields: dict[str, int], head: int | None) -> None:
    """Written out in what is stored, so that a network from before is read as it was made."""
    trunk = plugins.parse("trunk", {"type": "vit", **fields})
    assert trunk.fresh.head == head and trunk.head == fields.get("head")
