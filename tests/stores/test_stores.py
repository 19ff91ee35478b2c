"""Roots on real servers: S3 with and without conditional writes, SFTP. What storage promises, a run, the loader, and
what is left when the line breaks, the server dies or its disk is full."""

from __future__ import annotations

import io
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hyperloom.pipeline.errors import ClaimError, HyperloomError, StorageError
from hyperloom.pipeline.inspection import verify
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.claims import Claims
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from tests.stores import roots, servers
from tests.stores.roots import Store

pytest.importorskip("s3fs")
pytest.importorskip("paramiko")
pytestmark = pytest.mark.timeout(300)

RECIPE = """\
name: toy
root: {root}
modalities: {{}}
steps:
  a: {{stage: "tests.toy:Numbers", units_: 4, each: 2000}}
  c: {{stage: "tests.toy:Sum", data: [a]}}
"""


@pytest.fixture(scope="module", params=["moto", "rclone", "sshd"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with roots.opened(request.param, tmp_path_factory.mktemp(request.param)) as store:
        yield store


def run(root: str) -> runner.RunResult:
    """`hyperloom run`, with units in this process instead of on Ray."""
    return runner.run(recipe.parse(RECIPE.format(root=root)), progress=Progress(io.StringIO()), track=False, wait=0)


def data(storage: Storage) -> dict[str, bytes]:
    paths = (p for p in storage.walk("") if "/data/" in p or p.endswith("manifest.json"))
    return {p: storage.read(p) for p in paths}


def test_the_promises_of_the_storage(store: Store) -> None:
    storage = Storage(f"{store.url}/promises")
    storage.check_writable()
    exclusive = storage.probe_exclusive()
    assert exclusive == (store.kind != "rclone"), "rclone's server overwrites, and the probe must say so"
    storage.write("a/one", b"1")
    storage.write("a/one", b"11")
    storage.write("a/b/two", b"2" * 100_000)
    assert (storage.read("a/one"), storage.size("a/one"), storage.exists("a/one")) == (b"11", 2, True)
    assert storage.names("a") == ["b", "one"] and list(storage.walk("a")) == ["a/b/two", "a/one"]
    assert storage.sizes("a")["one"] == 2
    assert storage.ranges("a/one", [(1, 2), (0, 2)]) == [b"1", b"11"]
    with storage.open("a/one") as file:
        assert file.read() == b"11"
    with pytest.raises(FileNotFoundError):
        storage.read("a/none")
    assert storage.size("a/none") is None and storage.names("none") == [] and not storage.exists("a/none")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: storage.create("race", str(i).encode()), range(8)))
    if exclusive:
        assert sum(made) == 1
        assert storage.read("race") == str(made.index(True)).encode()
    storage.delete("a")
    assert storage.names("a") == []


def test_a_run_and_a_rerun(store: Store, tmp_path: Path) -> None:
    """The same bytes as on a local disk; the rerun finds everything; nobody comes into a root that is another's."""
    here, there = Storage(str(tmp_path / "root")), Storage(f"{store.url}/runs")
    said: list[str] = []
    with Claims(there, "another", said.append) as claims, claims.exclusively(), pytest.raises(ClaimError) as refusal:
        run(str(there))
    assert "another" in str(refusal.value)
    assert any("read back" in s for s in said) == (store.kind == "rclone")
    assert run(str(there)).ok and run(str(here)).ok
    assert data(there) == data(here) and len(data(there)) > 3
    assert set(run(str(there)).states.values()) == {"fresh"}
    assert verify.verify(there).problems == []


def test_the_loader_gives_the_same_batches_as_from_a_local_disk(store: Store, tmp_path: Path) -> None:
    from hyperloom.stages.shard.cache import DiskCache
    from tests.unit.test_loader import DEPTH, ID, ids, loader, shards

    here, there = Storage(str(tmp_path / "root")), Storage(f"{store.url}/shards")
    disk = DiskCache(tmp_path / "cache", 1e6)
    found = [[ids(b) for b in loader(s, shards(s, [9, 4], 2), (ID, DEPTH), disk=disk)] for s in (here, there)]
    assert found[0] == found[1] and sorted(i for batch in found[0] for i in batch) == list(range(13))


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_line_that_breaks_while_writing_leaves_nothing(store: Store, exclusive: bool) -> None:
    storage = Storage(f"{store.url}/broken-{exclusive}")
    storage.write("small", b"1")
    put, whole = (storage.create if exclusive else storage.write), os.urandom(3_000_000)
    store.line.limit = 1_000_000
    try:
        with pytest.raises(StorageError, match=r"cannot (create|write) .*/big: .*Next: run the same command again"):
            put("big", whole)
    finally:
        store.line.limit = None
    assert store.line.broken
    assert not storage.exists("big") and storage.names("") == ["small"]
    put("big", whole)
    assert storage.read("big") == whole


def test_a_server_killed_in_the_middle_of_a_run(store: Store, tmp_path: Path) -> None:
    """It may come back while the run still tries, or later: the same command ends in the same bytes."""
    if not store.lasting:
        pytest.skip("this server keeps its data in memory")
    here, there = Storage(str(tmp_path / "root")), Storage(f"{store.url}/killed")

    def kill() -> None:
        while not any(store.folder.rglob("*/units/*.json")):
            time.sleep(0.01)
        store.server.kill()
        time.sleep(1)
        store.server.start()

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = []
    for _ in range(3):
        try:
            outcomes.append(run(str(there)).ok)
        except HyperloomError as error:
            outcomes.append(f"{type(error).__name__}: {error}")
        killer.join()
        if outcomes[-1] is True:
            break
    assert outcomes[-1] is True, outcomes
    assert run(str(here)).ok
    assert data(there) == data(here)
    assert verify.verify(there).problems == []


def test_a_full_disk_of_the_server(store: Store) -> None:
    if not store.lasting:
        pytest.skip("this server has no disk")
    small = store.folder / "hyperloom" / "small" if store.kind == "rclone" else store.folder / "small"
    small.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        storage = Storage(f"{store.url}/small")
        storage.write("fits", b"1" * 1000)
        for put in (storage.write, storage.create):
            with pytest.raises(StorageError, match=r"cannot (create|write) .*/big"):
                put("big", os.urandom(3_000_000))
            assert not storage.exists("big") and storage.names("") == ["fits"]
        assert storage.read("fits") == b"1" * 1000
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_server_that_is_not_there_is_one_clear_error(store: Store) -> None:
    storage = Storage(f"{store.url}/gone")
    storage.write("a", b"1")
    store.line.limit = 0
    try:
        everything = (storage.exists, storage.size, storage.names, storage.delete)
        for ask in (storage.read, *(everything if store.kind == "sshd" else everything[:1])):  # S3 is asked for long
            with pytest.raises(StorageError, match=r"cannot .*gone.*Next: run the same command again once the store"):
                ask("a")
    finally:
        store.line.limit = None
    assert storage.read("a") == b"1"


def test_another_host_key_is_refused(store: Store) -> None:
    if store.kind != "sshd":
        pytest.skip("only SSH servers have host keys")
    home = store.folder.parent
    servers.trust(home, store.line.port, "id_ed25519.pub")
    try:
        with pytest.raises(StorageError, match=r"(?i)host key"):
            Storage(f"{store.url}/other").read("a")
    finally:
        servers.trust(home, store.line.port)
