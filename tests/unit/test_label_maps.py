"""Maps of class ids in any file that keeps them: the numbers that a second reader gives, or a reason with the name."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.stages.ingest.sidefile import SideFile
from tests.unit import inline

EXAMPLES = int(os.environ.get("HYPERLOOM_EXAMPLES", "30"))
"""How many random files the property test makes."""
MODES = {
    "grey.png": 8, "palette.png": 8, "few.png": 4, "one.png": 1, "two.png": 2, "four.png": 4, "deep.png": 16,
    "alpha.png": 8, "equal.png": 8, "colours.png": 8, "a.tif": 8, "deep.tif": 16, "long.tif": 31, "a.bmp": 8,
    "a.webp": 8, "a.npy": 31,
}  # fmt: skip
"""Kinds of files, with the bits that an id has in them."""


def low_bits(ids: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 2 or 4 bits, which no library writes."""
    height, width = ids.shape
    padded = np.zeros((height, -(-width * bits // 8) * 8 // bits), np.uint8)
    padded[:, :width] = ids
    places = padded.reshape(height, -1, 8 // bits).astype(int)
    packed = sum(places[..., i] << 8 - bits * (i + 1) for i in range(8 // bits))
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(packed, np.uint8))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    parts = [
        struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in (*chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def written(name: str, ids: np.ndarray, random: np.random.Generator) -> bytes:
    from PIL import Image

    file, kind, small = io.BytesIO(), name.partition(".")[0], ids.astype(np.uint8)
    if name == "a.npy":
        np.save(file, ids.astype(random.choice([np.int32, np.int64, np.float64, np.uint64])))
        return file.getvalue()
    if kind in ("two", "four"):
        return low_bits(ids, MODES[name])
    if kind in ("palette", "few"):
        image = Image.fromarray(small, "P")
        image.putpalette(random.integers(0, 256, 768).tolist())
        image.save(file, "PNG", **({"bits": 4} if kind == "few" else {}))
        return file.getvalue()
    array: Any = {
        "one": small.astype(bool), "deep": ids.astype(np.uint16), "long": ids.astype(np.int32),
        "alpha": np.dstack([small, np.full_like(small, 255)]), "equal": np.repeat(small[..., None], 3, -1),
        "colours": random.integers(0, 256, (*ids.shape, 3), np.uint8),
    }.get(kind, np.repeat(small[..., None], 3, -1) if name == "a.webp" else small)  # fmt: skip
    form = {".png": "PNG", ".tif": "TIFF", ".bmp": "BMP", ".webp": "WEBP"}[Path(name).suffix]
    Image.fromarray(array).save(file, form, **({"lossless": True} if form == "WEBP" else {}))
    return file.getvalue()


def damaged(data: bytes, damage: str, share: float) -> bytes:
    place = int(share * (len(data) - 1))
    return {
        "none": data,
        "cut": data[:place],
        "byte": data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :],
        "zeros": data[:place] + bytes(min(20, len(data) - place)) + data[place + 20 :],
    }[damage]


def second_reader(data: bytes, name: str) -> np.ndarray:
    from PIL import Image

    if name == "a.npy":
        return np.load(io.BytesIO(data))  # type: ignore[no-any-return]
    with Image.open(io.BytesIO(data)) as image:
        array = np.array(image)
    return array if array.ndim == 2 else array[..., 0]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.sampled_from(sorted(MODES)), st.tuples(st.integers(5, 24), st.integers(5, 24)), st.integers(0, 99),
    st.sampled_from([2, 30, 256, 300, 70000]), st.sampled_from(["none", "cut", "byte", "zeros"]), st.floats(0, 1),
    st.sampled_from([{}, {"remap": {1: 2, 2: 1}}, {"void": [0]}]),
)  # fmt: skip
def test_any_map_of_ids_is_what_a_second_reader_gives_or_a_reason(
    name: str, sides: tuple[int, int], seed: int, most: int, damage: str, share: float, fields: dict[str, Any]
) -> None:
    random = np.random.default_rng(seed)
    ids = random.integers(0, most, sides) % (1 << MODES[name])
    data = damaged(written(name, ids, random), damage, share)
    semantic = inline.modalities(s={"type": "segmentation", "classes": ["a", "b"], "size": list(sides)})["s"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            value = SideFile(path=str(path), **fields).load(str(path), ("x",), semantic)
        except ValueError as error:
            assert name in str(error)
            assert damage != "none" or name == "colours.png" or ids.max() > 255, error
            return
    if damage != "none":
        if name in ("two.png", "four.png"):
            return  # the second reader spreads such ids over 0..255
        ids = second_reader(data, name)
        if ids.shape != sides:
            return  # its header says another size, to which the picture's rule for labels applies
    expected = np.array(ids, np.int64)
    for stored, meant in fields.get("remap", {}).items():
        expected[ids == stored] = meant
    for stored in fields.get("void", ()):
        expected[ids == stored] = 255
    assert value is not None and name != "colours.png" and (value == expected).all()
