"""A multi-modal vision transformer: every input becomes tokens, and tokens that nobody may see cost nothing.

As in MultiMAE (Bachmann et al. 2022) and 4M (Mizrahi et al. 2023): each input has a stem of its own
(`stages.network.stems`), its tokens carry a learned embedding of the input and the place on its grid; the trunk sees
the visible tokens of all inputs at once, and predictions ask its memory by attention. Hidden tokens are dropped before
the trunk, so a sample with a quarter of its tokens takes a quarter of the time; samples that keep fewer than the
batch's most are padded. With `masked: replace` they become one learned token instead, and shapes stay fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from hyperloom.stages.network.attention import Block, Query, positions
from hyperloom.stages.network.features import Features
from hyperloom.stages.network.visible import Visible


class TokenEmbedding(nn.Module):
    """The fusion: encoded inputs to visible tokens (N, T, width), and which of them are no padding (N, T) or None."""

    def __init__(self, inputs: Sequence[Any], width: int, patch: int, replace: bool):
        super().__init__()
        self.stems = nn.ModuleList(i.encoder.build(i, width, patch) for i in inputs)
        self.kinds = nn.Parameter(torch.randn(len(inputs), width) * 0.02)
        self.whole = nn.Parameter(torch.randn(1, width) * 0.02)
        """A token of no input, which is always there: no sample is ever without one."""
        self.hidden = nn.Parameter(torch.randn(width) * 0.02) if replace else None
        for i, stem in enumerate(self.stems):
            self.register_buffer(f"places{i}", positions(stem.grid, width), persistent=False)

    def forward(
        self, planes: Sequence[torch.Tensor | tuple[torch.Tensor, ...]], visible: Visible | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        parts, kept, padded = [], [], False
        for i, (stem, values) in enumerate(zip(self.stems, planes, strict=True)):
            tokens, valid = stem(*values) if isinstance(values, tuple) else stem(values)
            padded = padded or valid is not None
            place = self.get_buffer(f"places{i}") + self.kinds[i]
            parts.append(tokens + place)
            keep = None if visible is None else visible.sites(i, stem.grid).expand(-1, *stem.grid).flatten(1)
            if self.hidden is not None and keep is not None:
                parts[-1] = torch.where(keep[..., None], parts[-1], (self.hidden + place).expand_as(parts[-1]))
                keep = None
            kept.append(keep if valid is None else valid if keep is None else keep & valid)
        first = planes[0][0] if isinstance(planes[0], tuple) else planes[0]
        count = first.shape[0]  # len() would be a constant in an exported graph, and so may be made[0].shape[0]
        tokens = torch.cat([self.whole.expand(count, 1, -1).to(parts[0].dtype), *parts], 1)
        if all(k is None for k in kept):
            return tokens, None
        always = torch.ones(count, 1, dtype=torch.bool, device=tokens.device)
        every = [always.expand(-1, m.shape[1]) if k is None else k for k, m in zip(kept, parts, strict=True)]
        known = None if visible is None or padded else visible.kept
        return dropped(tokens, torch.cat([always, *every], 1), known)

    @torch.no_grad()
    def kept(self, visible: Visible) -> tuple[int, int] | None:
        """The most and the fewest tokens that samples keep of `visible`; None where it takes the values to know."""
        if self.hidden is not None or not all(getattr(stem, "padless", False) for stem in self.stems):
            return None
        sites = [visible.sites(i, stem.grid).expand(-1, *stem.grid).flatten(1) for i, stem in enumerate(self.stems)]
        counts = 1 + torch.stack([s.sum(1) for s in sites]).sum(0)
        return int(counts.max()), int(counts.min())


def dropped(
    tokens: torch.Tensor, keep: torch.Tensor, kept: tuple[int, int] | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Only the tokens (N, T, D) of which `keep` (N, T) is true, in their order, padded to the most that one sample has;
    and which are no padding, None where all are none. `kept` are the most and the fewest where these are known, which
    saves waiting for a device. A graph that is being exported keeps all and hides by padding."""
    if torch.jit.is_tracing():
        return tokens, keep
    if kept is None:
        counts = keep.sum(1)
        kept = int(counts.max()), int(counts.min())
    most, least = kept
    if least == keep.shape[1]:
        return tokens, None
    order = keep.to(torch.uint8).argsort(stable=True, dim=1, descending=True)[:, :most]
    fewer = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2]))
    return fewer, None if least == most else keep.gather(1, order)


class ViT(nn.Module):
    """Visible tokens -> `Features`; planes of `size` only where `dense` asks for them."""

    def __init__(
        self, width: int, depth: int, decoder: int, patch: int, size: tuple[int, int], dense: bool, head: int = 32
    ):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, head=head) for _ in range(depth))
        self.after = nn.LayerNorm(width)
        self.raster = RasterReadout(width, decoder, patch, size, head) if dense else None

    def forward(self, fused: tuple[torch.Tensor, torch.Tensor | None]) -> Features:
        x, padding = fused
        for block in self.blocks:
            x = block(x, padding=padding)
        x = self.after(x)
        weight = torch.ones_like(x[..., :1]) if padding is None else padding[..., None].to(x.dtype)
        pooled = (x * weight).sum(1) / weight.sum(1)
        return Features(None if self.raster is None else self.raster(x, padding), pooled, x, padding)


class RasterReadout(nn.Module):
    """Memory -> planes (N, features, H, W): one question a square, then steps that double the resolution."""

    def __init__(self, width: int, depth: int, patch: int, size: tuple[int, int], head: int = 32):
        super().__init__()
        self.size, self.grid = size, (-(-size[0] // patch), -(-size[1] // patch))
        self.query = Query(self.grid, width, width, depth, head)
        steps: list[nn.Module] = []
        for _ in range(patch.bit_length() - 1):
            steps += [nn.ConvTranspose2d(width, max(8, width // 2), 2, stride=2), nn.GELU()]
            nn.init.normal_(steps[-2].weight, std=(2 / width) ** 0.5)  # type: ignore[arg-type]
            width = max(8, width // 2)
        smooth = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(smooth.weight, nonlinearity="relu")  # torch's own start would all but silence it
        self.grow = nn.Sequential(*steps, smooth, nn.GELU())

    def forward(self, memory: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
        tokens = self.query(memory, padding)
        planes = self.grow(tokens.transpose(1, 2).unflatten(2, self.grid))
        return planes[..., : self.size[0], : self.size[1]]
