"""Subnormal weights: numbers nearer to zero than float32's least normal one, 1.2e-38, which long trainings with weight
decay leave where nothing uses a filter.

A processor computes with each by a detour of a hundred cycles and more, and what such a filter gives is subnormal
again: a published ESPNet, 5 % of whose weights are, took 14 to 22 times as long on a core. As zeros they change no
answer. What a network computes with small weights may be subnormal too, above all while it trains: for that there is
the processor's own switch, which holds for the thread that sets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

LEAST = torch.finfo(torch.float32).tiny


def flushed(weight: torch.Tensor) -> torch.Tensor:
    """`weight` with zeros for its subnormal numbers: itself where it has none, and where it is of half precision, whose
    small numbers are none to the processor, or of integers."""
    if weight.dtype not in (torch.float32, torch.float64) or weight.is_quantized or weight.layout != torch.strided:
        return weight
    tiny = (weight.abs() < LEAST) & (weight != 0)
    return weight.masked_fill(tiny, 0.0) if bool(tiny.any()) else weight


@torch.no_grad()
def flush(module: nn.Module) -> None:
    """Set the subnormal weights of a network to zero, in their place."""
    for weight in chain(module.parameters(), module.buffers()):
        if weight.device.type != "meta" and (less := flushed(weight)) is not weight:
            weight.copy_(less)


@contextmanager
def as_zeros() -> Iterator[None]:
    """Meanwhile this thread, and those that it starts, take subnormal numbers for zeros, where the processor can; it
    may be so already, and stays so then."""
    before = not torch.full((), LEAST / 2, device="cpu").mul(0.5)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
