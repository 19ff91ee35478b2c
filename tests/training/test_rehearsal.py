"""A pilot's end: the experts' labels over the samples come first, and a model of a few updates is judged by nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import piloting
from hyperloom.pipeline.root import events
from hyperloom.stages.evaluate.grounds import Grounds, rehearsal_sentence
from hyperloom.stages.evaluate.verdict import doubted, sentences
from hyperloom.stages.modality import Boxes, Category
from hyperloom.stages.release.proof import doubts
from hyperloom.stages.report import writing
from hyperloom.stages.results import Judged, Trained
from hyperloom.stages.starter import pictures
from hyperloom.stages.starter import pilot as pilots
from tests.unit.test_pilot import World

cv2 = pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")
CHAIN = """
  student:
    stage: distill
    data: shards
    in: rgb@camera
    targets: {edges: edges@gradient}
    updates: 500
    batch: 4
    model: {trunk: {type: unet, width: 2}}
  report: {stage: evaluate, data: shards, models: [student], truth: {edges: edges@gradient}, pictures: 2}
"""
FAMILY = """
  pupil:
    {stage: distill, data: shards, in: rgb@camera, targets: {edges: edges@gradient}, epochs: 10, batch: 4, seeds: 2,
     model: {trunk: {type: unet, width: 2}}}
  more: {stage: label, data: frames, experts: [{type: model, model: pupil, out: edges@pupil}]}
  wider: {stage: shard, data: [frames, labels, more], split: {by: group, pin: {test: [d], val: [e]}}}
  report:
    {stage: evaluate, data: wider, models: [pupil], truth: {edges: edges@gradient},
     against: [again, pupil labels], intervals: {over: frames}}
  word: {stage: verdict, report: report, claims: {c: {ours: pupil, theirs: again, figure: edges.mae}}}
"""
AGAIN = ", {type: edges, in: rgb@camera, out: edges@again}"
TOLD = "student (3 updates of 500)"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Any]]:
    """A world in which a pilot of three updates has ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pilots, "UPDATES", 3)
        world = World(tmp_path_factory.mktemp("pilot"))
        one = world.pilot(world.load(CHAIN), 20).loaded
        assert world.run(one).ok
        yield world, one


def test_a_rehearsal_is_said_in_the_students_row_and_judged_by_nobody(ended: tuple[World, Any]) -> None:
    world, one = ended
    done = {s.name: s for s in world.plan(one)}
    assert Trained.from_manifest(done["student"].manifest).rehearsal == "3 updates of 500"
    report = Judged.from_manifest(done["report"].manifest)
    (row,) = [row for row in report.table if row["who"] == "student"]
    assert row["kind"] == "rehearsal: 3 updates of 500"
    assert report.verdict["student"]["edges"]["unproven"] == "a pilot's rehearsal (3 updates of 500)"
    assert any("NOT JUDGED" in text and "student is a pilot's rehearsal" in text for text in report.said)
    assert any("after a rehearsal of 3 updates of 500: not judged" in text for text in report.said)
    page = writing.gathered(one, world.storage, list(done.values()))
    assert page.sections[0].name == "samples" and f"{TOLD} is a rehearsal, NOT JUDGED" in page.outcome


def test_a_rehearsal_is_called_the_same_by_mlflow_the_report_and_the_last_lines(
    ended: tuple[World, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, one = ended
    word = f"a pilot: {TOLD} is a rehearsal, NOT JUDGED"
    said = [e for run in world.storage.names("events") for e in events.read(world.storage, run) if e["kind"] == "tag"]
    assert [e["values"]["outcome"] for e in said if "outcome" in e["values"]] == [word, word], "the step's, the run's"
    assert not said[-1]["step"], "which is the tag `verdict` of its page"
    monkeypatch.chdir(tmp_path)
    piloting._show(one, world.storage)
    assert capsys.readouterr().out.splitlines()[-1] == word
    outcome = writing.gathered(one, world.storage, world.plan(one)).outcome
    assert outcome.startswith("a pilot: ") and outcome.endswith(f"{word.removeprefix('a pilot: ')}.")


def test_nothing_is_shown_by_a_family_or_labels_of_a_rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences, the mean over seeds, columns that the rehearsal labelled; and no claim is concluded."""
    monkeypatch.setattr(pilots, "UPDATES", 3)
    world = World(tmp_path)
    whole = world.load(FAMILY, more=AGAIN)
    one = world.pilot(whole, 20)
    assert one.left_out == ["word"], "sixty updates hold no claim"
    assert one.loaded.recipe.steps["pupil"].rehearses == 90, "of the 36 samples of the whole"
    assert world.run(one.loaded).ok
    done = world.plan(one.loaded)
    (report,) = [Judged.from_manifest(s.manifest) for s in done if s.name == "report"]
    names = {"pupil", "pupil seed0", "pupil seed1", "pupil labels"}
    assert dict(report.rehearsals) == dict.fromkeys(names, "3 updates of 90")
    assert report.differences and all(row["better"] is None and row["unproven"] for row in report.differences)
    against = [text for text in report.said if " against " in text]
    assert against and all("not judged, as pupil" in text for text in against)
    assert not [text for text in report.said if "WORSE" in text or "better" in text or "DOES NOT" in text]
    page = writing.gathered(one.loaded, world.storage, done)
    tables = {s.name: b for s in page.sections for b in s.blocks if hasattr(b, "rows")}
    assert {row[-1] for row in tables["differences"].rows} == {"not judged: rehearsal"}
    kinds = {row[0]: row[1] for row in tables["results"].rows}
    assert {name for name, kind in kinds.items() if kind == "rehearsal: 3 updates of 90"} == names
    why = "REHEARSAL: pupil seed0 was trained for 3 updates of 90"
    assert why in doubts(report, "pupil seed0", []), "nobody crowns it"


def test_what_a_rehearsal_keeps_of_its_teacher_is_not_said() -> None:
    row = {"measure": "mae", "value": 0.2, "expert": "again", "expert_value": 0.1, "beats": None}
    decided = {"student": {"edges": {**row, "keeps": {"teacher": "teacher", "of_teacher": 0.5, "of_expert": 0.5}}}}
    assert "keeps 0.50 of its teacher" in sentences(decided)[0]
    grounds = SimpleNamespace(of={}, rehearsals={"student": "3 updates"}, mark=lambda name: "", untrue={})
    doubted(decided, cast(Grounds, grounds))
    (text,) = sentences(decided, cast(Grounds, grounds))
    assert text.endswith("after a rehearsal of 3 updates: not judged (best: again 0.1)")


@pytest.mark.parametrize("by, whole", [("edges", True), ("model", False), ("", False)])
def test_labels_of_experts_are_spoken_of_where_there_are_experts(by: str, whole: bool) -> None:
    text = rehearsal_sentence("student", "3 updates", [{"expert": {"type": by}} if by else {}])
    assert "NOT JUDGED" in text and ("labels of the experts" in text) is whole


def test_a_training_that_is_no_pilots_is_judged(ended: tuple[World, Any]) -> None:
    world, one = ended
    short = world.load(CHAIN.replace("updates: 500", "updates: 3"))
    whole = short.recipe.steps["student"]
    assert whole.rehearses is None and one.recipe.steps["student"].rehearses == 500
    assert "rehearses" not in {s.name: s for s in world.plan(short)}["student"].payload["config"]


def test_a_pilot_trains_on_what_a_torn_picture_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is cut to the samples that a pilot takes, of which some may end in quarantine."""
    monkeypatch.setattr(pilots, "UPDATES", 1)
    world = World(tmp_path)
    for group in "abc":
        for number in (0, 4, 8):  # one of each partition
            (tmp_path / "in" / group / f"{number:02}.png").write_bytes(b"torn")
    only = CHAIN[: CHAIN.index("  report:")].replace("batch: 4", "batch: 36")
    one = world.pilot(world.load(only), 12).loaded
    assert one.recipe.steps["student"].batch == 4, "of which three can be read"
    assert world.run(one).ok
    done = {s.name: s for s in world.plan(one)}
    assert Trained.from_manifest(done["student"].manifest).rehearsal.startswith("1 update")
    world.storage.delete(next(p for p in world.storage.walk("distill") if p.endswith("/manifest.json")))
    assert world.run(one).ok, "the same command again, which knows by now how many there are"


def test_the_first_picture_has_the_labels_over_the_samples(ended: tuple[World, Any]) -> None:
    world, one = ended
    shown = pictures.pictures(world.storage, world.plan(one), one.recipe.modalities)
    assert list(shown) == ["labels", "report"]
    sheet = cv2.imdecode(np.frombuffer(shown["labels"], np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape[1] == 2 * pictures.WIDTH and sheet.shape[0] > pictures.SHOWN * pictures.WIDTH
    photo, laid = sheet[40:300, : pictures.WIDTH].astype(int), sheet[40:300, pictures.WIDTH :].astype(int)
    assert 5 < np.abs(photo - laid).mean() < 120, "the labels are over the picture, which shows through"


def test_boxes_are_frames_that_leave_the_picture_inside_them() -> None:
    photo = np.full((60, 80, 3), 200, np.uint8)
    value = np.array([[0.25, 0.25, 0.75, 0.75, 0, 0.9], [np.nan] * 6], np.float32)
    drawn = pictures.laid_over(photo, value, Boxes(type="boxes", classes=("car", "tree"), most=2))
    assert (drawn[30, 40] == 200).all() and (drawn[15, 20:60] != 200).any()


@pytest.mark.parametrize("value", [None, np.int64(1)], ids=["missing", "words"])
def test_what_lies_in_no_picture_leaves_it_grey(value: Any) -> None:
    photo = np.full((60, 80, 3), 200, np.uint8)
    drawn = pictures.laid_over(photo, value, Category(type="category", classes=("a", "b")))
    assert len(np.unique(drawn)) == 1 and drawn[0, 0, 0] != 200


def test_the_command_ends_with_the_labels_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a training, so that it takes no time: what is printed, and in which order."""
    world = World(tmp_path)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(world.load().text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hyperloom.pipeline.commands.opening.connect", lambda loaded: None)
    assert cli.main(["run", str(recipe), "--pilot", "12", "--no-mlflow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if ".png" in line)
    words, _, path = first.partition(": ")
    assert words == "the labels of the experts, over your samples" and path.endswith("/pilots/mine-pilot/labels.png")
    assert Path(path).is_relative_to(world.storage.full("")) and Path(path).stat().st_size > 10_000
    assert not list(tmp_path.glob("*.png")), "which the next run would take for samples"
    assert lines[-1].startswith("Next: hyperloom run") and lines[-2].startswith("all 60 samples: ")
