"""Writing in pictures by RapidOCR: PP-OCR's detector and recogniser (Du et al., PP-OCR, 2020) as ONNX files.

Lines come in reading order, as the package gives them. A picture without writing has the empty text and no boxes. A box
is the upright rectangle around a line.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.stages.label.packages.packaged import class_of


@dataclass(frozen=True)
class Lines:
    """`corners` (n, 4) x0, y0, x1, y1 in shares of the picture."""

    texts: list[str]
    corners: np.ndarray
    scores: list[float]

    def value(self, modality: Any) -> Any:
        if modality.textual:
            return "\n".join(self.texts)
        kind = class_of("text", modality)
        if kind is None:
            raise ValueError(f"lines are of the class 'text', and the modality has {', '.join(modality.classes)}")
        sides = ("x0", "y0", "x1", "y1")
        rows = zip(self.corners.tolist(), self.scores, strict=True)
        return [{**dict(zip(sides, corner)), "class": kind, "score": score} for corner, score in rows][: modality.most]


class Writing:
    def __init__(self, threshold: float, threads: int):
        from rapidocr import RapidOCR

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        engine = "EngineConfig.onnxruntime"
        self._ocr = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.text_score": threshold,
                f"{engine}.intra_op_num_threads": threads,
                f"{engine}.inter_op_num_threads": 1,
            }
        )

    def __call__(self, value: np.ndarray, modality: Any) -> Lines:
        height, width = value.shape[:2]
        answer: Any = self._ocr(np.ascontiguousarray(value[..., ::-1]))  # it reads BGR, as OpenCV gives pictures
        if answer.boxes is None or answer.txts is None:
            return Lines([], np.zeros((0, 4), np.float32), [])
        points = np.asarray(answer.boxes, np.float32) / np.array([width, height], np.float32)
        corners = np.concatenate([points.min(1), points.max(1)], 1).clip(0, 1)
        return Lines(list(answer.txts), corners, [float(score) for score in answer.scores])
