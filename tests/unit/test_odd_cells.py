"""Cells that Python's own reading takes for something that nobody meant: the value that was meant, or a reason."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import remarks
from tests.unit import inline
from tests.unit.test_image_files import file, npy
from tests.unit.test_ingest import left_out, stage

KNOWN = inline.modalities(
    rgb={"type": "image", "size": [4, 6]},
    kind={"type": "category", "classes": ["cat", "dog"]},
    numeral={"type": "category", "classes": ["1", "2", "3"]},
    flag={"type": "category", "classes": ["False", "True"]},
    sign={"type": "category", "classes": ["-1", "0", "1"]},
    account={"type": "category", "classes": ["9007199254740992", "9007199254740993"]},
    speed={"type": "scalar"},
    track={"type": "series", "steps": 3},
    quad={"type": "vector", "length": 4},
    text={"type": "text", "length": 200},
    topics={"type": "multilabel", "classes": ["art", "sport"]},
    parts={"type": "tags", "tags": ["1", "2", "3"], "length": 2},
    things={"type": "boxes", "classes": ["1", "2"], "most": 2},
    depth={"type": "dense", "storage": "float32", "range": [0, 9]},
    sound={"type": "audio", "rate": 20, "seconds": 1},
    normals={"type": "dense", "channels": 3, "direction": True, "storage": "float32"},
    soft={"type": "soft", "classes": ["a", "b", "c"]},
    metres={"type": "dense", "storage": "float32", "unit": "m", "unknown": 60},
    joints={"type": "keypoints", "points": ["l", "r"]},
)
PLACE = {"x0": 0, "y0": 0, "x1": 0.5, "y1": 1}
Read = tuple[dict[str, Any], dict[str, str], list[str]]


def read(folder: Path, name: str, data: bytes, column: str, **source: Any) -> Read:
    """Values, reasons of those left out, remarks."""
    (folder / name).write_bytes(data)
    table = {"type": "table", "path": str(folder / name), "key": "id", "columns": {column: "y"}, **source}
    storage = Storage(str(folder / "root"))
    manifest = inline.finish(inline.step(stage(table, max_quarantine=1.0), storage, KNOWN))
    return values(storage, manifest, column), left_out(manifest, storage), manifest.body["remarks"]


def values(storage: Storage, manifest: Any, column: str) -> dict[str, Any]:
    return {k: None if v is None else v.tolist() for k, v in inline.column(storage, KNOWN, manifest, column).items()}


def lines(*cells: Any) -> bytes:
    return "".join(json.dumps({"id": f"r{i}", "y": cell}) + "\n" for i, cell in enumerate(cells)).encode()


def parquet(*cells: Any) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [f"r{i}" for i in range(len(cells))], "y": list(cells)}), out)
    return bytes(out.getvalue())


CELLS = [
    ("topics@a", {"art": "no", "sport": "yes"}, [0, 1]),
    ("topics@a", {"art": "0", "sport": True}, [0, 1]),
    ("topics@a", {"art": 0.5}, "expected yes or no"),
    ("topics@a", "1;0", [1, 0]),
    ("parts@a", [1, 2], [0, 1]),
    ("parts@a", "1 2", [0, 1]),
    ("parts@a", [1.7], "got 1.7"),
    ("parts@a", [True], "expected one of"),
    ("things@a", [{**PLACE, "class": 2}], 1.0),
    ("things@a", [{**PLACE, "class": "2"}], 1.0),
    ("things@a", [{**PLACE, "class": 0.7}], "got {'x0'"),
    ("things@a", [{**PLACE, "class": 2, "crowd": True}], 1.0),
    ("text@a", [72, 105], "expected a text"),
    ("numeral@a", 2, 1),
    ("numeral@a", "1_0", "got '1_0'"),
    ("flag@a", True, 1),
    ("sign@a", -1, 0),
    ("sign@a", "-1.0", 0),
    ("sign@a", -1.0, 0),
    ("kind@a", "-1.0", None),
    ("kind@a", 10**30, "expected a name or an id"),
    ("kind@a", "1e300", "expected one of cat, dog"),
    ("account@a", 2**53, 0),
    ("account@a", 2**53 + 1, 1),
    ("account@a", f"{2**53 + 1}", 1),
    ("speed@a", "1_000", "got '1_000'"),
    ("speed@a", "NaN", r"missing: \[NaN\]"),
]


@pytest.mark.parametrize(("column", "cell", "expected"), CELLS, ids=str)
def test_a_cell_is_what_was_meant_or_a_reason(tmp_path: Path, column: str, cell: Any, expected: Any) -> None:
    fine = {"topics": ["art"], "parts": ["1"], "things": [], "text": "a", "numeral": "1", "flag": "True", "speed": 1,
            "sign": 0, "kind": "cat", "account": f"{2**53}"}  # fmt: skip
    taken, reasons, _ = read(tmp_path, "t.jsonl", lines(cell, fine[column.partition("@")[0]]), column)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            raise ValueError(reasons["r0"])
        assert list(taken) == ["r1"]
        return
    value = taken["r0"][0][4] if column == "things@a" else taken["r0"]
    assert value == expected


def test_a_number_of_64_bits_names_its_own_file(tmp_path: Path) -> None:
    """As a float it has no last digits, and 9007199254740992.npy is another sample's."""
    for number in (2**53, 2**53 + 1):
        (tmp_path / f"{number}.npy").write_bytes(npy(np.full(20, (number % 2) / 2, np.float32)))
    pq.write_table(pa.table({"id": ["r0", "r1"], "y": [2**53 + 1, 2**53]}), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    columns = {"sound@a": {"file": "{y:d}.npy"}}
    taken, reasons, _ = read(tmp_path, "t.parquet", data, "sound@a", columns=columns)
    assert not reasons and [taken[row][0] for row in ("r0", "r1")] == [0.5, 0.0]


def test_numbers_of_other_kinds_mean_the_same_in_parquet(tmp_path: Path) -> None:
    """Decimals and truth values are what CSV would say; dates are no numbers."""
    cells = parquet(decimal.Decimal("1"), decimal.Decimal("3"))
    assert read(tmp_path, "a.parquet", cells, "numeral@a")[0] == {"r0": 0, "r1": 2}
    assert read(tmp_path, "b.parquet", parquet(True, False), "flag@a")[0] == {"r0": 1, "r1": 0}
    with pytest.raises(SourceError, match="expected 1 numbers"):
        read(tmp_path, "c.parquet", parquet(datetime.datetime(2020, 1, 2)), "speed@a")


def test_digits_that_float32_does_not_hold_are_said(tmp_path: Path) -> None:
    taken, _, said = read(tmp_path, "t.csv", b"id,y\nr0,1700000001\nr1,16777218\n", "speed@a")
    assert taken["r1"] == [16777218.0] and [text.partition(" ")[0] for text in said] == ["1"]
    assert "beyond 16777216 lose their last digits" in said[0]
    taken, _, said = read(tmp_path, "t.jsonl", lines([1, 2**24 + 1, None], [2**24 + 2]), "track@a")
    assert taken["r1"][0] == [16777218.0] and "beyond 16777216 lose their last digits" in said[0]
    assert [text.partition(" ")[0] for text in said] == ["1"]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_what_means_missing_does_so_in_every_format(tmp_path: Path, name: str) -> None:
    """A number of that value, whole or not, in letters or not; and no other."""
    forms = {
        "t.csv": b"id,y\nr0,-999\nr1,-999.0\nr2,-99\nr3,N/A\n",
        "t.jsonl": lines(-999, -999.0, -99, "N/A"),
        "t.parquet": parquet(-999.0, -999.0, -99.0, None),
    }
    taken, reasons, _ = read(tmp_path, name, forms[name], "speed@a", missing=["-999", "N/A"])
    assert (taken, reasons) == ({"r0": None, "r1": None, "r2": [-99.0], "r3": None}, {})


def test_with_a_decimal_comma_a_point_is_no_decimal_one(tmp_path: Path) -> None:
    table = b"id;y\nr0;1.234\nr1;1,5\nr2;1.234,5\nr3;1,2,3\n"
    taken, reasons, _ = read(tmp_path, "t.csv", table, "speed@a", separator=";", decimal=",")
    assert taken == {"r1": [1.5]} and "marks thousands" in reasons["r0"] and "marks thousands" in reasons["r2"]
    assert "more than one comma" in reasons["r3"]
    table = b"id;y\nr0;1,5 2,5\nr1;1,5 2,5 -3 4e1\n"
    taken, reasons, _ = read(tmp_path, "u.csv", table, "quad@a", separator=";", decimal=",")
    assert taken == {"r1": [1.5, 2.5, -3.0, 40.0]} and "expected 4 numbers, got 2" in reasons["r0"]


MARKS = [
    (
        ",",
        ".",
        ["1,234", "-1,234,567.5", "12", "1,5", "0,123", "1,234 2"],
        [1234.0, -1234567.5, 12.0, "three", "three", ""],
    ),
    (".", ",", ["1.234", "1.234.567,25", "12,5", "1.5", "1.2345"], [1234.0, 1234567.25, 12.5, "three", "three"]),
    (" ", ",", ["1 234", "1\u202f234\u00a0567,5", "12", "1 23", "1 234;2"], [1234.0, 1234567.5, 12.0, "three", ""]),
    ("'", ".", ["1'234.5", "1\u2019234", "12", "1'23"], [1234.5, 1234.0, 12.0, "three"]),
]


@pytest.mark.parametrize(
    ("thousands", "point", "cells", "expected"), MARKS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_marks_of_thousands_are_taken_as_the_source_says(
    tmp_path: Path, thousands: str, point: str, cells: list[str], expected: list[Any]
) -> None:
    taken, reasons, _ = read(
        tmp_path, "t.jsonl", lines(*cells), "speed@a", thousands=thousands, decimal=point, missing=["12"]
    )
    for number, (cell, value) in enumerate(zip(cells, expected, strict=True)):
        if isinstance(value, str):
            assert value in reasons[f"r{number}"], "two numbers are not one"
        else:
            assert taken[f"r{number}"] == (None if cell == "12" else [value])


@pytest.mark.parametrize(
    ("cell", "advice"),
    [
        ("1,234", 'A decimal comma? decimal: "," on the source, and if it marks thousands: thousands: ","'),
        ("1,5", 'A decimal comma? decimal: "," on the source'),
        ("1,234,567", 'thousands: "," on the source'),
        ("1,234.5", 'thousands: "," on the source'),
        ("1.234.567", 'thousands: "." with decimal: "," on the source'),
        ("1.234,5", 'thousands: "." with decimal: "," on the source'),
        ("1 234", 'thousands: " " on the source'),
        ("1\u202f234,5", 'thousands: " " with decimal: "," on the source'),
        ("1'234", 'thousands: "\'" on the source'),
    ],
)
def test_a_number_with_marks_of_thousands_says_what_to_set(tmp_path: Path, cell: str, advice: str) -> None:
    taken, reasons, _ = read(tmp_path, "t.jsonl", lines(cell, 3), "speed@a")
    assert taken == {"r1": [3.0]} and reasons["r0"].endswith(advice)
    settings = dict(re.findall(r'(thousands|decimal): "(.)"', advice.partition(", and if it marks ")[2] or advice))
    taken, reasons, _ = read(tmp_path, "t.jsonl", lines(cell, 3), "speed@a", **settings)
    value = float(cell.replace(settings.get("thousands", "_"), "").replace("\u202f", "").replace(",", "."))
    assert taken == {"r0": [value], "r1": [3.0]} and not reasons, "what it says helps"


def test_a_class_and_a_file_by_a_number_with_marks(tmp_path: Path) -> None:
    account = f"{2**53:,}"
    how: dict[str, Any] = {"thousands": ","}
    assert read(tmp_path, "t.jsonl", lines(account, "9,007,199,254,740,993"), "account@a", **how)[0] == {
        "r0": 0,
        "r1": 1,
    }
    cells = lines("1,234 nan 1,000.5 -inf", "1,234 nan 5", "20,000,000 1 2 3")
    taken, reasons, _ = read(tmp_path, "s.jsonl", cells, "quad@a", **how)
    assert taken == {"r2": [2e7, 1, 2, 3]} and "got 2 NaN or infinite of 4" in reasons["r0"], reasons
    assert "expected 4 numbers, got 3" in reasons["r1"], "beside a hole the mark made two numbers of one"
    taken, reasons, _ = read(tmp_path, "u.jsonl", lines("1,0", "3"), "numeral@a", **how)
    assert taken == {"r1": 2} and "got '1,0'" in reasons["r0"]
    (tmp_path / "a.npy").write_bytes(npy(np.arange(2000 * 20, dtype=np.float32) / 1e6))
    table = b'id;y;from;to\nr0;a.npy;"1.000,5";"1.001,5"\n'
    columns = {"sound@a": {"file": "y", "start": "from", "end": "to"}}
    how = {"thousands": ".", "decimal": ",", "separator": ";", "columns": columns}
    taken, reasons, _ = read(tmp_path, "v.csv", table, "sound@a", **how)
    assert not reasons and taken["r0"][0] == pytest.approx(1000.5 * 20 / 1e6, rel=1e-3)


def test_samples_that_a_decimal_comma_put_into_quarantine_are_made_anew() -> None:
    """They stayed there: nothing in their identity said that such cells are read by now."""
    known = inline.modalities(
        kind={"type": "category", "classes": ["1,5", "2"]},
        flag={"type": "category", "classes": ["no", "yes"]},
        quad={"type": "vector", "length": 4},
        speed={"type": "scalar"},
        sound={"type": "audio", "rate": 20, "seconds": 1},
    )

    def moved(column: str, cell: Any, point: str) -> tuple[int, dict[str, int]]:
        table = stage({"type": "table", "path": "t.csv", "decimal": point, "columns": {column: cell}})
        return table.source.meaning(column)["revision"], table.revised_for(known)

    part = {"file": "y", "start": "from", "duration": "s"}
    assert [moved("sound@a", part, point) for point in ",."] == [(2, {}), (1, {})]
    assert [moved("kind@a", "y", point) for point in ",."] == [(1, {"classes": 2}), (1, {})]
    assert moved("flag@a", "y", ",") == moved("sound@a", {"file": "y"}, ",") == (1, {}), "what means the same stays"


@pytest.mark.parametrize(
    ("cells", "doubtful"),
    [
        (["950", "1.234", "2.500", "12.000", "", "7"], True),
        (["950", "1.234", "2.5", "12.000"], False),
        (["950.000", "1.234", "2.500", "12.000"], False),
        (["0.950", "1.234", "2.500", "12"], False),
        (["1950", "1.234", "2.500", "12.000"], False),
        (["1.234", "2.500", "12.000"], False),
    ],
)
def test_points_that_look_like_marks_of_thousands_are_said(tmp_path: Path, cells: list[str], doubtful: bool) -> None:
    data = "\n".join(["id,y", *(f"r{i},{cell}" for i, cell in enumerate(cells)), ""]).encode()
    said = read(tmp_path, "t.csv", data, "speed@a")[2]
    shown = (
        "y: 1.234 and 2 more cells have three digits behind the '.', and 2 are small whole numbers. They are taken for"
    )
    assert [text.startswith(shown) for text in said] == [True] * doubtful
    assert all(text.endswith('thousands: "." with decimal: "," on the source') for text in said)


def test_a_column_may_have_words_of_its_own_for_no_value(tmp_path: Path) -> None:
    """-1 is nobody's age, and a temperature; what the source says holds for those that say nothing."""
    data = b"id,y,t\nr0,-1,-1\nr1,NA,5\nr2,7,NA\n"
    columns = {"speed@a": {"field": "y", "missing": ["-1", "NA"]}, "speed@b": "t"}
    taken, reasons, _ = read(tmp_path, "t.csv", data, "speed@a", columns=columns, missing="NA")
    assert not reasons and taken == {"r0": None, "r1": None, "r2": [7.0]}
    assert read(tmp_path, "t.csv", data, "speed@b", columns=columns, missing="NA")[0] == {
        "r0": [-1.0], "r1": [5.0], "r2": None,
    }  # fmt: skip
    columns["speed@b"] = {"field": "t", "missing": []}
    _, reasons, _ = read(tmp_path, "t.csv", data, "speed@b", columns=columns, missing="NA")
    assert list(reasons) == ["r2"] and "missing: [NA]" in reasons["r2"]


def test_a_missing_number_is_known_however_it_is_written(tmp_path: Path) -> None:
    how: dict[str, Any] = {"separator": ";", "decimal": ",", "thousands": ".", "missing": ["-999", "9999"]}
    taken, reasons, _ = read(tmp_path, "t.csv", b"id;y\nr0;-999,0\nr1;9.999\nr2;-99,9\n", "speed@a", **how)
    assert not reasons and taken["r0"] is None and taken["r1"] is None and taken["r2"][0] == pytest.approx(-99.9)


def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="opens in the row of line 3 is never closed"):
        read(tmp_path, "t.csv", b'id,y\nr0,fine\nr1,"open\nr2,b\nr3,c\n', "text@a")
    table = b'id,y\nr0,"5" tall"\nr1,5" tall\nr2,"5"" tall"\n'
    taken, reasons, _ = read(tmp_path, "u.csv", table, "text@a")
    shown = [KNOWN["text"].words(np.array(value)) for value in taken.values()]
    assert shown == ['5" tall', '5" tall'] and 'write "" for one' in next(iter(reasons.values()))


def test_a_key_that_comes_twice_and_an_array_are_no_rows(tmp_path: Path) -> None:
    taken, reasons, _ = read(tmp_path, "t.jsonl", b'{"id": "a", "y": "cat", "y": "dog"}\n' + lines("dog"), "kind@a")
    assert taken == {"r0": 1} and "the key 'y' comes twice" in next(iter(reasons.values()))
    with pytest.raises(SourceError, match="a JSON array, not an object a line"):
        read(tmp_path, "u.jsonl", b'[\n{"id": "a", "y": "cat"},\n{"id": "b", "y": "dog"}\n]\n', "kind@a")


# -- files beside pictures ---------------------------------------------------------------------------------------------
def beside(folder: Path, column: str, name: str, data: bytes, **side: Any) -> tuple[dict[str, Any], dict[str, str]]:
    for stem in ("a", "b"):
        (folder / f"{stem}.png").write_bytes(file("PNG", np.zeros((4, 6, 3), np.uint8)))
    (folder / name.format(stem="a", key="a")).write_bytes(data)
    path = str(folder / name)
    source = {"type": "files", "path": f"{folder}/*.png", "columns": {column: {"path": path, **side}}}
    storage = Storage(str(folder / "root"))
    manifest = inline.finish(inline.step(stage(source, max_quarantine=1.0), storage, KNOWN))
    return values(storage, manifest, column), left_out(manifest, storage)


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("numeral@a", "2", 1),
        ("numeral@a", "3.0", 2),
        ("kind@a", "dog", 1),
        ("flag@a", "True", 1),
        ("kind@a", "1", 1),
    ],
)
def test_a_table_beside_the_pictures_has_names_as_one_of_rows_has(
    tmp_path: Path, column: str, cells: str, expected: int
) -> None:
    taken, reasons = beside(tmp_path, column, "labels.csv", f"name,y\na,{cells}\nb,\n".encode())
    assert (taken, reasons) == ({"a": expected, "b": None}, {})


@pytest.mark.parametrize("kind", [">f4", "<f8", ">i2", "<u4", "float16", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_any_plain_kind_is_its_numbers(tmp_path: Path, kind: str, order: Any) -> None:
    numbers = np.asarray(np.arange(24).reshape(4, 6) % 2, kind, order=order)
    taken, _ = beside(tmp_path, "depth@a", "{stem}.npy", npy(numbers))
    assert np.array_equal(np.array(taken["a"])[..., 0], numbers.astype(float))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.ones((4, 6), complex), "complex numbers"),
        (np.zeros((4, 6), "datetime64[D]"), "dates"),
        (np.zeros((4, 6), "timedelta64[s]"), "durations"),
        (np.zeros((4, 6), [("x", "f4")]), "records"),
    ],
    ids=["complex", "dates", "durations", "records"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_an_array_of_no_numbers_is_refused(tmp_path: Path, array: np.ndarray, reason: str, packed: bool) -> None:
    data, suffix = npy(array), "npy"
    if packed:
        out = io.BytesIO()
        np.savez(out, array)
        data, suffix = out.getvalue(), "npz"
    _, reasons = beside(tmp_path, "depth@a", f"{{stem}}.{suffix}", data)
    assert reason in reasons["a"]


@pytest.mark.parametrize(
    ("column", "data", "expected"),
    [
        ("kind@a", b"dog\n", 1),
        ("kind@a", b"\xef\xbb\xbfdog\r\n", 1),
        ("numeral@a", b"3\n", 2),
        ("speed@a", b"\xef\xbb\xbf2.5\n", [2.5]),
        ("things@a", b"\xef\xbb\xbf1 0.5 0.5 0.5 0.5\n", [0.25, 0.25, 0.75, 0.75, 1.0, 1.0]),
    ],
    ids=str,
)
def test_a_small_file_of_text_ends_in_a_line_and_may_begin_with_a_mark(
    tmp_path: Path, column: str, data: bytes, expected: Any
) -> None:
    taken, _ = beside(tmp_path, column, "{stem}.txt", data)
    assert (taken["a"][0] if column == "things@a" else taken["a"]) == expected


def test_a_text_begins_behind_its_byte_order_mark(tmp_path: Path) -> None:
    taken, _ = beside(tmp_path, "text@a", "{stem}.txt", "\ufeffnaïve\n".encode())
    assert KNOWN["text"].words(np.array(taken["a"])) == "naïve\n"


@pytest.mark.parametrize("kind", [">i2", "<i2", ">f4", "float16"])
def test_an_array_of_sound_has_its_samples_first(tmp_path: Path, kind: str) -> None:
    wave = np.linspace(-0.5, 0.5, 20)
    stored = np.asarray(wave * 32768 if "i" in kind else wave, kind)
    taken, _ = beside(tmp_path, "sound@a", "{stem}.npy", npy(np.stack([stored, stored], 1)))
    assert np.allclose(taken["a"], wave, atol=1e-3)
    (again := tmp_path / "again").mkdir()
    _, reasons = beside(again, "sound@a", "{stem}.npy", npy(np.stack([stored, stored])))
    assert "channels first? got (2, 20) for (20, 2) samples" in reasons["a"]


def pictures(folder: Path, stems: str, table: str) -> tuple[dict[str, Any], list[str]]:
    for stem in stems:
        (folder / f"{stem}.png").write_bytes(file("PNG", np.zeros((4, 6, 3), np.uint8)))
    (folder / "rows.csv").write_text(table)
    source = {"type": "files", "path": f"{folder}/*.png", "columns": {"speed@a": f"{folder}/rows.csv"}}
    storage = Storage(str(folder / "root"))
    manifest = inline.finish(inline.step(stage(source), storage, KNOWN))
    return values(storage, manifest, "speed@a"), manifest.body["remarks"]


def test_a_row_belongs_to_the_picture_of_its_name_and_to_no_frame_of_it(tmp_path: Path) -> None:
    """Each picture is the frame 0 of its file: a row called 0 is that of the picture 0 alone."""
    taken, said = pictures(tmp_path, "0123", "name,y\n0,10\n1,11\n2.png,12\n")
    assert taken == {"0": [10.0], "1": [11.0], "2": [12.0], "3": None}
    assert said == ["1 file: has no row in rows.csv, whose rows are called 0, 1, 2, .. (by stem or key)"]


def test_rows_that_are_numbered_belong_to_no_picture_and_that_is_said(tmp_path: Path) -> None:
    taken, said = pictures(tmp_path, "ab", "number,y\n0,10\n1,11\n")
    assert set(taken.values()) == {None} and any("2 files: has no row in rows.csv" in text for text in said)


@pytest.mark.parametrize(
    ("column", "name", "data", "reason"),
    [
        ("depth@a", "{stem}.npy", npy(np.zeros((0, 6))), "an array of no number"),
        ("things@a", "{stem}.json", json.dumps({**PLACE, "class": "1"}).encode(), "another form than this column's"),
        ("parts@a", "{stem}.json", b"5", "another form than this column's"),
        (
            "normals@a",
            "{stem}.png",
            file("PNG", np.full((4, 6, 3), 255, np.uint8)),
            "scale: 0.00784314 with offset: -1",
        ),
        ("joints@a", "{stem}.json", b"[[10, 20, 1], [3, 4, 1]]", "look like pixels"),
        ("joints@a", "{stem}.json", b"[[0.1, 0.2, 2], [0.3, 0.4, 0]]", "COCO's 2 is 1 here"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_another_form_is_one_sample_s_reason(
    tmp_path: Path, column: str, name: str, data: bytes, reason: str
) -> None:
    for stem in ("a", "b"):
        (tmp_path / name.format(stem=stem)).write_bytes(data)
    (tmp_path / "i").mkdir()
    for stem in ("a", "b"):
        (tmp_path / "i" / f"{stem}.png").write_bytes(file("PNG", np.zeros((4, 6, 3), np.uint8)))
    source = {"type": "files", "path": f"{tmp_path}/i", "columns": {column: str(tmp_path / name)}}
    with pytest.raises(SourceError) as caught:
        inline.finish(inline.step(stage(source), Storage(str(tmp_path / "root")), KNOWN))
    assert reason in str(caught.value)


def test_directions_in_bytes_are_directions_with_their_scale(tmp_path: Path) -> None:
    pixels = np.full((4, 6, 3), (128, 128, 255), np.uint8)
    taken, _ = beside(tmp_path, "normals@a", "{stem}_n.png", file("PNG", pixels), scale=2 / 255, offset=-1)
    assert np.allclose(np.array(taken["a"])[0, 0], [0, 0, 1], atol=0.01)


@pytest.mark.parametrize(("number", "offset", "expected"), [
    (1_700_000_123.5, -1_700_000_000, 123.5), (5_800_123.45, -5_800_000, 123.45), (0.5, 0, 0.5), (0.5, 100, 100.5),
    (300.5, -273.15, 27.35),
])  # fmt: skip
@pytest.mark.parametrize("path", ["t.csv", "{stem}.json", "{key}.txt", "{stem}.npy"])
def test_a_large_offset_leaves_the_digits_of_what_is_left(
    tmp_path: Path, number: float, offset: float, expected: float, path: str
) -> None:
    """Seconds since 1970 came in steps of 128. Who has no such offset keeps what was made."""
    written = {"t.csv": f"id,v\na,{number!r}\n".encode(), "{stem}.npy": npy(np.array([number]))}
    data = written.get(path, repr(number).encode())
    taken, _ = beside(tmp_path, "speed@a", path, data, offset=offset)
    assert taken["a"][0] == pytest.approx(expected, rel=1e-6)
    side = {"path": str(tmp_path / path), "offset": offset}
    source = {"type": "files", "path": str(tmp_path), "column": "rgb@a", "columns": {"speed@a": side}}
    number_ = 3 if path.endswith((".json", ".txt")) else 2
    assert stage(source).revised_for(KNOWN) == ({"offset": number_} if abs(offset) > 1000 else {})


@pytest.mark.parametrize(("path", "text"), [("{key}.json", "[1700000123.5, 1700000001.5, 0, 1700000002]"),
                                            ("{key}.txt", "1700000123.5 1700000001.5;0,1700000002")])  # fmt: skip
def test_a_large_offset_of_several_numbers(tmp_path: Path, path: str, text: str) -> None:
    taken, reasons = beside(tmp_path, "quad@a", path, text.encode(), offset=-1_700_000_000)
    assert taken["a"] == [123.5, 1.5, -1_700_000_000, 2], reasons
    (again := tmp_path / "again").mkdir()
    _, reasons = beside(again, "quad@a", path, b"[1, 2]" if "json" in path else b"1 2", offset=-1_700_000_000)
    assert "expected 4 numbers, got 2" in reasons["a"]


def test_probabilities_of_each_class_by_itself_are_asked_about() -> None:
    with remarks.collected() as said:
        KNOWN["soft"].check(np.full((4, 6, 3), 0.33, np.float32))
        assert not said
        KNOWN["soft"].check(np.full((4, 6, 3), 0.66, np.float32))
    assert "add up to more than 1" in next(iter(said))


def test_what_stands_for_unknown_does_so_behind_a_scale(tmp_path: Path) -> None:
    """60000 mm are 60.000004 m in float32."""
    taken, _ = beside(tmp_path, "metres@a", "{stem}.npy", npy(np.tile([60000, 1500], (4, 3)).astype("u2")), scale=0.001)
    row = np.array(taken["a"])[0, :2, 0]
    assert np.isnan(row[0]) and row[1] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("path", "asked"), [("{stem}.npy", True), ("{key}.npy", False), ("rows.csv", True), ("all.npy", False)]
)
def test_files_of_one_stem_that_share_a_label_are_asked_about(tmp_path: Path, path: str, asked: bool) -> None:
    for folder in ("x", "y"):
        (tmp_path / "i" / folder).mkdir(parents=True)
        (tmp_path / "l" / folder).mkdir(parents=True)
        (tmp_path / "i" / folder / "1.png").write_bytes(file("PNG", np.zeros((4, 6, 3), np.uint8)))
        (tmp_path / "l" / folder / "1.npy").write_bytes(npy(np.array([float(folder == "y")])))
    (tmp_path / "i/y/2.png").write_bytes(file("PNG", np.zeros((4, 6, 3), np.uint8)))
    for name in ("1", "2", "y/2", "all"):  # the last is of all pictures, whatever their stem
        (tmp_path / f"l/{name}.npy").write_bytes(npy(np.array([2.0])))
    (tmp_path / "l" / "rows.csv").write_text("name,v\n1,2\n2,2\n")
    source = {"type": "files", "path": f"{tmp_path}/i", "columns": {"speed@a": f"{tmp_path}/l/{path}"}}
    storage = Storage(str(tmp_path / "root"))
    manifest = inline.finish(inline.step(stage(source), storage, KNOWN))
    own = {"x/1": [0.0], "y/1": [1.0], "y/2": [2.0]}
    assert values(storage, manifest, "speed@a") == (own if "{key}" in path else {key: [2.0] for key in own})
    assert any("files of one stem in several folders" in text for text in manifest.body["remarks"]) == asked


def test_labels_that_nobody_knows_are_said_and_marks_are_no_names() -> None:
    topics, three = KNOWN["topics"], inline.modalities(t={"type": "multilabel", "classes": 3})["t"]
    says = [topics.words(np.array(v, np.uint8)) for v in ((255, 255), (1, 255), (0, 255), (0, 0), (1, 1))]
    assert says == ["unknown", "art (unknown: sport)", "none (unknown: sport)", "none", "art, sport"]
    assert three.fit("0,2").tolist() == [1, 0, 1] and three.fit([1, 0, 1]).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"1,0,1 may be a mark for each class, or classes.*as JSON, \[1, 0, 1\]"):
        three.fit("1,0,1")
