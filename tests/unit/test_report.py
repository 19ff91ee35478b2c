"""The report of a run: what its page says, that it needs nothing else, and that a bad root gives a smaller page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.counting import share
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.plot import ticks
from hyperloom.stages.modality import Dense
from hyperloom.stages.report import figures, gather, material, outcome, render, root, training, writing
from hyperloom.stages.report.history import StepHistory, histories, thinned
from hyperloom.stages.report.page import (
    Chart,
    Estimate,
    Gallery,
    Page,
    PageTable,
    PlotLine,
    Section,
    ShownSample,
    StepGraph,
    Verbatim,
)
from hyperloom.stages.report.plot import drawing, plot
from hyperloom.stages.results import Judged, Lineage

EVIL = "<script>alert(1)</script>"
RECIPE = """\
name: judged
root: {root}
modalities:
  rgb: {{type: image, size: [12, 16]}}
  semantic: {{type: segmentation, classes: [land, "{evil}"]}}
steps:
  frames: {{stage: ingest, source: {{type: arrays, path: "{data}/*", columns: {columns}}}, group: video}}
  votes: {{stage: consensus, data: frames, out: semantic@vote, of: [semantic@a, semantic@b, semantic@c], method: vote}}
  shards: {{stage: shard, data: [frames, votes], split: {{by: video, pin: {{test: [v1, v2]}}}}}}
  report:
    {{stage: evaluate, data: shards, truth: {{semantic: semantic@truth}}, slices: [group], intervals: {{draws: 100}}}}
"""
FOLDERS = {f"semantic@{who}": f"semantic_{who}" for who in ("truth", "a", "b", "c")} | {"rgb@camera": "rgb"}


def write(folder: Path) -> None:
    """Three videos of four frames: the truth, and three sources that are wrong more and more often."""
    random = np.random.default_rng(0)
    for video in ("v0", "v1", "v2"):
        for t in range(4):
            truth = random.integers(0, 2, (12, 16)).astype(np.uint8)
            values = {"rgb": random.integers(0, 256, (12, 16, 3), np.uint8), "semantic_truth": truth}
            for who, wrong in (("a", 0.1), ("b", 0.2), ("c", 0.4)):
                values[f"semantic_{who}"] = np.where(random.random(truth.shape) < wrong, 1 - truth, truth)
            for name, value in values.items():
                path = folder / video / name / "npz" / f"{t}.npz"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(path, value)


def run(path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(opening, "connect", lambda loaded: None)
    return cli.main(["run", str(path), "--no-mlflow", *options])


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that judges three sources and their vote, and has run."""
    folder = tmp_path_factory.mktemp("judged")
    write(folder / "data")
    path = folder / "judged.yaml"
    columns = json.dumps(FOLDERS)
    path.write_text(RECIPE.format(root=folder / "root", data=folder / "data", columns=columns, evil=EVIL))
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run(path, monkeypatch) == 0
    return path


def opened(path: Path) -> root.ReportedRoot:
    loaded = recipe.load(path)
    storage = Storage(loaded.recipe.root)
    return root.opened(loaded, storage, opening.steps(loaded, storage))


def blocks(page: Page, kind: type) -> list[Any]:
    return [block for section in page.sections for block in section.blocks if isinstance(block, kind)]


def test_the_last_line_of_a_run_is_its_report(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(judged, monkeypatch, "--root", str(tmp_path)) == 0
    first = capsys.readouterr().out.splitlines()[-1]
    assert first.startswith("report: ") and first.endswith("report.html")
    file = Path(first.removeprefix("report: "))
    before = file.stat().st_mtime_ns
    assert run(judged, monkeypatch, "--root", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == first, "a run with nothing to do says where it lies"
    assert file.stat().st_mtime_ns == before, "and makes no other"
    events = [e for e in opened_events(tmp_path) if e["kind"] in ("artifact", "run_finished") and not e["step"]]
    assert [e["kind"] for e in events] == ["artifact", "run_finished"] and first.endswith(events[0]["path"])
    file.unlink()
    assert run(judged, monkeypatch, "--root", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"report: hyperloom report {judged}")
    assert cli.main(["report", str(judged), "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(file) and file.is_file()


def opened_events(path: Path) -> list[dict[str, Any]]:
    from hyperloom.pipeline.root import events

    storage = Storage(str(path))
    return [e for run_ in storage.names("events") for e in events.read(storage, run_)]


def test_a_report_needs_nothing_else_and_runs_no_text_of_the_user(judged: Path, tmp_path: Path) -> None:
    assert cli.main(["report", str(judged), "--to", str(tmp_path / "here.html")]) == 0
    html = (tmp_path / "here.html").read_text()
    assert EVIL not in html and "&lt;script&gt;alert(1)" in html
    assert html.count("<table") > 5 and html.count('<img class="over"') > 5 and "&lt;table" not in html
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)""", html) == []
    assert re.findall(r"url\((?!data:|#tip)", html) == [] and "@import" not in html
    assert "prefers-color-scheme:dark" in html and 'name="viewport"' in html
    for name in ("results", "steps", "samples", "experts", "slices", "data", "lineage"):
        assert f'<section id="{name}">' in html
    assert "training" not in re.findall(r'<section id="(\w+)"', html), "a section without data does not appear"


def test_the_page_says_what_came_of_it(judged: Path) -> None:
    page = gather.page(opened(judged))
    assert page.missing == [] and page.tone == "plain" and page.outcome.endswith("; no model was judged.")
    (results,) = [s for s in page.sections if s.name == "results"]
    table = results.blocks[0]
    assert isinstance(table, PageTable) and table.columns[:3] == ["who", "kind", "semantic.miou ↑"]
    rows = {row[0]: row for row in table.rows}
    assert [rows[w][1] for w in ("a", "b", "c", "vote")] == ["expert"] * 3 + ["consensus"]
    miou = {who: row[2].value for who, row in rows.items()}  # type: ignore[union-attr]
    assert miou["vote"] > miou["b"] > miou["c"] and all(row[2].low < row[2].value for row in rows.values())  # type: ignore
    best = max(miou, key=lambda who: miou[who] or 0)
    assert [who for who, row in rows.items() if row[2].best] == [best]  # type: ignore[union-attr]
    (graph,) = blocks(page, StepGraph)
    assert {box.name: box.state for box in graph.boxes} == dict.fromkeys(
        ["frames", "votes", "shards", "report"], "done"
    )
    (gallery,) = blocks(page, Gallery)
    tiles = [tile.column for tile in gallery.samples[0].tiles]
    assert tiles == [f"semantic@{who}" for who in ("truth", "a", "b", "c", "vote")]
    assert all(tile.over and tile.data for tile in gallery.samples[0].tiles) and gallery.samples[0].picture
    sliced = next(t for t in blocks(page, PageTable) if t.title == "Slices")
    assert {row[1] for row in sliced.rows} == {"group=v1", "group=v2"} and sliced.rows[0][3] == "semantic.miou"
    groups = next(t for t in blocks(page, PageTable) if t.title.startswith("semantic.miou by group"))
    assert {row[0] for row in groups.rows} == {"v1", "v2"}
    classes = {t.title: t for t in blocks(page, PageTable) if t.title.startswith("semantic by class")}
    iou = classes["semantic by class: iou"]
    assert [row[0] for row in iou.rows] == ["land", EVIL] and iou.columns == ["class", *rows]
    assert page.task == "", "no expert, no training, no release"


def test_nobody_is_the_best_by_errors_of_other_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`shy` answers half of the pixels, where it is easy; its error is the least, and no other is asked for these."""
    random = np.random.default_rng(0)
    for t in range(6):
        truth = random.uniform(1, 9, (12, 16, 1)).astype(np.float32)
        off = np.where(np.arange(16) < 8, 0.1, 1.0).astype(np.float32)[:, None]
        shy = np.where(np.arange(16)[:, None] < 8, truth + 0.2, np.float32(0))
        for name, value in {"depth_truth": truth, "depth_shy": shy, "depth_bold": truth + off}.items():
            path = tmp_path / "data" / "vw"[t % 2] / name / "npz" / f"{t}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, value)
    path = tmp_path / "errors.yaml"
    path.write_text(f"""\
name: errors
root: {tmp_path / "root"}
modalities: {{depth: {{type: dense, size: [12, 16], unit: m, unknown: 0}}}}
steps:
  frames:
    stage: ingest
    source:
      type: arrays
      path: "{tmp_path / "data"}/*"
      columns: {{depth@truth: depth_truth, depth@shy: depth_shy, depth@bold: depth_bold}}
  shards: {{stage: shard, data: frames, split: {{by: group, pin: {{test: [v], train: [w]}}}}}}
  report: {{stage: evaluate, data: shards, truth: {{depth: depth@truth}}}}
""")
    assert run(path, monkeypatch) == 0
    (results,) = [s for s in gather.page(opened(path)).sections if s.name == "results"]
    table = results.blocks[0]
    assert isinstance(table, PageTable)
    errors = {row[0]: row[2] for row in table.rows}
    assert errors["shy"].value < errors["bold"].value and not errors["shy"].best and not errors["bold"].best
    assert "; depth.mae is of what each answers, shy 50.0% of all" in table.note


def test_of_one_subject_classes_are_one_table_in_their_order() -> None:
    rows = [
        {"who": "student", "modality": "semantic", "measure": m, "class10": 0.3, "class2": v}
        for m, v in (("iou", 0.1), ("recall", 0.2))
    ]
    counted = SimpleNamespace(counted=("class2", "class10"))
    report = Judged("test", Lineage("f"), {}, classes=rows)
    step = SimpleNamespace(name="report", manifest=None)
    known: Any = SimpleNamespace(modalities={"semantic": counted}, steps=[], results=lambda kind: [(step, report)])
    section = figures.slices(known)
    assert section is not None
    (table,) = section.blocks
    assert (
        isinstance(table, PageTable)
        and table.columns == ["class", "iou", "recall"]
        and table.title == "semantic by class: student"
    )
    assert table.rows == [["class2", 0.1, 0.2], ["class10", 0.3, 0.3]]


@pytest.mark.parametrize("harm", ["score", "events", "evaluate", "data", "everything"])
def test_a_damaged_root_gives_a_smaller_page(
    judged: Path, harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(shutil.copytree(recipe.load(judged).recipe.root, tmp_path / "root"))
    folders = {"score": "score", "events": "events", "evaluate": "evaluate", "data": "expert", "everything": "."}
    for file in sorted((place / folders[harm]).rglob("*")):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert cli.main(["report", str(judged), "--root", str(place)]) == 0
    printed = capsys.readouterr()
    html = Path(printed.out.splitlines()[-1]).read_text()
    assert "Traceback" not in printed.err + html and "<h1>judged</h1>" in html and 'id="lineage"' in html


def test_whatever_a_result_fails_with_is_said_on_the_page(judged: Path) -> None:
    class Unreadable(root.ReportedRoot):
        def results(self, kind: type) -> Any:
            raise IndexError("an older form")

    page = gather.page(Unreadable(recipe.load(judged), Storage("memory://unreadable"), []))
    assert page.name == "judged" and "the outcome cannot be shown: IndexError: an older form" in page.missing


def test_it_is_a_pilots_where_the_report_that_counts_is(judged: Path) -> None:
    early, late = (Judged("test", Lineage("f"), {}, rehearsals=how) for how in ({"student": "3 updates of 90"}, {}))

    class Reported(root.ReportedRoot):
        def results(self, kind: type) -> Any:
            yield from self.reports if kind is Judged else ()

    known = Reported(recipe.load(judged), Storage("memory://reported"), [])
    step = SimpleNamespace(name="report")
    known.reports = [(step, early), (step, late)]
    assert not outcome.rehearsed(known) and "pilot" not in outcome.sentence(known)[0]
    known.reports.reverse()
    assert outcome.rehearsed(known) and outcome.sentence(known)[0].startswith("a pilot")


def test_a_report_of_a_recipe_that_never_ran(judged: Path, tmp_path: Path) -> None:
    assert cli.main(["report", str(judged), "--root", str(tmp_path / "empty")]) == 0
    page = gather.page(root.opened(recipe.load(judged), Storage(str(tmp_path / "empty")), []))
    assert "nothing" in page.outcome and page.missing == []


def test_a_report_keeps_its_size(judged: Path) -> None:
    page = gather.page(opened(judged))
    sample = ShownSample("k", (), "rgb@camera", "image/png", b"x" * 400_000, 4, 4)
    rows = [[f"row {i}", "x" * 300] for i in range(5000)]
    large = Section("large", "Large", [Gallery([sample] * 9), PageTable(["a", "b"], rows)])
    html = render.html(Page(page.name, "", "", "plain", (), [*page.sections, large]), 1_000_000)
    assert len(html) <= 1_000_000 and b"samples are left out" in html and b"cut to" in html
    assert len(render.html(page)) < 300_000


def test_no_secret_stands_in_a_report() -> None:
    text = "root: s3://me:hunter2-long@host/x\npassword: correct-horse"
    page = Page(
        "r", text, text, "plain", (("root", text),), [Section("s", "S", [Verbatim("recipe", text)])], [text], [text]
    )
    html = render.html(page).decode()
    assert "hunter2-long" not in html and "correct-horse" not in html and "s3://***@host/x" in html


def test_curves_come_from_the_run_that_trained(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for run_, reused in (("20260101-000000-aaaaaa", False), ("20260102-000000-bbbbbb", True)):
        with Events(storage, run_, "driver") as events:
            events.emit("run_started", name="r", recipe="name: r", path="r.yaml", params={}, total=1)
            about = {"stage": "train", "fingerprint": "f" * 64}
            events.emit("step_reused" if reused else "step_started", "teacher", **about)
            for at in range(10, 10_010, 10) if not reused else ():
                events.metric("teacher", {"loss": 1 / at, "fit.depth.mae": 2.0}, at)
            if not reused:
                events.emit("step_finished", "teacher", **about, rows=0, quarantined=0, seconds=3.5, status="done")
    work, newest = histories(storage, {"f" * 64}, "r")
    step = work["f" * 64]
    assert (step.seconds, step.run) == (3.5, "20260101-000000-aaaaaa") and newest.run == "20260102-000000-bbbbbb"
    assert len(step.curves["loss"]) == 400 and step.curves["loss"][-1] == (10_000, 1 / 10_000)
    assert thinned([(1.0, 2.0)]) == [(1.0, 2.0)]


def test_one_point_is_no_curve() -> None:
    """A training that was measured once, at its end, has that in the table."""
    recipe_: Any = SimpleNamespace(modalities={"depth": Dense(type="dense", size=(4, 4))})
    step: Any = SimpleNamespace(name="student", fingerprint="f", manifest=None)
    history = StepHistory(curves={"fit.depth.mae": [(60.0, 0.5)]})
    known = root.ReportedRoot(SimpleNamespace(recipe=recipe_), Storage("memory://curves"), [step], work={"f": history})  # type: ignore[arg-type]
    assert training.training(known) is None
    history.curves["val.depth.mae"] = [(10.0, 1.0), (60.0, 0.6)]
    section = training.training(known)
    assert section is not None
    (chart,) = section.blocks
    assert isinstance(chart, Chart) and [line.name for line in chart.lines] == ["fit", "val"]


def test_plots_stay_inside_their_frame() -> None:
    odd = [(0.0, float("nan")), (1.0, 5.0), (2.0, 5.0), (3.0, float("inf"))]
    drawn = plot(Chart("flat", "update", [PlotLine("a", odd), PlotLine("empty", [])]))
    assert drawn is not None and [name for name, _, _ in drawn.lines] == ["a"]
    left, top, right, bottom = drawn.box
    assert all(left <= x <= right and top <= y <= bottom for x, y, _ in drawn.lines[0][2])
    assert plot(Chart("none", "x", [PlotLine("a", [(0.0, float("nan"))])])) is None
    log = plot(Chart("log", "ms", [PlotLine("a", [(0.0, 1.0), (10.0, 1.0)])], log=True, marks=True))
    assert log is not None and len(log.lines[0][2]) == 1


def test_the_last_number_of_an_axis_is_within_the_picture() -> None:
    """A number is written around its place; the one at the right edge ends there."""
    drawn = plot(Chart("wide", "update", [PlotLine("a", [(0.0, 1.0), (20_000.0, 2.0)])]))
    assert drawn is not None and [tick.text for tick in drawn.across][-1] == "20000"
    sides = {tick.text: tick.side for tick in drawn.across}
    assert sides[drawn.across[-1].text] == "end" and set(list(sides.values())[:-1]) == {"middle"}
    for tick in drawn.across:
        right = tick.at + (7 * len(tick.text) / 2 if tick.side == "middle" else 0)
        assert right <= drawn.width


def test_numbers_of_an_axis_are_those_of_its_ticks() -> None:
    """Of a training that goes on at 100,000 updates, and of temperatures a tenth apart, all read the same."""
    points = [(100_000.0, 273.15), (110_000.0, 273.25)]
    drawn = plot(Chart("late", "update", [PlotLine("a", points)]))
    assert drawn is not None
    assert [t.text for t in drawn.across] == [str(n) for n in range(100_000, 111_000, 2000)]
    assert [t.text for t in drawn.up] == ["273.15", "273.2", "273.25"]
    assert drawn.lines[0][2][0][2] == "100000, 273.1"
    far = plot(Chart("far", "x", [PlotLine("a", [(1_234_000.0, 1e-5), (1_235_000.0, 1.2e-5)])]))
    assert far is not None and [float(t.text) for t in far.up] == pytest.approx([1e-5, 1.1e-5, 1.2e-5])
    assert len({t.text for t in far.across}) == len(far.across) > 2
    tiny = plot(Chart("tiny", "x", [PlotLine("a", [(1.0, 1e-13), (2.0, 2e-13)])]))
    assert tiny is not None and [float(t.text) for t in tiny.up] == pytest.approx([1e-13, 1.5e-13, 2e-13], rel=1e-6)


def test_a_narrow_interval_is_seen_and_holds_its_figure() -> None:
    assert render.written(Estimate(0.512345, 0.49, 0.53)) == ("0.5123", "0.49", "0.53")
    assert render.written(Estimate(273.15, 273.13, 273.17)) == ("273.150", "273.130", "273.170")  # not 273 to 273
    assert render.written(Estimate(0.99965, 0.9995, 0.9998)) == ("0.99965", "0.99950", "0.99980")  # not 1 (1 to 1)
    assert render.written(Estimate(0.98765, 0.98761, 0.999)) == ("0.988", "0.988", "0.999")
    assert render.written(Estimate(101_325.3, 101_325.1, 101_325.5)) == ("101,325.30", "101,325.10", "101,325.50")
    assert render.written(Estimate(3.00001e-9, 2.99999e-9, 3.00002e-9)) == ("3.00001e-09", "2.99999e-09", "3.00002e-09")
    assert render.written(Estimate(1.0, 1.0, 1.0)) == ("1", "1", "1")
    assert render.written(Estimate(0.5)) == ("0.5", "", "")


@pytest.mark.parametrize(
    ("part", "text"), [(0, "0.0%"), (0.0003, "<0.1%"), (0.125, "12.5%"), (0.9996, ">99.9%"), (1, "100.0%")]
)
def test_some_is_neither_none_nor_all(part: float, text: str) -> None:
    assert share(part) == text and share(0.996, 0) == ">99%"


def test_a_time_is_named_with_what_it_was_measured_in(judged: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """A teacher on a GPU beside a student on one thread are no comparison of the two, if nobody says so."""
    assert run(judged, monkeypatch, "--root", str(tmp_path)) == 0
    (run_,) = Storage(str(tmp_path)).names("events")
    with Events(Storage(str(tmp_path)), run_, "cost-by-hand") as events:
        events.metric("report", {"latency ms/a/onnx": 3.0, "latency ms/a/torch": 7.0})
        events.metric("report", {"latency ms/b/torch": 9.0, "latency ms/b/cuda": 1.5})
        events.metric("report", {"milliseconds a frame/c": 20.0})
    loaded, storage = recipe.load(judged), Storage(str(tmp_path))
    page = writing.gathered(loaded, storage, opening.steps(loaded, storage))
    (results,) = [s for s in page.sections if s.name == "results"]
    (table,) = [block for block in results.blocks if isinstance(block, PageTable)]
    assert list(table.columns)[-2:] == ["ms a frame", "timed in"]
    assert {row[0]: tuple(row[-2:]) for row in table.rows if row[-1]} == {
        "a": (3.0, "ONNX Runtime, one CPU thread"),
        "b": (1.5, "torch, a GPU"),
        "c": (20.0, "torch, in batches, as it was judged"),
    }
    (chart,) = [block for block in blocks(page, Chart) if block.x.startswith("ms a frame")]
    assert {"a (ONNX Runtime, one CPU thread)", "b (torch, a GPU)"} < {line.name for line in chart.lines}


def test_what_was_killed_and_gone_on_with_took_all_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training whose driver was killed at update 540 goes on from 500. The report showed the last run alone."""
    storage, now = Storage(str(tmp_path)), [0.0]
    monkeypatch.setattr("time.time", lambda: now[0])

    def attempt(run_: str, first: int, last: int, seconds: float | None, recipe_: str = "r") -> None:
        with Events(storage, run_, "driver") as events:
            events.emit("run_started", name=recipe_, recipe="", path="r.yaml", params={}, total=1)
            about = {"stage": "train", "fingerprint": "f" * 64 if recipe_ == "r" else "o" * 64}
            events.emit("step_started", "teacher", **about)
            for at in range(first, last + 1, 10):
                now[0] += 10
                events.metric("teacher", {"loss": float(last)}, at)
            if seconds:
                events.emit("step_finished", "teacher", **about, rows=0, quarantined=0, seconds=seconds, status="done")

    attempt("20260101-000000-aaaaaa", 10, 800, 800.0)  # long ago: what it made is gone
    attempt("20260102-000000-aaaaaa", 10, 540, None)
    attempt("20260103-000000-aaaaaa", 10, 50, 50.0, recipe_="another")
    attempt("20260104-000000-aaaaaa", 510, 800, 300.0)
    step = histories(storage, {"f" * 64}, "r")[0]["f" * 64]
    assert step.worked == pytest.approx(540 + 300) and step.status == "done"
    assert [at for at, _ in step.curves["loss"]] == list(range(10, 801, 10))
    assert dict(step.curves["loss"])[500] == 540 and dict(step.curves["loss"])[510] == 800


def test_samples_that_failed_a_step_are_all_counted(tmp_path: Path, judged: Path) -> None:
    """Events name twenty samples of a unit; of a step that is not done these were all that were counted."""
    storage = Storage(str(tmp_path))
    with Events(storage, "20260101-000000-aaaaaa", "driver") as events:
        events.emit("run_started", name="judged", recipe="", path="r.yaml", params={}, total=1)
        events.emit("step_started", "frames", stage="ingest", fingerprint="f")
        for unit, count in (("a", 500), ("b", 3)):
            samples = [{"key": f"{unit}{i}", "error": "torn"} for i in range(min(count, 20))]
            events.emit("quarantine", "frames", unit=f"samples/x/{unit}", samples=samples, count=count)
    step: Any = SimpleNamespace(name="frames", fingerprint="f", manifest=None)
    section = material.quarantine(root.opened(recipe.load(judged), storage, [step]))
    assert section is not None
    assert section.note.startswith("503 samples were left out; these are the errors of 23 of them.")
    storage.write_json("samples/x/quarantine/a.json", [{"key": str(i), "error": "torn"} for i in range(500)])
    section = material.quarantine(root.opened(recipe.load(judged), storage, [step]))
    assert section is not None and section.note.startswith("503 samples were left out. ")


def test_who_was_rolled_back_is_not_called_the_champion(judged: Path) -> None:
    from hyperloom.stages import champion
    from hyperloom.stages.results import Released

    first = Released("net", "student", True, (), {}, {}, "", "", "", {})

    class Reported(root.ReportedRoot):
        def results(self, kind: type) -> Any:
            step = SimpleNamespace(name="release", fingerprint="a" * 64, stage=None)
            yield from [(step, first)] if kind is Released else ()

    storage = Storage("memory://standing")
    known = Reported(recipe.load(judged), storage, [])
    one, two = (champion.Champion(print_ * 64, {}, "d") for print_ in "ab")
    champion.crown(storage, "net", one, None)
    assert outcome.sentence(known)[0] == "net is the champion."
    champion.crown(storage, "net", two, one)
    assert outcome.sentence(known)[0] == "net passed its gate and is the champion no longer: now bbbbbbbbbbbb is."


def test_groups_are_of_the_same_samples_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many samples the later models had figures of fewer groups, or of parts of them, and nobody said so."""
    read: list[str] = []

    def sheet(storage: Any, path: str) -> Any:
        read.append(path)
        return ["k1", "k2"], ["g1", "g2"], {"depth": {}}

    monkeypatch.setattr(figures, "read_sheet", sheet)
    monkeypatch.setattr(figures, "MOST_ROWS", 2)
    files = [[SimpleNamespace(path=""), SimpleNamespace(path=f"{who}{i}")] for who in "ab" for i in (0, 1)]
    records = [SimpleNamespace(id="u", space=str(f[1].path)[0], files=f, meta={}) for f in files]
    step = SimpleNamespace(name="report", manifest=SimpleNamespace(records=records))
    report = Judged("test", Lineage("f"), {}, truth={"depth": "depth@truth"}, sheets={"a": "a", "b": "b"})
    report.figures.update({who: {"depth.mae": 1.0} for who in "ab"})  # type: ignore[attr-defined]
    monkeypatch.setattr(figures, "measures", lambda kind, sums: {"mae": 1.0})
    known: Any = SimpleNamespace(
        modalities={"depth": Dense(type="dense", size=(4, 4))},
        steps=[],
        storage=None,
        results=lambda kind: [(step, report)],
    )
    section = figures.slices(known)
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, PageTable) and table.title.endswith("first, of the first 2 samples")
    assert read == ["a0", "b0"] and all(None not in row for row in table.rows)


@pytest.mark.parametrize(
    ("bounds", "more", "words"),
    [
        ((None, None), {}, "(a) 0.1; these are too few samples to say how sure that is."),
        ((-0.1, 0.9), {}, "(a) 0.1: too close to call on so few samples."),
        ((0.1, 0.9), {"better": True}, "(a) 0.1."),
        (
            (0.1, 0.9),
            {"samples": 1200, "value": 0.8, "reference": 0.05, "better": True},
            "(a) 0.1; on the 1,200 samples that both answer 0.8 against 0.05.",
        ),
    ],
)
def test_without_an_interval_nothing_is_called_close(
    judged: Path, bounds: Any, more: dict[str, Any], words: str
) -> None:
    """A test split of one group has no interval: 0.9 against 0.1 was `too close to call`. Of an expert that left
    samples out it is said what both come to on the others."""
    row = {"who": "student", "against": "a", "figure": "semantic.miou", "difference": 0.8, "better": None}
    report = Judged(
        "test",
        Lineage("f"),
        {"student": {"semantic.miou": 0.9}, "a": {"semantic.miou": 0.1}},
        truth={"semantic": "semantic@truth"},
        kinds={"student": "model", "a": "expert"},
        best_expert={"semantic": "a"},
        differences=[row | {"low": bounds[0], "high": bounds[1]} | more],
    )

    class Reported(root.ReportedRoot):
        def results(self, kind: type) -> Any:
            yield from [(SimpleNamespace(name="report"), report)] if kind is Judged else ()

    sentence, _ = outcome.sentence(Reported(recipe.load(judged), Storage("memory://close"), []))
    assert sentence.endswith(words)


def test_a_graph_puts_each_step_below_what_it_reads() -> None:
    from hyperloom.stages.report.page import Box

    reads = {"a": [], "b": ["a"], "c": ["a"], "d": ["a", "b", "c"], "lost": ["gone"]}
    drawn = drawing(StepGraph([Box(n, "s", "done", (), r) for n, r in reads.items()]))
    y = {list(reads)[place]: y for place, _, y in drawn.boxes}
    assert y["a"] < y["b"] == y["c"] < y["d"] and y["lost"] == y["a"] and len(drawn.edges) == 5


def test_numbers_below_an_axis_do_not_lie_over_each_other() -> None:
    assert ticks([1.22, 1.3, 3.05, 4.0, 5.31, 19.4]) == [1.22, 3.05, 4.0, 5.31, 19.4]
    assert ticks([1.5, 1.8, 1.81, 3.1]) == [1.5, 1.8, 3.1] and ticks([2.0, 2.0]) == [2.0] and ticks([7.0]) == [7.0]
