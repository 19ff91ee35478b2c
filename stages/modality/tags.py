"""Tags: a label for each token of a sentence, such as parts of speech or names of persons and places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from hyperloom.stages import picture
from hyperloom.stages.modality.base import Defaults, Ids
from hyperloom.stages.modality.boxes import flattened, lists, too_many
from hyperloom.stages.modality.choice import NAMELESS, distinct, id_of, ids_of, lettered, numbered, numerals
from hyperloom.stages.modality.formats import parse
from hyperloom.stages.modality.geometry import OffFrame
from hyperloom.stages.modality.padding import filled, some

WORDS = re.compile(r"[^ \t\n\r\f\v]+")
"""What lies between white space of ASCII, as everywhere: a token may hold a blank that does not break."""
UNDIVIDED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
                       "\uff66-\uff9f\U00020000-\U0003ffff]")  # fmt: skip
"""A letter of a script that puts no blanks between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


def characters(text: str) -> list[str]:
    """The tokens of a text that blanks may not divide into words: all characters but its blanks. None of another."""
    return list("".join(WORDS.findall(text))) if UNDIVIDED.search(text) else []


def tokens(text: str) -> int:
    """How many tokens a text has of which nobody says them: its words, or its characters where no blank divides it and
    none needs to."""
    words, letters = WORDS.findall(text), characters(text)
    return len(letters) if len(words) == 1 and letters else len(words)


class Tags(OffFrame, Ids):
    """(length,) int64: ids of `tags` (names, or how many), one a token; -1 is padding. Columns hold lists of names.

    Tokens are the words of the text beside it, as spaces cut it, or the characters of one in a script without spaces.
    """

    defaults: ClassVar[Defaults] = Defaults("tag", "cross-entropy", "accuracy", "classes")
    categorical: ClassVar[bool] = True
    ended: ClassVar[bool] = True
    tags: tuple[str, ...] = Field(min_length=1)
    length: int = Field(ge=1)

    _numbered = field_validator("tags", mode="before", json_schema_input_type=tuple[str, ...] | int)(numbered)
    _distinct = field_validator("tags")(distinct)

    @property
    def channels(self) -> int:
        return len(self.tags)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def known(self, values: Any) -> Any:
        return (values >= 0) & (values < len(self.tags))

    def _check_values(self, array: np.ndarray) -> None:
        if array.min() < NAMELESS or array.max() >= len(self.tags):
            raise ValueError(f"expected ids below {len(self.tags)}, or {NAMELESS} for padding, got {array.min()} to "
                             f"{array.max()}")  # fmt: skip
        if (array[: int((array >= 0).sum())] < 0).any():
            raise ValueError(f"expected the padding ({NAMELESS}) after the tags")

    def fit(self, value: Any) -> np.ndarray:
        """From a list of names or ids, or a string of names with spaces between."""
        if isinstance(value, str):
            value = value.split()
        ids = np.array([id_of(v, self.tags) for v in value], np.int64)
        ids = ids[: len(ids) - int(np.argmax(np.append(ids, 0)[::-1] >= 0)) + 1] if (ids < 0).any() else ids
        if len(ids) > self.length:
            raise ValueError(f"expected at most {self.length} tags, got {len(ids)}; a larger `length` holds them")
        return np.concatenate([ids, np.full(self.length - len(ids), NAMELESS)])

    def cell(self, value: Any) -> Any:
        """Numbers are names where names are numerals, as in a string of them."""
        return [lettered(v, self.tags) for v in value] if isinstance(value, list) and numerals(self.tags) else value

    def read(self, data: bytes, name: str) -> Any:
        return self.fit(self.cell(parse(data, name)))

    def grid(self, patch: int) -> tuple[int, ...]:
        return (self.length,)

    def words(self, value: np.ndarray) -> str:
        return " ".join(self.tags[i] for i in value if i >= 0)

    def answer(self, mean: np.ndarray) -> np.ndarray:
        return mean.argmax(-1).astype(self.dtype)

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        return filled(random.integers(0, self.channels, (some(random, self.length),)), self.shape, NAMELESS)

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.text_to_rgb(self.words(value))

    @property
    def counted(self) -> tuple[str, ...]:
        return self.tags

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        return rows[rows >= 0]

    def arrow(self) -> Any:
        import pyarrow as pa

        return pa.list_(pa.string())

    def pack(self, rows: np.ndarray, valid: np.ndarray) -> Any:
        import pyarrow as pa

        used = (rows >= 0) & valid[:, None]
        names = pa.array(self.tags, pa.string()).take(pa.array(rows[used]))
        return lists(names, used.sum(1), valid, self.arrow())

    def unpacked(self, array: Any, valid: np.ndarray) -> np.ndarray:
        flat, owner, place = flattened(array)
        too_many("tags", place, self.length, "length")
        rows = np.full((len(array), self.length), NAMELESS, np.int64)
        rows[owner, place] = ids_of(flat, self.tags)
        return rows
