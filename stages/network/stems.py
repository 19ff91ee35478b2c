"""Stems: from an encoded input to tokens of one width, for trunks that read tokens; what encoders build.

A stem is a module with `grid`, the sites of its tokens, and `forward(values) -> tokens (N, sites, width), present`,
where `present` (N, sites) bool is false for tokens of padding, or None where there is none. The recipe's side is
`stages.network.encoders`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import nn

from hyperloom.stages.modality.layout import steps_a_token
from hyperloom.stages.network.reading import adjacency

if TYPE_CHECKING:
    from hyperloom.stages.network.architecture import Input

Tokens: TypeAlias = tuple[torch.Tensor, torch.Tensor | None]


class Stem(nn.Module):
    """Base: of an input, with the sites of its tokens."""

    padless: ClassVar[bool] = False
    """Is none of its tokens ever padding, whatever the values?"""

    def __init__(self, item: Input, grid: tuple[int, ...]):
        super().__init__()
        self.modality: Any = item.modality
        self.grid = grid

    def forward(self, values: torch.Tensor) -> Tokens:
        raise TypeError(f"{type(self).__name__} has no forward()")


class PatchStem(Stem):
    """Rasters: one token a square of `patch` pixels, the last of a row or column filled up with zeros."""

    padless: ClassVar[bool] = True

    def __init__(self, item: Input, grid: tuple[int, ...], width: int, patch: int):
        super().__init__(item, grid)
        self.patch = patch
        self.project = nn.Conv2d(item.modality.channels, width, patch, stride=patch)

    def forward(self, values: torch.Tensor) -> Tokens:
        height, across = values.shape[-2:]
        values = nn.functional.pad(values, (0, -across % self.patch, 0, -height % self.patch))
        return self.project(values).flatten(2).transpose(1, 2), None


class FrameStem(PatchStem):
    """Clips: the squares of each frame."""

    def forward(self, values: torch.Tensor) -> Tokens:
        frames = values.unflatten(1, (self.modality.times, -1)).flatten(0, 1)
        tokens, _ = super().forward(frames)
        return tokens.unflatten(0, (-1, self.modality.times)).flatten(1, 2), None


class WholeStem(Stem):
    """Numbers and classes of a whole sample: one token."""

    def __init__(self, item: Input, grid: tuple[int, ...], width: int):
        super().__init__(item, grid)
        shape = item.modality.shape
        self.project = nn.Linear(math.prod(shape) if len(shape) > 1 else item.modality.channels, width)

    def forward(self, values: torch.Tensor) -> Tokens:
        return self.project(values.flatten(1)).unsqueeze(1), None


class CharacterStem(Stem):
    """Texts: some neighbouring ids make one token."""

    def __init__(self, item: Input, grid: tuple[int, ...], width: int):
        super().__init__(item, grid)
        self.embed = nn.Embedding(self.modality.channels, width, padding_idx=0)
        join = self.modality.a_token
        self.join = nn.Conv1d(width, width, join, stride=join)

    def forward(self, values: torch.Tensor) -> Tokens:
        join = self.join.stride[0]
        ids = nn.functional.pad(values, (0, -values.shape[1] % join))
        valid = (ids > 0).unflatten(1, (-1, join)).any(2)
        return self.join(self.embed(ids).transpose(1, 2)).transpose(1, 2), valid


class LabelStem(Stem):
    """Tags: one token each."""

    def __init__(self, item: Input, grid: tuple[int, ...], width: int):
        super().__init__(item, grid)
        self.embed = nn.Embedding(self.modality.channels + 1, width, padding_idx=0)

    def forward(self, values: torch.Tensor) -> Tokens:
        return self.embed(values + 1), values >= 0


class MelStem(Stem):
    """Sound: the logarithm of a mel spectrogram (windows of 25 ms every 10 ms), some neighbouring windows a token."""

    def __init__(self, item: Input, grid: tuple[int, ...], width: int):
        super().__init__(item, grid)
        self.window, self.hop, self.count, self.join = self.modality.windows
        bands = min(64, self.window // 8 + 1)
        self.register_buffer("taper", torch.hann_window(self.window), persistent=False)
        self.register_buffer("bank", mel_bank(self.modality.rate, self.window, bands), persistent=False)
        self.project = nn.Linear(bands * self.join, width)

    def spectrogram(self, sound: torch.Tensor) -> torch.Tensor:
        """(N, samples) -> (N, bands, windows), about -1..1."""
        sound = nn.functional.pad(sound, (0, max(0, self.window - sound.shape[-1]))).float()
        if torch.jit.is_tracing():  # ONNX has no complex numbers
            power = self._power(sound)
        else:
            waves = torch.stft(sound, self.window, self.hop, window=self.taper, center=False, return_complex=True)
            power = waves.abs().square()
        return (self.bank @ power + 1e-6).log10() / 3 + 0.5

    def _power(self, sound: torch.Tensor) -> torch.Tensor:
        """(N, window // 2 + 1, windows): squares of the Fourier transform of each window, as convolutions."""
        waves = torch.fft.rfft(torch.diag(self.taper.double())).T
        real, imaginary = (
            nn.functional.conv1d(sound[:, None], part.float()[:, None], stride=self.hop)
            for part in (waves.real, waves.imag)
        )
        return real.square() + imaginary.square()

    def forward(self, values: torch.Tensor) -> Tokens:
        bands = self.spectrogram(values[:, 0])[..., : self.count]
        bands = nn.functional.pad(bands, (0, self.grid[0] * self.join - bands.shape[-1]))
        tokens = bands.unflatten(2, (self.grid[0], self.join)).transpose(1, 2).flatten(2)
        return self.project(tokens), None


def mel_bank(rate: int, window: int, bands: int) -> torch.Tensor:
    """(bands, window // 2 + 1) triangles, even on the mel scale (O'Shaughnessy 1987), each with a sum of at least 1."""
    top = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700))
    edges = 700 * (10 ** (torch.linspace(0, 1, bands + 2) * top / 2595) - 1)
    bins = torch.linspace(0, rate / 2, window // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp(min=0)
    nearest = nn.functional.one_hot((bins - middle).abs().argmin(1), len(bins)).float()
    return torch.where(triangles.sum(1, keepdim=True) > 0, triangles, nearest)


class StepStem(Stem):
    """Series: some neighbouring steps a token, with the marks of which numbers are there."""

    def __init__(self, item: Input, grid: tuple[int, ...], width: int):
        super().__init__(item, grid)
        self.join = steps_a_token(item.modality.shape[0])
        self.project = nn.Linear(2 * self.join * item.modality.channels, width)

    def forward(self, values: torch.Tensor) -> Tokens:
        short = self.grid[0] * self.join - values.shape[2]
        values = nn.functional.pad(values, (0, short), value=float("nan"))
        groups = values.unflatten(2, (self.grid[0], self.join)).transpose(1, 2).flatten(2)
        known = groups.isfinite()
        return self.project(torch.cat([groups.nan_to_num(), known.float()], 2)), known.any(2)


class PointStem(Stem):
    """Keypoints: one token each."""

    def __init__(self, item: Input, grid: tuple[int, ...], width: int):
        super().__init__(item, grid)
        self.project = nn.Linear(3, width)

    def forward(self, values: torch.Tensor) -> Tokens:
        return self.project(values.transpose(1, 2).nan_to_num()), None


class RectangleStem(Stem):
    """Boxes: one token each."""

    def __init__(self, item: Input, grid: tuple[int, ...], width: int):
        super().__init__(item, grid)
        self.project = nn.Linear(5, width)
        self.embed = nn.Embedding(len(self.modality.classes), width)

    def forward(self, values: torch.Tensor) -> Tokens:
        valid = values.isfinite().all(2)
        values = values.nan_to_num()
        numbers = torch.cat([values[..., :4], values[..., 5:]], 2)
        return self.project(numbers) + self.embed(values[..., 4].long()), valid


class NodeStem(Stem):
    """Graphs: one token a node, which knows its neighbours by one round of messages, in and out (Hamilton, Ying &
    Leskovec 2017)."""

    def __init__(self, item: Input, grid: tuple[int, ...], width: int):
        super().__init__(item, grid)
        self.node = nn.Parameter(torch.randn(self.modality.nodes, width) * 0.02)
        self.into, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, values: torch.Tensor) -> Tokens:
        edges = adjacency(values, self.modality.nodes).to(self.node.dtype)
        away, back = (e / e.sum(2, keepdim=True).clamp(min=1) for e in (edges, edges.transpose(1, 2)))
        return self.node + self.out(away @ self.node) + self.into(back @ self.node), None
