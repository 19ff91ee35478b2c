"""A multi-modal vision transformer: every input becomes tokens, and tokens that nobody may see cost nothing.

As in MultiMAE (Bachmann et al. 2022) and 4M (Mizrahi et al. 2023): each input has a stem of its own
(`stages.network.stems`), its tokens carry a learned embedding of the input and the place on its grid; the trunk sees
the visible tokens of all inputs at once, and predictions ask its memory by attention. Hidden tokens are dropped before
the trunk, so a sample with a quarter of its tokens takes a quarter of the time; samples that keep other numbers of
tokens go through in parts of the batch (`stages.network.lengths`), each padded to its own longest. With
`masked: replace` they become one learned token instead, and shapes stay fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from hyperloom.stages.network.attention import Block, Query, positions
from hyperloom.stages.network.features import Features
from hyperloom.stages.network.lengths import Lengths, apart, together
from hyperloom.stages.network.visible import Visible


class VisibleTokens(NamedTuple):
    """`values` (N, T, D) and which of them are no padding, (N, T) bool; None where all are none. With padding, `kept`
    says how many tokens each sample has, where that is known."""

    values: torch.Tensor
    padding: torch.Tensor | None = None
    kept: Lengths | None = None


class TokenEmbedding(nn.Module):
    """The fusion: encoded inputs to their visible tokens."""

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
    ) -> VisibleTokens:
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
            return VisibleTokens(tokens)
        always = torch.ones(count, 1, dtype=torch.bool, device=tokens.device)
        every = [always.expand(-1, m.shape[1]) if k is None else k for k, m in zip(kept, parts, strict=True)]
        known = None if visible is None or padded else visible.kept
        return dropped(tokens, torch.cat([always, *every], 1), known)

    @torch.no_grad()
    def kept(self, visible: Visible) -> Lengths | None:
        """How many tokens each sample keeps of `visible`; None where it takes the values to know."""
        if self.hidden is not None or not all(getattr(stem, "padless", False) for stem in self.stems):
            return None
        sites = [visible.sites(i, stem.grid).expand(-1, *stem.grid).flatten(1) for i, stem in enumerate(self.stems)]
        return tuple((1 + torch.stack([s.sum(1) for s in sites]).sum(0)).tolist())


def dropped(tokens: torch.Tensor, keep: torch.Tensor, kept: Lengths | None = None) -> VisibleTokens:
    """Only the tokens (N, T, D) of which `keep` (N, T) is true, in their order, padded to the most that one sample has.
    `kept` says how many each keeps where that is known, which saves waiting for a device. A graph that is being
    exported keeps all and hides by padding."""
    if torch.jit.is_tracing():
        return VisibleTokens(tokens, keep)
    kept = kept or tuple(keep.sum(1).tolist())
    most, least = max(kept), min(kept)
    if least == keep.shape[1]:
        return VisibleTokens(tokens)
    order = keep.to(torch.uint8).argsort(stable=True, dim=1, descending=True)[:, :most]
    fewer = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2]))
    return VisibleTokens(fewer) if least == most else VisibleTokens(fewer, keep.gather(1, order), kept)


class ViT(nn.Module):
    """Visible tokens -> `Features`; planes of `size` only where `dense` asks for them."""

    in_parts = True
    """May samples of other lengths go through one after the other? Not where each pass gathers the weights from all
    ranks."""

    def __init__(
        self, width: int, depth: int, decoder: int, patch: int, size: tuple[int, int], dense: bool, head: int = 32
    ):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, head=head) for _ in range(depth))
        self.after = nn.LayerNorm(width)
        self.raster = RasterReadout(width, decoder, patch, size, head) if dense else None

    def forward(self, fused: VisibleTokens) -> Features:
        if fused.kept is None or not self.in_parts or torch.compiler.is_compiling():
            return self._features(fused.values, fused.padding)
        parts = apart(fused.kept, fused.values.device)
        return together([self._features(*part.of(fused.values, fused.padding)) for part in parts], parts)

    def _features(self, x: torch.Tensor, padding: torch.Tensor | None) -> Features:
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
