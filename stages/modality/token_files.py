"""The tokenizer of a file: a JSON file of the `tokenizers` library, such as `tokenizer.json` beside a language model.

    title: {type: text, length: 200, tokenizer: {type: file, path: tokenizer.json, most: 48}}

The file is read as data when the recipe is. What bears meaning is its content, by the digest; where it lies is
placement and is in no file that a step writes. A model holds the content, so that it needs no file beside it. What the
file says of truncation, padding and special tokens around a text is left out: `most` tokens are read, and the network
learns where a text ends by its padding.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from hyperloom.pipeline.config import placement
from hyperloom.stages.modality.tokenizers import Tokenizer


class FileTokenizer(Tokenizer):
    """The tokens of a file: a token's id is that of the file plus 1, so that 0 is padding."""

    revision: ClassVar[int] = 1
    not_in_graph: ClassVar[str] = (
        "the tokenizer of a file is no ONNX operation. Next: a tokenizer `words` or `bytes` for it, or `stage: train`, "
        "which needs no ONNX"
    )
    path: str | None = placement(None, exclude=True)
    """A local file or an fsspec URL; the driver alone reads it."""
    most: int = Field(ge=1)
    """Tokens of a text that are read or predicted; further ones are left out."""
    sha256: str = ""
    """Of the content. In a recipe it may be left out; a file with another one is refused."""
    size: int = placement(0)
    """Ids without the padding. Left out in a recipe: the content says it."""
    content: str = placement("")
    """The file, where it is part of a model. Left out in a recipe."""

    @model_validator(mode="before")
    @classmethod
    def _opened(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("path"), str) or value.get("content"):
            return value
        content = _read(value["path"])
        digest = hashlib.sha256(content.encode()).hexdigest()
        if value.get("sha256") not in (None, "", digest):
            raise ValueError(
                f"{value['path']} has the sha256 {digest}. Next: take the file that is meant, or this sha256"
            )
        return {**value, "sha256": digest, "size": _size(content, value["path"])}

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.sha256:
            raise ValueError("path: name a tokenizer's JSON file")
        return self

    def ids(self) -> int:
        return 1 + self.size

    def places(self, length: int) -> int:
        return self.most

    def learned(self, statistics: Mapping[str, Any]) -> Self:
        """With the content of the file. Raises ValueError when it is no longer what it was."""
        return self if self.content else self.model_copy(update={"content": self._same(), "path": None})

    def longer(self, texts: Sequence[bytes]) -> int:
        try:
            tokenizer = _tokenizer(self.content or self._same())
        except ImportError:  # a node that reads no texts itself
            return 0
        whole = (tokenizer.encode(text.decode(errors="ignore"), add_special_tokens=False) for text in texts)
        return sum(len(encoding.ids) > self.most for encoding in whole)

    def encoded(self, texts: Sequence[bytes]) -> np.ndarray:
        """Ids (N, most) int64 of texts in UTF-8; a character that is cut at the end of one is left out."""
        tokenizer, rows = _tokenizer(self.content or self._same()), np.zeros((len(texts), self.most), np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = tokenizer.encode(text.decode(errors="ignore"), add_special_tokens=False).ids[: self.most]
            row[: len(ids)] = np.asarray(ids, np.int64) + 1
        return rows

    def texts(self, ids: np.ndarray) -> list[bytes]:
        tokenizer = _tokenizer(self.content or self._same())
        return [tokenizer.decode([int(i) - 1 for i in row if i]).encode() for row in ids]

    def _same(self) -> str:
        if self.path is None:
            raise ValueError(f"the tokenizer with the sha256 {self.sha256[:12]} has no file here. Next: give its path")
        content = _read(self.path)
        if hashlib.sha256(content.encode()).hexdigest() != self.sha256:
            raise ValueError(f"{self.path} was changed since the recipe was read. Next: run the same command again")
        return content


def _read(path: str) -> str:
    import fsspec

    try:
        with fsspec.open(os.path.expanduser(path), "rb") as file:
            return bytes(file.read()).decode()
    except OSError as error:
        advice = f"Next: check the path (it is relative to {os.getcwd()})"
        raise ValueError(f"the tokenizer's file {path} cannot be read ({error}). {advice}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no JSON file of a tokenizer: it is no UTF-8 ({error.reason})") from error


def _size(content: str, path: str) -> int:
    """Raises ValueError unless `content` is a tokenizer's."""
    try:
        ids = _tokenizer(content).get_vocab(with_added_tokens=True).values()
    except ImportError as error:
        raise ValueError(
            f"a tokenizer's file needs tokenizers ({error}). Next: pip install 'hyperloom[text]'"
        ) from error
    except Exception as error:  # the library raises nothing narrower
        advice = "Next: give a whole tokenizer.json, as `Tokenizer.save` of the tokenizers library writes it"
        raise ValueError(f"{path} is no JSON file of a tokenizer ({error}). {advice}") from error
    if not ids:
        raise ValueError(f"the tokenizer of {path} has no tokens. Next: train it before it is saved")
    return int(max(ids)) + 1


@lru_cache(maxsize=8)
def _tokenizer(content: str) -> Any:
    from tokenizers import Tokenizer as Parsed

    tokenizer = Parsed.from_str(content)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
