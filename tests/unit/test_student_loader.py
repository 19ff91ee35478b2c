"""The loader of a release reads a picture as ingest does: the same odd files, the same pixels or a reason."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from hyperloom.stages.distill.hyperloom_student import Student
from tests.unit import inline
from tests.unit.test_image_files import file, png

SMOOTH = cv2.resize(np.random.default_rng(3).integers(0, 255, (5, 7, 3)).astype(np.uint8), (48, 32))


def mirror(folder: Path, size: tuple[int, int], **rules: Any) -> tuple[Student, Any]:
    """A student whose answer is its picture, and the modality that it was trained with."""
    from onnx import TensorProto, helper, save

    shape = ["N", *size, 3]
    pixels = helper.make_tensor_value_info("x", TensorProto.UINT8, shape)
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    graph = helper.make_graph([cast], "mirror", [pixels], [answer])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, folder / "student.onnx")
    rgb = inline.modalities(rgb={"type": "image", "size": list(size), **rules})["rgb"]
    picture = {"orientation": rgb.orientation, "levels": rgb.levels, "megapixels": rgb.megapixels}
    about = {"size": list(size), "picture": picture, "tasks": {"rgb": {"type": "image", "output": "y"}}}
    (folder / "student.json").write_text(json.dumps(about))
    return Student(str(folder)), rgb


def apart(student: Student, rgb: Any, data: bytes) -> float:
    """The largest difference between the loader's pixels and the pipeline's."""
    expected = rgb.read(data, "a.png")
    return float(np.abs(student.predict(data)["rgb"][0] - expected.astype(np.float32)).max())


@pytest.mark.parametrize("rule", ["apply", "ignore"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientations(tmp_path: Path, kind: str, rule: str) -> None:
    student, rgb = mirror(tmp_path, (16, 24), orientation=rule)
    for orientation in range(1, 9):
        assert apart(student, rgb, file(kind, SMOOTH, orientation)) <= 1, orientation


@pytest.mark.parametrize("rule", ["apply", "ignore"])
@pytest.mark.parametrize("where", ["text", "packed text", "XMP", "chunk", "chunk behind the pixels"])
def test_a_png_is_turned_by_its_chunk_of_exif_alone(tmp_path: Path, where: str, rule: str) -> None:
    student, rgb = mirror(tmp_path, (24, 16), orientation=rule)
    exif, written, sink = Image.Exif(), PngImagePlugin.PngInfo(), io.BytesIO()
    exif[0x0112] = 6
    raw = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    if "text" in where:
        lines = "\n".join(raw.hex()[i : i + 72] for i in range(0, len(raw.hex()), 72))
        written.add_text("Raw profile type exif", f"\nexif\n{len(raw):8d}\n{lines}\n", zip=where == "packed text")
    elif where == "XMP":
        about = '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        written.add_itxt("XML:com.adobe.xmp", f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{about}</x:xmpmeta>')
    Image.fromarray(SMOOTH).save(sink, "PNG", pnginfo=written, **({"exif": exif} if "chunk" in where else {}))
    data = sink.getvalue()
    if "behind" in where:
        start = data.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        data = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    turned = rule == "apply" and "chunk" in where
    assert apart(student, rgb, data) <= 1
    upright = np.rot90(SMOOTH, -1) if turned else SMOOTH
    plain = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(upright)).save(plain, "PNG")
    assert (student.predict(data)["rgb"] == student.predict(plain.getvalue())["rgb"]).all()


def odd_files() -> dict[str, bytes]:
    ids, out = np.arange(48 * 32).reshape(32, 48) % 4, {}
    out |= {f"grey{b}": png(ids % 2**b, b, False) for b in (1, 2, 4, 8)}
    out |= {f"palette{b}": png(ids % 2**b, b, True) for b in (1, 2, 4, 8)}
    for mode in ("L", "LA", "RGBA", "1", "P"):
        sink = io.BytesIO()
        Image.fromarray(SMOOTH).convert(mode).save(sink, "PNG")
        out[mode] = sink.getvalue()
    for mode, kind in (
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "TIFF"),
        ("RGB", "GIF"),
        ("RGB", "BMP"),
        ("RGB", "PPM"),
    ):
        sink = io.BytesIO()
        Image.fromarray(SMOOTH).convert(mode).save(sink, kind)
        out[f"{mode} {kind}"] = sink.getvalue()
    clear = np.dstack([SMOOTH, np.full(SMOOTH.shape[:2], 9, np.uint8)])
    return out | {"clear": file("PNG", clear)}


def test_palettes_alpha_and_colours_of_print(tmp_path: Path) -> None:
    student, rgb = mirror(tmp_path, (16, 24))
    assert {name: d for name, data in odd_files().items() if (d := apart(student, rgb, data)) > 1} == {}


def test_more_than_8_bits_need_levels_here_as_there(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 48).astype(np.uint16)[None].repeat(32, 0)
    files = [png(ramp, 16, False), cv2.imencode(".png", np.dstack([ramp, ramp // 2, ramp[:, ::-1]]))[1].tobytes()]
    files += [cv2.imencode(".tiff", ramp)[1].tobytes()]
    plain, rgb = mirror(tmp_path, (32, 48))
    for data in files:
        with pytest.raises(ValueError, match="levels"):
            rgb.read(data, "a.png")
        with pytest.raises(ValueError, match="more than 8 bits"):
            plain.predict(data)
    for levels in ([0, 65535], [1000, 5000]):
        deep, rgb = mirror(tmp_path, (32, 48), levels=levels)
        assert max(apart(deep, rgb, data) for data in files) <= 1


def test_what_is_too_large_or_no_picture_is_said(tmp_path: Path) -> None:
    student, _ = mirror(tmp_path, (16, 24), megapixels=0.001)
    with pytest.raises(ValueError, match="million pixels"):
        student.predict(file("PNG", SMOOTH))
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"a\.png cannot be read"):
        student.predict(tmp_path / "a.png")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_every_size_becomes_the_same(tmp_path_factory: Any, h: int, w: int, height: int, width: int, seed: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    student, rgb = mirror(folder, (height, width))
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)
    assert apart(student, rgb, file("PNG", pixels)) <= 1
    assert np.abs(student.predict(pixels)["rgb"][0] - rgb.fit(pixels)).max() <= 1
