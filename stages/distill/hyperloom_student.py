"""A released student: images in, one answer a task out. Needs numpy and onnxruntime, nothing of Hyperloom.

This file travels with the model. In MLflow, `mlflow.pyfunc.load_model("models:/NAME@champion").predict(batch)` takes a
(N, H, W, 3) uint8 batch of the model's own size. Here, `Student(folder).predict(images)` also takes one (H, W, 3)
image, a path, encoded bytes, or a list of these in any size. Files (which need Pillow) are read and resized as they
were for the training: turned as their EXIF orientation says, or not, and of more than 8 bits only with the `levels`
that `student.json` names.

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
FORMATS = ("JPEG", "JPEG2000", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "AVIF")
ORIENTATION, SWAPPED = 0x0112, (5, 6, 7, 8)


class Student:
    """`folder` holds student.onnx and student.json. `about` is the latter: tasks with their classes and units.
    `network` is the file that answers: `student.int8.onnx` where the release has one."""

    def __init__(self, folder: str, network: str = "student.onnx"):
        import onnxruntime

        with open(os.path.join(folder, "student.json"), encoding="utf-8") as file:
            self.about: dict[str, Any] = json.load(file)
        path = os.path.join(folder, network)
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
            image = _read(image, self.about.get("picture", {}))
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(f"expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
        return _resized(image, *self.size)


def _decoded(task: dict[str, Any], value: np.ndarray) -> np.ndarray:
    """Scores of classes become class ids; numbers stay."""
    if task["type"] != "segmentation":
        return value.astype(np.float32)
    return (value.argmax(-1) if value.ndim == 4 else value).astype(np.uint8)


def _read(source: Any, rules: dict[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 of a file, by the `picture` of `student.json`: `orientation`, `levels`, `megapixels`."""
    from PIL import Image

    name = "the image" if isinstance(source, bytes) else os.path.basename(source)
    try:
        if not isinstance(source, bytes):
            with open(source, "rb") as file:
                source = file.read()
        with Image.open(io.BytesIO(source), formats=FORMATS) as image:
            if image.width * image.height > rules.get("megapixels", 150) * 1e6:
                raise ValueError(f"it has more than {rules.get('megapixels', 150):g} million pixels")
            turn = _orientation(image, source, rules.get("orientation", "apply"))
            pixels = np.asarray(image.convert("RGB")) if _bits(image, source) <= 8 else _graded(image, source, rules)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from error
    if turn in SWAPPED:
        pixels = pixels.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels[::-1] if turn in (3, 4, 7, 8) else pixels)


def _orientation(image: Any, data: bytes, rule: str) -> int:
    """EXIF's number of the turn that is still to be made; Pillow turns a TIFF by itself."""
    number = (_png_exif(data) if image.format == "PNG" else image.getexif()).get(ORIENTATION, 1)
    if image.format == "TIFF":
        return 1 if rule == "apply" else {6: 8, 8: 6}.get(number, number)
    return number if rule == "apply" else 1


def _png_exif(data: bytes) -> Any:
    """What the chunk eXIf says, wherever it lies. Pillow would also believe EXIF that is written as text and XMP, by
    which no picture was turned for the training."""
    from PIL import Image

    exif, place = Image.Exif(), 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"eXIf":
            exif.load(b"Exif\0\0" + data[place + 8 : place + 8 + length])
        place += 12 + length
    return exif


def _bits(image: Any, data: bytes) -> int:
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))
    return 32 if image.mode[0] in "IF" else 8


def _graded(image: Any, data: bytes, rules: dict[str, Any]) -> np.ndarray:
    """More than 8 bits as uint8: `levels` become 0 and 255."""
    if not rules.get("levels"):
        raise ValueError("it has more than 8 bits, which the model was not trained on")
    values: Any = np.asarray(image)
    if values.ndim == 3 or image.format == "PPM":
        try:
            import cv2
        except ImportError as error:
            raise ValueError("colours of more than 8 bits need OpenCV (pip install opencv-python-headless)") from error
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        values = values[..., 2::-1] if values.ndim == 3 else values
    low, high = rules["levels"]
    scaled = (values.astype(np.float32) - low) * (255.0 / (high - low))
    pixels = np.rint(np.nan_to_num(scaled).clip(0, 255)).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """By area where both sides shrink, else linearly, as OpenCV does it."""
    old = image.shape[:2]
    if old == (height, width):
        return image
    weights = _areas if height < old[0] and width < old[1] else _between
    rows, columns = weights(old[0], height), weights(old[1], width)
    lines = (rows @ image.reshape(old[0], -1).astype(np.float32)).reshape(height, old[1], 3)
    pixels = np.matmul(columns, lines)
    even = weights is _areas and old == (2 * height, 2 * width)
    return (np.floor(pixels + 0.5) if even else np.rint(pixels)).clip(0, 255).astype(np.uint8)


def _areas(old: int, new: int) -> np.ndarray:
    """(new, old) float32: the share that each old pixel has of a new one."""
    edges, at = np.arange(new + 1) * (old / new), np.arange(old)
    inside = np.minimum(at[None] + 1, edges[1:, None]) - np.maximum(at[None], edges[:-1, None])
    return (inside.clip(0) * (new / old)).astype(np.float32)


def _between(old: int, new: int) -> np.ndarray:
    """(new, old) float32: how a new pixel lies between two old ones."""
    place = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    below = np.floor(place).astype(int)
    weights = np.zeros((new, old), np.float32)
    np.add.at(weights, (np.arange(new), below), 1 - (place - below))
    np.add.at(weights, (np.arange(new), np.minimum(below + 1, old - 1)), place - below)
    return weights


def _load_pyfunc(path: str) -> Student:
    """MLflow's way in."""
    return Student(path)
