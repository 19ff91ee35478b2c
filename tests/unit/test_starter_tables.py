"""`hyperloom init`: what tables, names of classes and sparse maps become."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.ingest.numerals import PLAIN
from hyperloom.stages.ingest.parts import field_of, owner, part_of
from hyperloom.stages.starter.fields import TableField, look
from hyperloom.stages.starter.outputs import NetworkOutputs, guess
from hyperloom.stages.starter.times import times
from hyperloom.stages.starter.truth import read_names
from tests.unit import inline
from tests.unit.test_starter import init, network, pictures, written  # noqa: F401  (a fixture)

Init = Callable[..., tuple[int, str]]


def dated(path: Path, form: str, rows: int = 200, hours: float = 30, extra: str = "") -> list[datetime]:
    """A table of rows at even distances in time, in no order, with a number and a class."""
    begin = datetime(2025, 1, 3, 8)
    instants = [begin + timedelta(hours=hours * float(i)) for i in np.random.default_rng(0).permutation(rows)]
    rest = [f",g{i % 4}" if extra else "" for i in range(rows)]
    lines = [f"{i},{t.strftime(form)},{i % 7}.5,{'ab'[i % 2]}{rest[i]}" for i, t in enumerate(instants)]
    path.write_text("\n".join([f"nr,when,size,label{extra}", *lines]))
    return instants


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S+02:00", "%d.%m.%Y %H:%M"])
def test_the_newest_rows_are_held_out(tmp_path: Path, init: Init, form: str) -> None:  # noqa: F811
    """By month, or by day where dates begin with it: whatever the order of the rows, none that trains is newer."""
    instants = dated(tmp_path / "t.csv", form)
    code, text = init(str(tmp_path))
    assert code == 0 and "when holds dates: the newest" in text, text
    made = written(tmp_path)
    group = made.steps["rows"].source.group
    assert group == ("when[:10]" if form.startswith("%d") else "when[:7]")
    held = set(made.steps["shards"].split.pin["test"])
    assert made.steps["lessons"].split == made.steps["shards"].split
    sides = [owner({"when": t.strftime(form)}, group) in held for t in instants]
    assert 0.2 <= sum(sides) / len(sides) <= 0.4
    assert min(t for t, out in zip(instants, sides) if out) > max(t for t, out in zip(instants, sides) if not out)
    assert made.steps["teacher"].inputs == ("size@table",), "nothing is learned from a date"
    comment = " ".join((tmp_path / "hyperloom.yaml").read_text().replace("#", " ").split())
    assert "of when, of which the newest are held out" in comment


def test_a_group_goes_before_dates_and_what_is_too_short_is_said(tmp_path: Path, init: Init) -> None:  # noqa: F811
    dated(tmp_path / "t.csv", "%Y-%m-%d %H:%M", extra=",patient")
    code, text = init(str(tmp_path))
    assert code == 0 and "--group when holds out the newest" in text, text
    assert written(tmp_path).steps["rows"].source.group == "patient"
    assert init(str(tmp_path), "--force", "--group", "when")[0] == 0
    assert written(tmp_path).steps["rows"].source.group == "when[:7]"
    dated(tmp_path / "t.csv", "%Y-%m-%d", hours=0)
    code, text = init(str(tmp_path), "--force")
    assert code == 0 and "not used, as nothing is learned from dates: when" in text, text
    assert written(tmp_path).steps["rows"].source.group == "", "dates that are all one"


@pytest.mark.parametrize("form, hours, group, kind", [
    ("%-m/%-d/%Y", 30, "when", "dates"), ("%Y-W%V-%u", 30, "when[:8]", "weeks"),
    ("%-d.%-m.%Y %H:%M", 5, "when", "dates"), ("%Y/%-m/%-d", 24 * 20, "when[:4]", "years"),
    ("%Y-%m-%d %H:%M:%S", 0.02, "when[:16]", "minutes"),
])  # fmt: skip
def test_dates_whose_beginning_is_no_month(
    tmp_path: Path, init: Init, form: str, hours: float, group: str, kind: str  # noqa: F811
) -> None:  # fmt: skip
    instants = dated(tmp_path / "t.csv", form, hours=hours)
    code, text = init(str(tmp_path))
    assert code == 0 and f"the newest {kind} are held out" in text, text
    made = written(tmp_path)
    assert made.steps["rows"].source.group == group
    held = set(made.steps["shards"].split.pin["test"])
    sides = [owner({"when": t.strftime(form)}, group) in held for t in instants]
    assert 0.2 <= sum(sides) / len(sides) <= 0.4
    assert min(t for t, out in zip(instants, sides) if out) > max(t for t, out in zip(instants, sides) if not out)


@pytest.mark.parametrize("form, rows, hours, why", [
    ("%Y-%m-%d", 200, 0.3, "into too few"),
    ("%d.%m.%Y", 900, 24, "more than 400 days, and no beginning of their text says a longer period"),
    ("%-m/%-d/%Y %H:%M", 900, 1, "more than 400 dates, and no beginning of their text says a longer period"),
])  # fmt: skip
def test_why_dates_hold_out_nothing(
    tmp_path: Path, init: Init, form: str, rows: int, hours: float, why: str  # noqa: F811
) -> None:  # fmt: skip
    """And whoever names them as the group gets them as the group."""
    dated(tmp_path / "t.csv", form, rows=rows, hours=hours)
    for more, group in ((), ""), (("--force", "--group", "WHEN"), "when"):
        code, text = init(str(tmp_path), *more)
        assert code == 0 and why in " ".join(text.split()), text
        assert written(tmp_path).steps["rows"].source.group == group


def test_dates_of_several_zones_may_have_no_period(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """About a new year their years lie in one another, so do months, days and hours; each text is one instant."""
    zones = (timezone(timedelta(hours=5)), timezone(timedelta(hours=-5)))
    begin = datetime(2025, 12, 31, 14, tzinfo=UTC)
    texts = [(begin + timedelta(minutes=2 * i)).astimezone(zones[i % 2]).isoformat() for i in range(600)]
    lines = [f"{i},{text},{i % 7}.5,{'ab'[i % 2]}" for i, text in enumerate(texts)]
    (tmp_path / "t.csv").write_text("\n".join(["nr,when,size,label", *lines]))
    code, text = init(str(tmp_path))
    why = "they are more than 400 minutes, and the order of their text is not that of their times"
    assert code == 0 and why in " ".join(text.split()), text
    assert written(tmp_path).steps["rows"].source.group == ""


def test_the_other_fields_of_dates_are_named(tmp_path: Path, init: Init) -> None:  # noqa: F811
    dated(tmp_path / "t.csv", "%Y-%m-%d")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    born = ["born", *(f"19{i % 60 + 30}-0{i % 9 + 1}-11" for i in range(len(lines) - 1))]
    (tmp_path / "t.csv").write_text("\n".join(f"{one},{line}" for one, line in zip(born, lines)))
    code, text = init(str(tmp_path), "--group", "when")
    assert code == 0 and "not used, as nothing is learned from dates: born" in text, text
    assert written(tmp_path).steps["rows"].source.group == "when[:7]"


def test_cells_that_are_times() -> None:
    assert times(["2026-11-27", "2026-11-28T03:04:05Z"]) is not None
    assert times(["27.11.2026", "1.2.2026"]) is not None and times(["13/02/2026", "01/02/2026"]) is not None
    assert times(["01/02/2026", "03/04/2026"]) is None, "nobody knows which is the month"
    assert times(["2026-11-27", "soon"]) is None and times(["", "x"]) is None


def test_rows_are_grouped_by_the_beginning_of_a_field() -> None:
    row = {"when": datetime(2026, 11, 27, 3), "plain": "north"}
    assert owner(row, "when[:7]") == "2026-11" and owner(row, "plain") == "north" and owner({}, "when[:3]") == "none"
    assert field_of("when[:7]") == "when" and field_of("when") == "when" and field_of("x[1]") == "x[1]"


@pytest.mark.parametrize("numbers, known", [
    ([0, 1, 2], ["a", "b", "c"]), ([1, 2, 3], ["a", "b", "c"]), ([], []),
    ([0, 2, 3], ["a", "class1", "b", "c"]), ([2, 3, 4], ["class0", "class1", "a", "b", "c"]), ([0, 300, 301], []),
])  # fmt: skip
def test_names_with_a_hole_stay_those_of_their_numbers(tmp_path: Path, numbers: list[int], known: list[str]) -> None:
    """A name behind a hole would be that of another class."""
    table = {str(n): name for n, name in zip(numbers, "abc")}
    for file, text in {
        "data.yaml": "names:" + ("" if table else " {}") + "".join(f"\n  {n}: {v}" for n, v in table.items()),
        "config.json": json.dumps({"id2label": table}),
    }.items():
        (tmp_path / file).write_text(text)
        assert read_names(str(tmp_path / file)) == known


def test_a_blank_line_among_names_hides_which_is_which(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("a\n\nc\n")
    assert read_names(str(path)) == []
    path.write_text("0 a\n1: b\n\n")
    assert read_names(str(path)) == ["a", "b"], "one at the end hides nothing"


@pytest.mark.parametrize("filled, highest, file, sparse", [
    (0.05, 1, "edges.onnx", True), (0.9, 1, "edges.onnx", False), (0.05, 255, "edges.onnx", True),
    (0.9, 255, "edges.onnx", False), (0, 1, "edges.onnx", True), (0.05, 1, "saliency.onnx", True),
    (0.05, 1, "midas.onnx", False), (0.05, 900, "disparity.onnx", False), (0.05, 1, "depth_small.onnx", False),
])  # fmt: skip
def test_maps_that_are_nothing_nearly_everywhere_are_found(
    filled: float, highest: int, file: str, sparse: bool
) -> None:  # fmt: skip
    """In 0..1 or as each picture's are brought there, also where three samples show nothing; and never of distances."""
    maps = (np.random.default_rng(0).random((3, 1, 16, 16)) < filled) * np.linspace(0.2, 1, 16) * highest
    reading = guess(NetworkOutputs({"y": maps.astype(np.float32)}, "nchw", (16, 16), None, [], file))
    assert reading is not None and reading.sparse is sparse


def test_sparse_maps_are_taught_by_what_no_empty_map_is_best_at(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """The least absolute error to a map of a few bright places is that of the empty map."""
    pictures(tmp_path / "in", [f"IMG_{i:04}.jpg" for i in range(12)])
    net = network(tmp_path / "edges.onnx", 255)
    code, text = init(str(tmp_path / "in"), "--expert", net, "--yes")
    assert code == 0, text
    made = written(tmp_path / "in")
    (student,) = [step for name, step in made.steps.items() if name == "student"]
    (light,) = [one for one in student.augment if one.type == "colour"]
    assert (light.brightness, light.exposure) == (0, 0.4), "a shift would turn dark pictures black"
    assert student.losses["edges"].type == "huber" and student.losses["edges"].delta == 10


@pytest.mark.parametrize("task, kinds", [("dense", ["huber"]), ("depth", [])])
def test_depth_by_its_task_is_never_taken_for_nothing(tmp_path: Path, init: Init, task: str, kinds: list[str]) -> None:  # noqa: F811
    pictures(tmp_path / "in", [f"IMG_{i:04}.jpg" for i in range(12)])
    net = network(tmp_path / "some.onnx", 255)
    code, text = init(str(tmp_path / "in"), "--expert", net, "--task", task, "--yes")
    assert code == 0, text
    losses = written(tmp_path / "in").steps["student"].losses
    assert [loss.type for loss in losses.values()] == kinds, losses


def test_numbers_in_brackets_are_numbers(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """Windows names copies `beach (12).jpg`: the frames of one drive are one group, and held out together."""
    names = [f"Straße {drive} ({i}).jpg" for drive in ("1TP", "6E5", "6R0", "7Q") for i in range(1, 6)]
    pictures(tmp_path, names, tmp_path / "masks")
    code, text = init(str(tmp_path))
    assert code == 0 and "4 groups (a group is what stands before the number in brackets), 1 held out" in text, text
    made = written(tmp_path)
    (held,) = made.steps["shards"].split.pin["test"]
    assert held.startswith("Stra_e")
    lines = (tmp_path / "hyperloom.yaml").read_text().splitlines()
    assert not [line for line in lines if line.rstrip().endswith("{type:")], "no value is broken within braces"


def test_a_line_that_nobody_can_read_has_its_number(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """By their numbers rows are dealt into parts: those that are held out are counted as the source will deal them."""
    rows = [json.dumps({"size": i % 7 + 0.5, "label": "ab"[i % 3 == 0] if i % 11 == 5 else None}) for i in range(400)]
    (tmp_path / "t.jsonl").write_text("\n".join(["{broken", *rows]))
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    source, held = made.steps["rows"].source, made.steps["shards"].split.pin["test"]
    labelled = [f"t/{i + 1:06d}" for i in range(400) if i % 11 == 5]
    count = sum(part_of(name, source.parts) in held for name in labelled)
    shifted = sum(part_of(f"t/{int(name[2:]) - 1:06d}", source.parts) in held for name in labelled)
    assert code == 0 and not source.key and 0 < count != shifted
    assert f"only {count} of the {len(labelled)} rows with label are held out" in text, text


def test_a_field_to_group_by_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("a,label\n1,x\n2,y\n")
    (tmp_path / "r.yaml").write_text(f"""
name: t
root: {tmp_path / "root"}
modalities: {{a: {{type: scalar}}}}
steps:
  rows:
    stage: ingest
    source: {{type: table, path: {tmp_path / "t.csv"}, group: "wen[:7]", columns: {{a@t: a}}}}
""")
    assert cli.main(["plan", str(tmp_path / "r.yaml")]) != 0
    assert "has no field 'wen'" in capsys.readouterr().err


def rows_of(path: Path, *columns: tuple[str, Callable[[int], Any]], count: int = 200) -> None:
    lines = [",".join(name for name, _ in columns)]
    lines += [",".join(str(cell(i)) for _, cell in columns) for i in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_what_programs_write_for_no_value_is_none(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """R's NA was a class to be learned, and made classes of numbers; a blank is no class either."""
    kinds = ("setosa", " NA", "virginica", "none")
    rows_of(
        tmp_path / "t.csv", ("age", lambda i: "NA" if i % 9 == 0 else 20 + i % 30),
        ("size", lambda i: "" if i % 7 == 0 else "." if i % 5 == 0 else f"{i % 13}.25"),
        ("species", lambda i: " " if i == 3 else kinds[i % 4]),
    )  # fmt: skip
    code, text = init(str(tmp_path), "--task", "species")
    assert code == 0 and "149 with species" in text and "blanks, ., NA in its cells: no value" in text, text
    made = written(tmp_path)
    assert made.modalities["species"].classes == ("none", "setosa", "virginica")
    assert made.modalities["age"].type == "scalar" and made.modalities["size"].type == "scalar"
    assert made.steps["rows"].source.missing == ("", ".", "NA")


def test_two_letters_among_others_are_a_continent(tmp_path: Path, init: Init) -> None:  # noqa: F811
    rows_of(tmp_path / "t.csv", ("size", lambda i: i % 13 + 0.5), ("place", lambda i: ("NA", "EU", "AS")[i % 3]))
    assert init(str(tmp_path))[0] == 0
    made = written(tmp_path)
    assert made.modalities["place"].classes == ("AS", "EU", "NA") and made.steps["rows"].source.missing == ()


@pytest.mark.parametrize("cells, classes", [
    (("0.0", "1.0", ""), ("0", "1")), (("-1", "1"), ("-1", "1")), (("1.0", "-1.0", "0.0"), ("-1", "0", "1")),
    (("-1", "2"), ("-1", "2")), (("0", "1", "2", "-1"), ("0", "1", "2")), (("-2", "0", "2"), ("-2", "0", "2")),
])  # fmt: skip
def test_numbers_of_classes_are_classes_however_they_are_written(
    tmp_path: Path, init: Init, cells: tuple[str, ...], classes: tuple[str, ...]  # noqa: F811
) -> None:  # fmt: skip
    """Where some are missing 1 is written 1.0, and was a number to come near to; -1 beside many says nobody knows."""
    rows_of(tmp_path / "t.csv", ("size", lambda i: i % 13 + 0.5), ("label", lambda i: cells[i % len(cells)]))
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    assert code == 0 and made.modalities["label"].classes == classes
    known = sum(cells[i % len(cells)] not in ("", "-1") or len(cells) == 2 for i in range(200))
    assert f"{known} with label" in text, text


@pytest.mark.parametrize("field, cell, owns", [
    ("user_age", lambda i: 20 + i % 30, False), ("Session Length", lambda i: i % 40, False),
    ("document_text", lambda i: f"a long text of {i % 90} words and more", False), ("userId", lambda i: i % 30, True),
    ("patients no.", lambda i: i % 30, True), ("speaker name", lambda i: f"s{i % 30}", True),
    ("subgroup", lambda i: i % 9, True),
])  # fmt: skip
def test_a_measure_is_not_what_rows_belong_to(
    tmp_path: Path, init: Init, field: str, cell: Callable[[int], Any], owns: bool  # noqa: F811
) -> None:  # fmt: skip
    """As a group nothing was learned from it, and it was held out by its values."""
    rows_of(tmp_path / "t.csv", (field, cell), ("size", lambda i: i % 13 + 0.5), ("label", lambda i: "ab"[i % 2]))
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    assert code == 0 and made.steps["rows"].source.group == (field if owns else ""), text
    assert len(made.steps["teacher"].inputs) == (1 if owns else 2)
    assert ("says what belongs together" in text) == owns


def test_fields_whose_names_have_no_letters_in_common_with_a_recipe_are_numbered(tmp_path: Path, init: Init) -> None:  # noqa: F811
    rows_of(
        tmp_path / "t.csv", ("возраст", lambda i: i % 13), ("рост", lambda i: i % 17 + 0.5),
        ("len (cm)", lambda i: i % 7), ("len [cm]", lambda i: i % 5 + 0.25),
        ("ответ", lambda i: "да" if i % 2 else "нет"),
    )  # fmt: skip
    code, text = init(str(tmp_path))
    assert code == 0, text
    made = written(tmp_path)
    assert {c: cell.field for c, cell in made.steps["rows"].source.columns.items()} == {
        "field@table": "возраст", "field_2@table": "рост", "len_cm@table": "len (cm)", "len_cm_2@table": "len [cm]",
        "field_3@truth": "ответ",
    }  # fmt: skip
    assert made.modalities["field_3"].classes == ("да", "нет")


def test_nan_in_parquet_is_no_value_to_hold_out(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """NumPy's NaN was a row with a value, so that what is held out could have none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = [float(i // 20 % 2) if i % 20 == 0 else float("nan") for i in range(800)]
    pq.write_table(pa.table({"size": [i % 13 + 0.5 for i in range(800)], "label": labels}), tmp_path / "t.parquet")
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    assert code == 0 and "40 with label" in text and made.modalities["label"].classes == ("0", "1"), text
    held = set(made.steps["shards"].split.pin["test"])
    count = sum(part_of(f"t/{i:06d}", 20) in held for i in range(0, 800, 20))
    assert f"only {count} of the 40 rows with label are held out" in " ".join(text.split()), text


@pytest.mark.parametrize("field, others, group", [
    ("group", (), ""), ("speaker", ("site",), "site"), ("document type", (), ""), ("batch", ("batch no",), ""),
])  # fmt: skip
def test_what_is_to_be_learned_groups_no_rows(
    tmp_path: Path, init: Init, field: str, others: tuple[str, ...], group: str  # noqa: F811
) -> None:  # fmt: skip
    """A class that is held out whole is never learned, nor one that is held out by its number."""
    cells: dict[str, Callable[[int], Any]] = {"site": lambda i: f"s{i // 40}", "batch no": lambda i: i % 4 + 10}
    rows_of(
        tmp_path / "t.csv", ("x", lambda i: i % 13 + 0.5), ("y", lambda i: i % 7 + 0.25),
        (field, lambda i: "abcd"[i % 4]), *((name, cells[name]) for name in others),
    )  # fmt: skip
    code, text = init(str(tmp_path), "--task", field)
    made = written(tmp_path)
    assert code == 0 and made.steps["rows"].source.group == group, text
    assert not set(made.steps["shards"].split.pin.get("test", ())) & set("abcd")
    assert f"{field} says what belongs together" not in text
    assert made.steps["teacher"].inputs == ("x@table", "y@table")
    code, text = init(str(tmp_path), "--task", field, "--group", field.upper(), "--force")
    assert code != 0 and "is the field to learn" in text


def test_a_null_is_no_class_called_none(tmp_path: Path, init: Init) -> None:  # noqa: F811
    labels = ("None", None, "low", "high")
    rows = [{"size": i % 13 + 0.5, "label": labels[i % 4]} for i in range(400)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    look_ = look(str(tmp_path / "t.jsonl"), [])
    field = look_.named("label")
    assert field is not None and field.classes == ["None", "high", "low"]
    assert [field.among(row) for row in look_.content.values()] == [i % 4 != 1 for i in range(400)]
    nan = TableField("label", "category", ["nan", "low"], ["low", "nan"])
    assert nan.among({"label": "nan"}) and not nan.among({"label": float("nan")})


def test_a_field_of_nothing_leaves_its_word_to_others(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """`-` in every cell of one field was a class of it, and made words of another field's numbers."""
    weight = ("weight", lambda i: "-" if i % 10 == 0 else f"{i}.25")
    label = ("label", lambda i: "ab"[i % 2])
    rows_of(tmp_path / "t.csv", ("id", str), weight, ("remark", lambda i: "-"), ("size", lambda i: i % 7 + 0.5), label)
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    assert code == 0 and made.steps["teacher"].inputs == ("weight@table", "size@table"), text
    assert made.steps["rows"].source.missing == ("-",)
    rows_of(tmp_path / "t.csv", weight, ("sign", lambda i: "++-"[i % 3]), ("size", lambda i: i % 7 + 0.5), label)
    code, text = init(str(tmp_path), "--force")
    made = written(tmp_path)
    assert code == 0 and made.steps["teacher"].inputs == ("weight@table", "sign@table", "size@table"), text
    assert "- in weight: no value (`missing` of that column)" in " ".join(text.split())
    weights, signs = (taken(made, tmp_path, f"{name}@table") for name in ("weight", "sign"))
    assert (weights[10], weights[11], signs[2]) == (None, [11.25], made.modalities["sign"].classes.index("-"))


NUMBERS = [
    (",", lambda i: f'"{i * 37 + 1:,}"', lambda i: f"{i % 7}.5", {"thousands": ","}),
    (";", lambda i: f"{i * 37 + 1:,}".replace(",", "."), lambda i: f"{i % 7},5", {"decimal": ",", "thousands": "."}),
    ("\t", lambda i: f"{i * 37 + 1:,}".replace(",", " "), lambda i: f"{i % 7}.5", {"thousands": " "}),
    ("\t", lambda i: f"{i * 37 + 1:,}.00".translate(str.maketrans(",.", ".,")), lambda i: f"{i % 7},5",
     {"decimal": ",", "thousands": "."}),
    (",", lambda i: f"{i * 37 + 1:,}".replace(",", "."), lambda i: i % 7, {"decimal": ",", "thousands": "."}),
    (";", lambda i: f"{i * 37 + 1:,}", lambda i: i % 7, {"thousands": ","}),
    (",", lambda i: f"{(i * 37 + 1) / 1000:.3f}", lambda i: i % 7, {}),
    (",", lambda i: f"{i * 37 + 1:,}".replace(",", "."), lambda i: f"{i % 7}.5", {}),
]  # fmt: skip


@pytest.mark.parametrize(("separator", "price", "size", "marks"), NUMBERS)
def test_marks_of_thousands_are_seen_in_all_cells(
    tmp_path: Path, init: Init, separator: str, price: Callable[[int], Any], size: Callable[[int], Any],  # noqa: F811
    marks: dict[str, str],
) -> None:  # fmt: skip
    """They made a field one of many words, which was not used, or thousandths; points of a table that has others which
    are none of thousands stay what they are."""
    rows = [separator.join(map(str, (f"r{i}", price(i), size(i), "ab"[i % 2]))) for i in range(200)]
    (tmp_path / "t.csv").write_text("\n".join([separator.join(("id", "price", "size", "label")), *rows]) + "\n")
    code, text = init(str(tmp_path))
    assert code == 0, text
    made = written(tmp_path)
    source = made.steps["rows"].source
    assert made.modalities["price"].type == "scalar"
    assert (source.decimal, source.thousands) == (marks.get("decimal", "."), marks.get("thousands", ""))
    assert ("marks thousands" in text) == bool(marks)
    prices = taken(made, tmp_path, "price@table")
    expected = [1.0 + 37 * i for i in (0, 100, 199)]
    if not marks:
        expected = [float(str(price(i))) for i in (0, 100, 199)]
    assert [prices[i][0] for i in (0, 100, 199)] == pytest.approx(expected)


def test_what_only_python_takes_for_numbers_is_none(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """`1_000` made a field of numbers, each of whose samples was then in quarantine."""
    rows = [f"r{i},{i + 1}_000,{i + 1},{'ab'[i % 2]}" for i in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["id,code,size,label", *rows]) + "\n")
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    assert code == 0 and made.steps["teacher"].inputs == ("size@table",), text
    assert PLAIN.number("1_000") is None and PLAIN.number("1000") == 1000


def test_codes_and_numbers_of_json_have_no_marks(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """Lists of numbers of three digits, telephones, and numbers that a program wrote as numbers."""
    kinds = ("101,204", "330,101,512", "204")
    lines = [
        json.dumps(
            {
                "list": kinds[i % 3],
                "call": f"{10 + i % 90} 456 {100 + i}",
                "mass": i if i % 9 else 1.0 + i / 1000,
                "label": "ab"[i % 2],
            }
        )
        for i in range(200)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n")
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    source = made.steps["rows"].source
    assert code == 0 and (source.decimal, source.thousands) == (".", ""), text
    assert made.modalities["list"].classes == tuple(sorted(kinds)) and "call" not in made.modalities


def taken(made: Any, folder: Path, column: str) -> list[Any]:
    """The values of a column as the recipe's source reads them, in the order of rows."""
    storage = Storage(str(folder / "root"))
    manifest = inline.finish(inline.step(made.steps["rows"], storage, made.modalities))
    values = inline.column(storage, made.modalities, manifest, column)
    source = made.steps["rows"].source
    rows = {
        str(row[source.key]) if source.key else f"t/{i:06d}": i
        for i, row in enumerate(look(source.path, ()).content.values())
    }
    listed: list[Any] = [None] * len(rows)
    for key, value in values.items():
        listed[rows[key]] = None if value is None else value.tolist()
    return listed


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ("front", ""),
        ("front,size", "flip cannot mirror size@table: nobody knows which of its numbers change in a mirror"),
        (
            "left,right",
            "flip cannot mirror left@table beside right@table: in a mirror the one camera is the other, and",
        ),
    ],
)
def test_pictures_beside_what_has_no_mirror_are_not_mirrored(
    tmp_path: Path,
    init: Init,  # noqa: F811
    fields: str,
    why: str,
) -> None:
    """The recipe could not be planned."""
    import cv2

    random = np.random.default_rng(0)
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), random.integers(0, 255, (16, 16, 3), np.uint8))
    cells = [
        [f"{i * 1.5}" if f == "size" else f"{(i + n) % 4}.png" for n, f in enumerate(fields.split(","))]
        for i in range(60)
    ]
    rows = [f"{i},{','.join(mine)},{'ab'[i % 2]}" for i, mine in enumerate(cells)]
    (tmp_path / "t.csv").write_text("\n".join([f"nr,{fields},kind", *rows]))
    code, text = init(str(tmp_path), "--task", "kind")
    assert code == 0, text
    for step in ("teacher", "student"):
        assert [one.type for one in written(tmp_path).steps[step].augment] == ["flip", "colour"][bool(why) :]
    comment = " ".join((tmp_path / "hyperloom.yaml").read_text().replace("#", " ").split())
    assert (f"Pictures are not mirrored: {why}" in comment) == bool(why)
