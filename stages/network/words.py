"""From the bytes of a text to ids of its words or tokens. Words of a vocabulary are found by tensor operations alone,
so that a model's ONNX file takes texts as they are; tokens of a file are made by its library, on the CPU.

A word's hash is the sum of its bytes times powers of a base, modulo a prime near 2**40, so that nothing overflows and
two words of a million share one with a chance of about 1 in 2. A word of no vocabulary has the hash of one that is in
it with a chance of a hundred millionth for ten thousand words; then it is read as that one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hyperloom.stages.modality.token_files import FileTokenizer
from hyperloom.stages.modality.tokenizers import KNOWN, PADDING, UNKNOWN

PRIME, BASE = (1 << 40) - 87, 1_000_003


class WordIds(nn.Module):
    """Bytes plus one (N, length) -> ids (N, most): 0 for padding, 1 for what is not in the vocabulary."""

    def __init__(self, vocabulary: Sequence[str], length: int, most: int):
        super().__init__()
        self.most = most
        powers = [1]
        for _ in range(length):
            powers.append(powers[-1] * BASE % PRIME)
        hashes = torch.tensor([hash_of(word.encode(), powers) for word in vocabulary], dtype=torch.int64)
        order = hashes.argsort()
        self.register_buffer("powers", torch.tensor(powers), persistent=False)
        self.register_buffer("hashes", hashes[order], persistent=False)
        self.register_buffer("ids", order + KNOWN, persistent=False)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        inside = (texts > 0) & (texts != ord(" ") + 1) & ~((texts > 9) & (texts < 15))
        starts = inside & ~nn.functional.pad(inside, (1, 0))[:, :-1]
        word = (starts.long().cumsum(1) - 1).clamp(0, self.most)
        place = torch.arange(texts.shape[1], device=texts.device).expand_as(texts)
        slots = torch.zeros(texts.shape[0], self.most + 1, dtype=torch.int64, device=texts.device)
        first = slots.scatter_add(1, word, place * starts)
        power = self.powers[(place - first.gather(1, word)).clamp(min=0)]
        hashes = slots.scatter_add(1, word, texts * power * inside)[:, : self.most] % PRIME
        return torch.where(hashes == 0, PADDING, self._looked_up(hashes))

    def _looked_up(self, hashes: torch.Tensor) -> torch.Tensor:
        if not len(self.hashes):
            return torch.full_like(hashes, UNKNOWN)
        if torch.jit.is_tracing():  # ONNX has no search in what is sorted
            same = hashes[..., None] == self.hashes
            return torch.where(same.any(2), (same * self.ids).sum(2), UNKNOWN)
        near = torch.searchsorted(self.hashes, hashes).clamp(max=len(self.hashes) - 1)
        return torch.where(self.hashes[near] == hashes, self.ids[near], UNKNOWN)


class FileIds(nn.Module):
    """Bytes plus one (N, length) -> ids (N, most): 0 for padding, else that of the file plus 1."""

    def __init__(self, tokenizer: FileTokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    @torch.compiler.disable
    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        rows = texts.cpu().numpy()
        ids = self.tokenizer.encoded([(row[row > 0] - 1).astype("uint8").tobytes() for row in rows])
        return torch.from_numpy(ids).to(texts.device)


def hash_of(word: bytes, powers: Sequence[int]) -> int:
    """The hash of a word, its bytes counted from 1."""
    return sum((byte + 1) * power for byte, power in zip(word, powers)) % PRIME
