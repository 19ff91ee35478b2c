"""Named versions of what a step has made, and what differs between two of them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError, Superseded
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.pointer import Version
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.stages.data.difference import difference
from hyperloom.stages.data.tags import Tag, TagBook
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(
    semantic={"type": "segmentation", "classes": ["land", "road"], "size": [2, 4]},
    weather={"type": "category", "classes": ["sun", "rain"]},
    depth={"type": "dense", "size": [2, 4], "storage": "float32"},
    things={"type": "boxes", "classes": ["car", "dog"], "most": 4},
    caption={"type": "text", "length": 16},
)
BOX = {"x0": 0.0, "y0": 0.0, "x1": 0.5, "y1": 0.5, "class": "car"}


def _sample(**changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "semantic": np.zeros((2, 4), np.uint8), "weather": 0, "depth": np.ones((2, 4, 1), np.float32),
        "things": [BOX], "caption": "a road",
    }  # fmt: skip
    values |= changed
    return {f"{n}@e": None if v is None else KNOWN[n].fit(v) for n, v in values.items()}


def _versions(tmp_path: Path, before: dict[str, Any], after: dict[str, Any], rows: int = 1) -> Any:
    storage = Storage(str(tmp_path))
    return storage, *(inline.ingested(storage, KNOWN, groups, rows) for groups in (before, after))


def test_what_flipped_moved_came_and_went(tmp_path: Path) -> None:
    flipped = np.zeros((2, 4), np.uint8)
    flipped[0] = 1
    deeper = np.ones((2, 4, 1), np.float32)
    deeper[0, 0] = 5
    moved = {**BOX, "x1": 0.4}
    after = _sample(semantic=flipped, weather=1, depth=deeper, caption="a wet road",
                    things=[{**moved, "class": "dog"}, {**BOX, "x0": 0.6, "x1": 0.9}])  # fmt: skip
    plain = [_sample() for _ in range(4)]
    storage, old, new = _versions(
        tmp_path,
        {"a": plain, "b": plain},
        {"a": [*plain[:3], after, _sample()], "c": [_sample(weather=None)]},
    )
    result = difference(storage, old, new, KNOWN)
    assert (result.came, result.went, result.both) == (2, 4, 4)
    assert result.examples == {"came": ["a/004", "c/000"], "went": ["b/000", "b/001", "b/002"]}
    by = {column.column: column.as_json() for column in result.columns}
    assert by["semantic@e"]["flips"] == [{"from": "land", "to": "road", "count": 4}]
    assert by["weather@e"]["flips"] == [{"from": "sun", "to": "rain", "count": 1}]
    assert (by["depth@e"]["largest_change"], by["depth@e"]["mean_change"]) == (4.0, 0.5)
    assert by["things@e"]["boxes"] == {"another class": 1, "came": 1}
    assert by["things@e"]["flips"] == [{"from": "car", "to": "dog", "count": 1}]
    assert all((c["differ"], c["both"], c["examples"]) == (1, 4, ["a/003"]) for c in by.values())


def test_points_move_by_their_places(tmp_path: Path) -> None:
    """That a point is visible counted as a number of it, and a hidden one as one that moved to the corner."""
    known = inline.modalities(joints={"type": "keypoints", "points": ["a", "b", "c"]})
    before, after = {"a": [0.5, 0.5], "b": [0.9, 0.9]}, {"a": [0.6, 0.2], "c": [0.1, 0.1]}
    old, new = (
        inline.ingested(Storage(str(tmp_path)), known, {"g": [{"joints@e": known["joints"].fit(value)}]})
        for value in (before, after)
    )
    (one,) = (column.as_json() for column in difference(Storage(str(tmp_path)), old, new, known).columns)
    assert one["largest_change"] == pytest.approx(0.3) and one["mean_change"] == pytest.approx(0.2)


def test_values_that_are_gained_or_lost_and_columns_that_come(tmp_path: Path) -> None:
    storage, old, new = _versions(
        tmp_path, {"a": [_sample(weather=None), _sample()]}, {"a": [_sample(), _sample(weather=None)]}
    )
    (weather,) = difference(storage, old, new, KNOWN, ("weather@e",)).columns
    assert (weather.gained, weather.lost, weather.differ, weather.examples) == (1, 1, 0, ["a/000", "a/001"])
    del old.body["columns"]["depth@e"]
    assert difference(storage, old, new, KNOWN).came_columns == ["depth@e"]
    with pytest.raises(RecipeError, match="neither has the column 'depht@e'"):
        difference(storage, old, new, KNOWN, ("depht@e",))


def test_files_of_both_are_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [_sample(), _sample(), _sample(weather=1), _sample()]
    storage, old, new = _versions(tmp_path, {"a": [_sample()] * 4}, {"a": samples}, rows=2)
    from hyperloom.stages.data import difference as module

    opened: list[str] = []
    real = module.read_table
    monkeypatch.setattr(module, "read_table", lambda s, path, columns: opened.append(path) or real(s, path, columns))
    assert [c.differ for c in difference(storage, old, new, KNOWN, ("weather@e",)).columns] == [1]
    shared = {r.file.path for r in old.records} & {r.file.path for r in new.records}
    counted = [path for path in opened if path in shared]
    assert len(shared) == 1 and len(counted) == 2, "its keys alone, once a side"


def test_classes_of_another_order_are_the_same_and_of_another_name_are_said(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    old = inline.ingested(storage, KNOWN, {"a": [_sample(weather=1)]})
    turned = inline.modalities(weather={"type": "category", "classes": ["rain", "sun", "snow"]})
    new = inline.ingested(storage, turned, {"a": [{"weather@e": turned["weather"].fit("rain")}]})
    (column,) = difference(storage, old, new, turned, ("weather@e",)).columns
    assert (column.differ, column.unlike) == (0, "")


def test_shards_are_compared_too(tmp_path: Path) -> None:
    storage, old, new = _versions(tmp_path, {"a": [_sample()] * 4}, {"a": [_sample()] * 3 + [_sample(weather=1)]})
    stage = Shard.model_validate({"stage": "shard", "data": "frames"})
    sides = [inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=m)) for m in (old, new)]
    result = difference(storage, *sides, KNOWN)
    assert (result.both, {c.column: c.differ for c in result.columns}["weather@e"]) == (4, 1)


def test_a_tag_moves_only_when_told_and_is_fenced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = TagBook(Storage(str(tmp_path)))
    one, two = (Tag("monday", "votes", "consensus", str(i) * 64) for i in range(2))
    tags.set(one)
    tags.set(one)
    with pytest.raises(RecipeError, match="is at consensus/000000000000"):
        tags.set(two)
    assert tags.set(two, move=True) == one and tags.get("monday") == two
    with pytest.raises(RecipeError, match="did you mean 'monday'"):
        tags.get("mondya")
    pointer = tags._pointer("monday")
    with pytest.raises(Superseded):
        pointer.write({}, Version(1))
    tags.remove("monday")
    assert tags.names() == []
    for name in ("a/b", "..", ""):
        with pytest.raises(RecipeError, match=f"can be called '{name}'"):
            tags.set(Tag(name, "votes", "consensus", "0" * 64))
    assert tags.storage.names("") == ["tags"]


RECIPE = """\
name: versions
root: {root}
modalities:
  rgb: {{type: image, size: [4, 4]}}
  edges: {{type: dense, channels: 1}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "{root}/../pics/*.png"}}}}
  edges: {{stage: label, data: frames, experts: [{{type: edges, in: rgb@camera, out: edges@sobel, {more}}}]}}
"""


@pytest.fixture
def tagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A recipe whose edges are tagged before they change; what a command says."""
    import cv2

    (tmp_path / "pics").mkdir()
    for i in range(3):
        picture = np.zeros((4, 4, 3), np.uint8)
        picture[:, 2:] = 80 * i
        cv2.imwrite(str(tmp_path / f"pics/{i}.png"), picture)
    monkeypatch.setattr(opening, "connect", lambda loaded: None)
    path = tmp_path / "r.yaml"

    def run(text: str) -> bool:
        path.write_text(text)
        return runner.run(recipe.load(path), progress=Progress(quiet=True), track=False).ok

    def call(*words: str) -> Any:
        code = cli.main(["data", words[0], str(path), *words[1:], "--json"])
        return SimpleNamespace(code=code, answer=json.loads(capsys.readouterr().out))

    text = RECIPE.format(root=tmp_path / "root", more="sigma: 0.7")
    assert run(text)
    return SimpleNamespace(run=run, call=call, text=text, root=Storage(str(tmp_path / "root")))


def test_a_tagged_step_is_compared_with_what_it_is_now_and_read_again(tagged: Any) -> None:
    assert tagged.call("tag", "edges", "monday").answer["rows"] == 3
    assert tagged.run(tagged.text.replace("sigma: 0.7", "sigma: 2"))
    answer = tagged.call("diff", "monday").answer
    assert not answer["same"] and answer["samples"]["both"] == 3
    assert answer["columns"][0]["largest_change"] > 0
    assert tagged.call("diff", "monday", "monday").answer["same"]
    assert tagged.call("diff", answer["before"], "edges").answer["columns"] == answer["columns"]
    assert [t["name"] for t in tagged.call("tag").answer] == ["monday"]
    steps = "  old: {stage: tagged, tag: monday}\n  back: {stage: shard, data: [frames, old]}\n"
    assert tagged.run(tagged.text.replace("sigma: 0.7", "sigma: 2") + steps)
    assert tagged.root.names("shard"), "shards were made of the tagged version"
    stem = answer["before"][: len("label/") + 1]
    tagged.root.write("label/0f00/part", b"")
    tagged.root.write(f"{stem}000/part", b"")
    assert "'label/0f00' under" in tagged.call("diff", "label/0f00", "edges").answer["error"]
    assert "several steps are called" in tagged.call("diff", stem, "edges").answer["error"]
    assert "nothing is called 'label/'" in tagged.call("diff", "label/", "edges").answer["error"]
    assert tagged.call("diff", "edges").code != 0
    assert "is the step as it is now" in tagged.call("diff", "edges").answer["error"]
    assert "there is no tag" in tagged.call("diff", "tuesday").answer["error"]


def test_a_step_that_reads_a_tag_that_nobody_set_is_refused(tagged: Any) -> None:
    with pytest.raises(Exception, match="there is no tag 'friday'"):
        tagged.run(tagged.text + "  old: {stage: tagged, tag: friday}\n")


def test_what_has_no_samples_is_refused(tmp_path: Path) -> None:
    nothing = Manifest("train", "0" * 64, {}, (), (), {})
    with pytest.raises(RecipeError, match="a train step has no samples"):
        difference(Storage(str(tmp_path)), nothing, nothing, KNOWN)
