"""Image files: the one place that decides how the bytes of a picture become an array.

`colours` gives what a person sees, (H, W, 3) uint8 RGB; `numbers` gives what is stored: palette indices, class ids of
1, 2 and 4 bits, sensor values of 16 bits, as they stand in the file. Both look at the header first, so that a picture
of more than `megapixels` costs no memory, and both turn a picture as its EXIF orientation says unless that is to be
ignored.

Damage that a decoder knows of is an error, not a grey patch: libjpeg's warnings, checksums of PNG, short data; and what
libjpeg decodes without a word: missing scans, holes of zero bytes. What is left out (alpha, later pages) is a remark.
JPEGs are read by simplejpeg, which like OpenCV is libjpeg-turbo and gives the same pixels; other files by Pillow; and
by OpenCV what Pillow would cut to 8 bits.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hyperloom.stages.modality import jpegfile
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    import numpy as np

Orientation = Literal["apply", "ignore"]
MEGAPIXELS = 150.0
"""More than the largest cameras give, and 450 MB when decoded."""
FORMATS = ("JPEG", "JPEG2000", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "AVIF")
"""What Pillow may take a file for: formats of pictures that run no program of their own."""
OPENCV_ALONE = (b"\x76\x2f\x31\x01", b"#?RADIANCE", b"#?RGBE", b"II*\0", b"MM\0*")
"""How files begin of which OpenCV knows more than Pillow: OpenEXR, Radiance, TIFF of several float channels."""
ORIENTATION = 0x0112
SWAPPED = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""


class Header(NamedTuple):
    """What a file says of itself. `sides` are height and width as stored; `orientation` is EXIF's, 1 for upright."""

    format: str
    mode: str
    sides: tuple[int, int]
    bits: int
    channels: int
    orientation: int
    pages: int

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width of the picture as it is meant to be seen."""
        return self.sides[::-1] if self.orientation in SWAPPED else self.sides


def header(data: bytes, name: str) -> Header:
    """The header of an image file; of what only OpenCV reads, that of the decoded picture. Raises ValueError for what
    is no image."""
    try:
        with _decoding(data, name), _pillow(data, name) as image:
            return _header(image, data)
    except ValueError:
        pixels = _opencv_or_none(data) if data.startswith(OPENCV_ALONE) else None
        plain = pixels is not None and (pixels.ndim == 2 or pixels.itemsize == 1)
        if pixels is None or (plain and data.startswith(OPENCV_ALONE[-2:])):  # a plain TIFF, which Pillow would know
            raise
        return Header("", "", pixels.shape[:2], 8 * pixels.itemsize, pixels.ndim, 1, 1)


def is_plain(data: bytes, name: str) -> bool:
    """Does every reader of pictures see the same in these bytes: 8 bits, upright, opaque, one page?"""
    head = header(data, name)
    return head.mode in ("RGB", "L") and (head.bits, head.orientation, head.pages) == (8, 1, 1)


def colours(
    data: bytes,
    name: str,
    orientation: Orientation = "apply",
    levels: tuple[float, float] | None = None,
    megapixels: float = MEGAPIXELS,
    least: tuple[int, int] | None = None,
) -> np.ndarray:
    """(H, W, 3) uint8 RGB. A file of more than 8 bits needs `levels`, the numbers that become 0 and 255. A JPEG may
    come smaller, with a height and a width of `least` or more. Raises ValueError, saying why it cannot be read and what
    could be set."""
    head = _within(data, name, megapixels)
    if head.bits > 8 or not head.format:
        return graded(numbers(data, name, orientation, megapixels), name, levels)
    with _decoding(data, name):
        if head.format == "JPEG" and head.mode in ("RGB", "L"):
            stored = least[::-1] if least and orientation == "apply" and head.orientation in SWAPPED else least
            return _turned(jpegfile.pixels(data, "RGB", stored), head, orientation)
        with _pillow(data, name) as image:
            _say_what_is_left(image, head)
            return _turned(_array(image.convert("RGB")), head, orientation)


def numbers(data: bytes, name: str, orientation: Orientation = "apply", megapixels: float = MEGAPIXELS) -> np.ndarray:
    """(H, W) or (H, W, C) numbers as they are stored, without alpha; colours in the order RGB. Raises ValueError."""
    head = _within(data, name, megapixels)
    with _decoding(data, name):
        if head.format in ("PPM", "") or (head.bits > 8 and head.channels > 1):
            return _turned(_opencv(data), head, orientation)
        if head.format == "JPEG":
            kind = "GRAY" if head.mode == "L" else "RGB"
            return _turned(jpegfile.pixels(data, kind), head, orientation)
        with _pillow(data, name) as image:
            _say_what_is_left(image, head)
            if image.mode in ("LA", "RGBA", "La", "RGBa"):
                image = image.convert(image.mode[:-1])
            array = _array(image)
        if array.dtype == bool:
            array = array.astype("uint8")
        if head.mode == "L" and head.bits < 8:
            array = array // (255 // (2**head.bits - 1))  # Pillow spreads 2 and 4 bits over 0..255
        return _turned(array, head, orientation)


# -- headers -----------------------------------------------------------------------------------------------------------
@contextmanager
def _pillow(data: bytes, name: str) -> Iterator[Any]:
    """The opened file. Raises ValueError for what Pillow does not take for an image."""
    from PIL import Image

    base = os.path.basename(name)
    if not data:
        raise ValueError(f"{base} is empty (0 bytes)")
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # `megapixels` is the limit here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torn headers, which are errors here or decode
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # readers of torn headers raise whatever comes
        raise ValueError(f"{base} is not an image ({len(data)} bytes)") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _header(image: Any, data: bytes) -> Header:
    bits, channels, kind, pages = 8, len(image.getbands()), image.format, getattr(image, "n_frames", 1)
    if data.startswith(b"\xff\xd8"):
        kind, pages = "JPEG", 1  # a phone's MPO is a JPEG with a second, smaller picture
    elif kind == "PNG":
        bits, channels = data[24], {0: 1, 3: 1, 4: 2, 2: 3, 6: 4}.get(data[25], channels)
    elif kind == "TIFF":
        bits = max(image.tag_v2.get(258, (1,)))
    elif image.mode[0] in "IF":
        bits = 32
    sides = (image.height, image.width)
    orientation = (_png_exif(data) if kind == "PNG" else image.getexif()).get(ORIENTATION, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    if kind == "TIFF" and orientation in SWAPPED:
        sides = sides[::-1]  # Pillow says the sides of the turned picture
    return Header(kind, image.mode, sides, bits, channels, orientation, pages)


def _png_exif(data: bytes) -> Any:
    """The EXIF of a PNG, wherever its chunk lies: Pillow would decode the whole picture to look behind it."""
    from PIL import Image

    exif, place = Image.Exif(), 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"eXIf":
            exif.load(b"Exif\0\0" + data[place + 8 : place + 8 + length])
        place += 12 + length
    return exif


def _within(data: bytes, name: str, megapixels: float) -> Header:
    """The header of a file whose picture is not too large, and whose checksums are right where it has any."""
    head = header(data, name)
    if head.sides[0] * head.sides[1] > megapixels * 1e6:
        raise ValueError(
            f"{os.path.basename(name)} has {head.sides[0]} x {head.sides[1]} pixels, more than {megapixels:g} million. "
            "Next: leave it out, or allow more with megapixels: on the modality"
        )
    if head.format == "PNG":
        with _decoding(data, name), _pillow(data, name) as image:
            image.verify()  # compares checksums; this must come before anything else is read
    if head.format == "TIFF":
        with _decoding(data, name), _pillow(data, name) as image:
            _refuse_what_readers_see_apart(data, image)
    return head


def _refuse_what_readers_see_apart(data: bytes, image: Any) -> None:
    """Raise ValueError for a TIFF of which no reader can be trusted: unpacked YCbCr, of which Pillow knows no
    subsampling, and tags out of order, which mean damage or a careless writer, unless OpenCV sees the same."""
    if image.mode == "YCbCr":
        raise ValueError("it keeps colours as YCbCr without JPEG. Next: save it as RGB")
    order, first = "<" if data.startswith(b"II") else ">", 0
    if data[2:4] in (b"*\0", b"\0*"):
        (first,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, first)
        tags = [struct.unpack_from(f"{order}H", data, first + 2 + 12 * i)[0] for i in range(count)]
        other = None if tags == sorted(set(tags)) else _opencv_or_none(data)
        if other is not None:
            mine = _array(image)
            same = mine[..., ::-1] if mine.ndim == 3 else mine
            if other.shape != same.shape or (other != same).any():
                raise ValueError("the tags of its directory are out of order, and readers take it for other numbers")


def _say_what_is_left(image: Any, head: Header) -> None:
    if head.pages > 1:
        remark("only the first page or frame of a file with several is read")
    if image.getbands()[-1] in "Aa" and image.getextrema()[-1] != (255, 255):
        remark("an alpha channel that is not opaque is left out")


# -- pixels ------------------------------------------------------------------------------------------------------------
@contextmanager
def _decoding(data: bytes, name: str) -> Iterator[None]:
    """What a decoder raises about content, as a ValueError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # readers of torn files raise whatever comes
        base = os.path.basename(name)
        text = str(error) if base in str(error) else f"{base} is damaged: {error or type(error).__name__}"
        raise ValueError(text) from error


def _array(image: Any) -> np.ndarray:
    import numpy as np

    return np.array(image)


def _opencv_or_none(data: bytes) -> np.ndarray | None:
    import cv2
    import numpy as np

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it says of a torn file is said here
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _opencv(data: bytes) -> np.ndarray:
    """The numbers as OpenCV reads them, RGB without alpha; a TIFF comes upright already."""
    pixels = _opencv_or_none(data)
    if pixels is None:
        raise ValueError("OpenCV cannot decode it")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        remark("an alpha channel that is not opaque is left out")
        pixels = pixels[..., :3]
    return pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels


def _turned(pixels: np.ndarray, head: Header, orientation: Orientation) -> np.ndarray:
    """Pixels as they are meant to be seen, or as they are stored."""
    number = head.orientation
    if head.format == "TIFF":  # its decoders have turned it
        number = 1 if orientation == "apply" else {6: 8, 8: 6}.get(number, number)  # the way back
    elif orientation == "ignore":
        number = 1
    return turned(pixels, number)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels as they are meant to be seen by their EXIF orientation, 1 to 8."""
    import numpy as np

    if orientation in SWAPPED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def graded(array: np.ndarray, name: str, levels: tuple[float, float] | None) -> np.ndarray:
    """Numbers of more than 8 bits as uint8 RGB: `levels` become 0 and 255, what lies outside is cut."""
    import numpy as np

    if array.dtype == np.uint8:
        return np.repeat(array[..., None], 3, axis=-1) if array.ndim == 2 else array
    if levels is None:
        known = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        low, high = (known.min(), known.max()) if known.size else (0, 0)
        raise ValueError(
            f"{os.path.basename(name)} holds {array.dtype} numbers {low:g}..{high:g}, and an image keeps 8 bits. Next: "
            f"say which numbers are black and white, as in levels: [{min(low, 0):g}, {max(high, 1):g}] on the "
            "modality, or read it as a dense modality"
        )
    scaled = (array.astype(np.float32) - levels[0]) * (255.0 / (levels[1] - levels[0]))
    pixels = np.rint(np.nan_to_num(scaled).clip(0, 255)).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels
