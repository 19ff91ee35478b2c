"""Answers about a whole picture: a network's row of scores as a category, of numbers as a vector or an embedding.

The highest score chooses the class; with `threshold` a sample whose probability is lower has no answer. A multilabel
has each class of which a score has a probability of at least one half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.label.decode.activation import SLACK, Activation, ScoreKind, hold, sigmoid, softmax
from hyperloom.stages.label.decode.decoders import Decoder, need

if TYPE_CHECKING:
    from hyperloom.stages.modality import Size

CLASSES, SEVERAL, NUMBERS = ("classes", "levels"), ("labels",), ("numbers", "embeddings")
"""Measures of the modalities that this decoder makes."""


class ChoiceDecoder(Decoder):
    """`{type: choice, map: [cat, null, dog]}`: `map` has the modality's class for each score, null for none of them;
    without it the scores are the modality's classes in their order."""

    spatial: ClassVar[bool] = False
    map: tuple[str | None, ...] | None = None
    threshold: float = Field(0.0, ge=0, lt=1)
    activation: Activation = "auto"

    def revised(self) -> int:
        named = [name for name in self.map or () if name is not None]
        return super().revised() + (len(set(named)) < len(named))

    def ready(self, modality: Any, column: str) -> None:
        known = modality.measure in (*CLASSES, *SEVERAL, *NUMBERS) and len(modality.shape) < 2
        need(known, column, "a category, multilabel, vector or embedding", modality)
        unknown = [name for name in self.map or () if name is not None and name not in modality.counted]
        if unknown:
            raise ValueError(f"{column}: map names {', '.join(unknown)}, which is no class of {modality.counted}")

    def tile(self, raw: np.ndarray, layout: str, size: Size) -> np.ndarray:
        return np.asarray(raw).reshape(-1).astype(np.float32)

    def tried(self, whole: Any, ending: ScoreKind | None, modality: Any) -> tuple[Decoder, str]:
        scores = np.asarray(whole).reshape(-1)
        expected = int(np.prod(modality.shape)) if modality.measure in NUMBERS else len(self.map or modality.counted)
        if len(scores) != expected:
            what = "numbers" if modality.measure in NUMBERS else "classes"
            raise RecipeError(
                f"the network gives {len(scores)} numbers for a picture, and {expected} {what} are listed. Next: in "
                "decode, map: a class (or null) for each; or the modality's length"
            )
        if self.activation != "auto" or modality.measure in NUMBERS:
            return self, ""
        inside = scores.min() >= -SLACK and scores.max() <= 1 + SLACK
        return self.model_copy(update={"activation": "none" if inside else "logit"}), ""

    def finish(self, whole: np.ndarray, modality: Any) -> Any:
        hold(whole, "logit" if modality.measure in NUMBERS else self.activation)
        if modality.measure in NUMBERS:
            return modality.fit(whole)
        names = self.map or modality.counted
        if modality.measure in SEVERAL:
            given = whole if self.activation == "none" else sigmoid(whole)
            marks: dict[str, bool] = {}
            for name, p in zip(names, given, strict=True):
                if name is not None:
                    marks[name] = marks.get(name, False) or bool(p >= 0.5)
            return modality.fit(marks)
        given = whole if self.activation == "none" else softmax(whole)
        best = int(given.argmax())
        if given[best] < self.threshold or names[best] is None:
            return np.int64(-1)
        return modality.fit(names[best])
