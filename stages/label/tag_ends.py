"""Where the tags of a trained model end: it answers at each place that there may be, whatever the length of the text.

Tags are those of the tokens of the text beside them (`stages.modality.tags.tokens`), where a model reads one text
alone; of others nobody knows how many a sample has, which is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperloom.stages.base import VALID
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.modality.choice import NAMELESS
from hyperloom.stages.modality.tags import tokens
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    from hyperloom.stages.modality import Modality

ENDLESS = "a model that reads not one text alone gives a tag for each place that there may be, beyond any end too"


@dataclass(frozen=True)
class TagEnds:
    """`columns` of tags, and the one `text` that they are of; no column where nobody knows."""

    columns: tuple[str, ...]
    text: str
    kind: Any

    @classmethod
    def of(cls, read: Mapping[str, Modality], out: Mapping[str, Modality]) -> TagEnds:
        """Of a model that reads and gives these columns."""
        texts = [(column, kind) for column, kind in read.items() if kind.textual]
        text, kind = texts[0] if len(texts) == 1 else ("", None)
        return cls(tuple(column for column, kind in out.items() if are_tags(kind)), text, kind)

    def lengths(self, batch: Batch) -> np.ndarray | None:
        """(N,) how many tags each sample has; None where nobody knows."""
        if not (self.columns and self.text in batch):
            return None
        rows = batch[self.text]
        present = batch.get(self.text + VALID, np.ones(len(rows), bool))
        counts = [tokens(self.kind.words(row)) if has else np.iinfo(np.int64).max for row, has in zip(rows, present)]
        return np.array(counts, np.int64)

    def cut(self, columns: Batch, lengths: np.ndarray | None) -> Batch:
        """The columns, whose tags end where the texts do."""
        if lengths is None:
            for _ in range(len(columns[self.columns[0]]) if self.columns else 0):
                remark(ENDLESS)
            return columns
        ended = {
            c: np.where(np.arange(columns[c].shape[1]) < lengths[:, None], columns[c], NAMELESS) for c in self.columns
        }
        return {**columns, **ended}


def are_tags(kind: Modality) -> bool:
    return kind.ended and kind.categorical
