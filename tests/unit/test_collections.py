"""Collections of files go out and come back: tars of WebDataset, lists of pictures, sounds and films, data sets."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import remarks
from hyperloom.stages.data import collection_files
from hyperloom.stages.data.export import ExportLayout, export
from hyperloom.stages.data.reader import SampleReader
from hyperloom.stages.results import Ingested
from hyperloom.stages.table import read_table
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": [8, 8]},
    map={"type": "segmentation", "classes": ["a", "b"], "size": [8, 8]},
    depth={"type": "dense", "size": [8, 8], "unit": "m"},
    kind={"type": "category", "classes": ["swim", "ride, horse", "3"]},
    tags={"type": "multilabel", "classes": ["swim", "ride", "run"]},
    sound={"type": "audio", "rate": 100, "seconds": 0.5},
    text={"type": "text", "length": 20},
    count={"type": "scalar"},
    spot={"type": "vector", "length": 2},
    objects={"type": "boxes", "classes": ["car", "bus"], "most": 3},
    act={"type": "clip", "frames": 3, "size": [8, 8]},
)
COLUMNS = (
    *("rgb@camera", "rgb@night", "map@truth", "depth@truth", "kind@truth", "tags@truth", "sound@mic", "text@truth"),
    *("count@truth", "spot@truth", "objects@truth"),
)


def sample(i: int) -> dict[str, Any]:
    draw = np.random.default_rng(i)
    objects = [{"x0": 0.1, "y0": 0.2, "x1": 0.5, "y1": 0.7, "class": "bus", "score": 0.25}]
    values: dict[str, Any] = {
        "rgb@camera": draw.integers(0, 256, (8, 8, 3), np.uint8),
        "rgb@night": draw.integers(0, 256, (8, 8, 3), np.uint8),
        "map@truth": draw.choice([0, 1, 255], (8, 8)).astype(np.uint8),
        "depth@truth": draw.random((8, 8, 1), np.float32).astype(np.float16).astype(np.float32),
        "kind@truth": np.int64(i % 3),
        "tags@truth": np.array([i % 2, 1, 0], np.uint8),
        "sound@mic": KNOWN["sound"].fit(np.arange(50) / 64 - i / 8),
        "text@truth": KNOWN["text"].fit('na"ïve,\n[x'),
        "count@truth": np.array([i / 3], np.float32),
        "spot@truth": draw.random(2, np.float32),
        "objects@truth": KNOWN["objects"].fit([*objects[: i % 2], {**objects[0], "crowd": True}]),
        "act@camera": draw.integers(0, 256, (3, 8, 8, 3), np.uint8),
    }
    return values


def sent(tmp_path: Path, layout: ExportLayout, columns: tuple[str, ...]) -> tuple[list[dict[str, Any]], int]:
    """Samples of two groups, the last without anything, and the number of files that were written."""
    rows = [{c: v for c, v in sample(i).items() if c in columns} for i in range(3)]
    rows.append(dict.fromkeys(columns))
    storage = Storage(str(tmp_path / "root"))
    frames = inline.ingested(storage, KNOWN, {"a b": rows[:2], "c": rows[2:]})
    reader = SampleReader(storage, "frames", frames, [frames], columns)
    return rows, export(reader, KNOWN, Storage(str(tmp_path / "out")), layout)


def back(tmp_path: Path) -> tuple[dict[str, Any], dict[str, tuple[str, dict[str, Any]]]]:
    """The source that the export wrote; key -> group and values of what it reads."""
    written = yaml.safe_load((tmp_path / "out/source.yaml").read_text())
    known = inline.modalities(**written["modalities"])
    storage = Storage(str(tmp_path / "back"))
    stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": written["source"]})
    step = inline.step(stage, storage, known)
    step.fingerprint = fingerprint([step.fingerprint, stage.facts(Digests(storage))])
    made = inline.finish(step)
    assert not [r for r in Ingested.from_manifest(made).remarks if "hold the one class" not in r]
    got: dict[str, tuple[str, dict[str, Any]]] = {}
    for record in made.records:
        table = read_table(storage, record.file.path)
        columns = {c: known[c.partition("@")[0]].decode(table[c]) for c in written["source"]["columns"]}
        for i, (key, group) in enumerate(zip(table["key"].to_pylist(), table["group"].to_pylist(), strict=True)):
            got[key] = (group, {c: v[i] if valid[i] else None for c, (v, valid) in columns.items()})
    return written["source"], got


def same(one: Any, other: Any) -> bool:
    return one is other or bool(np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f"))


@pytest.mark.parametrize("layout", ["csv", "jsonl"])
def test_a_list_and_its_files_come_back(tmp_path: Path, layout: ExportLayout) -> None:
    rows, count = sent(tmp_path, layout, COLUMNS)
    source, got = back(tmp_path)
    assert count == 5 * 3 + 2 and source["columns"]["rgb@camera"] == {"file": "file_name"}
    assert source["columns"]["rgb@night"] == {"file": "rgb_night_file_name"}
    assert source["columns"]["sound@mic"] == {"file": "sound_path"}, "no picture: `datasets` would open it as one"
    assert list(got) == ["a b/000", "a b/001", "c/000", "c/001"]
    for row, (_, values) in zip(rows, got.values(), strict=True):
        assert [c for c in COLUMNS if not same(row[c], values[c])] == []


@pytest.mark.parametrize("layout", ["csv", "jsonl", "webdataset"])
@pytest.mark.parametrize("holes", [False, True])
def test_an_empty_text_is_no_missing_one(tmp_path: Path, layout: ExportLayout, holes: bool) -> None:
    """Both came back as missing. CSV holds only one of them."""
    texts = ["", "a", *([None] if holes else [])]
    storage = Storage(str(tmp_path / "root"))
    rows = [{"text@truth": None if t is None else KNOWN["text"].fit(t), "count@truth": np.array([i], np.float32)}
            for i, t in enumerate(texts)]  # fmt: skip
    frames = inline.ingested(storage, KNOWN, {"g": rows})
    reader = SampleReader(storage, "frames", frames, [frames], ("text@truth", "count@truth"))
    with remarks.collected() as counts:
        export(reader, KNOWN, Storage(str(tmp_path / "out")), layout)
    _, got = back(tmp_path)
    came = [None if (v := values["text@truth"]) is None else KNOWN["text"].words(v) for _, values in got.values()]
    lost = layout == "csv" and holes
    assert came == ([None, *texts[1:]] if lost else texts)
    assert [text for text in counts if "does not tell apart" in text] == list(counts) and bool(counts) == lost


def test_an_empty_text_that_counts_as_missing_is_said(tmp_path: Path) -> None:
    """Of a data set of Hugging Face, too, it is a value where its column says so."""
    storage = Storage(str(tmp_path / "root"))
    rows = [{"text@truth": None if t is None else KNOWN["text"].fit(t)} for t in ("", "a", None)]
    frames = inline.ingested(storage, KNOWN, {"g": rows})
    export(SampleReader(storage, "frames", frames, [frames], ("text@truth",)), KNOWN, Storage(str(tmp_path / "out")),
           "huggingface")  # fmt: skip
    for cell, texts, spoken in (("text", [None, "a", None], 1), ({"field": "text", "empty": True}, ["", "a", None], 0)):
        source = {"type": "table", "path": str(tmp_path / "out/*.parquet"), "key": "key", "columns": {"text@t": cell}}
        stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": source})
        step = inline.step(stage, storage, KNOWN)
        step.fingerprint = fingerprint([step.fingerprint, stage.facts(Digests(storage))])
        made = inline.finish(step)
        (record,) = made.records
        assert read_table(storage, record.file.path)["text@t"].to_pylist() == texts
        assert sum("empty: true" in text for text in Ingested.from_manifest(made).remarks) == spoken


def test_tars_come_back_with_their_groups(tmp_path: Path) -> None:
    rows, count = sent(tmp_path, "webdataset", COLUMNS)
    source, got = back(tmp_path)
    assert count == 3 and source["columns"]["sound@mic"] == "wav;flac"
    assert source["columns"]["rgb@night"] == "rgb_night.png;rgb_night.jpg;rgb_night.webp"
    assert [key.rpartition("/")[2] for key in got] == ["000", "001", "000"], "a sample without a file is none"
    assert len({group for group, _ in got.values()}) == 2
    for row, (_, values) in zip(rows, got.values(), strict=False):
        assert [c for c in COLUMNS if not same(row[c], values[c])] == []


def test_a_tar_goes_on_in_another_where_it_grows_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_files, "MOST", 1)
    sent(tmp_path, "webdataset", ("kind@truth",))
    names = sorted(p.name.rpartition("-")[2] for p in (tmp_path / "out").glob("a_b*.tar"))
    assert names == ["c8687a.tar", "c8687a~00001.tar"]  # which no other group's name ends in


def test_films_and_sounds_are_listed_as_others_list_them(tmp_path: Path) -> None:
    pytest.importorskip("av")
    rows, _ = sent(tmp_path / "1", "csv", ("act@camera", "kind@truth"))
    head, first, *_ = (tmp_path / "1/out/metadata.csv").read_text().splitlines()
    assert head == "key,group,file_name,kind" and first == "a b/000,a b,files/a b/000.mkv,swim"
    _, got = back(tmp_path / "1")
    assert all(same(row["act@camera"], v["act@camera"]) for row, (_, v) in zip(rows, got.values(), strict=True))
    rows, _ = sent(tmp_path / "2", "manifest", ("sound@mic", "text@truth"))
    first = (tmp_path / "2/out/manifest.jsonl").read_text().splitlines()[0]
    assert '"audio_filepath": "files/a b/000.wav"' in first and '"duration": 0.5' in first
    _, got = back(tmp_path / "2")
    assert all(same(row["sound@mic"], v["sound@mic"]) for row, (_, v) in zip(rows, got.values(), strict=True))


def test_a_point_in_a_key_begins_no_ending() -> None:
    storage = Storage("memory://points")
    frames = inline.ingested(storage, KNOWN, {"v1.2": [{"kind@truth": np.int64(0)}]})
    export(SampleReader(storage, "frames", frames, [frames]), KNOWN, Storage("memory://points/out"), "webdataset")
    with tarfile.open(fileobj=io.BytesIO(storage.read("out/v1.2.tar"))) as tar:
        assert tar.getnames() == ["000.txt"]


def test_what_has_no_form_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a manifest lists sounds, and there is none"):
        sent(tmp_path, "manifest", ("kind@truth",))


def test_datasets_opens_what_goes_out(tmp_path: Path) -> None:
    """Pictures, names of classes and boxes, as the library of Hugging Face gives them."""
    datasets = pytest.importorskip("datasets", reason="the library `datasets` is not installed")
    columns = ("rgb@camera", "map@truth", "kind@truth", "objects@truth", "tags@truth")
    rows, _ = sent(tmp_path / "1", "huggingface", columns)
    files = sorted(str(p) for p in (tmp_path / "1/out").glob("*.parquet"))
    opened = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert opened.features["kind"].names == ["swim", "ride, horse", "3"] and len(opened) == 4
    for row, read in zip(rows[:3], opened, strict=False):
        assert same(row["rgb@camera"], np.array(read["rgb"])) and same(row["map@truth"], np.array(read["map"]))
        assert read["kind"] == row["kind@truth"] and read["objects"][-1]["class"] == "bus"
    rows, _ = sent(tmp_path / "2", "jsonl", ("rgb@camera", "kind@truth", "sound@mic"))
    folder = str(tmp_path / "2/out")
    opened = datasets.load_dataset("imagefolder", data_dir=folder, split="train", cache_dir=str(tmp_path / "cache"))
    assert [read["kind"] for read in opened] == ["swim", "ride, horse", "3", None]
    assert same(rows[1]["rgb@camera"], np.array(opened[1]["image"]))


def test_webdataset_opens_what_goes_out(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="the library `webdataset` is not installed")
    rows, _ = sent(tmp_path, "webdataset", ("rgb@camera", "kind@truth", "depth@truth", "count@truth"))
    tars = sorted(str(p) for p in (tmp_path / "out").glob("*.tar"))
    opened = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
    assert [(s["__key__"], s["txt"], s["json"]) for s in opened] == [
        ("000", "swim", 0.0), ("001", "ride, horse", float(np.float32(1 / 3))), ("000", "3", float(np.float32(2 / 3)))
    ]  # fmt: skip
    assert all(same(row["rgb@camera"], s["png"]) for row, s in zip(rows, opened, strict=False))
    assert all(same(row["depth@truth"], s["npy"]) for row, s in zip(rows, opened, strict=False))
