"""Networks that are asked in words or with boxes: maps of what a text names (Lüddecke and Ecker, CLIPSeg, 2022), and
regions inside given boxes (Kirillov et al., Segment Anything, 2023).

The words are the modality's classes, or those of `labels` (`{a parked car: car}`): several texts may name one class,
and its highest score stands. Boxes come from another expert; where regions overlap, the surer box is in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.label.hub.loading import Directory

BACKGROUND = "background"
"""A class of this name is where no region is; without one such pixels are unknown."""


def prompts(labels: Mapping[str, str | None], classes: Sequence[str]) -> dict[str, str]:
    """Text -> class. Raises RecipeError for a class that the modality does not have."""
    given = {text: name for text, name in labels.items() if name is not None} or {name: name for name in classes}
    if unknown := sorted(set(given.values()) - set(classes)):
        raise RecipeError(f"labels: {', '.join(unknown)} is no class of the modality; it has {', '.join(classes)}")
    return given


class TextMaps:
    """Like `maps.Maps`: (N, H, W, 3) uint8 frames -> one map of logits for each class, (N, C, h, w) float32."""

    def __init__(self, home: Directory, texts: Mapping[str, str], classes: Sequence[str]):
        if not str(home.config.model_type).startswith("clipseg"):
            raise RecipeError(f"{home.path} holds {type(home.config).__name__}, which makes no maps of texts")
        self._home, self._texts = home, list(texts)
        self._places = [classes.index(texts[text]) for text in self._texts]
        self._count, self._processor = len(classes), home.part("AutoProcessor")
        self._model = home.model("CLIPSegForImageSegmentation")
        self._words = home.tensors(self._processor.tokenizer(self._texts, padding=True, return_tensors="pt"))

    def prepared(self, frames: np.ndarray) -> Any:
        return self._processor.image_processor(images=list(frames), return_tensors="pt")

    def tensors(self, prepared: Any, tensors: Sequence[str | int]) -> list[Any]:
        torch = self._home.torch
        pixels = self._home.tensors(prepared)["pixel_values"]
        with torch.inference_mode():
            maps = torch.stack([self._of_frame(frame) for frame in pixels])
        return [maps for _ in tensors]

    def _of_frame(self, frame: Any) -> Any:
        torch = self._home.torch
        answers = self._model(**self._words, pixel_values=frame[None].repeat(len(self._texts), 1, 1, 1))
        logits = answers.logits.reshape(len(self._texts), *answers.logits.shape[-2:]).float()
        maps = torch.full((self._count, *logits.shape[1:]), -30.0, device=logits.device)
        for place, logit in zip(self._places, logits, strict=True):
            maps[place] = torch.maximum(maps[place], logit)
        return maps


class BoxRegions:
    """A frame and its boxes -> (H, W) uint8 class ids: the region of each box, of the box's class."""

    def __init__(self, home: Directory):
        if not home.fits("AutoModelForMaskGeneration"):
            raise RecipeError(f"{home.path} holds {type(home.config).__name__}, which makes no regions of boxes")
        self._home, self._processor = home, home.part("AutoProcessor")
        self._model = home.model("AutoModelForMaskGeneration")

    def __call__(self, frame: np.ndarray, rows: np.ndarray, table: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """`rows` (n, 6) x0, y0, x1, y1 in shares, class, score; `table`: their class -> the map's, 255 for none."""
        height, width = frame.shape[:2]
        ids = np.full((height, width), classes.index(BACKGROUND) if BACKGROUND in classes else UNKNOWN, np.uint8)
        rows = rows[np.isfinite(rows).all(1)]  # the others fill up the column's length
        rows = rows[table[rows[:, 4].astype(int)] != UNKNOWN]
        if not len(rows):
            return ids
        rows = rows[np.argsort(rows[:, 5], kind="stable")]
        boxes = (rows[:, :4] * np.array([width, height] * 2)).tolist()
        torch = self._home.torch
        prepared = self._processor(images=frame, input_boxes=[boxes], return_tensors="pt")
        sizes = prepared.pop("original_sizes")
        kept = (
            {"reshaped_input_sizes": prepared.pop("reshaped_input_sizes")} if "reshaped_input_sizes" in prepared else {}
        )
        with torch.inference_mode():
            answer = self._model(**self._home.tensors(prepared), multimask_output=False)
        masks = self._processor.post_process_masks(answer.pred_masks.float().cpu(), sizes, *kept.values())[0]
        for row, mask in zip(rows, np.asarray(masks).reshape(len(rows), height, width), strict=True):
            ids[mask.astype(bool)] = table[int(row[4])]
        return ids
