"""Texts: strings in every language. A network takes them as bytes, or as the words of a vocabulary (`tokenizer:`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from hyperloom.pipeline.plugins import of
from hyperloom.stages import picture
from hyperloom.stages.modality.base import Defaults, Ids
from hyperloom.stages.modality.geometry import Symmetry
from hyperloom.stages.modality.knowledge import whole
from hyperloom.stages.modality.padding import filled, some
from hyperloom.stages.modality.sides import mirrored
from hyperloom.stages.modality.tokenizers import ByteTokenizer
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    import torch

BYTES = 256
LETTERS = (ord("a") + 1, ord("z") + 2)
"""Ids of the bytes of small letters, as texts have them in memory."""


class Text(Ids):
    """(length,) int64: the bytes of UTF-8, each plus 1; 0 is padding. A column of it holds plain strings.

    A text of more than `length` bytes is an error, or with `cut: true` loses its end, at the border of a character.
    """

    markup: ClassVar[str] = "text"
    defaults: ClassVar[Defaults] = Defaults("tokens", "cross-entropy", "accuracy", "texts")
    textual: ClassVar[bool] = True
    ended: ClassVar[bool] = True
    length: int = Field(ge=1)
    cut: bool = False
    tokenizer: Annotated[Any, of("tokenizer")] = ByteTokenizer(type="bytes")
    """What a network reads and predicts as one token of it (`stages.modality.tokenizers`)."""

    @property
    def channels(self) -> int:
        """Ids of the tokenizer: padding and 256 bytes, or the words of the vocabulary."""
        return self.tokenizer.ids()

    @property
    def places(self) -> int:
        return self.tokenizer.places(self.length)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def missing(self) -> float:
        return 0

    @property
    def a_token(self) -> int:
        """Neighbouring ids that a network reads as one token."""
        return self.tokenizer.a_token

    def grid(self, patch: int) -> tuple[int, ...]:
        return (-(-self.places // self.a_token),)

    @property
    def place(self) -> Symmetry:
        return "none"

    @property
    def sides(self) -> Symmetry:
        return "known"

    @property
    def sided(self) -> bool:
        return True

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        """The words left and right exchanged; a text that grows beyond `length` loses its end."""
        for row in values:
            text = self._bytes(row.cpu().numpy()).decode(errors="replace")
            if (other := mirrored(text)) != text:
                row[:] = row.new_tensor(self.model_copy(update={"cut": True}).fit(other))
        return values

    def teaching(self, values: Any) -> Any:
        return whole(values)

    def _check_values(self, array: np.ndarray) -> None:
        if array.min() < 0 or array.max() > BYTES:
            raise ValueError(f"expected bytes plus one (0 is padding), got {array.min()} to {array.max()}")
        count = int((array > 0).sum())
        if (array[:count] == 0).any():
            raise ValueError("expected the padding (0) after the text")
        try:
            self.words(array)
        except UnicodeDecodeError as error:
            raise ValueError(f"expected UTF-8, got bytes that are none ({error.reason} at {error.start})") from error

    def fit(self, value: Any) -> np.ndarray:
        """From a string, or from ids, whose bytes that make no character are left out."""
        if isinstance(value, str):
            data = value.encode()
        else:
            ids = np.asarray(value)
            if ids.ndim != 1 or ids.dtype.kind not in "iu" or (ids.size and (ids.min() < 0 or ids.max() > BYTES)):
                raise ValueError(f"expected a text, got {value!r}")
            data = self._bytes(ids).decode(errors="ignore").encode()
        if len(data) > self.length and not self.cut:
            raise ValueError(
                f"expected at most {self.length} bytes, got {len(data)}; a larger `length` holds them, and `cut: true` "
                "leaves out the end"
            )
        if len(data) > self.length:
            remark(f"a text is longer than {self.length} bytes, and its end is left out (cut: true)")
            data = data[: self.length].decode(errors="ignore").encode()
        return self._row(data)

    def cell(self, value: Any) -> Any:
        if not isinstance(value, str):  # numbers are bytes of a text to `fit` alone
            raise ValueError(f"expected a text, got {value!r}")
        return value

    def read(self, data: bytes, name: str) -> Any:
        try:
            return self.fit(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} is no UTF-8 text ({error.reason} at byte {error.start})") from error

    def words(self, value: np.ndarray) -> str:
        """The text. Raises UnicodeDecodeError (a ValueError)."""
        return self._bytes(value).decode()

    def answer(self, mean: np.ndarray) -> np.ndarray:
        ids = mean.argmax(-1).astype(np.int64)
        ids = np.where(np.maximum.accumulate(ids == 0, axis=1), 0, ids)
        if isinstance(self.tokenizer, ByteTokenizer):
            return ids
        texts = (text[: self.length].decode(errors="ignore").encode() for text in self.tokenizer.texts(ids))
        return np.stack([self._row(text) for text in texts])

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        return filled(random.integers(*LETTERS, (some(random, self.length),)), self.shape, 0)

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.text_to_rgb(self._bytes(value).decode(errors="replace"))

    def counted_words(self, rows: np.ndarray) -> Counter[str] | None:
        texts = [self._bytes(row) for row in rows]
        for _ in range(self.tokenizer.longer(texts)):
            remark(f"a text has more than {self.places} tokens, and its end is not read (most of its tokenizer)")
        return self.tokenizer.counted(texts)

    def vocabulary(self, counts: Mapping[str, int]) -> dict[str, int]:
        return self.tokenizer.kept(counts)

    def learned(self, statistics: Mapping[str, Any]) -> Text:
        tokenizer = self.tokenizer.learned(statistics)
        return self if tokenizer is self.tokenizer else self.model_copy(update={"tokenizer": tokenizer})

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        """Lengths in bytes."""
        return (rows > 0).sum(1)[:, None]

    def arrow(self) -> Any:
        import pyarrow as pa

        return pa.string()

    def pack(self, rows: np.ndarray, valid: np.ndarray) -> Any:
        import pyarrow as pa

        return pa.array([self.words(r) if ok else None for r, ok in zip(rows, valid, strict=True)], pa.string())

    def unpacked(self, array: Any, valid: np.ndarray) -> np.ndarray:
        import pyarrow as pa

        rows = np.zeros((len(array), self.length), np.int64)
        for i, data in enumerate(array.cast(pa.binary()).to_pylist()):
            if data is not None:
                rows[i] = self._row(data) if len(data) <= self.length else self.fit(data.decode())
        return rows

    def _row(self, data: bytes) -> np.ndarray:
        row = np.zeros(self.length, np.int64)
        row[: len(data)] = np.frombuffer(data, np.uint8).astype(np.int64) + 1
        return row

    def _bytes(self, row: np.ndarray) -> bytes:
        return (row[row > 0] - 1).astype(np.uint8).tobytes()
