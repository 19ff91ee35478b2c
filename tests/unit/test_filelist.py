"""Names and places as cameras, Macs, buckets and people leave them: one rule for local and remote folders."""

from __future__ import annotations

import os
import unicodedata
import uuid
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root import filelist
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage, sha256
from tests.unit import inline
from tests.unit.test_ingest import image, ingest, rows


def names(path: str | Path) -> list[str]:
    return [file.name for file in filelist.find(str(path)).files]


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(file.encode())


def test_a_name_that_exists_is_taken_literally(tmp_path: Path) -> None:
    touch(tmp_path, "flights [v2]/a.jpg", "flights [v2]/b[1].jpg", "flights v/c.jpg")
    assert names(tmp_path / "flights [v2]") == ["a.jpg", "b[1].jpg"]
    assert names(tmp_path / "flights [v2]/*.jpg") == ["a.jpg", "b[1].jpg"]
    assert names(tmp_path / "flights [v2]/b[1].jpg") == ["b[1].jpg"]
    assert names(tmp_path / "flights*/?.jpg") == ["flights [v2]/a.jpg", "flights v/c.jpg"]
    assert names(tmp_path / "**/c.jpg") == ["flights v/c.jpg"]


def test_what_is_hidden_is_left_out_and_said(tmp_path: Path) -> None:
    touch(tmp_path, "IMG.jpg", "._IMG.jpg", ".cache/x.jpg", "sub/.DS_Store")
    listed = filelist.find(str(tmp_path))
    assert [f.name for f in listed.files] == ["IMG.jpg"]
    assert listed.left_out == {"._IMG.jpg": "hidden", ".cache": "hidden", "sub/.DS_Store": "hidden"}
    assert filelist.find(f"{tmp_path}/*.jpg").left_out == {"._IMG.jpg": "hidden"}
    assert names(tmp_path / "._*.jpg") == ["._IMG.jpg"], "it may be named"


@pytest.mark.parametrize("remote", [False, True])
def test_the_root_of_a_run_holds_no_samples(tmp_path: Path, remote: bool) -> None:
    """Its pictures (a pilot's, those that went out to people) lie below the working folder as often as not."""
    place = f"memory://{uuid.uuid4().hex}" if remote else str(tmp_path)
    root = Storage(f"{place}/runs")
    root.write("pilots/a/labels.png", b"1")
    for name in ("a.png", "runs2/b.png"):
        Storage(place).write(name, name.encode())
    digests = Digests(root)
    assert [f.name for f in digests.files(place)] == ["a.png", "runs2/b.png"]
    assert [f.name for f in digests.files(f"{place}/**/*.png")] == ["a.png", "runs2/b.png"]
    assert digests.left_out == {}
    assert [f.name for f in digests.files(f"{place}/runs/pilots/**")] == ["a/labels.png"], "unless it is named"
    assert [f.name for f in digests.files(f"{place}/runs")][-1] == "pilots/a/labels.png"
    with pytest.raises(SourceError, match=r"\*\*/labels.png' outside of the root .*/runs. Next"):
        digests.files(f"{place}/**/labels.png")
    if not remote:
        (tmp_path / "more").mkdir()
        (tmp_path / "more/link").symlink_to(tmp_path / "runs")
        assert "more/link/pilots/a/labels.png" not in [f.name for f in digests.files(place)]


@pytest.mark.parametrize("remote", [False, True])
def test_nor_does_that_of_another_recipe(tmp_path: Path, remote: bool) -> None:
    place = f"memory://{uuid.uuid4().hex}" if remote else str(tmp_path)
    for name in ("claims/x.json", "events/y.jsonl", "steps/demo/a.json", "pilots/a/labels.png"):
        Storage(f"{place}/old/runs").write(name, b"1")
    for name in ("a.png", "events/b.png", "steps/c.png"):  # two of the three are anybody's
        Storage(place).write(name, name.encode())
    samples = ["a.png", "events/b.png", "steps/c.png"]
    for path in (place, f"{place}/**/*.png"):
        listed = filelist.find(path, f"{place}/runs")
        assert [f.name for f in listed.files] == samples
        assert listed.left_out == {"old/runs": filelist.OTHER} and not listed.passed_by
    assert filelist.find(f"{place}/*.png").left_out == filelist.find(f"{place}/*/*.png").left_out == {}, "too deep"
    assert [f.name for f in filelist.find(f"{place}/old/runs/pilots").files] == ["a/labels.png"], "unless it is named"
    assert "pilots/a/labels.png" in [f.name for f in filelist.find(f"{place}/old/runs").files]


def test_a_name_that_is_no_text_is_left_out_by_itself(tmp_path: Path) -> None:
    touch(tmp_path, "ok.jpg")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    listed = filelist.find(str(tmp_path))
    assert [f.name for f in listed.files] == ["ok.jpg"]
    assert listed.left_out == {r"caf\udce9.jpg": "the name is no UTF-8: rename it"}


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "data/run1/a.jpg", "elsewhere/b.jpg")
    data = tmp_path / "data"
    (data / "circle").symlink_to(data)
    (data / "latest").symlink_to(data / "run1")
    (data / "other").symlink_to(tmp_path / "elsewhere")
    (data / "again.jpg").symlink_to(data / "run1" / "a.jpg")
    (data / "gone.jpg").symlink_to(tmp_path / "nothing")
    listed = filelist.find(str(data))
    assert [f.name for f in listed.files] == ["other/b.jpg", "run1/a.jpg"]
    assert set(listed.left_out) == {"circle", "latest", "again.jpg", "gone.jpg"}
    assert names(data / "*.jpg") == ["again.jpg"], "what it leads to is not among these"


def test_letters_may_be_composed_or_not(tmp_path: Path) -> None:
    composed, decomposed = "M\u00fcller", "Mu\u0308ller"
    image(tmp_path / "imgs" / f"{decomposed}.png", 3)
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "labels" / f"{composed}.png"), np.eye(12, 16, dtype=np.uint8))
    source = {"type": "files", "path": f"{tmp_path}/imgs", "only": [composed]}
    made, storage = ingest(
        tmp_path / "root", {**source, "columns": {"semantic@truth": f"{tmp_path}/labels/{{stem}}.png"}}
    )
    assert [key for key, *_ in rows(made, storage)] == [composed]
    known = inline.modalities(semantic={"type": "segmentation", "classes": ["a", "b"], "size": [12, 16]})
    assert inline.column(storage, known, made, "semantic@truth")[composed] is not None
    image(tmp_path / "imgs" / f"{composed}.png", 3)
    with pytest.raises(SourceError, match="differ only in how letters are composed"):
        filelist.find(f"{tmp_path}/imgs")


def test_a_file_url_is_the_local_path_that_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "my card/a.jpg")
    for place in (f"file://{tmp_path}/my card", f"file://{tmp_path}/my%20card/*.jpg"):
        (file,) = filelist.find(place).files
        assert file.path == str(tmp_path / "my card" / "a.jpg")


def test_a_bucket_s_markers_of_folders_are_no_files() -> None:
    store, base = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    for key in ("set/imgs/x0.jpg", "set/imgs/._x0.jpg"):
        store.pipe_file(f"{base}/{key}", b"x")
    store.store[f"{base}/set/imgs/"] = type(store.store[f"{base}/set/imgs/x0.jpg"])(store, f"{base}/set/imgs/", b"")
    listed = filelist.find(f"memory:/{base}/set")
    assert [f.name for f in listed.files] == ["imgs/x0.jpg"] and listed.left_out == {"imgs/._x0.jpg": "hidden"}
    assert names(f"memory:/{base}/set/imgs") == ["x0.jpg"] == names(f"memory:/{base}/set/imgs/*.jpg")


NAME = st.text("ab.[]* é-", min_size=1, max_size=4).filter(lambda n: n.strip(".") and n == n.strip())
TREES = st.sets(st.lists(NAME, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8)
PATTERNS = st.sampled_from(["", "*", "a*", "*/*", "**", "**/*a*", "[ab]*", "?", "a*/*"])


@settings(max_examples=60, deadline=None)
@given(TREES, PATTERNS)
def test_local_and_remote_folders_hold_the_same(
    tmp_path_factory: pytest.TempPathFactory, tree: set[str], pattern: str
) -> None:
    files = {f for f in tree if not any(other.startswith(f"{f}/") for other in tree)}
    files = {unicodedata.normalize("NFC", f) for f in files}
    local, base = tmp_path_factory.mktemp("tree"), f"/{uuid.uuid4().hex}"
    touch(local, *files)
    for file in files:
        fsspec.filesystem("memory").pipe_file(f"{base}/{file}", file.encode())
    here, there = filelist.find(f"{local}/{pattern}"), filelist.find(f"memory:/{base}/{pattern}")
    assert [f.name for f in here.files] == [f.name for f in there.files]
    if not pattern:
        assert {f.name for f in here.files} == {f for f in files if not any(p.startswith(".") for p in f.split("/"))}


def test_a_file_of_the_same_size_and_time_is_seen_to_be_another(tmp_path: Path) -> None:
    file, storage = tmp_path / "a.bmp", Storage(str(tmp_path / "root"))
    file.write_bytes(b"one")
    before, old = Digests(storage).file(str(file)), file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert Digests(storage).file(str(file)).sha256 != before.sha256


def test_rehash_believes_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, storage = tmp_path / "a.bmp", Storage(str(tmp_path / "root"))
    file.write_bytes(b"one")
    monkeypatch.setattr(os, "stat", lambda path: os.stat_result((0o100644, 1, 1, 1, 0, 0, 3, 0, 0, 0)))  # it lies
    digests = Digests(storage)
    before = digests.file(str(file))
    digests.save()
    file.write_bytes(b"two")
    assert Digests(storage).file(str(file)) == before
    assert Digests(storage, rehash=True).file(str(file)).sha256 != before.sha256


def test_what_of_a_folder_is_not_used_is_said(tmp_path: Path) -> None:
    image(tmp_path / "raw" / "a.png", 1)
    image(tmp_path / "raw" / "b.png", 2)
    touch(tmp_path / "raw", "._a.png", "notes.txt", "readme.md", "list.csv", "c.heic", "hyperloom.yaml")
    made, _ = ingest(tmp_path / "root", {"type": "files", "path": f"{tmp_path}/raw"})
    assert not any("hyperloom" in line for line in made.body["remarks"]), "what init wrote beside them is no news"
    assert any("1 file left out, hidden: ._a.png" in line for line in made.body["remarks"])
    assert any("4 files left out, not .jpg" in line and "c.heic" in line for line in made.body["remarks"])
    (tmp_path / "raw" / "speeds").mkdir()
    (tmp_path / "raw" / "speeds" / "a.json").write_text("[1, 2]")
    columns = {"speed@gps": f"{tmp_path}/raw/speeds/{{key}}.json"}
    made, _ = ingest(tmp_path / "beside", {"type": "files", "path": f"{tmp_path}/raw", "columns": columns})
    said = [line for line in made.body["remarks"] if "left out, not .jpg" in line]
    assert len(said) == 1 and "a.json" not in said[0] and said[0].startswith("4 "), "what a column is read from is used"


def test_of_two_that_remember_at_once_nothing_is_lost_and_nothing_stale_is_believed(tmp_path: Path) -> None:
    """One slept (SIGSTOP) between reading what is remembered and writing it, while the file changed."""
    storage = Storage(str(tmp_path / "root"))
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"first")
    two.write_bytes(b"second")
    slept = Digests(storage)
    slept.file(str(one))
    one.write_bytes(b"other")
    awake = Digests(storage)
    newer = [awake.file(str(one)), awake.file(str(two))]
    awake.save()
    slept.save()
    assert sha256(os.fsencode(two)) in storage.read_json("digests.json"), "what the other one had computed is kept"
    last = Digests(storage)
    assert [last.file(str(one)), last.file(str(two))] == newer


def test_a_plan_lists_a_source_once_and_the_next_plan_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity and splits each asked for it: of 20,000 pictures a second and a half more."""
    for i in range(4):
        (tmp_path / f"data/{i % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"data/{i % 2}/{i}.png").write_bytes(b"x")
    (tmp_path / "a.yaml").write_text(
        f"name: a\nroot: {tmp_path}/root\nmodalities: {{rgb: {{type: image, size: [4, 4]}}}}\nsteps:\n"
        f"  frames: {{stage: ingest, source: {{type: files, path: {tmp_path}/data, column: rgb@camera}}}}\n"
        "  shards: {stage: shard, data: frames, split: {pin: {test: ['0']}}}\n"
    )
    walks: list[str] = []
    find = filelist.find
    monkeypatch.setattr(filelist, "find", lambda path, root="": walks.append(path) or find(path, root))
    loaded, storage = recipe.load(tmp_path / "a.yaml"), Storage(str(tmp_path / "root"))
    digests = Digests(storage)
    first = [step.fingerprint for step in plan(loaded, storage, digests)]
    assert len(walks) == 1, "once"
    (tmp_path / "data/0/new.png").write_bytes(b"y")
    assert plan(loaded, storage, digests)[0].fingerprint != first[0] and len(walks) == 2
