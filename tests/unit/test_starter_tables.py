"""`hyperloom init`: what tables, names of classes and sparse maps become."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from hyperloom.pipeline import cli
from hyperloom.stages.ingest.parts import field_of, owner, part_of
from hyperloom.stages.starter.outputs import NetworkOutputs, guess
from hyperloom.stages.starter.times import times
from hyperloom.stages.starter.truth import read_names
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
    ([0, 1, 2], ["a", "b", "c"]), ([1, 2, 3], ["a", "b", "c"]), ([0, 2, 3], []), ([2, 3, 4], []), ([], []),
])  # fmt: skip
def test_names_with_a_hole_are_no_names(tmp_path: Path, numbers: list[int], known: list[str]) -> None:
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
