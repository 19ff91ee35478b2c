"""`hyperloom look`: what the page is told, in which order, to whom; and that it reads no more than it shows."""

from __future__ import annotations

import base64
import io
import json
import threading
import wave
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import hyperloom
import hyperloom.stages
from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.commits.units import File
from hyperloom.pipeline.errors import IntegrityError, RecipeError, Torn
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.output.tables import table
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.pipeline.running import runner
from hyperloom.stages.base import GROUP, INDEX, KEY
from hyperloom.stages.data import layer as layers
from hyperloom.stages.data.look import head, statistics
from hyperloom.stages.data.reader import SampleReader
from hyperloom.stages.data.students import StudentAnswers
from hyperloom.stages.data.target import ExportTarget
from hyperloom.stages.look import sample as samples
from hyperloom.stages.look.order import sort_figures, spread
from hyperloom.stages.look.viewer import Viewer
from hyperloom.stages.measure import apart
from tests.unit import inline
from tests.unit.test_python import recipe as small
from tests.unit.test_report import FOLDERS, RECIPE, write

TOKEN, PORT = "t" * 32, 5999


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("looked")
    write(folder / "data")
    path = folder / "judged.yaml"
    columns = json.dumps(FOLDERS)
    path.write_text(RECIPE.format(root=folder / "root", data=folder / "data", columns=columns, evil="road"))
    assert runner.run(recipe.load(path), progress=Progress(io.StringIO()), track=False).ok
    return path


def test_the_end_of_a_page_that_is_only_shown_has_nothing_to_go_on_with(
    judged: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hyperloom.stages.look.server.serve", ended)
    assert cli.main(["look", str(judged)]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == "\n"
    monkeypatch.setattr("hyperloom.pipeline.running.runner.run", ended)
    assert cli.main(["run", str(judged)]) == Exit.INTERRUPTED
    assert f"Continue with: hyperloom run {judged}" in capsys.readouterr().err


def viewer(path: Path, *steps: str, root: str = "") -> Viewer:
    loaded = recipe.load(path)
    storage = Storage(root or loaded.recipe.root)
    return Viewer("judged", storage, loaded.recipe.modalities, lambda: opening.steps(loaded, storage), steps)


def whole(view: Viewer, **question: str) -> dict[str, Any]:
    """Rows once a figure is worked out."""
    while True:
        answer = view.rows({"count": "100", **question})
        if not answer["progress"] or answer["progress"]["looked"] >= answer["progress"]["total"]:
            return answer


def test_the_page_offers_what_the_root_holds(judged: Path) -> None:
    about = viewer(judged).overview({})
    assert (about["samples"], about["running"], about["groups"]) == (12, [], ["v0", "v1", "v2"])
    kinds = {c["name"]: c["kind"] for c in about["columns"]}
    assert kinds["semantic@truth"] == "truth" and kinds["semantic@vote"] == "consensus" and kinds["rgb@camera"] == "raw"
    assert about["splits"] == ["test", "train"]
    legends = {c["name"]: c["legend"] for c in about["columns"]}
    assert [name for name, _ in legends["semantic@a"]] == ["land", "road"]
    shown = {c["name"] for c in viewer(judged, "votes").overview({})["columns"] if c["shown"]}
    assert shown == {"semantic@vote", "rgb@camera"}
    with pytest.raises(RecipeError, match="no step 'vots'.*votes"):
        viewer(judged, "vots")


def test_a_smaller_copy_of_a_picture_is_not_shown_beside_it(tmp_path: Path) -> None:
    """At first: what networks see and what is learned from are the same picture in two sizes."""
    write(tmp_path / "data")
    path = tmp_path / "sizes.yaml"
    path.write_text(
        f"name: sizes\nroot: {tmp_path}/root\nmodalities:\n  photo: {{type: image, size: [12, 16]}}\n"
        "  rgb: {type: image, size: [6, 8]}\nsteps:\n"
        f"  frames: {{stage: ingest, group: video, source: {{type: arrays, path: '{tmp_path}/data/*',"
        " columns: {photo@camera: rgb}}}\n"
        "  small: {stage: label, data: frames, experts: [{type: resize, in: photo@camera, out: rgb@camera}]}\n"
    )
    assert runner.run(recipe.load(path), progress=Progress(io.StringIO()), track=False).ok
    shown = {c["name"]: c["shown"] for c in viewer(path).overview({})["columns"]}
    assert shown == {"photo@camera": True, "rgb@camera": False}


def test_samples_are_sorted_by_disagreement_and_by_error(judged: Path) -> None:
    view = viewer(judged)
    assert [r["row"] for r in whole(view)["rows"]] == list(range(12))
    worst = whole(view, sort="error:semantic@c", desc="1")
    errors = [row["figure"] for row in worst["rows"]]
    assert errors == sorted(errors, reverse=True) and 0.25 < errors[0] < 0.6
    row = worst["rows"][0]["row"]
    truth, c = (view.shelf.value(f"semantic@{who}", row) for who in ("truth", "c"))
    assert errors[0] == pytest.approx(float((truth != c).mean()))
    apart_ = whole(view, sort="apart:semantic", desc="0")
    row = apart_["rows"][0]["row"]
    a, b, c = (view.shelf.value(f"semantic@{who}", row) for who in "abc")
    mean = np.mean([(x != y).mean() for x, y in ((a, b), (a, c), (b, c))])
    assert apart_["rows"][0]["figure"] == pytest.approx(float(mean)), "the consensus is no source of its own"
    test = whole(view, sort="error:semantic@c", desc="1", split="test", start="2")
    assert test["total"] == 8 and len(test["rows"]) == 6 and {r["group"] for r in test["rows"]} == {"v1", "v2"}
    assert whole(view, group="v2")["total"] == 4 and whole(view, group="none")["total"] == 0


def test_of_more_boxes_than_are_drawn_that_is_said() -> None:
    crowded = inline.modalities(b={"type": "boxes", "classes": ["car"], "most": 400})["b"]
    value = crowded.fit(
        [{"x0": 0, "y0": 0, "x1": 0.5, "y1": 0.5, "class": 0}] * 350
        + [{"x0": 0, "y0": 0, "x1": 1, "y1": 1, "class": 0, "crowd": True}]
    )
    drawn = layers.layer(value, crowded)
    assert drawn.words == "350 car, a crowd of car (300 of 351 are drawn)" and drawn.data.count(b"<rect") == 300


def opacity(value: Any, modality: Any) -> np.ndarray:
    """(H, W, 4) of the layer of a map, RGB and opacity."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(layers.layer(value, modality).data)))


def test_a_layer_does_not_hide_the_picture_where_nothing_is() -> None:
    """Background in full red and dim maps in black hid what they were laid over; hundreds of guesses did too."""
    kinds = inline.modalities(
        semantic={"type": "segmentation", "classes": ["Background", "car"], "size": [2, 2]},
        road={"type": "segmentation", "classes": ["road", "car"], "size": [2, 2]},
        objects={"type": "dense", "range": [0, 1], "channels": 3, "size": [2, 2]},
        boxes={"type": "boxes", "classes": ["gull"], "most": 400},
    )
    ids = np.array([[0, 1], [255, 0]], np.uint8)
    assert opacity(ids, kinds["semantic"])[..., 3].tolist() == [[0, 255], [0, 0]]
    assert opacity(ids, kinds["road"])[..., 3].tolist() == [[255, 255], [0, 255]]
    maps = np.zeros((2, 2, 3), np.float32)
    maps[0, 1] = (0, 0.5, 0.25)
    drawn = opacity(maps, kinds["objects"])
    assert drawn[..., 3].tolist() == [[0, 127], [0, 0]] and np.allclose(drawn[0, 1, :3], (0, 255, 127), atol=3)
    boxes = np.full((400, 6), np.nan, np.float32)
    boxes[:300] = [[0.1, 0.1, 0.5, 0.5, 0, 0.2 + i / 1000] for i in range(300)]
    assert len(kinds["boxes"].marks(boxes)) == 30
    boxes[299, 5] = 1
    assert len(kinds["boxes"].marks(boxes)) == 1, "beside one that is sure, guesses of less than half are noise"
    boxes[298, 5] = 0
    assert len(kinds["boxes"].marks(boxes)) == 2, "a crowd is no guess"
    boxes[:300, 5] = 1
    assert len(kinds["boxes"].marks(boxes)) == 300, "what people drew is all shown"


def test_a_sample_is_layers_over_its_picture(judged: Path) -> None:
    import cv2

    view = viewer(judged)
    columns = view.sample({"row": "5", "columns": "rgb@camera,semantic@a,nothing@here"})["columns"]
    assert list(columns) == ["rgb@camera", "semantic@a"], "what there is not is not answered"
    assert columns["rgb@camera"]["src"].startswith("data:image/jpeg") and columns["rgb@camera"]["width"] == 16
    data = base64.b64decode(columns["semantic@a"]["src"].partition(",")[2])
    drawn = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., 2::-1]
    kind = view.modalities["semantic"]
    assert np.array_equal(drawn, kind.picture(view.shelf.value("semantic@a", 5))) and columns["semantic@a"]["over"]
    with pytest.raises(IndexError):
        view.sample({"row": "12", "columns": ""})


def test_only_what_is_shown_is_read(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyperloom.stages.data import shelf

    read: list[tuple[str, Any]] = []
    table, group = shelf.read_table, shelf.read_group
    monkeypatch.setattr(shelf, "read_table", lambda s, p, c: (read.append((p, tuple(c))), table(s, p, c))[1])
    monkeypatch.setattr(shelf, "read_group", lambda s, p, c, n: (read.append((p, (c, n))), group(s, p, c, n))[1])
    view = viewer(judged)
    assert read == [], "opening reads manifests alone"
    view.rows({"count": "2"})
    view.sample({"row": "0", "columns": "semantic@a"})
    view.sample({"row": "1", "columns": "semantic@a"})
    assert [what for _, what in read] == [(KEY, GROUP, INDEX), ("semantic@a", 0)], "one partition: its keys, the column"


def test_of_a_large_partition_only_the_row_group_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyperloom.stages import table
    from hyperloom.stages.data import shelf

    monkeypatch.setattr(table, "rows_a_group", lambda *_: 2)
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(small(tmp_path / "root"), default=lambda v: int(v) if hasattr(v, "item") else str(v)))
    loaded = hyperloom.load(path)
    loaded.run("frames", ray=False, mlflow=False, progress=False)
    expected = loaded["frames"].read("rgb@camera").values
    assert len(expected) == 6, "two partitions of three frames, in groups of two and one"
    read: list[int] = []
    group = shelf.read_group
    monkeypatch.setattr(shelf, "read_group", lambda s, p, c, n: (read.append(n), group(s, p, c, n))[1])
    file = recipe.load(path)
    storage = Storage(file.recipe.root)
    looked = shelf.Shelf(storage, opening.steps(file, storage), file.recipe.modalities)
    for row in (2, 0, 1, 3, 5):
        assert np.array_equal(looked.value("rgb@camera", row), expected[row])
    assert read == [1, 0, 0, 1], "each group once, whoever asks"
    damaged = next(p for p in sorted(Path(file.recipe.root).rglob("*.parquet")) if p.parent.name == "data")
    about = pq.ParquetFile(damaged).metadata.row_group(0)
    chunk = next(c for c in map(about.column, range(about.num_columns)) if c.path_in_schema == "rgb@camera")
    data = bytearray(damaged.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
    damaged.write_bytes(data)
    fresh = shelf.Shelf(storage, opening.steps(file, storage), file.recipe.modalities)
    wrong = []
    for row in range(6):
        try:
            wrong += [] if np.array_equal(fresh.value("rgb@camera", row), expected[row]) else [row]
        except IntegrityError as error:
            assert "hyperloom verify --repair" in str(error)
            break
    else:
        pytest.fail("a page that was changed was read as if it were whole")
    assert wrong == []


def test_what_is_committed_of_a_running_step_is_shown(judged: Path, tmp_path: Path) -> None:
    loaded, root = recipe.load(judged), str(tmp_path)
    storage = Storage(root)
    assert runner.run(loaded, root=root, only=["frames"], progress=Progress(io.StringIO()), track=False).ok
    view = viewer(judged, root=root)
    assert view.overview({})["running"] == ["votes"] and len(view.shelf) == 12
    assert view.sample({"row": "0", "columns": "semantic@vote"})["columns"] == {"semantic@vote": {"missing": True}}
    assert runner.run(loaded, root=root, only=["votes"], progress=Progress(io.StringIO()), track=False).ok
    votes = next(p for p in storage.walk("consensus") if p.endswith("manifest.json"))
    storage.delete(votes)  # as if the driver were still at work: units are committed, the step is not
    records = sorted(p for p in storage.walk("expert") if "/units/" in p)
    storage.delete(records[0])
    view = viewer(judged, root=root)
    seen = [view.sample({"row": str(r), "columns": "semantic@vote"})["columns"]["semantic@vote"] for r in range(12)]
    assert view.overview({})["running"] == ["votes"] and sum("src" in s for s in seen) == 8


def test_a_row_of_an_earlier_look_has_no_values(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New samples come between the others, and their numbers move: no page shows one's values below another's key."""
    seen: list[Any] = []
    view = viewer(judged)
    question = {"row": "0", "columns": "semantic@vote", "look": str(view.rows({})["look"])}
    assert list(view.sample(question)["columns"]) == ["semantic@vote"]
    view._look()
    assert view.sample(question) == {"row": 0, "look": 2, "columns": {}} and view.rows({})["look"] == 2

    class Interrupted(dict[str, str]):
        """A question amid whose answer the root is looked at again."""

        def get(self, key: str, default: Any = None) -> Any:
            view._look()
            return super().get(key, default)

    first, asked = view.shelf, Interrupted(question, look="2")
    monkeypatch.setattr(type(first), "value", lambda self, column, row: seen.append(self))
    assert view.sample(asked)["look"] == 2 and {*map(id, seen)} == {id(first)}, "all of it is of one look"


def test_six_numbers_are_no_boxes_with_a_confidence() -> None:
    kinds = inline.modalities(pose={"type": "vector", "length": 6}, objects={"type": "boxes", "classes": 2, "most": 1})
    columns = ["pose@net", "objects@net"]
    shelf: Any = SimpleNamespace(columns=columns, modalities=kinds, makers={c: {} for c in columns})
    assert [figure.name for figure in sort_figures(shelf)] == ["sure:objects@net"]


def test_what_is_not_committed_yet_comes_last(judged: Path, tmp_path: Path) -> None:
    """As after a pilot, whose samples may be those of any group: the page opens on what is there to be seen."""
    loaded, root = recipe.load(judged), str(tmp_path)
    storage = Storage(root)
    assert runner.run(loaded, root=root, only=["frames"], progress=Progress(io.StringIO()), track=False).ok
    whole = viewer(judged, root=root)
    assert [r["row"] for r in whole.rows({})["rows"]] == list(range(12)) and whole.overview({})["missing"] == 0
    manifest = next(p for p in storage.walk("ingest") if p.endswith("manifest.json"))
    storage.delete(manifest)
    first = whole.shelf.partitions[0]
    assert (first.group, first.rows) == ("v0", 4)
    storage.delete(next(p for p in storage.walk("ingest") if p.endswith(f"/units/{first.pid}.json")))
    view = viewer(judged, root=root)
    gone = [r["row"] for r in view.rows({})["rows"] if r["key"] == "not committed yet"]
    assert gone == [0, 1, 2, 3] and view.overview({})["missing"] == 4
    assert [r["row"] for r in view.rows({})["rows"]] == [*range(4, 12), *gone]
    assert [r["row"] for r in view.rows({"desc": "1"})["rows"]] == [*range(11, 3, -1), *gone[::-1]]
    assert [r["row"] for r in view.rows({"count": "3", "start": "7"})["rows"]] == [11, 0, 1]
    assert [r["row"] for r in view.rows({"group": "v0"})["rows"]] == gone


def test_nobody_else_is_let_in(judged: Path) -> None:
    client = _client(judged)
    assert client("/").status_code == 403 and client("/api/overview").status_code == 403
    assert client("/in/wrong").status_code == 403
    entered = client(f"/in/{TOKEN}")
    cookie = entered.headers["set-cookie"]
    assert entered.status_code == 303 and entered.headers["location"] == "/" and "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower() and "Content-Security-Policy" in dict(_title(entered.headers))
    mine = {"cookie": cookie.partition(";")[0]}
    assert client("/", mine).status_code == 200 and b"look.js" in client("/", mine).content
    assert client("/api/overview", mine).json()["samples"] == 12
    assert client("/static/look.js", mine).status_code == 200 and client("/static/server.py", mine).status_code == 404
    for host in ("evil.example:5999", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:5999"):
        assert client("/api/overview", {**mine, "host": host}).status_code == 403, f"{host} may be a rebound name"
    wrong = client("/api/sample?row=99&columns=", mine)
    assert wrong.status_code == 400 and "no sample 99" in wrong.json()["error"]
    assert client("/api/rows?start=x", mine).status_code == 400
    assert client("/api/overview", mine, "POST").status_code == 405


def _title(headers: Any) -> list[tuple[str, str]]:
    return [("-".join(w.capitalize() for w in k.split("-")), v) for k, v in headers.items()]


def _client(path: Path) -> Any:
    testclient = pytest.importorskip("starlette.testclient")
    from hyperloom.stages.look.server import application

    client = testclient.TestClient(application(viewer(path), TOKEN, PORT), follow_redirects=False)

    def get(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> Any:
        client.cookies.clear()
        return client.request(method, url, headers={"host": f"127.0.0.1:{PORT}", **(headers or {})})

    return get


def test_a_root_without_samples(judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["look", str(judged), "vots"]) == 2
    assert "no step 'vots'" in capsys.readouterr().err
    empty = viewer(judged, root=str(tmp_path))
    assert empty.overview({})["running"] == ["frames", "votes"], "before the first unit the page waits for it"
    assert empty.rows({})["rows"][0]["key"] == "not committed yet"
    with pytest.raises(RecipeError, match="no sample to look at.*Next: hyperloom run"):
        Viewer("judged", Storage(str(tmp_path)), {}, list)


def test_every_number_comes_once_and_far_ones_first() -> None:
    for count in (0, 1, 2, 7, 8, 100):
        assert sorted(spread(count)) == list(range(count))
    assert list(spread(8))[:4] == [0, 4, 2, 6]


def test_boxes_and_points_are_apart_by_what_has_no_counterpart() -> None:
    known = inline.modalities(
        boxes={"type": "boxes", "classes": ["car", "man"], "most": 3}, pose={"type": "keypoints", "points": ["l", "r"]}
    )
    nan = [float("nan")] * 6
    one = np.array([[[0.1, 0.1, 0.5, 0.5, 0, 1], [0.6, 0.6, 0.9, 0.9, 1, 1], nan]], np.float32)
    moved = np.array([[[0.12, 0.1, 0.5, 0.5, 0, 0.9], nan, nan]], np.float32)
    other = np.array([[[0.1, 0.1, 0.5, 0.5, 1, 1], nan, nan]], np.float32)
    valid = np.ones(1, bool)
    assert apart.apart((one, valid), (one, valid), known["boxes"]) == pytest.approx([0])
    assert apart.apart((one, valid), (moved, valid), known["boxes"]) == pytest.approx([1 / 3])
    assert apart.apart((moved, valid), (other, valid), known["boxes"]) == pytest.approx([1]), "of another class"
    assert np.isnan(apart.apart((one, valid), (one, ~valid), known["boxes"])).all()
    assert apart.confidence((moved, valid), known["boxes"]) == pytest.approx([0.9])
    left = np.array([[[0.5, 0.5, 1], [0.2, 0.2, 1]]], np.float32)
    right = np.array([[[0.51, 0.5, 1], [0.9, 0.2, 1]]], np.float32)
    assert apart.apart((left, valid), (right, valid), known["pose"]) == pytest.approx([0.5])


def test_a_text_that_goes_on_is_no_equal_one() -> None:
    """Only bytes that both have were compared: `car` and `car on a road` were the same, and none was unlike nothing."""
    kind = inline.modalities(caption={"type": "text", "length": 20})["caption"]
    one, other = (np.stack([kind.fit(t) for t in texts]) for texts in (["car", "", "", "a"], ["cab on", "x", "", "a"]))
    there = np.ones(4, bool)
    figures = apart.disagreement({"caption@a": (one, there), "caption@b": (other, there)}, kind)
    assert figures is not None and figures.tolist() == pytest.approx([4 / 6, 1, 0, 0])


def test_a_sound_is_heard_and_seen() -> None:
    rate = 8000
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    with wave.open(io.BytesIO(samples.sound(tone, rate))) as file:
        assert (file.getframerate(), file.getnframes(), file.getsampwidth()) == (rate, rate, 2)
    drawn = samples.spectrogram(tone)
    bright = drawn.sum(-1).mean(1).argmax()
    assert drawn.shape[0] == samples.BANDS and bright == pytest.approx(samples.BANDS * (1 - 1000 / 4000), abs=2)
    assert samples.spectrogram(np.zeros(3, np.float32)).shape[0] == samples.BANDS


def test_show_puts_the_picture_and_other_sources_beside_the_labels(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyperloom.stages.evaluate import collage

    drawn: list[tuple[list[str], list[str]]] = []

    def note(rows: Any, columns: Any, modalities: Any) -> bytes:
        drawn.append(([key for key, _ in rows], list(columns)))
        return b""

    monkeypatch.setattr(collage, "collage", note)
    to = ["--rows", "3", "--start", "4", "--to", str(tmp_path / "p.png")]
    assert cli.main(["data", "show", str(judged), "votes", *to]) == 0
    every = [f"semantic@{who}" for who in ("truth", "a", "b", "c", "vote")]
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "show", str(judged), "votes", "--rows", "3", "--start", "4"]) == 0
    assert drawn[0] == drawn[-1] and [p.name for p in tmp_path.rglob("*.png")] == ["p.png"]
    keys, columns = drawn[-1]
    assert keys == [f"v1/{i:06d}" for i in range(3)] and columns[:2] == ["rgb@camera", "semantic@truth"]
    assert sorted(columns[1:]) == sorted(every)
    assert cli.main(["data", "show", str(judged), "votes", "--columns", "semantic@b", "rgb@camera", *to]) == 0
    assert drawn[-1][1] == ["semantic@b", "rgb@camera"], "of another step"
    assert cli.main(["data", "show", str(judged), "votes", "--columns", "semantic@nobody", *to]) == 2


def test_pictures_are_exported_under_the_names_of_the_files(judged: Path, tmp_path: Path) -> None:
    assert cli.main(["export", str(judged), "votes", "--layout", "png", "--to", str(tmp_path)]) == 0
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert names[:2] == ["semantic_vote/v0/000000.png", "semantic_vote/v0/000001.png"] and len(names) == 12


def bad_on_second(batch: dict[str, Any]) -> Any:
    """An expert that cannot do the pictures of the second frames."""
    if (batch["rgb@camera"][:, 0, 0, 0] == 77).any():
        raise ValueError("it is too dark <b>here</b>")
    return {"mean@light": batch["rgb@camera"].mean((1, 2, 3))[:, None].astype(np.float32)}


def test_what_an_earlier_export_left_is_said(judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files are numbered: after new groups the old ones lay between the new, and their samples were there twice."""
    export = ["export", str(judged), "frames", "--layout", "parquet", "--to", str(tmp_path / "out")]
    assert cli.main(export) == 0 and "beside them" not in capsys.readouterr().out
    assert cli.main(export) == 0 and "beside them" not in capsys.readouterr().out
    first = min((tmp_path / "out").iterdir())
    first.rename(old := first.with_name("v2-0099.parquet"))
    assert cli.main(export) == 0
    assert "1 file beside them did not come from this export, such as v2-0099.parquet" in capsys.readouterr().out
    assert old.exists(), "it may be somebody's own"
    target = ExportTarget(str(tmp_path / "groups"))
    for path in ("g1/0.npy", "g2/0.npy", "g2/deep/1.npy", ".git/config", "g1/.DS_Store"):
        target.write(path, b"x")
    assert target.others() == []
    again = ExportTarget(str(tmp_path / "groups"))
    again.write("g1/0.npy", b"y")
    assert again.others() == ["g2/0.npy", "g2/deep/1.npy"], "of a group that does not go out any more"


def test_samples_in_quarantine_are_shown_with_why(tmp_path: Path) -> None:
    for i in range(4):
        path = tmp_path / f"data/v/rgb/npz/{i}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, np.full((4, 4, 3), 77 if i == 1 else 9, np.uint8))
    text = f"""\
name: dark
root: {tmp_path}/root
modalities: {{rgb: {{type: image, size: [4, 4]}}, mean: {{type: vector, length: 1}}}}
steps:
  frames: {{stage: ingest, source: {{type: arrays, path: "{tmp_path}/data/*", columns: {{rgb@camera: rgb}}}}}}
  labels:
    stage: label
    max_quarantine: 0.5
    data: frames
    experts: [{{type: python, call: "tests.unit.test_look_page:bad_on_second", in: rgb@camera, out: mean@light}}]
"""
    (path := tmp_path / "dark.yaml").write_text(text)
    assert runner.run(recipe.load(path), progress=Progress(io.StringIO()), track=False).ok
    answer = viewer(path).rows({"quarantine": "1"})
    assert answer["total"] == 1 and answer["rows"][0]["row"] == 1
    (why,) = answer["rows"][0]["errors"]
    assert why.startswith("mean@light: ") and "ValueError: it is too dark <b>here</b>" in why
    row = _reported(path)
    assert row[0] == "labels" and row[2] == 1
    path.write_text(
        text.replace("max_quarantine: 0.5", "max_quarantine: 0").replace(f"{tmp_path}/root", f"{tmp_path}/r")
    )
    assert not runner.run(recipe.load(path), progress=Progress(io.StringIO()), track=False).ok
    row = _reported(path)
    assert row[0] == "labels" and "too dark" in row[1] and row[2] == 1, "a step that failed of it has its samples too"


def _reported(path: Path) -> Any:
    """The first row of the report's section on quarantine."""
    from hyperloom.stages.report import gather, root

    loaded = recipe.load(path)
    storage = Storage(loaded.recipe.root)
    page = gather.page(root.opened(loaded, storage, opening.steps(loaded, storage)))
    (section,) = [s for s in page.sections if s.name == "quarantine"]
    return section.blocks[0].rows[0]  # type: ignore[union-attr]


def test_a_released_student_answers_on_the_spot(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from hyperloom.pipeline.commits.manifest import Manifest
    from hyperloom.stages.distill import hyperloom_student

    asked_: list[tuple[str, tuple[int, ...]]] = []

    class Bright:
        def __init__(self, folder: str) -> None:
            self.folder = folder

        def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
            asked_.append((self.folder, images.shape))
            return {"semantic": (images[..., 0] > 127).astype(np.uint8)}

    monkeypatch.setattr(hyperloom_student, "Student", Bright)
    loaded = recipe.load(judged)
    storage = Storage(loaded.recipe.root)
    trained = Manifest("distill", "a" * 64, {}, body={"columns_in": ["rgb@camera"], "tasks": ["semantic"]})
    files = {name: f"release/x/{name}" for name in ("student.onnx", "student.json")}
    for path in files.values():
        storage.write(path, b"{}")
    whole = tuple(File(path, 2, sha256(b"{}")) for path in files.values())
    empty = {"gate": [], "figures": {}, "loader": "", "example": "", "card": "", "signature": {}}
    released = Manifest(
        "release", "b" * 64, {}, (), whole, {"name": "m", "subject": "s", "passed": True, "files": files, **empty}
    )
    steps = [
        *opening.steps(loaded, storage),
        SimpleNamespace(name="small", manifest=trained, reads=[], stage=SimpleNamespace(stage="distill")),
        SimpleNamespace(name="out", manifest=released, reads=[], stage=SimpleNamespace(stage="release", model="small")),
    ]
    view = Viewer("judged", storage, loaded.recipe.modalities, lambda: steps)
    kinds = {c["name"]: c["kind"] for c in view.overview({})["columns"]}
    assert kinds["semantic@small"] == "model" and asked_ == [], "it is asked when somebody looks"
    columns = view.sample({"row": "3", "columns": "semantic@small,semantic@truth"})["columns"]
    assert columns["semantic@small"]["over"] and asked_ == [(storage.path("release/x"), (1, 12, 16, 3))]
    view.sample({"row": "3", "columns": "semantic@small"})
    assert len(asked_) == 1, "and once a sample"
    expected = (view.shelf.value("rgb@camera", 3)[..., 0] > 127).astype(np.uint8)
    assert np.array_equal(view.students.value("semantic@small", 3), expected)
    storage.write(files["student.json"], b"[]")
    with pytest.raises(Torn, match="student.json was cut or changed"):
        Viewer("judged", storage, loaded.recipe.modalities, lambda: steps).students.value("semantic@small", 3)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ({"type": "multilabel", "classes": ["wet", "dark"]}, [0.9, 0.2], [1, 0]),
        ({"type": "keypoints", "points": ["a", "b"], "swap": []}, [[0.1, 0.2, 0.9], [0.3, 0.4, 0.1]],
         [[0.1, 0.2, 1], [0, 0, 0]]),
        ({"type": "boxes", "classes": ["car"], "most": 2}, [[0, 0, 1, 1, 0, 0.9], [0, 0, 1, 1, 0, 0.01]],
         [[0, 0, 1, 1, 0, 0.9], [np.nan] * 6]),
        ({"type": "category", "classes": ["x", "y"]}, [0.2, 0.8], 1),
        ({"type": "vector", "length": 2}, [0.2, 0.8], [0.2, 0.8]),
    ],
)  # fmt: skip
def test_a_students_probabilities_are_shown_as_its_answer(kind: Any, given: Any, expected: Any) -> None:
    """Of labels that may all apply it seemed to say none, each point was seen, and each faint box was there."""
    students = StudentAnswers.__new__(StudentAnswers)
    students.columns, students._lock = {"it@small": ("folder", "rgb@a")}, threading.Lock()
    students._answers = OrderedDict({("folder", 0): {"it": np.array(given, np.float32)}})
    students.shelf = SimpleNamespace(modalities=inline.modalities(it=kind))  # type: ignore[assignment]
    assert students.value("it@small", 0) == pytest.approx(np.array(expected, np.float32), nan_ok=True)


def test_a_table_of_samples_has_a_line_each_and_the_digits_of_large_numbers() -> None:
    """A text of two lines broke the table, times since 1970 were all `1.7e+09`, and a rare class was `0%`."""
    kinds = inline.modalities(
        note={"type": "text", "length": 20}, time={"type": "vector", "length": 2},
        depth={"type": "dense", "size": [2, 3]}, kind={"type": "category", "classes": ["a", "b"]},
    )  # fmt: skip
    base = {"note@a": kinds["note"].fit("two\nlines"), "depth@a": np.full((2, 3, 1), np.nan, np.float32)}
    rows = [
        {**base, "time@a": np.array([1700000 + i, 0.5], np.float32), "kind@a": np.int64(i == 0)} for i in range(500)
    ]
    storage = Storage("memory://heads")
    frames = inline.ingested(storage, kinds, {"g": rows}, rows=500)
    reader = SampleReader(storage, "frames", frames, [frames])
    first, second, *_ = table(head(reader.head(2), kinds)).splitlines()[2:]
    assert "two lines" in first and "1700000 0.5" in first and "1700001 0.5" in second
    assert "2x3x1 unknown" in first
    figures = {row["column"]: row for row in statistics(frames, reader, kinds)}
    assert figures["kind@a"]["classes"] == "a 99.8% b 0.2%" and figures["time@a"]["max"] == "1700499 0.5"


@pytest.mark.parametrize(
    ("low", "high", "written"),
    [(0.5, 3.25, ["0.5", "3.25"]), (12345.6, 20000.2, ["12346", "20000"]), (1013.21, 1013.24, ["1013.21", "1013.24"]),
     (5.0, 5.000001, ["5", "5"]), (101325.0, 101330.0, ["101325", "101330"])],
)  # fmt: skip
def test_the_ends_of_a_scale_are_told_apart(low: float, high: float, written: list[str]) -> None:
    """12345.6 stood there as 12350, and both ends of a narrow scale as one number."""
    assert samples.ends(low, high) == written


def test_a_map_with_infinity_has_a_scale_of_its_finite_numbers() -> None:
    """The scale was `inf` to `nan`, which is no JSON: the page showed none of the sample's columns."""
    depth = inline.modalities(depth={"type": "dense", "size": [2, 2]})["depth"]
    assert depth.span(np.array([[[1], [2]], [[np.inf], [np.nan]]], np.float32)) == pytest.approx((1.01, 1.99))
