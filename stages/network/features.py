"""What a network gives: features of its trunk, the same whichever trunk it was, and the result of a forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch


class Sizes(NamedTuple):
    """Channels of each of a trunk's features; 0 where it has none."""

    planes: int
    pooled: int
    memory: int


class Features(NamedTuple):
    """What a trunk gives to heads.

    planes  (N, F, H, W)   at full resolution, for predictions of every pixel
    pooled  (N, P)         the whole sample in one vector
    memory  (N, T, M)      tokens that a head may attend to; `padding` (N, T) bool is false where there is none
    """

    planes: torch.Tensor | None
    pooled: torch.Tensor
    memory: torch.Tensor
    padding: torch.Tensor | None = None


class Forward(NamedTuple):
    """What a forward pass gives.

    predictions   by task, raw: logits of classes and standardised values, (N, C, *sites)
    features      what all tasks share
    losses        by name, the terms that modules added while training, (N,) or () (see `stages.network.terms`)
    """

    predictions: dict[str, torch.Tensor]
    features: Features
    losses: dict[str, torch.Tensor]


Run: TypeAlias = Callable[..., Forward]
"""Runs a network on encoded inputs, as `MultiTask.forward` is called."""
