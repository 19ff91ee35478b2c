"""The cache on the local disk: a limit that holds, nothing torn, nothing stale; and the loader over it."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.cache import DiskCache
from hyperloom.stages.shard.loader import Loader
from tests.unit.test_loader import DEPTH, ID, KNOWN, ids, shards


def pieces(folder: Path) -> list[Path]:
    return [p for p in folder.glob("??/*") if not p.name.startswith(".")]


def test_the_least_recently_used_goes_when_the_limit_is_reached(tmp_path) -> None:
    cache = DiskCache(tmp_path, 10_000)
    for i in range(9):
        cache.put(f"p{i}", bytes([i]) * 1000)
        os.utime(max(pieces(tmp_path), key=lambda p: p.stat().st_mtime_ns), (i, i))
    assert cache.get("p0") == bytes(1000), "a hit makes it young again"
    cache.put("p9", bytes(1000))
    assert cache.get("p0") == bytes(1000) and cache.get("p9") == bytes(1000)
    assert cache.get("p1") is None and cache.get("p8") is not None
    cache.put("big", bytes(20_000))
    assert cache.get("big") is None and cache.get("p9") is not None, "what can never fit pushes nothing out"


def fill(folder: str, first: int) -> None:
    cache = DiskCache(folder, 50_000)
    for i in range(first, first + 60):
        cache.put(f"p{i}", i.to_bytes(2, "big") * 1000)
        found = cache.get(f"p{i}")
        assert found is None or found == i.to_bytes(2, "big") * 1000


def test_processes_share_one_limit(tmp_path) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=fill, args=(str(tmp_path), first)) for first in (0, 1000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert 20_000 < sum(p.stat().st_size for p in pieces(tmp_path)) <= 50_000
    assert not list(tmp_path.rglob(".tmp-*"))


def test_damage_and_leftovers(tmp_path) -> None:
    cache = DiskCache(tmp_path, 10_000)
    cache.put("a", b"x" * 500)
    (path,) = pieces(tmp_path)
    whole = path.read_bytes()
    for broken in (whole[:-1], b"y" + whole[1:], b""):
        path.write_bytes(broken)
        assert DiskCache(tmp_path, 10_000).get("a") is None
        assert not path.exists(), "so that it is fetched again"
    assert cache.get("b") is None
    left = path.with_name(".tmp-of-a-process-that-died")
    left.write_bytes(bytes(9000))
    os.utime(left, (time.time() - 7200,) * 2)
    (tmp_path / ".used").write_text("torn")
    cache.put("c", bytes(8000))
    assert cache.get("c") == bytes(8000) and not left.exists()


def test_a_folder_that_cannot_be_used_costs_nothing_but_the_cache(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file", 10_000)
    cache.put("a", b"1")
    assert cache.get("a") is None


def test_the_second_reader_needs_no_store(tmp_path) -> None:
    """Whole epochs out of the cache once they are in it; without it, and for a column that is not in it, an error."""
    remote = Storage(f"memory://{tmp_path.name}")
    listed = [{**s, "bytes": remote.size(s["path"])} for s in shards(remote, [9, 4], 2)]

    def epoch(disk: DiskCache | None, columns: tuple[str, ...] = (ID, DEPTH)) -> list[Any]:
        made = Loader(remote, listed, KNOWN, columns, batch=4, cache_mb=0, disk=disk)
        return [(ids(b), {c: v.clone() for c, v in b.items()}) for b in made]

    first = epoch(DiskCache(tmp_path / "cache", 1e6))
    for shard in listed:
        remote.delete(shard["path"])
    again = epoch(DiskCache(tmp_path / "cache", 1e6))
    for (a, left), (b, right) in zip(first, again, strict=True):
        assert a == b and all(torch.equal(left[c], right[c]) for c in left)
    with pytest.raises(IntegrityError, match=r"0\.parquet|1\.parquet"):
        epoch(None)
    with pytest.raises(IntegrityError, match="it is not there"):
        epoch(DiskCache(tmp_path / "cache", 1e6), (ID, "rgb@test"))
