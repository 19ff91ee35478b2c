"""Pictures and masks as cameras, sensors, annotation tools and broken uploads leave them: a right value or a reason."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hyperloom.stages.ingest.frame import Framed
from hyperloom.stages.ingest.tabular import Table
from hyperloom.stages.modality import imagefile
from hyperloom.stages.remarks import collected
from tests.unit import inline
from tests.unit.test_ingest import KNOWN, ingest, left_out, rows, stage

PNG = b"\x89PNG\r\n\x1a\n"
EXAMPLES = int(os.environ.get("HYPERLOOM_EXAMPLES", "150"))
"""How many random files the property test makes; 100,000 take some minutes."""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(ids: np.ndarray, bits: int, palette: bool) -> bytes:
    """A PNG of one number a pixel with 1, 2, 4, 8 or 16 bits, written by hand."""
    height, width = ids.shape
    if bits == 16:
        lines = [row.astype(">u2").tobytes() for row in ids]
    else:
        digits = np.unpackbits(ids.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1)
        lines = [row.tobytes() for row in np.packbits(digits, axis=-1)]
    colours = chunk(b"PLTE", np.random.default_rng(1).bytes(3 * 2**bits)) if palette else b""
    head = struct.pack(">IIBBBBB", width, height, bits, 3 if palette else 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    return PNG + chunk(b"IHDR", head) + colours + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def file(kind: str, pixels: np.ndarray, orientation: int = 1, **options: Any) -> bytes:
    """A file written by Pillow."""
    exif, out = Image.Exif(), io.BytesIO()
    if orientation != 1:
        exif[0x0112] = orientation
        options["exif"] = exif
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def as_seen(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """By the table of the EXIF standard: which side of the stored picture is up, and which is left."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.fliplr(np.rot90(a, -1)),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.flipud(np.rot90(a, -1)),
        8: lambda a: np.rot90(a, 1),
    }
    return turns[orientation](pixels)


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says_or_left_as_it_is_stored(kind: str, orientation: int) -> None:
    data = file(kind, PIXELS, orientation, **({"lossless": True} if kind == "WEBP" else {}))
    assert (imagefile.colours(data, "a") == as_seen(PIXELS, orientation)).all()
    assert (imagefile.colours(data, "a", "ignore") == PIXELS).all()
    head = imagefile.header(data, "a")
    assert head.sides == (6, 9) and head.shown == as_seen(PIXELS, orientation).shape[:2]


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_numbers_of_a_mask_are_those_in_the_file(bits: int, palette: bool) -> None:
    if bits == 16 and palette:
        pytest.skip("PNG knows no palette of 16 bits")
    ids = np.random.default_rng(bits).integers(0, 2**bits, (7, 11))
    assert (imagefile.numbers(png(ids, bits, palette), "a.png") == ids).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)])
def test_sensor_values_are_refused_or_scaled_and_as_numbers_kept(suffix: str, shape: tuple[int, ...]) -> None:
    values = np.linspace(0, 4095, int(np.prod(shape))).astype(np.uint16).reshape(shape)
    data = cv2.imencode(suffix, values[..., ::-1] if values.ndim == 3 else values)[1].tobytes()
    with pytest.raises(ValueError, match=r"a.x holds uint16 numbers 0..4095.*levels: \[0, 4095\]"):
        imagefile.colours(data, "a.x")
    flat = cv2.imencode(suffix, np.full(shape, 4000, np.uint16))[1].tobytes()
    with pytest.raises(ValueError, match=r"levels: \[0, 4000\]"):
        imagefile.colours(flat, "a.x")
    scaled = np.rint(values / 4095 * 255).astype(np.uint8)
    seen = imagefile.colours(data, "a.x", levels=(0, 4095))
    assert (seen == (scaled if scaled.ndim == 3 else scaled[..., None])).all() and seen.shape == (5, 4, 3)
    assert (imagefile.numbers(data, "a.x") == values).all()


def soft(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_ends_early_is_damaged_though_it_ends_as_a_jpeg(share: float, progressive: bool) -> None:
    whole = file("JPEG", soft(3), quality=90, progressive=progressive)
    assert imagefile.colours(whole, "a.jpg").shape == (96, 128, 3)
    with pytest.raises(ValueError, match="a.jpg is damaged"):
        imagefile.colours(whole[: int(len(whole) * share)] + b"\xff\xd9", "a.jpg")


def test_a_progressive_jpeg_that_lost_its_last_scans_is_damaged() -> None:
    for pixels in (soft(3), soft(3)[..., 0]):
        whole = file("JPEG", pixels, progressive=True)
        scans = [i for i in range(len(whole)) if whole[i : i + 2] == b"\xff\xda"]
        assert len(scans) > 3
        for scan in scans[1:]:
            table = whole.rfind(b"\xff\xc4", 0, scan)
            with pytest.raises(ValueError, match="a.jpg is damaged"):
                imagefile.colours(whole[:table] + b"\xff\xd9", "a.jpg")


def test_a_hole_in_a_jpeg_is_damage_and_a_flat_picture_is_none() -> None:
    whole = file("JPEG", soft(3), quality=90)
    middle = len(whole) // 2
    with pytest.raises(ValueError, match="a.jpg is damaged: .*zero bytes"):
        imagefile.colours(whole[:middle] + bytes(40) + whole[middle + 40 :], "a.jpg")
    for value in (0, 127, 255):
        for mode in ((200, 300), (200, 300, 3)):
            for optimize in (False, True):
                flat = file("JPEG", np.full(mode, value, np.uint8), optimize=optimize)
                assert (imagefile.colours(flat, "flat.jpg") == value).all()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_cut_file_is_damaged_or_no_image(kind: str) -> None:
    data = file(kind, soft(1))
    for share in (0.0, 0.1, 0.6, 0.95):
        with pytest.raises(ValueError, match=r"^a\.x is (empty|damaged|not an image)"):
            imagefile.colours(data[: int(len(data) * share)], "a.x")


def test_a_changed_byte_of_a_png_does_not_pass() -> None:
    data = bytearray(file("PNG", soft(1)))
    data[len(data) // 2] ^= 4
    with pytest.raises(ValueError, match=r"a\.png is damaged"):
        imagefile.numbers(bytes(data), "a.png")


def test_a_tiff_that_readers_see_apart_is_refused() -> None:
    data = file("TIFF", PIXELS)
    at = data.index(b"\x06\x01\x03\x00")  # the tag of how colours are meant
    with pytest.raises(ValueError, match=r"a.tif is damaged: it keeps colours as YCbCr"):
        imagefile.numbers(data[: at + 8] + b"\x06" + data[at + 9 :], "a.tif")
    grey = bytearray(file("TIFF", PIXELS[..., 0]))
    at = grey.index(b"\x16\x01")  # rows a strip
    assert (imagefile.numbers(bytes(grey), "a.tif") == PIXELS[..., 0]).all()
    swapped = grey[:at] + grey[at + 12 : at + 24] + grey[at : at + 12] + grey[at + 24 :]
    assert (imagefile.numbers(bytes(swapped), "a.tif") == PIXELS[..., 0]).all(), "a careless writer"


def test_a_bomb_is_refused_by_its_header() -> None:
    side = 20_000
    data = zlib.compress(bytes(1000))  # a header is enough: nothing else is to be read
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = PNG + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match=r"20000 x 20000 pixels, more than 150 million.*megapixels"):
        imagefile.colours(bomb, "big.png")
    with pytest.raises(ValueError, match="more than 5e-05 million"):
        imagefile.numbers(file("PNG", PIXELS), "small.png", megapixels=0.00005)


def test_what_is_left_out_is_counted() -> None:
    clear = np.dstack([PIXELS, np.full((6, 9), 128, np.uint8)])
    opaque = np.dstack([PIXELS, np.full((6, 9), 255, np.uint8)])
    pages = io.BytesIO()
    Image.fromarray(PIXELS).save(pages, "TIFF", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])])
    with collected() as said:
        for data in (file("PNG", clear), file("PNG", opaque), pages.getvalue()):
            assert (imagefile.colours(data, "a") == PIXELS).all()
    assert dict(said) == {
        "an alpha channel that is not opaque is left out": 1,
        "only the first page or frame of a file with several is read": 1,
    }


# -- through ingest ----------------------------------------------------------------------------------------------------
def labelled(root: Path, pictures: dict[str, bytes], labels: dict[str, bytes], **side: Any) -> dict[str, Any]:
    for folder, files in (("imgs", pictures), ("labels", labels)):
        for name, data in files.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / name).write_bytes(data)
    suffix = next(iter(labels)).rpartition(".")[2]
    column = {"path": f"{root}/labels/{{stem}}.{suffix}", **side}
    return {"type": "files", "path": f"{root}/imgs", "columns": {"semantic@truth": column}}


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def told_of(made: Any) -> str:
    return " | ".join(made.body["remarks"])


def test_a_label_of_the_stored_picture_does_not_meet_the_turned_one(tmp_path: Path) -> None:
    pixels = np.zeros((12, 16, 3), np.uint8)
    mask = np.zeros((12, 16), np.uint8)
    mask[:, 8:] = 1
    turned = file("JPEG", pixels, 6)
    source = labelled(
        tmp_path,
        {"stored.jpg": turned, "shown.jpg": turned},
        {"stored.png": png(mask, 8, False), "shown.png": png(as_seen(mask, 6), 8, False)},
    )
    made, storage = ingest(tmp_path / "root", source)
    assert [key for key, *_ in rows(made, storage)] == ["shown"]
    assert "EXIF" in left_out(made, storage)["stored"] and "orientation: ignore" in left_out(made, storage)["stored"]
    assert "2 files: EXIF turns" in told_of(made)


def test_boxes_of_the_stored_picture_do_not_lie_on_the_turned_one(tmp_path: Path) -> None:
    """Shares of the one are other places of the other, and were taken for them."""
    turned, plain = file("JPEG", np.zeros((12, 16, 3), np.uint8), 6), file("JPEG", np.zeros((12, 16, 3), np.uint8))

    def voc(width: int, height: int) -> bytes:
        corners = "<xmin>1</xmin><ymin>2</ymin><xmax>8</xmax><ymax>6</ymax>"
        thing = f"<object><name>car</name><bndbox>{corners}</bndbox></object>"
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        return f"<annotation>{size}{thing}</annotation>".encode()

    def labelme(width: int, height: int) -> bytes:
        shapes = [{"label": "car", "points": [[1, 2], [8, 6]], "shape_type": "rectangle"}]
        return json.dumps({"imageWidth": width, "imageHeight": height, "shapes": shapes}).encode()

    for suffix, boxes in (("xml", voc), ("json", labelme)):
        pictures = {"stored.jpg": turned, "shown.jpg": turned, "plain.jpg": plain, "half.jpg": plain}
        made_for = {"stored": (16, 12), "shown": (12, 16), "plain": (16, 12), "half": (8, 6)}
        labels = {f"{name}.{suffix}": boxes(*sides) for name, sides in made_for.items()}
        source = labelled(tmp_path / suffix, pictures, labels)
        source["columns"] = {"objects@truth": source["columns"]["semantic@truth"]}
        made, storage = ingest(tmp_path / suffix / "root", source)
        assert sorted(key for key, *_ in rows(made, storage)) == ["half", "plain", "shown"]
        assert "EXIF" in left_out(made, storage)["stored"]
        assert stage(source).revised_for(KNOWN) == {"stored boxes": 2}


def tarred(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))


def test_maps_of_a_tar_that_are_arrays_or_have_an_exif_of_their_own_are_compared_as_they_are_read(
    tmp_path: Path,
) -> None:
    mask, turned = np.zeros((12, 16), np.uint8), file("JPEG", np.zeros((12, 16, 3), np.uint8), 6)
    tarred(tmp_path / "a.tar", {"own.jpg": turned, "own.png": file("PNG", mask, 6)})
    tarred(tmp_path / "b.tar", {"stored.jpg": turned, "stored.npy": npy(mask), "shown.jpg": turned,
                                "shown.npy": npy(mask.T.copy())})  # fmt: skip
    for name, ending, kept in (("a", "png", ["own"]), ("b", "npy", ["shown"])):
        source = {"type": "webdataset", "path": f"{tmp_path}/{name}.tar",
                  "columns": {"semantic@truth": ending, "rgb@camera": "jpg"}}  # fmt: skip
        made, storage = ingest(tmp_path / f"root {name}", source)
        assert [key.rpartition("/")[2] for key, *_ in rows(made, storage)] == kept
        assert all("EXIF" in why for why in left_out(made, storage).values())


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_array_beside_a_picture_costs_its_own_sample(tmp_path: Path, damage: str) -> None:
    out = io.BytesIO()
    np.savez_compressed(out, depth=np.random.default_rng(0).normal(size=(12, 16)).astype(np.float32))
    whole, picture = out.getvalue(), file("JPEG", np.zeros((12, 16, 3), np.uint8))
    torn = whole[:-40] if damage == "cut" else whole[:200] + bytes(b ^ 255 for b in whole[200:260]) + whole[260:]
    tarred(tmp_path / "a.tar", {"a.jpg": picture, "a.npz": whole, "b.jpg": picture, "b.npz": torn})
    source = {"type": "webdataset", "path": f"{tmp_path}/a.tar", "columns": {"rgb@camera": "jpg", "depth@truth": "npz"}}
    made, storage = ingest(tmp_path / "root", source)
    assert [key for key, *_ in rows(made, storage)] == ["a/a"] and list(left_out(made, storage)) == ["a/b"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "tar"])
def test_labels_that_a_row_or_a_tar_has_beside_its_picture_lie_on_it_as_it_is_turned(tmp_path: Path, kind: str) -> None:
    """Only side files of pictures were compared: of tables and tars the stored picture's labels lay elsewhere."""
    mask = np.zeros((12, 16), np.uint8)
    mask[:, 8:] = 1
    turned = file("JPEG", np.zeros((12, 16, 3), np.uint8), 6)
    maps = {"stored": png(mask, 8, False), "shown": png(as_seen(mask, 6), 8, False)}
    sides = {"stored": (16, 12), "shown": (12, 16)}
    shapes = [{"label": "car", "points": [[1, 2], [8, 6]], "shape_type": "rectangle"}]
    boxes = {
        n: json.dumps({"imageWidth": w, "imageHeight": h, "shapes": shapes}).encode() for n, (w, h) in sides.items()
    }
    columns = {"objects@truth": "json", "semantic@truth": "png", "rgb@camera": "jpg"}
    files = {f"{n}.{end}": d for n in sides for end, d in (("jpg", turned), ("png", maps[n]), ("json", boxes[n]))}
    if kind == "tar":
        tarred(tmp_path / "a.tar", files)
    for column in ("objects@truth", "semantic@truth"):
        chosen = {c: end for c, end in columns.items() if c in (column, "rgb@camera")}
        table = {"type": "table", "path": f"{tmp_path}/a.{kind}", "key": "id"}
        if kind == "csv":
            for name, data in files.items():
                (tmp_path / name).write_bytes(data)
            lines = [f"{n},{n}.jpg,{n}.png,{n}.json" for n in sides]
            (tmp_path / "a.csv").write_text("id,jpg,png,json\n" + "\n".join(lines))
            source = {**table, "columns": {c: {"file": end} for c, end in chosen.items()}}
        elif kind == "parquet":
            cells = {e: [{"bytes": files[f"{n}.{e}"], "path": f"{n}.{e}"} for n in sides] for e in columns.values()}
            pq.write_table(pa.table({"id": list(sides), **cells}), tmp_path / "a.parquet")
            source = {**table, "columns": chosen}
        else:
            source = {"type": "webdataset", "path": f"{tmp_path}/a.tar", "columns": chosen}
        made, storage = ingest(tmp_path / "root" / column, source)
        (lost,) = left_out(made, storage).values()
        assert [key.rpartition("/")[2] for key, *_ in rows(made, storage)] == ["shown"]
        assert column in lost and "EXIF" in lost and "orientation: ignore" in lost
        cell = kind == "parquet" and column == "objects@truth"  # boxes in cells are lists, as a rule
        assert ("turned" in stage(source).revised_for(KNOWN)) != cell


def test_a_table_that_was_read_before_labels_were_compared_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step had another identity; its units, which hold the labels, were those of before."""
    (tmp_path / "a.jpg").write_bytes(file("JPEG", np.zeros((12, 16, 3), np.uint8), 6))
    (tmp_path / "b.jpg").write_bytes(file("JPEG", np.zeros((12, 16, 3), np.uint8)))
    (tmp_path / "mask.png").write_bytes(png(np.zeros((12, 16), np.uint8), 8, False))
    (tmp_path / "a.csv").write_text("id,jpg,png\na,a.jpg,mask.png\nb,b.jpg,mask.png\n")
    columns = {"semantic@truth": {"file": "png"}, "rgb@camera": {"file": "jpg"}}
    source = {"type": "table", "path": f"{tmp_path}/a.csv", "key": "id", "columns": columns}
    with monkeypatch.context() as before:
        before.setattr(Framed, "look", lambda *_: None)
        before.setattr(Table, "of_bytes", lambda *_: False)
        made, storage = ingest(tmp_path / "root", source)
        assert [key for key, *_ in rows(made, storage)] == ["a", "b"]
    made, storage = ingest(tmp_path / "root", source, limit=9)  # the identity of a step by hand knows no revision
    assert [key for key, *_ in rows(made, storage)] == ["b"] and "EXIF" in left_out(made, storage)["a"]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((12, 16), np.inf), "holds inf, which is no class id"),
        (np.full((12, 16), 1.7), "holds 1.7, which is no class id"),
        (np.full((12, 16), -1), r"holds -1, and class ids .* void: \[-1\]"),
        (np.full((12, 16), 65537), "holds 65537"),
        (np.full((1, 12, 16), 1, np.uint8), r"channels first\? got \(1, 12, 16\)"),
        (np.full((16, 12), 1, np.uint8), "is 16 x 12 and its picture 12 x 16"),
        (np.full((12, 16), 2, np.uint8), "below 2 or 255, got 2"),
    ],
)
def test_what_is_no_class_id_is_refused_under_its_own_name(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    fine = npy(np.eye(12, 16, dtype=np.float32))
    pictures = {f"{n}.png": file("PNG", np.zeros((12, 16, 3), np.uint8)) for n in ("a", "b")}
    source = labelled(tmp_path, pictures, {"a.npy": npy(array), "b.npy": fine})
    made, storage = ingest(tmp_path / "root", source, max_quarantine=1.0)
    assert list(left_out(made, storage)) == ["a"]
    with pytest.raises(ValueError, match=reason):
        raise ValueError(left_out(made, storage)["a"])


def test_nan_is_unknown_and_any_integer_may_be_remapped(tmp_path: Path) -> None:
    from hyperloom.stages.table import read_table

    ids = np.full((12, 16), 65537.0)
    ids[0] = np.nan
    picture = file("PNG", np.zeros((12, 16, 3), np.uint8))
    source = labelled(tmp_path, {"a.png": picture}, {"a.npy": npy(ids)}, remap={65537: 1})
    made, storage = ingest(tmp_path / "root", source)
    semantic = inline.modalities(semantic={"type": "segmentation", "classes": ["a", "b"], "size": [12, 16]})["semantic"]
    value = semantic.decode(read_table(storage, made.records[0].file.path)["semantic@truth"])[0][0]
    assert (value[0] == 255).all() and (value[1:] == 1).all()


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([1, 1], "all 3 samples hold the one class 1 (road)"),
        ([0, 255], "remap: {255: 1}"),
        ([0, 1], ""),
    ],
)
def test_suspicious_masks_are_said_with_the_option_that_mends_them(tmp_path: Path, ids: list[int], said: str) -> None:
    mask = np.resize(np.array(ids, np.uint8), (12, 16))
    picture = file("PNG", np.zeros((12, 16, 3), np.uint8))
    names = ("a", "b", "c")
    source = labelled(tmp_path, {f"{n}.png": picture for n in names}, {f"{n}.png": png(mask, 8, False) for n in names})
    made, _ = ingest(tmp_path / "root", source)
    assert said in told_of(made) and bool(said) == bool(told_of(made))


def test_ids_that_start_at_one_are_asked_about(tmp_path: Path) -> None:
    picture = file("PNG", np.zeros((12, 16, 3), np.uint8))
    masks = {f"{i}.png": png(np.full((12, 16), 2 if i == 0 else 1, np.uint8), 8, False) for i in range(6)}
    source = labelled(tmp_path, dict.fromkeys(masks, picture), masks)
    made, storage = ingest(tmp_path / "root", source)
    assert list(left_out(made, storage)) == ["0"]
    assert "class 0 (land) never occurs and id 2 was refused" in told_of(made) and "remap: {1: 0, 2: 1}" in told_of(
        made
    )


# -- anything at all ---------------------------------------------------------------------------------------------------
def second_reader(data: bytes) -> np.ndarray | None:
    """The numbers by OpenCV, in the order RGB and without alpha."""
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None  # as of sides beyond all limits
    if array is not None and array.ndim == 3:
        array = array[..., 2::-1] if array.shape[2] >= 3 else array[..., 0]
    return array


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, np.ndarray | None]:
    """A file, and its numbers where it was left whole and loses none."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["mask", "PNG", "JPEG", "TIFF", "BMP", "WEBP", "deep"]))
    if kind == "mask":
        bits = draw(st.sampled_from([1, 2, 4, 8, 16]))
        pixels = random.integers(0, 2**bits, (height, width))
        data = png(pixels, bits, draw(st.booleans()) and bits < 16)
    elif kind == "deep":
        pixels = random.integers(0, 65536, (height, width, *draw(st.sampled_from([(), (3,)]))), np.uint16)
        suffix = draw(st.sampled_from([".png", ".tif"]))
        data = cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()
    else:
        deep = (3,) if kind == "WEBP" else draw(st.sampled_from([(), (3,)]))
        pixels = random.integers(0, 256, (height, width, *deep), np.uint8)
        data = file(kind, pixels, **({"lossless": True} if kind == "WEBP" else {}))
    damage = draw(st.sampled_from(["none", "cut", "byte", "zeros", "none"]))
    place = draw(st.integers(0, len(data) - 1))
    if damage == "cut":
        data = data[:place]
    elif damage == "byte":
        data = data[:place] + bytes([data[place] ^ draw(st.integers(1, 255))]) + data[place + 1 :]
    elif damage == "zeros":
        data = data[:place] + bytes(min(20, len(data) - place)) + data[place + 20 :]
    return data, pixels if damage == "none" and kind != "JPEG" else None


@settings(max_examples=EXAMPLES, deadline=None)
@given(files())
def test_any_file_is_what_a_second_reader_gives_or_a_reason(case: tuple[bytes, np.ndarray | None]) -> None:
    data, expected = case
    try:
        numbers = imagefile.numbers(data, "a.x", "ignore")
    except ValueError as error:
        assert expected is None and str(error).startswith("a.x ")
        return
    if expected is not None:
        assert numbers.shape == expected.shape and (numbers == expected).all()
        return
    head = imagefile.header(data, "a.x")
    if head.mode in ("P", "1") or (head.mode == "L" and head.bits < 8):
        return  # OpenCV shows colours of a palette, and spreads few bits over 0..255
    other = second_reader(data)
    if other is not None:
        assert numbers.shape == other.shape and (numbers == other).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_photographs_are_what_all_of_them_would_be(orientation) -> None:
    """At the smallest eighths that leave as many pixels as are wanted, whichever side is up."""
    stored = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), (560, 400))
    data = file("JPEG", stored, orientation, quality=95)
    sides = [40, 70] if orientation < 5 else [70, 40]
    plain, reduced = (
        inline.modalities(photo={"type": "image", "size": sides, "reduce": on})["photo"] for on in (False, True)
    )
    full, small = plain.read(data, "a.jpg"), reduced.read(data, "a.jpg")
    assert small.shape == full.shape == (*sides, 3)
    assert np.abs(small.astype(int) - full).mean() < 1.5
    assert imagefile.colours(data, "a.jpg", least=tuple(sides)).shape[:2] in ((50, 70), (70, 50))


def test_a_photograph_of_less_than_twice_the_size_is_not_reduced() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    data = file("JPEG", picture)
    assert imagefile.colours(data, "a.jpg", least=(16, 26)).shape == picture.shape
    plain, reduced = (
        inline.modalities(photo={"type": "image", "size": [16, 26], "reduce": on})["photo"] for on in (False, True)
    )
    assert np.array_equal(plain.read(data, "a.jpg"), reduced.read(data, "a.jpg"))
    png = file("PNG", np.repeat(picture, 4, 0))
    assert np.array_equal(plain.read(png, "a.png"), reduced.read(png, "a.png")), "other files come whole"
    with pytest.raises(ValueError, match="a file is kept as it came"):
        inline.modalities(photo={"type": "image", "size": [16, 26], "reduce": True, "codec": "file"})
