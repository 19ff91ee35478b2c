"""Tokenizers: what a network takes as the tokens of a text. Texts stay strings in files and bytes in memory, whichever
it is, so every stage before the network, and whoever compares texts, sees all of them.

    title: {type: text, length: 80, tokenizer: {type: words, most: 12, size: 5000}}

`bytes` needs no vocabulary; a `file` brings its own (`stages.modality.token_files`). `words` are what lies between
white space (of ASCII); the shard step counts them in the training split, and the vocabulary becomes part of a model,
which alone needs it: in its file a word is found from the bytes by a hash (`stages.network.words`), also in ONNX.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from hyperloom.pipeline.plugins import Plugin

PADDING, UNKNOWN, KNOWN = 0, 1, 2
"""Ids of no token, of a word that is not in the vocabulary, of the first that is."""
UNREADABLE = b"?"
"""What is written for a word that is not in the vocabulary."""


class Tokenizer(Plugin):
    """Base of tokenizers: of texts of at most `length` bytes."""

    not_in_graph: ClassVar[str] = ""
    """Why an ONNX file cannot take texts, and what to do; empty where ids are made by tensor operations."""

    def ids(self) -> int:
        """How many ids there are, that of the padding among them."""
        raise TypeError(f"the tokenizer {self.type!r} has no ids()")

    def places(self, length: int) -> int:
        """Ids of a text at most."""
        raise TypeError(f"the tokenizer {self.type!r} has no places()")

    @property
    def a_token(self) -> int:
        """Neighbouring ids that a network reads as one token."""
        return 1

    def counted(self, texts: Sequence[bytes]) -> Counter[str] | None:
        """What the shard step counts for a vocabulary; None for nothing."""
        return None

    def longer(self, texts: Sequence[bytes]) -> int:
        """How many of the texts have more tokens than are read."""
        return 0

    def kept(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Of all counts, those of the vocabulary, the most frequent first."""
        return dict(counts)

    def learned(self, statistics: Mapping[str, Any]) -> Self:
        """This tokenizer with all that a model must keep of it, the vocabulary of a column's statistics among it.
        Raises ValueError when that is not there."""
        return self

    def texts(self, ids: np.ndarray) -> list[bytes]:
        """UTF-8 of rows of ids (N, places), each up to its first padding."""
        raise TypeError(f"the tokenizer {self.type!r} has no texts()")


class ByteTokenizer(Tokenizer):
    """Each byte plus 1; several are one token."""

    revision: ClassVar[int] = 1

    def ids(self) -> int:
        return 257

    def places(self, length: int) -> int:
        return length

    @property
    def a_token(self) -> int:
        return 4

    def texts(self, ids: np.ndarray) -> list[bytes]:
        return [(row[row > 0] - 1).astype(np.uint8).tobytes() for row in ids]


class WordTokenizer(Tokenizer):
    """The words of a vocabulary, an id each."""

    revision: ClassVar[int] = 1
    most: int = Field(ge=1)
    """Words of a text that are read or predicted; further ones are left out."""
    size: int = Field(10_000, ge=1)
    """Words of the vocabulary at most, the most frequent."""
    min_count: int = Field(2, ge=1)
    """How often a word must occur to be in it."""
    vocabulary: tuple[str, ...] = ()
    """Left out in a recipe: the shard step's statistics fill it in."""

    def ids(self) -> int:
        return KNOWN + len(self.vocabulary)

    def places(self, length: int) -> int:
        return self.most

    def counted(self, texts: Sequence[bytes]) -> Counter[str] | None:
        return Counter(word.decode() for text in texts for word in text.split())

    def longer(self, texts: Sequence[bytes]) -> int:
        return sum(len(text.split()) > self.most for text in texts)

    def kept(self, counts: Mapping[str, int]) -> dict[str, int]:
        often = _by_frequency({word: count for word, count in counts.items() if count >= self.min_count})
        return {word: counts[word] for word in often[: self.size]}

    def learned(self, statistics: Mapping[str, Any]) -> Self:
        """Raises ValueError when the training split has no word for the vocabulary."""
        if self.vocabulary:
            return self
        if not statistics.get("words"):
            least = f"occurs {self.min_count} times" if self.min_count > 1 else "is a word"
            raise ValueError(
                f"nothing in the training split {least}, so there is no vocabulary. Next: lower `min_count`, give the "
                "split `train` rows with texts, or leave out `tokenizer` to read bytes"
            )
        return self.model_copy(update={"vocabulary": tuple(_by_frequency(statistics["words"]))})

    def texts(self, ids: np.ndarray) -> list[bytes]:
        names = [b"", UNREADABLE, *(w.encode() for w in self.vocabulary)]
        return [b" ".join(names[i] for i in row if i) for row in ids]


def _by_frequency(counts: Mapping[str, int]) -> list[str]:
    """The most frequent first. A mapping that comes from a manifest is in the order of its names."""
    return sorted(counts, key=lambda word: (-counts[word], word))
