"""A released student: images in, one answer a task out. Needs numpy and onnxruntime, nothing of Hyperloom.

This file travels with the model. In MLflow, `mlflow.pyfunc.load_model("models:/NAME@champion").predict(batch)` takes a
(N, H, W, 3) uint8 batch of the model's own size. Here, `Student(folder).predict(images)` also takes one (H, W, 3)
image, a path, encoded bytes, or a list of these in any size (decoding and resizing need Pillow).

Segmentation comes out as (N, H, W) uint8 class ids, dense maps as (N, H, W, C) float32 in the unit `student.json` says,
all else as float32 too: probabilities of a category's classes (N, K), numbers (N, length), boxes (N, most, 6).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

BATCH = 16
"""Images in one call of the network."""


class Student:
    """`folder` holds student.onnx and student.json. `about` is the latter: tasks with their classes and units."""

    def __init__(self, folder: str):
        import onnxruntime

        with open(os.path.join(folder, "student.json"), encoding="utf-8") as file:
            self.about: dict[str, Any] = json.load(file)
        path = os.path.join(folder, "student.onnx")
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels that the network sees."""
        return self.about["size"][0], self.about["size"][1]

    def predict(self, images: Any, params: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Task -> (N, H, W) uint8 or (N, ...) float32. Raises ValueError for what is no RGB image."""
        batch = self._batch(images)
        parts = [self._run(batch[first : first + BATCH]) for first in range(0, len(batch), BATCH)]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def get_raw_model(self) -> Student:
        """What MLflow's `unwrap` hands out: this object, which takes paths and other sizes too."""
        return self

    def _run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        given = batch if self._input.type == "tensor(uint8)" else batch.astype(np.float32)
        told = dict(
            zip((o.name for o in self._session.get_outputs()), self._session.run(None, {self._input.name: given}))
        )
        return {name: _decoded(task, told[task["output"]]) for name, task in self.about["tasks"].items()}

    def _batch(self, images: Any) -> np.ndarray:
        if isinstance(images, np.ndarray):
            images = images[None] if images.ndim == 3 else images
        elif isinstance(images, str | bytes | os.PathLike):
            images = [images]
        if not isinstance(images, Iterable):
            raise ValueError(f"expected images, got {type(images).__name__}")
        batch = [self._image(image) for image in images]
        if not batch:
            raise ValueError("expected images, got none")
        return np.stack(batch)

    def _image(self, image: Any) -> np.ndarray:
        if isinstance(image, str | bytes | os.PathLike):
            from PIL import Image

            source = io.BytesIO(image) if isinstance(image, bytes) else image
            image = np.asarray(Image.open(source).convert("RGB"))
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(f"expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
        if image.shape[:2] != self.size:
            from PIL import Image

            height, width = self.size
            image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
        return image


def _decoded(task: dict[str, Any], value: np.ndarray) -> np.ndarray:
    """Scores of classes become class ids; numbers stay."""
    if task["type"] != "segmentation":
        return value.astype(np.float32)
    return (value.argmax(-1) if value.ndim == 4 else value).astype(np.uint8)


def _load_pyfunc(path: str) -> Student:
    """MLflow's way in."""
    return Student(path)
