"""`hyperloom diff`: what changed between two runs, and what it did to samples, labels and figures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.running import runner
from hyperloom.stages.measure.intervals import Intervals, resampled
from hyperloom.stages.report import diff, side
from hyperloom.stages.report.page import Page, PageTable
from tests.unit.test_report import FOLDERS, RECIPE, write


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that ran, and ran again with another vote and one more video."""
    folder = tmp_path_factory.mktemp("changed")
    write(folder / "data")
    path, out = folder / "judged.yaml", io.StringIO()
    text = RECIPE.format(root=folder / "root", data=folder / "data", columns=json.dumps(FOLDERS), evil="road")
    path.write_text(text)
    assert runner.run(recipe.load(path), progress=Progress(out), track=False).ok
    path.write_text(text.replace("method: vote", "method: {type: vote, weights: {c: 3}}"))
    for name in ("rgb", *(f for f in FOLDERS.values() if f != "rgb")):
        target = folder / "data" / "v9" / name / "npz" / "0.npz"
        target.parent.mkdir(parents=True)
        target.write_bytes((folder / "data" / "v0" / name / "npz" / "0.npz").read_bytes())
    assert runner.run(recipe.load(path), progress=Progress(out), track=False).ok
    return path


def compared(path: Path, before: str = "@-2", after: str = "@-1") -> Page:
    def plan(text: str) -> tuple[Any, Any, list[Any]]:
        from hyperloom.pipeline.root.storage import Storage

        loaded = recipe.load(text)
        storage = Storage(loaded.recipe.root)
        return loaded, storage, opening.steps(loaded, storage)

    return diff.diff(side.side(f"{path}{before}", plan), side.side(f"{path}{after}", plan))


def tables(page: Page, name: str) -> list[PageTable]:
    return [b for s in page.sections if s.name == name for b in s.blocks if isinstance(b, PageTable)]


def test_what_changed_and_what_it_did(changed: Path) -> None:
    page = compared(changed)
    ((votes,),) = [[row for row in t.rows if row[0] == "votes"] for t in tables(page, "recipe")]
    assert votes[1] == "recipe" and "weights" in str(votes[2])
    (samples,) = tables(page, "data")
    assert [row[:5] for row in samples.rows] == [["frames", 1, 0, 0, "v9/000000"]]
    (labels,) = tables(page, "labels")
    ((column, rows, differ, flipped, what),) = labels.rows
    assert (column, rows, differ, what) == ("semantic@vote", 12, "100.0%", "share of labels flipped")
    assert isinstance(flipped, float) and 0.1 < flipped < 0.4  # c alone decides, where a and b had outvoted it
    (figures,) = tables(page, "figures")
    rows_by = {(row[0], row[1]): row for row in figures.rows}
    change: Any = rows_by["vote", "semantic.miou"][4]
    assert change.value < -0.2 and change.low < change.value < change.high < 0, "both judged the same samples"
    assert not any(who in ("a", "b", "c") for who, _ in rows_by), "experts are the same"


def test_the_share_of_flipped_labels_is_that_of_the_arrays(changed: Path) -> None:
    from hyperloom.stages.catalogue import catalogue
    from hyperloom.stages.results import Samples
    from hyperloom.stages.table import read_table

    sides = [compared_side(changed, at) for at in ("@-2", "@-1")]
    read = []
    for one in sides:
        offered = catalogue([m for _, m, _ in one.results(Samples)])
        parts = [p for p in offered.partitions if p.group != "v9"]
        kind = one.modalities()["semantic"]
        files = [offered.record("semantic@vote", p.pid).file.path for p in parts]  # type: ignore[union-attr]
        read.append(np.concatenate([kind.decode(read_table(one.storage, f)["semantic@vote"])[0] for f in files]))
    ((_, _, _, flipped, _),) = tables(compared(changed), "labels")[0].rows
    assert flipped == pytest.approx(float((read[0] != read[1]).mean()))


def compared_side(path: Path, at: str) -> side.ComparedSide:
    from hyperloom.pipeline.root.storage import Storage

    loaded = recipe.load(path)
    return side.side(f"{path}{at}", lambda _: (loaded, Storage(loaded.recipe.root), []))


def test_other_samples_have_no_interval(changed: Path) -> None:
    one, other = (compared_side(changed, at) for at in ("@-2", "@-1"))
    for name, manifest in one.manifests.items():
        if name == "report" and manifest is not None:
            one.manifests[name] = type(manifest)(**{**vars(manifest), "records": manifest.records[:1]})
    page = diff.diff(one, other)
    ((row, *_),) = [t.rows for t in tables(page, "figures")]
    assert row[4].low is None and any("other samples" in line for line in page.missing)  # type: ignore[union-attr]


def test_a_side_against_itself_is_said_to_be_undone_once(
    changed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["diff", str(changed), str(changed), "--root", str(tmp_path / "empty")]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("not done, of") == 1 and shown.err.count("nothing has run in the root") == 1


def test_the_command_prints_it_and_names_runs(
    changed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = recipe.load(changed).recipe.root
    to = tmp_path / "d.html"
    assert cli.main(["diff", f"{changed}@-2", root, "--to", str(to)]) == 0
    out = capsys.readouterr().out
    assert "semantic@vote" in out and "weights" in out and out.splitlines()[-1] == str(to)
    assert "<h1>What changed</h1>" in to.read_text()
    assert cli.main(["diff", str(changed), str(changed)]) == 0
    assert "the same steps" in capsys.readouterr().out
    assert cli.main(["diff", f"{changed}@19990101", str(changed)]) == 2
    printed = capsys.readouterr().err
    assert "there is no run '19990101'" in printed and "Next:" in printed and "Traceback" not in printed
    assert cli.main(["diff", str(tmp_path), str(changed)]) == 2
    assert "no run is known" in capsys.readouterr().err


VOTED = """\
name: voted
root: {root}
modalities:
  rgb: {{type: image, size: [12, 16]}}
  semantic: {{type: segmentation, classes: [land, road]}}
steps:
  frames: {{stage: ingest, source: {{type: arrays, path: "{data}/*", columns: {columns}}}, group: video}}
  votes: {{stage: consensus, data: frames, out: semantic@vote, of: [semantic@a, semantic@b, semantic@c], method: vote}}
  shards: {{stage: shard, data: [frames, votes], split: {{by: video, pin: {{test: [v1, v2]}}}}}}
  report: {{stage: evaluate, data: shards, truth: {{semantic: semantic@truth}}, intervals: {{draws: 100, block: 1}}}}
"""


def saved(folder: Path, name: str, t: int, value: np.ndarray) -> None:
    np.savez(folder / name / "npz" / f"{t}.npz", value)


def voted(tmp_path: Path) -> tuple[Path, str]:
    """A recipe that ran, over twelve frames of which half have no label of anybody."""
    write(tmp_path / "data")
    for video in ("v0", "v1", "v2"):
        for who, t in ((who, t) for who in "abc" for t in (0, 1)):
            saved(tmp_path / "data" / video, f"semantic_{who}", t, np.full((12, 16), 255, np.uint8))
    path = tmp_path / "voted.yaml"
    text = VOTED.format(root=tmp_path / "root", data=tmp_path / "data", columns=json.dumps(FOLDERS))
    path.write_text(text)
    assert runner.run(recipe.load(path), progress=Progress(io.StringIO()), track=False).ok
    return path, text


def test_what_nobody_labelled_has_not_flipped(tmp_path: Path) -> None:
    """Frames without a label on both sides counted as flipped where their file had changed, and as kept elsewhere."""
    path, text = voted(tmp_path)
    path.write_text(text.replace("method: vote", "method: {type: vote, weights: {c: 3}}"))
    assert runner.run(recipe.load(path), progress=Progress(io.StringIO()), track=False).ok

    def read(who: str) -> np.ndarray:
        files = [
            tmp_path / "data" / v / f"semantic_{who}" / "npz" / f"{t}.npz" for v in ("v0", "v1", "v2") for t in (2, 3)
        ]
        return np.stack([np.load(file)["arr_0"] for file in files])

    votes = (read("a").astype(int) + read("b") + read("c") >= 2).astype(np.uint8)
    page = compared(path)
    ((column, rows, differ, flipped, _),) = tables(page, "labels")[0].rows
    assert (column, rows, differ) == ("semantic@vote", 12, "50.0%")
    assert flipped == pytest.approx(float((votes != read("c")).mean()))
    ((row, *_),) = [[r for r in t.rows if r[1] == "semantic.miou"] for t in tables(page, "figures")]
    draws = [drawn(compared_side(path, at)) for at in ("@-2", "@-1")]
    interval = Intervals(draws=100, block=1).bounds(draws[1] - draws[0])
    assert [row[4].low, row[4].high] == interval, "by the blocks of the report"  # type: ignore[union-attr]


def drawn(one: side.ComparedSide) -> np.ndarray:
    """The vote's figure in each draw, frame by frame."""
    manifest = one.manifests["report"]
    assert manifest is not None
    records = [r for r in manifest.records if "semantic@vote" in r.meta.get("sums", {})]
    names = {"semantic@vote": ("semantic", one.modalities()["semantic"])}
    return resampled(Intervals(draws=100, block=1), one.storage, records, names)[0]["semantic.miou"]


def test_a_sample_is_of_another_content_only_where_its_values_are(tmp_path: Path) -> None:
    """A partition is another as soon as one sample comes or changes; the others of it are what they were."""
    path, _ = voted(tmp_path)
    one = tmp_path / "data" / "v0"
    for name in ("rgb", *(f for f in FOLDERS.values() if f != "rgb")):
        saved(one, name, 4, np.load(one / name / "npz" / "3.npz")["arr_0"])
    saved(tmp_path / "data" / "v1", "rgb", 2, np.zeros((12, 16, 3), np.uint8))
    assert runner.run(recipe.load(path), progress=Progress(io.StringIO()), track=False).ok
    (samples,) = tables(compared(path), "data")
    assert [row[:5] for row in samples.rows] == [["frames", 1, 0, 1, "v0/000004"]]


def test_too_many_samples_are_not_counted_in_part(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "MOST_KEYS", 0)
    page = compared(changed)
    assert tables(page, "data") == []
    assert "frames: 0 samples became 1, too many to compare one by one" in page.missing
