"""Collections as sources, through the ingest stage: WebDataset tars and folders by class."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.results import Ingested
from hyperloom.stages.table import read_table
from tests.unit import inline

KNOWN = inline.modalities(
    rgb={"type": "image", "size": [8, 8], "codec": "file"},
    kind={"type": "category", "classes": ["cat", "dog"]},
    caption={"type": "text", "length": 40},
    objects={"type": "boxes", "classes": ["cat", "dog"], "most": 3},
)
PICTURE = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))[1].tobytes()
BOX = b'[{"x0": 0, "y0": 0, "x1": 0.5, "y1": 1, "class": "dog"}]'
COLUMNS = {"rgb@camera": "jpg;png", "kind@truth": "cls", "caption@truth": "txt", "objects@truth": "boxes.json"}


def tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def ingest(root: Path, **source: Any) -> tuple[dict[str, list[Any]], dict[str, str], list[str]]:
    """Rows, what is left out and why, and remarks."""
    storage = Storage(str(root))
    stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": source})
    step = inline.step(stage, storage, KNOWN)
    step.fingerprint = fingerprint([step.fingerprint, stage.facts(Digests(storage))])
    made: Manifest = inline.finish(step)
    parts = [read_table(storage, r.file.path) for r in made.records if r.files]
    lists = [storage.read_json(f"{r.space}/quarantine/{r.id}.json") for r in made.records if r.quarantined]
    left = {sample["key"]: sample["error"] for samples in lists for sample in samples}
    return pa.concat_tables(parts).to_pydict(), left, list(Ingested.from_manifest(made).remarks)


def test_files_of_one_name_in_a_tar_are_a_sample(tmp_path: Path) -> None:
    files = {
        "a.png": PICTURE, "a.cls": b"dog", "a.txt": b"a wet dog", "a.boxes.json": BOX, "a.url": b"x",
        "sub/b.png": PICTURE, "sub/b.cls": b"0",
    }  # fmt: skip
    tar(tmp_path / "t/one.tar", files)
    tar(tmp_path / "t/two.tar", {"c.png": PICTURE, "c.cls": b"wolf"})
    rows, left, remarks = ingest(tmp_path / "r", type="webdataset", path=str(tmp_path / "t"), columns=COLUMNS)
    assert rows["key"] == ["one/a", "one/sub/b"] and rows["group"] == ["one", "one"]
    assert rows["kind@truth"] == ["dog", "cat"] and rows["caption@truth"] == ["a wet dog", None]
    assert rows["rgb@camera"] == [PICTURE, PICTURE] and rows["objects@truth"][0][0]["class"] == "dog"
    assert list(left) == ["two/c"] and "kind@truth: expected one of cat, dog, got 'wolf'" in left["two/c"]
    assert any("files .url of one.tar are no column" in text for text in remarks)


def test_a_tar_that_was_cut_gives_its_whole_samples(tmp_path: Path) -> None:
    path = tar(tmp_path / "one.tar", {"a.png": PICTURE, "a.cls": b"cat", "b.png": PICTURE, "b.cls": b"dog"})
    path.write_bytes(path.read_bytes()[: 512 * 4 + 512 + 40])
    rows, left, _ = ingest(
        tmp_path / "r", type="webdataset", path=str(path), columns={"rgb@camera": "png", "kind@truth": "cls"}
    )
    assert rows["key"] == ["one/a"] and "cut off" in left["one/torn"]
    path.write_bytes(b"no tar at all" * 99)
    with pytest.raises(SourceError, match="no whole tar"):
        ingest(tmp_path / "s", type="webdataset", path=str(path), columns={"rgb@camera": "png"})


def test_folders_are_classes(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/deep/2.png", "dog/1.png", "wolf/1.png", "loose.png"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_bytes(PICTURE)
    columns = {"rgb@camera": "file", "kind@truth": "folder"}
    fields: dict[str, Any] = {"type": "folders", "path": str(tmp_path / "p"), "columns": columns, "level": "first"}
    rows, left, remarks = ingest(tmp_path / "r", **fields)
    assert dict(zip(rows["key"], rows["kind@truth"], strict=True)) == {
        "cat/1": "cat", "cat/deep/2": "cat", "dog/1": "dog",
    }  # fmt: skip
    assert len(set(rows["group"])) > 1, "a class is no group: a split would lose it"
    assert list(left) == ["wolf/1"] and "the folder 'wolf' is no class" in left["wolf/1"]
    assert any("loose.png" in text for text in remarks)
    assert not ingest(tmp_path / "s", **fields, only=["cat", "dog"])[1]
    with pytest.raises(ValidationError, match="one is `file` and one `folder`"):
        ingest(tmp_path / "t", **{**fields, "columns": {"rgb@camera": "file", "kind@truth": "file"}})
