"""Ingest through the stage: what real, torn and missing files become."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Output, execute, load_record
from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import Stage
from hyperloom.stages.ingest import files
from hyperloom.stages.modality.formats import decode_array
from hyperloom.stages.table import read_table
from tests.unit import inline

KNOWN = inline.modalities(
    rgb={"type": "image", "size": [12, 16]},
    semantic={"type": "segmentation", "classes": ["land", "road"]},
    depth={"type": "dense", "storage": "float32"},
    speed={"type": "vector", "length": 2},
    film={"type": "clip", "frames": 2},
    objects={"type": "boxes", "classes": ["car"], "most": 2},
)


def stage(source: dict[str, Any], **fields: Any) -> Stage:
    return load("stage", "ingest").model_validate({"stage": "ingest", "source": source, **fields})


def ingest(root: Path, source: dict[str, Any], **fields: Any) -> tuple[Manifest, Storage]:
    storage = Storage(str(root))
    return inline.finish(inline.step(stage(source, **fields), storage, KNOWN)), storage


def rows(made: Manifest, storage: Storage) -> list[tuple[str, str, int]]:
    found = []
    for record in made.records:
        for file in record.files:
            table = read_table(storage, file.path, ["key", "group", "index"])
            found += list(zip(*(table[c].to_pylist() for c in table.column_names), strict=True))
    return found


def left_out(made: Manifest, storage: Storage) -> dict[str, str]:
    lists = [storage.read_json(f"{r.space}/quarantine/{r.id}.json") for r in made.records if r.quarantined]
    return {sample["key"]: sample["error"] for samples in lists for sample in samples}


def image(path: Path, value: int, size: tuple[int, int] = (12, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))


def film(path: Path, frames: int, size: tuple[int, int] = (48, 64)) -> Path:
    """A video whose frame t has the brightness 10 * t + 5."""
    code, api = ("MJPG", cv2.CAP_OPENCV_MJPEG) if path.suffix == ".avi" else ("mp4v", cv2.CAP_FFMPEG)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), api, cv2.VideoWriter.fourcc(*code), 10, size[::-1])
    assert writer.isOpened()
    for t in range(frames):
        writer.write(np.full((*size, 3), 10 * t + 5, np.uint8))
    writer.release()
    return path


def test_a_video_gives_clips(tmp_path: Path) -> None:
    film(tmp_path / "raw/one.avi", 8)
    source = {"type": "video", "path": f"{tmp_path}/raw/*.avi", "column": "film@camera", "clip": 2, "every": 3}
    made, storage = ingest(tmp_path / "root", source)
    values = inline.column(storage, KNOWN, made, "film@camera")
    assert list(values) == ["one/000000", "one/000003", "one/000006"]
    shown = np.stack([v for v in values.values() if v is not None])[:, :, 6, 8, 0]
    assert np.abs(shown - np.array([[5, 15], [35, 45], [65, 75]])).max() <= 3
    with pytest.raises(RecipeError, match="film@camera has 2 frames, but the source gives 1. Next: clip: 2"):
        ingest(tmp_path / "other", {**source, "clip": 1})
    with pytest.raises(ValueError, match="clips do not overlap"):
        load("source", "video").model_validate({**source, "every": 1})


# -- images -----------------------------------------------------------------------------------------------------------
def test_images_are_grouped_in_name_order_with_exact_values(tmp_path: Path) -> None:
    for group, count in (("b", 3), ("a", 2)):
        for i in range(count):
            image(tmp_path / "raw" / f"{group}_{i}.png", 10 * i)
    source = {"type": "files", "path": f"{tmp_path}/raw/*.png", "group": "(?P<group>[^_/]+)_"}
    made, storage = ingest(tmp_path / "root", source, rows=2)
    assert rows(made, storage) == [("a_0", "a", 0), ("a_1", "a", 1), ("b_0", "b", 0), ("b_1", "b", 1), ("b_2", "b", 2)]
    assert [p[1:] for p in made.body["partitions"]] == [["a", 0, 2], ["b", 0, 2], ["b", 2, 1]]
    values = inline.column(storage, KNOWN, made, "rgb@camera")
    assert {k: int(v.mean()) for k, v in values.items() if v is not None} == {
        "a_0": 0, "a_1": 10, "b_0": 0, "b_1": 10, "b_2": 20,
    }  # fmt: skip


def test_index_can_come_from_the_name(tmp_path: Path) -> None:
    for frame in (30, 7, 100):
        image(tmp_path / "raw" / f"drive_{frame}.png", 1)
    source = {"type": "files", "path": f"{tmp_path}/raw", "group": r"(?P<group>\w+)_(?P<index>\d+)"}
    made, storage = ingest(tmp_path / "root", source)
    assert rows(made, storage) == [("drive_7", "drive", 7), ("drive_30", "drive", 30), ("drive_100", "drive", 100)]


def test_a_file_that_is_no_image_is_left_out_with_its_reason(tmp_path: Path) -> None:
    image(tmp_path / "raw" / "good.png", 9)
    (tmp_path / "raw" / "text.jpg").write_text("this is a letter, not a picture")
    (tmp_path / "raw" / "void.jpg").write_bytes(b"")
    made, storage = ingest(tmp_path / "root", {"type": "files", "path": f"{tmp_path}/raw/*"})
    assert [key for key, _, _ in rows(made, storage)] == ["good"]
    assert made.body["quarantined"] == made.quarantined == 2
    reasons = left_out(made, storage)
    assert reasons.keys() == {"text", "void"}
    assert "text.jpg is not an image" in reasons["text"]


def test_nothing_readable_is_an_error_that_names_the_first_sample(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "text.jpg").write_text("no picture")
    with pytest.raises(SourceError, match=r"could not read a single one of its 1 samples.*text"):
        ingest(tmp_path / "root", {"type": "files", "path": f"{tmp_path}/raw/*.jpg"})


@pytest.mark.parametrize("kind", ["files", "video"])
def test_empty_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(SourceError, match="raw"):
        stage({"type": kind, "path": f"{tmp_path}/raw"}).facts(Digests(Storage(str(tmp_path / "root"))))


# -- side files -------------------------------------------------------------------------------------------------------
def labelled(tmp_path: Path) -> dict[str, Any]:
    for i in range(3):
        image(tmp_path / "raw" / f"{i}.png", 50)
    (tmp_path / "labels").mkdir()
    ids = np.zeros((12, 16), np.uint8)
    ids[:, 8:] = 7
    ids[0] = 11
    for i in (0, 2):
        cv2.imwrite(str(tmp_path / "labels" / f"{i}.png"), ids)
    labels = {"path": f"{tmp_path}/labels/{{stem}}.png", "remap": {7: 1}, "void": [11]}
    return {"type": "files", "path": f"{tmp_path}/raw/*.png", "columns": {"semantic@truth": labels}}


def test_labels_come_from_sibling_files_and_missing_ones_are_null(tmp_path: Path) -> None:
    made, storage = ingest(tmp_path / "root", labelled(tmp_path))
    found = inline.column(storage, KNOWN, made, "semantic@truth")
    assert found["1"] is None and made.quarantined == 0
    assert found["0"] is not None and found["0"][0, 0] == 255 and found["0"][5, 3] == 0 and found["0"][5, 12] == 1


def test_only_named_samples_show_their_labels(tmp_path: Path) -> None:
    source = labelled(tmp_path)
    source["columns"]["semantic@few"] = {**source["columns"]["semantic@truth"], "only": ["2"]}
    made, storage = ingest(tmp_path / "root", source)
    assert {k for k, v in inline.column(storage, KNOWN, made, "semantic@few").items() if v is not None} == {"2"}
    assert {k for k, v in inline.column(storage, KNOWN, made, "semantic@truth").items() if v is not None} == {"0", "2"}
    source["columns"]["semantic@few"]["only"] = ["nobody"]
    with pytest.raises(SourceError, match="nobody"):
        stage(source).facts(Digests(storage))


def test_only_named_files_are_samples(tmp_path: Path) -> None:
    for i in range(4):
        image(tmp_path / "a" / f"{i}.png", i)
    source = {"type": "files", "path": str(tmp_path / "a" / "*.png"), "only": ["3", "1"]}
    assert [key for key, _, _ in rows(*ingest(tmp_path / "root", source))] == ["1", "3"]
    with pytest.raises(SourceError, match=r"\['7'\]"):
        ingest(tmp_path / "root", {**source, "only": ["1", "7"]})


def test_a_wrong_label_file_costs_its_sample_and_says_which_column(tmp_path: Path) -> None:
    source = labelled(tmp_path)
    cv2.imwrite(str(tmp_path / "labels" / "1.png"), np.full((12, 16), 40, np.uint8))
    made, storage = ingest(tmp_path / "root", source)
    assert list(left_out(made, storage)) == ["1"]
    assert "semantic@truth" in left_out(made, storage)["1"] and "40" in left_out(made, storage)["1"]


def test_a_template_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    image(tmp_path / "raw" / "0.png", 1)
    columns = {"semantic@truth": f"{tmp_path}/labls/{{stem}}.png"}
    source = {"type": "files", "path": f"{tmp_path}/raw/*", "columns": columns}
    with pytest.raises(SourceError, match="labls"):
        stage(source).facts(Digests(Storage(str(tmp_path / "root"))))


def test_scaled_depth_and_tables(tmp_path: Path) -> None:
    for i in range(2):
        image(tmp_path / "raw" / f"{i}.png", 1)
    (tmp_path / "depth").mkdir()
    cv2.imwrite(str(tmp_path / "depth" / "0.png"), np.full((12, 16), 2500, np.uint16))
    (tmp_path / "log.csv").write_text("name,vx,vy,note\n1,0.5,-2,9\n")
    columns = {
        "depth@truth": {"path": f"{tmp_path}/depth/{{stem}}.png", "scale": 0.001},
        "speed@log": {"path": f"{tmp_path}/log.csv", "fields": ["vx", "vy"]},
    }
    made, storage = ingest(tmp_path / "root", {"type": "files", "path": f"{tmp_path}/raw/*", "columns": columns})
    depth = inline.column(storage, KNOWN, made, "depth@truth")
    speed = inline.column(storage, KNOWN, made, "speed@log")
    assert depth["0"] is not None and np.allclose(depth["0"], 2.5) and depth["1"] is None
    assert speed["0"] is None and speed["1"] is not None and speed["1"].tolist() == [0.5, -2]


@pytest.mark.parametrize(
    ("text", "fields", "speed", "said"),
    [
        ("name;vx;vy\n0;0.5;-2\n1;1;2\n", {}, None, 'looks separated by ";". Next: separator: ";" beside its path'),
        ("name;vx;vy\n0;0.5;-2\n1;1;2\n", {"separator": ";"}, [0.5, -2], ""),
        ("\ufeffname,vx,vy\n0,0.5,-2\n1,1,2\n", {"encoding": "utf-16"}, [0.5, -2], ""),
        ("name,vx,vy\n0,0.5,-2\n0,0.5,3\n1,1,2\n", {}, None, "has two rows called '0'"),
        ("name,vx,vy\n0,0.5,-2\n0,0.5,-2\n1,1,2\n", {}, [0.5, -2], ""),
        (
            "name,vx,vy\n0,0.5,-2\n1,1",
            {},
            [0.5, -2],
            "rows of log.csv cannot be read and are left out (row 2: expected 3",
        ),
        ('name,vx,vy\n0,"0,5","-2"\n1,"1,5",2\n', {}, None, "log.csv: could not convert string to float: '0,5'"),
        ('note,vx,vy\n"0",0.5,-2\n"two\u2028lines\n",1,2\n1,1,2\n', {}, [0.5, -2], ""),
    ],
)
def test_a_table_beside_pictures_is_read_as_tables_are(
    tmp_path: Path, text: str, fields: dict[str, str], speed: list[float] | None, said: str
) -> None:
    for i in range(2):
        image(tmp_path / "raw" / f"{i}.png", 1)
    (tmp_path / "log.csv").write_bytes(text.encode(fields.get("encoding", "utf-8")))
    columns = {"speed@log": {"path": f"{tmp_path}/log.csv", "fields": ["vx", "vy"], **fields}}
    source = {"type": "files", "path": f"{tmp_path}/raw/*", "columns": columns}
    if speed is None:
        with pytest.raises(SourceError, match=re.escape(said)):
            ingest(tmp_path / "root", source)
        return
    made, storage = ingest(tmp_path / "root", source)
    value = inline.column(storage, KNOWN, made, "speed@log").get("0")
    assert (None if value is None else value.tolist()) == speed
    assert said in " | ".join([*left_out(made, storage).values(), *made.body["remarks"]])
    assert bool(said) == bool(made.quarantined or made.body["remarks"])


def test_arrays_that_promise_more_than_they_hold_take_no_memory(tmp_path: Path) -> None:
    import io

    def packed(**arrays: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    file = io.BytesIO()
    np.save(file, np.zeros((12, 16), np.uint8))
    data = file.getvalue()
    assert decode_array(data, "", "a.npy").shape == (12, 16)
    huge = data.replace(b"(12, 16), }        ", b"(120000, 16000000)}")
    for broken, text in (
        (huge, "it ends early: 192 of "),
        (data[:-5], "ends early: 187 of 192"),
        (data[:40], "holds no array"),
    ):
        with pytest.raises(ValueError, match=rf"a.npy .*{text}"):
            decode_array(broken, "", "a.npy")
    for place in range(6, 80):
        try:
            decode_array(data[:place] + b"'" + data[place + 1 :], "", "a.npy")
        except ValueError as error:
            assert str(error).startswith("a.npy ")
    assert decode_array(packed(only=np.ones(3)), "", "a.npz").tolist() == [1, 1, 1]
    assert decode_array(packed(a=np.ones(3), b=np.zeros(3)), "b", "a.npz").tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="holds the arrays a, b, none called ''. Next: array: a takes the first"):
        decode_array(packed(a=np.ones(3), b=np.zeros(3)), "", "a.npz")


def test_colours_are_not_taken_for_class_ids(tmp_path: Path) -> None:
    source = labelled(tmp_path)
    colours = np.zeros((12, 16, 3), np.uint8)
    colours[..., 1] = 1
    cv2.imwrite(str(tmp_path / "labels" / "2.png"), colours)
    made, storage = ingest(tmp_path / "root", source)
    assert list(left_out(made, storage)) == ["2"] and "colours" in left_out(made, storage)["2"]


def test_arrays_beside_the_image_and_a_torn_one(tmp_path: Path) -> None:
    for i in range(2):
        image(tmp_path / "raw" / f"{i}.png", 1)
        np.savez(tmp_path / f"{i}.npz", z=np.full((6, 8), 3.0), other=np.zeros(3))
    (tmp_path / "1.npz").write_bytes((tmp_path / "1.npz").read_bytes()[:200])
    columns = {"depth@truth": {"path": f"{tmp_path}/{{stem}}.npz", "array": "z"}}
    made, storage = ingest(tmp_path / "root", {"type": "files", "path": f"{tmp_path}/raw/*", "columns": columns})
    found = inline.column(storage, KNOWN, made, "depth@truth")
    assert (
        found.keys() == {"0"} and found["0"] is not None and found["0"].shape == (12, 16, 1) and found["0"].min() == 3
    )
    assert "1.npz" in left_out(made, storage)["1"]


def test_any_file_system_will_do(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    image(tmp_path / "0.png", 77)
    memory.pipe_file("/raw/clip/0.png", (tmp_path / "0.png").read_bytes())
    memory.pipe_file("/films/one.avi", film(tmp_path / "one.avi", 3).read_bytes())
    made, storage = ingest(tmp_path / "root", {"type": "files", "path": "memory://raw/clip/*.png"})
    assert [int(v.mean()) for v in inline.column(storage, KNOWN, made, "rgb@camera").values() if v is not None] == [77]
    made, storage = ingest(tmp_path / "root", {"type": "video", "path": "memory://films/*.avi"})
    assert [key for key, _, _ in rows(made, storage)] == [f"one/{t:06d}" for t in range(3)]


# -- failure ----------------------------------------------------------------------------------------------------------
def test_a_file_that_cannot_be_reached_fails_the_attempt_and_costs_no_sample(tmp_path: Path) -> None:
    image(tmp_path / "raw" / "0.png", 1)
    film(tmp_path / "raw" / "1.avi", 2)
    for kind, name in (("files", "0.png"), ("video", "1.avi")):
        storage = Storage(str(tmp_path / kind))
        stage_ = stage({"type": kind, "path": f"{tmp_path}/raw/{name}"})
        units, workers = stage_.units(inline.step(stage_, storage, KNOWN))  # type: ignore[misc]
        (tmp_path / "raw" / name).unlink()
        workers["ingest"].setup()
        with pytest.raises(FileNotFoundError):
            execute(storage, workers["ingest"], units[0], 1)
        assert load_record(storage, *units[0].key) is None


def test_a_sample_that_kills_the_process_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        image(tmp_path / "raw" / f"{i}.png", 1)
    storage, stage_ = Storage(str(tmp_path / "root")), stage({"type": "files", "path": f"{tmp_path}/raw"})
    units, workers = stage_.units(inline.step(stage_, storage, KNOWN))  # type: ignore[misc]

    def deadly(path: str) -> bytes:
        if path.endswith("1.png"):
            raise KeyboardInterrupt  # as good as a dead process: nothing is caught, nothing is committed
        return Path(path).read_bytes()

    monkeypatch.setattr(files, "fetch", deadly)
    workers["ingest"].setup()
    for attempt in range(1, 5):
        with pytest.raises(KeyboardInterrupt):
            execute(storage, workers["ingest"], units[0], attempt)
    record = execute(storage, workers["ingest"], units[0], 5)
    assert (record.rows, record.quarantined) == (2, 1)
    assert storage.read_json(f"{record.space}/quarantine/{record.id}.json")[0]["key"] == "1"


def test_a_suspect_is_read_last_and_its_row_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        image(tmp_path / "raw" / f"{i}.png", 1)
    storage, stage_ = Storage(str(tmp_path / "root")), stage({"type": "files", "path": f"{tmp_path}/raw"})
    units, workers = stage_.units(inline.step(stage_, storage, KNOWN))  # type: ignore[misc]
    Output(storage, units[0], 3).crumb("0")
    order: list[str] = []

    def fetch(path: str) -> bytes:
        order.append(Path(path).stem)
        return Path(path).read_bytes()

    monkeypatch.setattr(files, "fetch", fetch)
    workers["ingest"].setup()
    record = execute(storage, workers["ingest"], units[0], 4)
    assert order == ["1", "2", "0"]
    assert read_table(storage, record.files[0].path, ["key"])["key"].to_pylist() == ["0", "1", "2"]


# -- identity ---------------------------------------------------------------------------------------------------------
def test_new_files_leave_old_partitions_alone_and_moving_costs_nothing(tmp_path: Path) -> None:
    for i in range(4):
        image(tmp_path / "raw" / f"a_{i}.png", i)
    pattern = {"type": "files", "group": "(?P<group>[^_/]+)_"}
    old, _ = ingest(tmp_path / "root", {**pattern, "path": f"{tmp_path}/raw/*.png"}, rows=2)
    image(tmp_path / "raw" / "a_4.png", 4)
    image(tmp_path / "raw" / "b_0.png", 5)
    (tmp_path / "raw").rename(tmp_path / "moved")
    new, _ = ingest(tmp_path / "root2", {**pattern, "path": f"{tmp_path}/moved/*.png"}, rows=2)
    pids = [p[0] for p in new.body["partitions"]]
    assert pids[:2] == [p[0] for p in old.body["partitions"]] and len(set(pids)) == 4
    assert new.records[0].files == old.records[0].files, "the same partition has the same bytes anywhere"
    image(tmp_path / "moved" / "a_0.png", 200)
    changed, _ = ingest(tmp_path / "root3", {**pattern, "path": f"{tmp_path}/moved/*.png"}, rows=2)
    assert [a[0] == b[0] for a, b in zip(changed.body["partitions"], new.body["partitions"], strict=True)] == [
        False, True, True, True,
    ]  # fmt: skip


def test_facts_follow_content(tmp_path: Path) -> None:
    source, digests = labelled(tmp_path), Digests(Storage(str(tmp_path / "root")))
    before = stage(source).facts(digests)
    assert stage(source).facts(digests) == before
    cv2.imwrite(str(tmp_path / "labels" / "1.png"), np.zeros((12, 16), np.uint8))
    assert stage(source).facts(digests) != before


# -- videos -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_every_frame_once_with_the_right_picture(tmp_path: Path, suffix: str) -> None:
    film(tmp_path / "raw" / f"one.{suffix}", 11)
    source = {"type": "video", "path": f"{tmp_path}/raw/*.{suffix}", "every": 2}
    made, storage = ingest(tmp_path / "root", source, rows=4)
    assert rows(made, storage) == [(f"one/{t:06d}", "one", i) for i, t in enumerate(range(0, 11, 2))]
    for key, value in inline.column(storage, KNOWN, made, "rgb@camera").items():
        assert value is not None and abs(float(value.mean()) - (10 * int(key[-6:]) + 5)) < 5, key
    assert made.quarantined == 0


def test_a_truncated_video_gives_what_decodes_and_says_how_much(tmp_path: Path) -> None:
    whole = film(tmp_path / "raw" / "torn.avi", 20)
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    made, storage = ingest(tmp_path / "root", {"type": "video", "path": str(whole)}, rows=6)
    keys = [key for key, _, _ in rows(made, storage)]
    assert keys == [f"torn/{t:06d}" for t in range(len(keys))] and 8 <= len(keys) <= 14
    assert made.quarantined == 0 and made.body["remarks"] == [f"torn.avi ends after {len(keys)} of 20 frames"]


def test_a_video_that_cannot_be_opened_is_one_quarantined_entry(tmp_path: Path) -> None:
    film(tmp_path / "raw" / "good.mp4", 3)
    cut = film(tmp_path / "raw" / "cut.mp4", 8)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])  # its index was at the end
    made, storage = ingest(tmp_path / "root", {"type": "video", "path": f"{tmp_path}/raw"})
    assert [key for key, _, _ in rows(made, storage)] == [f"good/{t:06d}" for t in range(3)]
    assert list(left_out(made, storage)) == ["cut"]
    assert "cut.mp4 cannot be opened as a video" in left_out(made, storage)["cut"]


def test_videos_take_labels_by_frame(tmp_path: Path) -> None:
    film(tmp_path / "raw" / "f1.avi", 4)
    (tmp_path / "truth" / "f1").mkdir(parents=True)
    for t in (1, 3):
        cv2.imwrite(str(tmp_path / "truth" / "f1" / f"{t:04d}.png"), np.full((12, 16), t % 2, np.uint8))
    columns = {"semantic@truth": f"{tmp_path}/truth/{{stem}}/{{frame:04d}}.png"}
    made, storage = ingest(tmp_path / "root", {"type": "video", "path": f"{tmp_path}/raw", "columns": columns})
    found = inline.column(storage, KNOWN, made, "semantic@truth")
    assert [k for k, v in found.items() if v is not None] == ["f1/000001", "f1/000003"]


def test_a_folder_of_images_serves_as_a_video(tmp_path: Path) -> None:
    for clip in ("x", "y"):
        for i in range(2):
            image(tmp_path / "raw" / clip / f"{i}.png", 3)
    made, storage = ingest(tmp_path / "root", {"type": "video", "path": f"{tmp_path}/raw"})
    assert rows(made, storage) == [("x/0", "x", 0), ("x/1", "x", 1), ("y/0", "y", 0), ("y/1", "y", 1)]


def test_group_names_are_safe_and_stay_apart(tmp_path: Path) -> None:
    for name in ("a b", "a:b"):
        image(tmp_path / "raw" / f"{name}-1.png", 3)
    made, _ = ingest(tmp_path / "root", {"type": "files", "path": f"{tmp_path}/raw/*", "group": "(?P<group>.*)-"})
    groups = {p[1] for p in made.body["partitions"]}
    assert len(groups) == 2 and all(set(g).isdisjoint(" :/") for g in groups)
