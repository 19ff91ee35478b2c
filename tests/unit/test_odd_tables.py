"""Tables as spreadsheets, pandas, scrapers and people write them: the same value from every format, or a reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.ingest.rows import Dialect, rows, stored
from tests.unit import inline
from tests.unit.test_ingest import left_out

KNOWN = inline.modalities(
    kind={"type": "category", "classes": ["cat", "dog", "cow"]},
    numeral={"type": "category", "classes": ["1", "2", "3"]},
    level={"type": "ordinal", "levels": 5},
    speed={"type": "scalar"},
    text={"type": "text", "length": 200_000},
)


def ingest(folder: Path, name: str, data: bytes, columns: dict[str, str], **source: Any) -> tuple[Any, Any]:
    from hyperloom.pipeline.root.storage import Storage
    from tests.unit.test_ingest import stage

    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    storage = Storage(str(folder / "root"))
    table = {"type": "table", "path": str(folder / name), "key": "id", "columns": columns, **source}
    return inline.finish(inline.step(stage(table, max_quarantine=1.0), storage, KNOWN)), storage


def values(folder: Path, name: str, data: bytes, column: str, **source: Any) -> dict[str, Any]:
    made, storage = ingest(folder, name, data, {column: "y"}, **source)
    return {key: None if v is None else v.tolist() for key, v in inline.column(storage, KNOWN, made, column).items()}


def parquet(table: dict[str, list[Any]]) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(table), out)
    return bytes(out.getvalue())


def lines(table: dict[str, list[Any]]) -> bytes:
    return "".join(
        json.dumps(dict(zip(table, row)), ensure_ascii=False) + "\n" for row in zip(*table.values())
    ).encode()


def csv(table: dict[str, list[Any]]) -> bytes:
    text = [",".join(table), *(",".join("" if v is None else str(v) for v in row) for row in zip(*table.values()))]
    return ("\n".join(text) + "\n").encode()


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("numeral@a", [1, 2, None], [0, 1, None]),
        ("numeral@a", [1.0, 3.0, None], [0, 2, None]),
        ("numeral@a", ["1", "2.0", None], [0, 1, None]),
        ("kind@a", [0, 2, None], [0, 2, None]),
        ("kind@a", [1.0, -1.0, None], [1, None, None]),
        ("kind@a", ["dog", "1", " 2"], [1, 1, 2]),
        ("level@a", [0, 4, 3.0], [0, 4, 3]),
        ("speed@a", [0, 1.5, -2], [[0.0], [1.5], [-2.0]]),
    ],
)
def test_a_value_means_the_same_in_every_format(
    tmp_path: Path, column: str, cells: list[Any], expected: list[Any]
) -> None:
    table: dict[str, list[Any]] = {"id": ["a", "b", "c"], "y": cells}
    wanted = dict(zip("abc", expected))
    for name, data in (("t.csv", csv(table)), ("t.jsonl", lines(table)), ("t.parquet", parquet(table))):
        if not (name == "t.parquet" and len({type(c) for c in cells if c is not None}) > 1):
            assert values(tmp_path / name, name, data, column) == wanted, name


def test_a_numeral_that_is_no_name_is_refused_in_every_format(tmp_path: Path) -> None:
    table: dict[str, list[Any]] = {"id": ["a", "b"], "y": [0, 1]}
    for name, data in (("t.csv", csv(table)), ("t.jsonl", lines(table)), ("t.parquet", parquet(table))):
        made, storage = ingest(tmp_path / name, name, data, {"numeral@a": "y"})
        assert left_out(made, storage) == {"a": "ValueError: numeral@a: expected one of 1, 2, 3, got '0'"}


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("inf", "expected a name or an id, got inf"),
        (" cat", "did you mean 'cat'?"),
        ("Cat", "did you mean 'cat'?"),
        ("catt", "did you mean 'cat'?"),
        ("N/A", "missing: [N/A] on the source"),
        ("1.7", "got '1.7'"),
        ("7", "got 7"),
    ],
)
def test_a_cell_that_is_no_class_is_one_sample_s_error(tmp_path: Path, cell: str, reason: str) -> None:
    table: dict[str, list[Any]] = {"id": ["a", "b"], "y": [float("inf"), 1.0] if cell == "inf" else [cell, "dog"]}
    name, data = ("t.parquet", parquet(table)) if cell == "inf" else ("t.csv", csv(table))
    made, storage = ingest(tmp_path, name, data, {"kind@a": "y"})
    assert list(left_out(made, storage)) == ["a"] and reason in left_out(made, storage)["a"]


def test_what_means_missing_and_a_decimal_comma_can_be_set(tmp_path: Path) -> None:
    data = b"id;y\na;1,5\nb;N/A\nc;-2\n"
    assert values(tmp_path, "t.csv", data, "speed@a", separator=";", decimal=",", missing=["N/A"]) == {
        "a": [1.5],
        "b": None,
        "c": [-2.0],
    }
    made, storage = ingest(tmp_path / "x", "t.csv", data, {"speed@a": "y"}, separator=";")
    assert 'decimal: ","' in left_out(made, storage)["a"] and "missing: [N/A]" in left_out(made, storage)["b"]


def test_the_source_s_fields_bear_meaning(tmp_path: Path) -> None:
    data = b"id;y\na;1,5\n"
    one, _ = ingest(tmp_path / "1", "t.csv", data, {"speed@a": "y"}, separator=";", decimal=",")
    two, _ = ingest(tmp_path / "2", "t.csv", data, {"speed@a": "y"}, separator=";", decimal=",", missing=["9"])
    assert one.body["columns"]["speed@a"]["fingerprint"] != two.body["columns"]["speed@a"]["fingerprint"]


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"id;y\na;1\n", 'looks separated by ";". Next: separator: ";"'),
        (b"id\ty\na\t1\n", r'separator: "\\t"'),
        ("id,y\na,1\n".encode("utf-16"), "is UTF-16 .*encoding: utf-16"),
        ("id,y\nmüller,1\n".encode("cp1252"), "no utf-8; .*encoding: cp1252"),
        (b"", r"t.csv is empty \(0 bytes\)"),
        (b"id,y\n", "holds no row"),
        (b"id,y,y\na,1,2\n", "two fields called 'y'"),
        (b"ID,Y\na,1\n", "no field 'id'; it has ID, Y; did you mean 'ID'?"),
    ],
)
def test_a_table_that_cannot_be_meant_says_what_to_set(tmp_path: Path, data: bytes, advice: str) -> None:
    with pytest.raises(SourceError, match=advice):
        ingest(tmp_path, "t.csv", data, {"speed@a": "y"})


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (b"\xef\xbb\xbfid,y\na,1.5\n", {}),
        (b"sep=;\r\nid;y\r\na;1.5\r\n", {}),
        ("id,y\na,1.5\n".encode("utf-16"), {"encoding": "utf-16"}),
        (b",id,y,\n0,a,1.5,\n", {}),
    ],
)
def test_spreadsheets_are_read(tmp_path: Path, data: bytes, source: dict[str, Any]) -> None:
    assert values(tmp_path, "t.csv", data, "speed@a", **source) == {"a": [1.5]}


def test_the_group_0_is_a_group(tmp_path: Path) -> None:
    made, _ = ingest(tmp_path, "t.jsonl", b'{"id": "a", "g": 0, "y": 1}\n', {"speed@a": "y"}, group="g")
    assert made.body["partitions"][0][1] == "0"


def test_a_field_in_other_capitals_is_not_a_missing_value(tmp_path: Path) -> None:
    made, storage = ingest(tmp_path, "t.jsonl", b'{"id": "a", "y": 1}\n{"id": "b", "Y": 2}\n', {"speed@a": "y"})
    assert left_out(made, storage) == {"b": "ValueError: speed@a: the row has no 'y', but 'Y'"}


EXAMPLES = int(os.environ.get("HYPERLOOM_EXAMPLES", "60"))
"""How many damaged tables the property test makes."""
TEXTS = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12), max_size=5
)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_any_text_survives_every_format(texts: list[str]) -> None:
    import csv as writer
    import io

    table: dict[str, list[Any]] = {"id": [str(i) for i in range(len(texts))], "y": texts}
    out = io.StringIO()
    writer.writer(out).writerows([["id", "y"], *zip(table["id"], texts)])
    expected = [{"id": str(i), "y": text} for i, text in enumerate(texts)]
    assert rows(out.getvalue().encode(), "t.csv") == expected
    assert rows(out.getvalue().encode("utf-16"), "t.csv", Dialect("utf-16")) == expected
    if texts:
        assert rows(lines(table), "t.jsonl") == expected
        assert rows(parquet(table), "t.parquet") == expected


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    TEXTS.filter(bool), st.sampled_from(["csv", "tsv", "jsonl", "parquet"]), st.floats(0, 1), st.integers(1, 255),
    st.sampled_from(["cut", "byte", "zeros"]),
)  # fmt: skip
def test_a_damaged_table_is_refused_by_name_or_read_as_another_reads_it(
    texts: list[str], form: str, share: float, flip: int, damage: str
) -> None:
    import io

    import pandas

    frame, file = pandas.DataFrame({"id": range(len(texts)), "y": texts}), io.BytesIO()
    if form == "parquet":
        frame.to_parquet(file)
    elif form == "jsonl":
        file.write(frame.to_json(orient="records", lines=True, force_ascii=False).encode())
    else:
        file.write(frame.to_csv(index=False, sep="\t" if form == "tsv" else ",").encode())
    data = file.getvalue()
    place = int(share * (len(data) - 1))
    data = (
        data[:place]
        + {
            "cut": b"",
            "byte": bytes([data[place] ^ flip]) + data[place + 1 :],
            "zeros": bytes(min(9, len(data) - place)) + data[place + 9 :],
        }[damage]
    )
    try:
        content = rows(data, f"t.{form}")
    except SourceError as error:
        assert str(error).startswith(f"t.{form} ")
        return
    if form == "parquet":
        assert content == pq.read_table(io.BytesIO(data)).to_pylist()


def test_a_long_cell_is_read() -> None:
    assert rows(b"id,y\na," + b"x" * 140_000 + b"\n", "t.csv") == [{"id": "a", "y": "x" * 140_000}]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_rows_are_looked_up_by_number_and_those_that_are_none_stay_reasons(form: str) -> None:
    """Parquet and CSV are kept in columns, of which only what is looked at is made objects of."""
    table: dict[str, list[Any]] = {"id": [f"r{i}" for i in range(5000)], "y": [str(i) for i in range(5000)]}
    data = {"csv": csv, "jsonl": lines, "parquet": parquet}[form](table)
    if form != "parquet":
        data = data.replace(b"r4500,4500", b"r4500").replace(b'{"id": "r4500", "y": "4500"}', b"{torn")
    content = stored(data, f"t.{form}")
    assert len(content) == 5000 and content.names() == ["id", "y"]
    assert content.at([4999, 0, 4999]) == [{"id": f"r{i}", "y": str(i)} for i in (4999, 0, 4999)]
    assert isinstance(content.at([4500])[0], ValueError) == (form != "parquet")
    assert sum(isinstance(row, ValueError) for row in content.each(frozenset())) == (form != "parquet")
    if form != "jsonl":
        assert content.at([7], frozenset({"y", "z"})) == [{"y": "7"}] == [list(content.each(frozenset({"y"})))[7]]


def test_rows_of_a_table_are_looked_up_without_putting_its_columns_together() -> None:
    """In any order, next to each other or not; a row that is none is its fault."""
    import pyarrow as pa

    from hyperloom.stages.ingest.rowstore import ColumnRows

    table = pa.table({"a": pa.chunked_array([[0, 1, 2], [3, 4]]), "b": pa.chunked_array([["x"] * 5])})
    fault = ValueError("no row")
    rows = ColumnRows(table, {4: fault})
    found = rows.at([3, 1, 2, 4, 0, 0], frozenset({"a"}))
    assert found == [{"a": 3}, {"a": 1}, {"a": 2}, fault, {"a": 0}, {"a": 0}] and rows.at([]) == []


def test_groups_that_differ_by_blanks_or_capitals_are_said(tmp_path: Path) -> None:
    """One speaker by two names would lie on both sides of a split."""
    named = {"one": ["Ann", "Bo", "ann ", "José"], "two": ["Ann", "Bo", "Ann", "Jose"]}
    for name, speakers in named.items():
        data = csv({"id": list("abcd"), "y": [1, 2, 3, 4], "who": speakers})
        made, _ = ingest(tmp_path / name, "t.csv", data, {"speed@a": "y"}, group="who")
        found = [text for text in made.body["remarks"] if "groups of their own" in text]
        assert [("'Ann' and 'ann '" in text, "both sides" in text) for text in found] == [(True, True)] * (
            name == "one"
        )
