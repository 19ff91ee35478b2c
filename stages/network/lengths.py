"""Batches of samples with other numbers of tokens, in parts of which each is as long as its own longest sample.

A batch that is padded to its longest sample costs as much as if all were so long, and masked attention has no quick
kernel. So samples go through the trunk by length: those of one length together, without any mask where there are few
lengths, else in up to `MOST` parts of neighbouring lengths. What a sample gets does not depend on its part but for
rounding. Lengths are known on the host, so that no device is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch.nn.functional import pad

from hyperloom.stages.network.features import Features
from hyperloom.stages.transfer import sent

Lengths: TypeAlias = tuple[int, ...]
"""How many tokens each sample of a batch has."""
MOST = 8
"""Parts of a batch at most: of lengths that are spread evenly they cost a tenth more than the tokens that are there,
four would cost a quarter more."""
FEW, TOKENS = 4, 4096
"""On a GPU more than `FEW` parts only while each has so many tokens, or it would have too little to do at once."""
GAIN = 0.9
"""Share of the padded batch's tokens below which parts are worth it."""


class BatchPart(NamedTuple):
    """The samples `rows` (n,), of `most` tokens at most, all of them where none is shorter (`even`)."""

    rows: torch.Tensor | None
    most: int
    even: bool

    def of(self, values: torch.Tensor, padding: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The part of tokens (N, T, D) and of what is no padding (N, T)."""
        if self.rows is None:
            return values, padding
        mine = values.index_select(0, self.rows)[:, : self.most]
        return mine, None if self.even or padding is None else padding.index_select(0, self.rows)[:, : self.most]


def apart(lengths: Lengths, device: torch.device) -> list[BatchPart]:
    """The parts of a batch; one alone where others would save little."""
    ordered = sorted(range(len(lengths)), key=lambda i: lengths[i])
    kinds, most = sorted(set(lengths)), MOST
    if device.type != "cpu":
        most = min(MOST, max(FEW, sum(lengths) // TOKENS))
    if len(kinds) <= most:
        groups = [[i for i in ordered if lengths[i] == kind] for kind in kinds]
    else:
        count = len(ordered)
        groups = [ordered[count * n // most : count * (n + 1) // most] for n in range(most)]
        groups = [group for group in groups if group]
    tops = [max(lengths[i] for i in group) for group in groups]
    cost = sum(top * len(group) for top, group in zip(tops, groups, strict=True))
    if len(groups) == 1 or cost > GAIN * max(lengths) * len(lengths):
        return [BatchPart(None, max(lengths), False)]
    evens = [min(lengths[i] for i in group) == top for top, group in zip(tops, groups, strict=True)]
    index = sent(torch.tensor([i for group in groups for i in group]), device)
    rows = index.split([len(group) for group in groups])
    return [BatchPart(r, top, even) for r, top, even in zip(rows, tops, evens, strict=True)]


def together(features: Sequence[Features], parts: Sequence[BatchPart]) -> Features:
    """What the parts became, in the order of the batch."""
    rows = [part.rows for part in parts if part.rows is not None]
    if not rows:
        return features[0]
    back, most = torch.cat(rows).argsort(), max(part.most for part in parts)

    def joined(values: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat(list(values)).index_select(0, back)

    planes = [f.planes for f in features if f.planes is not None]
    masks = [
        f.memory.new_ones(f.memory.shape[:2], dtype=torch.bool) if f.padding is None else f.padding for f in features
    ]
    return Features(
        joined(planes) if planes else None,
        joined([f.pooled for f in features]),
        joined([pad(f.memory, (0, 0, 0, most - f.memory.shape[1])) for f in features]),
        joined([pad(m, (0, most - m.shape[1])) for m in masks]),
    )
