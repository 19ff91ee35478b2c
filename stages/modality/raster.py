"""Rasters: values with a height and a width, of which images are one.

Arrays are HWC. `fit` resizes by the kind of value: images by area, numbers linearly, classes to the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from hyperloom.stages.modality import imagefile, jpegfile
from hyperloom.stages.modality.base import Modality
from hyperloom.stages.modality.geometry import Symmetry, between, turn, window

if TYPE_CHECKING:
    import torch

Size = tuple[int, int]
"""Height and width in pixels."""


class Raster(Modality):
    """Base of what has a height and a width. A size left out is that of the recipe's only image modality.

    Image files are turned as their EXIF orientation says (`orientation: apply`) or left as they are stored (`ignore`);
    one of more than `megapixels` is refused before it is decoded.
    """

    size: Size | None = None
    orientation: imagefile.Orientation = "apply"
    megapixels: float = Field(imagefile.MEGAPIXELS, gt=0)

    @field_validator("size")
    @classmethod
    def _positive(cls, value: Size | None) -> Size | None:
        if value is not None and min(value) < 1:
            raise ValueError(f"a size is [height, width] in pixels, got {list(value)}")
        return value

    @property
    def height_width(self) -> Size:
        if self.size is None:
            raise ValueError("the size is not known yet: give size: [height, width], or call completed() first")
        return self.size

    def grid(self, patch: int) -> tuple[int, ...]:
        return tuple(-(-n // patch) for n in self.height_width)

    @property
    def sides(self) -> Symmetry:
        return "known"

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        return values.flip(2)

    @property
    def place(self) -> Symmetry:
        return "known"

    def windowed(self, values: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        return self.sampled(values, window(windows, self.height_width))

    def turned(self, values: torch.Tensor, angles: torch.Tensor, aspect: float) -> torch.Tensor:
        return self.sampled(values, turn(angles, aspect, self.height_width))

    def sampled(self, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """`values` (n, *shape) at other `places` (n, H, W, 2): linearly between pixels, and black outside."""
        return between(values, places)

    @property
    def moves(self) -> str:
        """What its numbers are to a picture that is moved: a scalar stays as it is."""
        return "scalar"

    def stretched(self, array: np.ndarray, height: float, width: float) -> np.ndarray:
        """(h, w, C) numbers of a picture that becomes so many times as high and as wide."""
        return array

    def completed(self, modalities: Mapping[str, Modality]) -> Modality:
        if self.size is not None:
            return self
        return self.model_copy(update={"size": of_the_image(modalities)})

    def numbers(self, data: bytes, name: str) -> np.ndarray:
        return imagefile.numbers(data, name, self.orientation, self.megapixels)

    def _resized(self, value: np.ndarray, nearest: bool = False, area: bool = False) -> np.ndarray:
        import cv2

        height, width = self.height_width
        if value.shape[:2] == (height, width):
            return value
        shrinks = height < value.shape[0] and width < value.shape[1]
        how = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA if area and shrinks else cv2.INTER_LINEAR
        return cv2.resize(np.ascontiguousarray(value), (width, height), interpolation=how)


def of_the_image(modalities: Mapping[str, Modality]) -> Size:
    """The size of the only image among `modalities`. Raises ValueError where it does not follow from them."""
    images = {n: size for n, m in modalities.items() if m.rgb and getattr(m, "size", None) and (size := m.height_width)}
    if len(images) != 1:
        names = ", ".join(images) or "none"
        raise ValueError(f"no size given, and it follows only from a single image modality with a size ({names})")
    return next(iter(images.values()))


FILES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"RIFF")
"""How JPEG, PNG and WebP files begin. What decodes as an image and begins so is one of them."""


class Image(Raster):
    """(H, W, 3) uint8 RGB, kept as it is (`raw`) or as the bytes of a file.

    `codec`: png loses nothing; jpeg and webp lose by `quality`, which choosing them says; file keeps the bytes of a
    JPEG, PNG or WebP file as they came where its size is this modality's, and is png for the rest. `levels` are the
    numbers that become black and white in files of more than 8 bits, which are refused without it.
    """

    rgb: ClassVar[bool] = True
    format: Literal["raw", "jpeg", "png", "webp", "file"] = Field("raw", alias="codec")
    quality: int = Field(95, ge=1, le=100)
    levels: tuple[float, float] | None = None
    reduce: bool = False
    """Decode JPEG files of more than twice this size at a fraction of theirs (the scaled cosine transform of libjpeg),
    and resize by area from there: photographs of 12 megapixels are read four times as fast, and pixels differ a little
    (by .2 to .4 of 255 on average). Not with `codec: file`."""

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.reduce and self.format == "file":
            raise ValueError("reduce: a file is kept as it came (codec: file), so nothing is gained. Next: codec: jpeg")
        return self

    @field_validator("levels")
    @classmethod
    def _black_before_white(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"levels: expected the numbers of black and of white, got {list(value)}")
        return value

    @property
    def channel_names(self) -> tuple[str, ...]:
        return ("red", "green", "blue")

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.height_width, 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def codec(self) -> str:
        return self.format

    def fit(self, value: Any) -> np.ndarray:
        """Resize by area; grey becomes RGB, an alpha channel is dropped."""
        array = np.asarray(value)
        if array.dtype != np.uint8:
            raise ValueError(f"expected dtype uint8, got {array.dtype}")
        if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 1):
            array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=-1)
        if array.ndim != 3 or array.shape[-1] not in (3, 4):
            raise ValueError(f"expected (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
        return self._resized(array[..., :3], area=True)

    def read(self, data: bytes, name: str) -> Any:
        if name.lower().endswith((".npy", ".npz")):
            return super().read(data, name)
        least = self.height_width if self.reduce else None
        image = imagefile.colours(data, name, self.orientation, self.levels, self.megapixels, least)
        kept = self.format == "file" and image.shape == self.shape and data.startswith(FILES)
        return data if kept and imagefile.is_plain(data, name) else self.fit(image)

    def answer(self, mean: np.ndarray) -> np.ndarray:
        return np.rint(mean).clip(0, 255).astype(np.uint8)

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        return random.integers(0, 256, self.shape)

    def compress(self, row: np.ndarray) -> bytes:
        import cv2

        kind = "png" if self.format == "file" else self.format
        options = {
            "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
            "jpeg": [cv2.IMWRITE_JPEG_QUALITY, self.quality],
            "webp": [cv2.IMWRITE_WEBP_QUALITY, self.quality],
        }
        return cv2.imencode(f".{kind}", cv2.cvtColor(row, cv2.COLOR_RGB2BGR), options[kind])[1].tobytes()

    def decompress(self, data: Any, out: np.ndarray | None = None) -> np.ndarray:
        import cv2

        if self.format == "raw":
            return super().decompress(data, out)
        if bytes(memoryview(data)[:3]) == FILES[0]:
            return jpegfile.decoded(data, self.shape, out)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if len(data) else None
        if image is None or image.shape != self.shape:
            got = getattr(image, "shape", "other bytes")
            raise ValueError(f"expected a {self.format} of shape {self.shape}, got {got}")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=out)

    @property
    def limits(self) -> tuple[float, float]:
        return (0.0, 256.0)

    @property
    def regression(self) -> bool:
        return True

    @property
    def standardised(self) -> bool:
        return True

    def picture(self, value: np.ndarray) -> np.ndarray:
        return value
