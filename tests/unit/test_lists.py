"""Lists that name films and sounds, or parts of them, and data sets that say what their numbers are called."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.data.export import export
from hyperloom.stages.data.reader import SampleReader
from hyperloom.stages.ingest.cell import Cell, named
from hyperloom.stages.ingest.excerpt import Excerpt, spread
from hyperloom.stages.results import Ingested
from hyperloom.stages.table import read_table
from tests.unit import films, inline

KNOWN: dict[str, Any] = inline.modalities(
    act={"type": "clip", "frames": 4, "size": list(films.SIZE)},
    still={"type": "image", "size": list(films.SIZE)},
    kind={"type": "category", "classes": ["swim", "ride horse", "run"]},
    tags={"type": "multilabel", "classes": ["swim", "ride horse", "run"]},
    sound={"type": "audio", "rate": 100, "seconds": 0.5},
    text={"type": "text", "length": 20},
    count={"type": "scalar"},
    rgb={"type": "image", "size": [8, 8]},
)
ACT = {"act@camera": {"file": "video"}, "kind@truth": "label"}


def ingest(
    root: Path, path: Path, columns: dict[str, Any], known: dict[str, Any] = KNOWN, **source: Any
) -> tuple[Any, dict[str, str], Any]:
    """Decoded values by column, what is left out and why, and remarks."""
    storage = Storage(str(root))
    value = {"stage": "ingest", "source": {"type": "table", "path": str(path), "columns": columns, **source}}
    stage = load("stage", "ingest").model_validate({**value, "max_quarantine": 1.0})
    step = inline.step(stage, storage, known)
    step.fingerprint = fingerprint([step.fingerprint, stage.facts(Digests(storage))])
    made = inline.finish(step)
    tables = [read_table(storage, r.file.path) for r in made.records if r.files]
    lists = [storage.read_json(f"{r.space}/quarantine/{r.id}.json") for r in made.records if r.quarantined]
    left = {sample["key"]: sample["error"] for samples in lists for sample in samples}
    rows: dict[str, Any] = {}
    if tables:
        table = pa.concat_tables(tables)
        rows = {c: known[c.partition("@")[0]].decode(table[c])[0] for c in columns}
        rows["key"] = table["key"].to_pylist()
    return rows, left, Ingested.from_manifest(made).remarks


def sound(count: int) -> bytes:
    """A second has 100 samples, each a hundred times its number."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setparams((1, 2, 100, count, "NONE", ""))
        file.writeframes((np.arange(count) * 100).astype("<i2").tobytes())
    return sink.getvalue()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films of 30 numbered frames, 25 a second."""
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("films")
    films.write(folder / "a.mp4")
    films.write(folder / "abc_000004_000014.mp4", range(30, 60))
    return folder


def shown(clips: np.ndarray) -> list[list[int]]:
    return [[films.number(frame) for frame in clip] for clip in clips]


def test_a_list_of_films_gives_clips_of_them_or_of_a_part(film: Path, tmp_path: Path) -> None:
    """A part of 0.4 s has ten frames; one that goes beyond the end is cut and said once it is more than rounding."""
    rows = ["a.mp4,swim,0.4,0.8", "a.mp4,run,,", "a.mp4,ride horse,0.8,", "a.mp4,run,0.8,9"]
    path = film / "parts.csv"
    path.write_text("\n".join(["video,label,from,to", *rows]))
    columns = {**ACT, "act@camera": {"file": "video", "start": "from", "end": "to"}}
    columns["still@camera"] = {"file": "video", "start": "from", "end": "to"}
    got, left, remarks = ingest(tmp_path, path, columns)
    assert not left and shown(got["act@camera"]) == [
        [11, 13, 16, 18],
        [3, 11, 18, 26],
        [21, 23, 26, 28],
        [21, 23, 26, 28],
    ]
    assert [films.number(s) for s in got["still@camera"]] == [15, 15, 25, 25]
    assert got["kind@truth"].tolist() == [0, 2, 1, 2]
    assert [r for r in remarks if "reaches over its end" in r]


def test_a_film_s_name_is_made_of_fields_and_what_is_not_there_is_named(film: Path, tmp_path: Path) -> None:
    """As Kinetics lists them: many films are gone, and numbers in names are padded."""
    path = film / "train.csv"
    path.write_text(
        "label,id,time_start,time_end\nswim,abc,4,14\nrun,xyz,4,14\nrun,abc,x,14\nrun,abc,4.5,14\nrun,,4,14\n"
    )
    name = {"file": "{id}_{time_start:06d}_{time_end:06d}.mp4"}
    got, left, _ = ingest(tmp_path, path, {"act@camera": name, "kind@truth": "label"})
    assert shown(got["act@camera"][:1]) == [[33, 41, 48, 56]]
    assert got["key"] == ["train/000000", "train/000004"], "a row that names no film has none"
    assert "xyz_000004_000014.mp4 is not there" in left["train/000001"]
    assert "time_start: 'x' does not go into" in left["train/000002"] and "no whole number" in left["train/000003"]
    with pytest.raises(SourceError, match="no field 'ide'.*did you mean 'id'"):
        ingest(tmp_path, path, {"act@camera": {"file": "{ide}.mp4"}})


def test_a_list_without_a_first_line_of_names_is_read_by_fields(film: Path, tmp_path: Path) -> None:
    """As mmaction writes them: `clip.mp4 2`; a number counts the classes of the modality, or of `names`."""
    path = film / "list.txt"
    path.write_text("a.mp4 2\na.mp4 0\na.mp4\n")
    got, left, _ = ingest(tmp_path / "1", path, ACT, fields=["video", "label"])
    assert got["kind@truth"].tolist() == [2, 0] and shown(got["act@camera"])[0] == [3, 11, 18, 26]
    assert "expected 2 fields as `fields` names them (video label), got 1" in left["list/000002"]
    columns = {"kind@truth": {"field": "label", "names": ["run", "swim", "dive"]}}
    got, left, _ = ingest(tmp_path / "2", path, columns, fields=["video", "label"])
    assert got["kind@truth"].tolist() == [0 + 2] and "got 'dive'" in left["list/000000"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.mp4,run,2,3", "begins behind the end, 1.2 s"),
        ("a.mp4,run,0.5,0.5", "0.5 to 0.5 s is no part"),
        ("a.mp4,run,-1,1", "no part of a file"),
        ("a.mp4,run,0.4,0.48", "2 frames are shown from 0.4 to 0.48 s, and 4 are wanted"),
        ("a.mp4,run,soon,1", "from: 'soon' is no number of seconds"),
        ("a.mp4,run,nan,1", "no number of seconds"),
        ("parts.csv,run,0,1", "neither sound nor video"),
    ],
)
def test_a_part_that_is_none_is_one_row_s_reason(film: Path, tmp_path: Path, row: str, reason: str) -> None:
    path = film / "odd.csv"
    path.write_text(f"video,label,from,to\n{row}\n")
    (film / "parts.csv").touch()
    columns = {**ACT, "act@camera": {"file": "video", "start": "from", "end": "to"}}
    with pytest.raises(SourceError, match=reason):
        ingest(tmp_path, path, columns)


def test_frames_of_a_part_lie_evenly_whatever_the_pace() -> None:
    times = [0.0, 0.1, 0.2, 1.0, 1.1, 1.2]
    assert spread(times, Excerpt(0.0, None), 3) == [1, 3, 5] and spread(times, Excerpt(0.9, 1.15), 2) == [3, 4]
    assert spread([0.0], Excerpt(0.0, None), 1) == [0]


def test_a_manifest_of_sounds_names_parts_of_files(tmp_path: Path) -> None:
    """As NeMo writes them, in lines or as a list; a duration beyond the end is cut and said."""
    (tmp_path / "a.wav").write_bytes(sound(100))
    rows = [
        {"audio_filepath": "a.wav", "offset": 0.1, "duration": 0.3, "text": "one"},
        {"audio_filepath": "a.wav", "offset": 0.9, "duration": 5, "text": "two"},
        {"audio_filepath": "a.wav", "offset": 1.5, "duration": 0.1, "text": "late"},
        {"audio_filepath": "a.wav", "duration": 0.02, "text": "short"},
    ]
    columns = {"sound@mic": {"file": "audio_filepath", "start": "offset", "duration": "duration"}, "text@truth": "text"}
    lines, array = tmp_path / "manifest.json", tmp_path / "array.json"
    lines.write_text("\n".join(map(json.dumps, rows)))
    array.write_text(json.dumps([*rows, 3]))
    for path in (lines, array):
        got, left, remarks = ingest(tmp_path / path.stem, path, columns)
        numbers = np.rint(got["sound@mic"] * 32768 / 100).astype(int)
        assert numbers[0, :31].tolist() == [*range(10, 40), 0] and numbers[1, :11].tolist() == [*range(90, 100), 0]
        assert numbers[2, :3].tolist() == [0, 1, 0] and [r for r in remarks if "reaches over its end" in r]
        assert "ends after 1 s, before the part that begins at 1.5 s" in left[f"{path.stem}/000002"]
    assert "expected a JSON object, got 3" in left["array/000004"]
    array.write_text('[{"text": "a"}, ')
    with pytest.raises(SourceError, match=r"array.json is no JSON: .*Next: check that file"):
        ingest(tmp_path / "torn", array, columns)


def dataset(path: Path, features: Any, **columns: Any) -> Path:
    """A Parquet file as Hugging Face's `datasets` writes one."""
    table = pa.table(columns)
    noted = features if isinstance(features, bytes) else json.dumps({"info": {"features": features}}).encode()
    pq.write_table(table.replace_schema_metadata({"huggingface": noted}), path)
    return path


LABEL = {"_type": "ClassLabel", "names": ["run", "swim", "ride horse"]}


def test_numbers_of_a_data_set_are_classes_by_its_names(tmp_path: Path) -> None:
    """Its order is not the recipe's; -1 is no class, a number beyond the names is one row's reason."""
    picture = cv2.imencode(".png", np.full((8, 8, 3), 7, np.uint8))[1].tobytes()
    features = {"label": LABEL, "many": {"_type": "Sequence", "feature": LABEL}, "image": {"_type": "Image"}}
    path = dataset(
        tmp_path / "train.parquet", features, label=[1, 0, -1, 2, 7], many=[[0, 1], [], [2], None, [0]],
        image=[{"bytes": picture, "path": None}] * 5,
    )  # fmt: skip
    columns = {
        "rgb@camera": "image",
        "kind@truth": "label",
        "tags@truth": "many",
        "text@truth": "label",
        "count@truth": "label",
    }
    got, left, _ = ingest(tmp_path / "1", path, columns)
    assert got["kind@truth"].tolist() == [0, 2, -1, 1]
    assert got["tags@truth"][:3].tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert got["count@truth"][:, 0].tolist() == [1, 0, -1, 2], "a number that is no class stays one"
    assert "kind@truth: expected a number up to 2 (run, swim, ride horse), got 7" in left["train/000004"]
    newer = {**features, "many": {"_type": "List", "feature": LABEL}, "label": LABEL}
    again = dataset(tmp_path / "newer.parquet", newer, label=[1], many=[[0, 1]])
    assert ingest(tmp_path / "2", again, {"tags@truth": "many"})[0]["tags@truth"].tolist() == [[1, 0, 1]]


def test_other_classes_than_the_recipe_s_are_refused_and_can_be_called_otherwise(tmp_path: Path) -> None:
    path = dataset(tmp_path / "a.parquet", {"label": {"_type": "ClassLabel", "names": ["neg", "pos"]}}, label=[1, 0])
    with pytest.raises(RecipeError, match=r"'label' counts neg, pos, and kind@truth knows swim.*names: \[..\]"):
        ingest(tmp_path / "1", path, {"kind@truth": "label"})
    columns = {"kind@truth": {"field": "label", "names": ["swim", "run"]}}
    assert ingest(tmp_path / "2", path, columns)[0]["kind@truth"].tolist() == [2, 0]
    for odd in (b"{torn", b"[]", b'{"info": {"features": 3}}', b'{"info": 1}'):
        plain = dataset(tmp_path / "odd.parquet", odd, label=[1])
        assert ingest(tmp_path / odd.hex(), plain, {"kind@truth": "label"})[0]["kind@truth"].tolist() == [1]


def test_a_picture_that_a_data_set_has_by_name_alone_is_no_missing_value(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.full((8, 8, 3), 9, np.uint8))
    path = dataset(tmp_path / "a.parquet", {}, image=[{"bytes": None, "path": "p.png"}])
    with pytest.raises(SourceError, match=r"'p.png' by name alone. Next: {file: ..}"):
        ingest(tmp_path / "1", path, {"rgb@camera": "image"})
    assert ingest(tmp_path / "2", path, {"rgb@camera": {"file": "image"}})[0]["rgb@camera"].max() == 9


def test_a_data_set_goes_out_and_comes_back(tmp_path: Path) -> None:
    """Equal to the pixel, the sample of sound and the class, whatever the order of the classes there."""
    draw = np.random.default_rng(0)
    known = {
        **KNOWN,
        **inline.modalities(
            map={"type": "segmentation", "classes": ["a", "b"], "size": [8, 8]},
            bird={"type": "audio", "rate": 100, "seconds": 0.5, "codec": "flac"},
        ),
    }
    rows: list[dict[str, Any]] = [
        {
            "rgb@camera": draw.integers(0, 256, (8, 8, 3), np.uint8), "kind@truth": np.int64(i - 1),
            "tags@truth": np.array([i % 2, 1, 0], np.uint8),
            "sound@mic": known["sound"].fit(np.arange(50) / 64 - i / 8),
            "bird@mic": known["bird"].fit(np.arange(40) / 64 - i / 8),
            "text@truth": known["text"].fit("naïve"), "count@truth": np.array([i / 4], np.float32),
            "map@truth": draw.choice([0, 1, 255], (8, 8)).astype(np.uint8),
        }
        for i in range(3)
    ]  # fmt: skip
    rows.append(dict.fromkeys(rows[0]))
    storage = Storage(str(tmp_path / "root"))
    frames = inline.ingested(storage, known, {"a": rows[:3], "b": rows[3:]})
    reader = SampleReader(storage, "frames", frames, [frames], tuple(rows[0]))
    assert export(reader, known, Storage(str(tmp_path / "out")), "huggingface") == 2
    features = json.loads(pq.read_schema(tmp_path / "out/a-00000.parquet").metadata[b"huggingface"])["info"]["features"]
    assert features["kind"] == {"names": ["swim", "ride horse", "run"], "_type": "ClassLabel"}
    sounds = pq.read_table(tmp_path / "out/a-00000.parquet", columns=["sound", "bird"]).to_pylist()
    assert [sounds[0][name]["path"] for name in ("sound", "bird")] == ["0.wav", "0.flac"]
    assert features["rgb"] == {"_type": "Image"} and features["sound"] == {"sampling_rate": 100, "_type": "Audio"}

    other = {**known, "kind": known["kind"].model_copy(update={"classes": ("run", "swim", "ride horse")})}
    columns = {c: c.partition("@")[0] for c in rows[0]}
    got, left, _ = ingest(tmp_path / "back", tmp_path / "out", columns, other, key="key")
    assert not left and got["key"] == ["a/000", "a/001", "a/002", "b/000"]
    assert got["kind@truth"].tolist() == [-1, 1, 2, -1], "by name: the second class of the recipe is the first there"
    for column in ("rgb@camera", "tags@truth", "sound@mic", "bird@mic", "count@truth", "map@truth", "text@truth"):
        for i in range(3):
            assert np.array_equal(got[column][i], np.asarray(rows[i][column])), column
    with pytest.raises(RecipeError, match="a dataset has no form for act@camera"):
        clips = inline.ingested(storage, known, {"c": [{"act@camera": np.zeros(known["act"].shape, np.uint8)}]})
        export(SampleReader(storage, "c", clips, [clips], ["act@camera"]), known, storage, "huggingface")


def test_names_go_as_deep_as_a_data_set_does() -> None:
    objects = {"_type": "Sequence", "feature": {"category": LABEL, "area": {"_type": "Value"}}}
    assert named(objects, {"category": [2, 0], "area": [1, 2]}) == {"category": ["ride horse", "run"], "area": [1, 2]}
    assert named([{"category": LABEL}], [{"category": 1}]) == [{"category": "swim"}]
    assert named({"a": LABEL}, {"a": "1"}) == {"a": "swim"} and named(LABEL, None) is None


@pytest.mark.parametrize(
    "cell",
    [
        {"field": "a", "start": "b"},
        {"file": "a", "end": "b", "duration": "c"},
        {"file": "{a"},
        {"file": "{}.mp4"},
        {"file": "a", "names": ["x"]},
    ],
)
def test_a_cell_that_says_what_does_not_go_together_is_refused(cell: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Cell.model_validate(cell)
