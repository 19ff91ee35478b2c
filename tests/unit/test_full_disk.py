"""A disk that is full while this or that is written: one clear line, nothing false left, the same command is enough."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.root import disk
from hyperloom.pipeline.root.storage import Storage
from tests import toy

WRITE = disk.write


def full(monkeypatch: pytest.MonkeyPatch, pattern: str, after: int = 0) -> list[str]:
    """From the `after`th file on whose path fits, there is room for half of it and no more; the files that failed."""
    seen: list[str] = []

    def write(target: str, parts: Any, exclusive: bool, durable: bool) -> bool:
        if not re.search(pattern, target):
            return WRITE(target, parts, exclusive, durable)
        seen.append(target)
        if len(seen) <= after:
            return WRITE(target, parts, exclusive, durable)
        data = b"".join(parts)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(f"{os.path.dirname(target)}/.tmp-half").write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write", write)
    return seen


def contents(storage: Storage) -> dict[str, bytes]:
    wanted = (p for p in storage.walk("") if "/data/" in p or "/units/" in p or p.endswith("manifest.json"))
    return {p: storage.read(p) for p in wanted if "/.tmp-" not in p}


def run(folder: Path, root: Path) -> int:
    (folder / "toy.yaml").write_text(toy.QUARANTINING.format(root=root))
    return cli.main(["run", str(folder / "toy.yaml"), "--no-mlflow"])


@pytest.mark.parametrize(
    ("what", "after"),
    [
        ("manifest.json$", 0),
        ("manifest.json$", 2),
        ("/units/", 3),
        ("/data/", 5),
        ("/quarantine/", 0),
        ("/attempts/", 1),
        ("(?<!/claims)/steps/", 1),
        ("/note.txt$", 0),
        ("/store/", 0),
    ],
)
def test_a_disk_that_is_full_for_one_kind_of_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, what: str, after: int
) -> None:
    monkeypatch.setattr(opening, "connect", lambda loaded: None)
    assert run(tmp_path, tmp_path / "calm") == 0
    with monkeypatch.context() as patch:
        assert not full(patch, what, after)
        assert run(tmp_path, tmp_path / "store") == Exit.WRONG
    told = "".join(capsys.readouterr())
    assert "the disk is full: free some space, then run the same command again" in told and "Traceback" not in told
    recipe = str(tmp_path / "toy.yaml")
    assert cli.main(["verify", recipe]) == 0
    assert run(tmp_path, tmp_path / "store") == 0
    assert cli.main(["verify", recipe, "--gc"]) == 0
    assert not list((tmp_path / "store").rglob(".tmp-*"))
    assert contents(Storage(str(tmp_path / "store"))) == contents(Storage(str(tmp_path / "calm")))


def test_events_that_find_no_room_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(opening, "connect", lambda loaded: None)
    failed = full(monkeypatch, r"\.jsonl$")
    assert run(tmp_path, tmp_path / "store") == 0 and failed
    assert not list((tmp_path / "store" / "events").rglob("0*.jsonl"))
    assert cli.main(["status", str(tmp_path / "toy.yaml")]) == 0
    assert "Traceback" not in "".join(capsys.readouterr())
