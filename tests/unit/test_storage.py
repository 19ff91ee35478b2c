"""Storage: atomic, exclusive, and nothing that looks whole after a failure; on disk and in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid

import pytest

from hyperloom.pipeline.errors import StorageError
from hyperloom.pipeline.root.storage import Storage


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path) -> Storage:
    return Storage(str(tmp_path / "root") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def test_what_is_written_is_read(storage: Storage) -> None:
    storage.write("a/b/c.bin", b"one")
    storage.write("a/b/c.bin", b"three")
    assert storage.read("a/b/c.bin") == b"three"
    assert storage.size("a/b/c.bin") == 5
    assert storage.names("a/b") == ["c.bin"]
    assert storage.sizes("a/b") == {"c.bin": 5}
    assert list(storage.walk("a")) == ["a/b/c.bin"]


def test_what_is_not_there(storage: Storage) -> None:
    assert storage.size("nope") is None
    assert storage.names("nope") == []
    assert storage.sizes("nope") == {}
    storage.delete("nope")
    with pytest.raises(FileNotFoundError):
        storage.read("nope")


def test_one_of_many_creates(storage: Storage) -> None:
    won: list[int] = []

    def create(i: int) -> None:
        if storage.create("lease", str(i).encode() * 100):
            won.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if storage.is_local:  # fsspec's memory store checks and writes in two steps; only one process ever uses it
        assert len(won) == 1
    assert storage.read("lease") == str(won[-1]).encode() * 100
    assert not storage.create("lease", b"late")


def test_the_store_is_asked_whether_it_keeps_its_promise(storage: Storage) -> None:
    assert storage.probe_exclusive()
    assert storage.names("") == []


def test_a_storage_travels_by_its_url(storage: Storage) -> None:
    storage.write("x", b"1")
    assert Storage(str(storage)).read("x") == b"1"


def test_a_root_that_is_a_file(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Next: .*give another root") as error:
        Storage(str(tmp_path / "file")).check_writable()
    assert not error.value.transient


def test_an_unknown_protocol() -> None:
    with pytest.raises(StorageError, match="nosuch"):
        Storage("nosuch://bucket/root")


def test_a_writer_that_dies_leaves_nothing_to_read(tmp_path) -> None:
    """Killed at random points of writing a big file over and over: a reader sees whole files only."""
    code = (
        "import sys; from hyperloom.pipeline.root.storage import Storage; s = Storage(sys.argv[1]); i = 0\n"
        "print('ready', flush=True)\n"
        "while True: s.write('big', bytes([i % 251]) * 4_000_000); i += 1"
    )
    storage = Storage(str(tmp_path))
    for round_ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=os.getcwd())
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(0.03 + 0.02 * round_)
        process.kill()
        process.wait()
        process.stdout.close()
        if storage.exists("big"):
            data = storage.read("big")
            assert len(data) == 4_000_000
            assert len(set(data)) == 1
    assert set(storage.names("")) <= {"big"}


def test_a_file_that_goes_meanwhile_hides_no_other(tmp_path) -> None:
    """A listing that lost its patience here made two writers of one number believe that they had won."""
    storage, stop = Storage(str(tmp_path)), threading.Event()
    storage.write("folder/stays", b"1")

    def come_and_go() -> None:
        while not stop.is_set():
            for i in range(20):
                (tmp_path / "folder" / f"goes{i}").touch()
            for i in range(20):
                (tmp_path / "folder" / f"goes{i}").unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    seen = [("stays" in storage.times("folder"), "stays" in storage.sizes("folder")) for _ in range(300)]
    stop.set()
    thread.join()
    assert set(seen) == {(True, True)}
