"""Nothing false is called whole: seals, the digests of manifests and events, and what `verify` says and mends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.commits import manifest
from hyperloom.pipeline.errors import HyperloomError, Torn
from hyperloom.pipeline.inspection import verify
from hyperloom.pipeline.root import events, inventory, sealed
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from tests import toy

DOCUMENT = {"rows": 12, "where": "here"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """The root of a pipeline that has run, its recipe beside it."""
    (tmp_path / "toy.yaml").write_text(toy.QUARANTINING.format(root=tmp_path / "root"))
    monkeypatch.setattr(opening, "connect", lambda loaded: None)
    assert command(tmp_path, "run", "--no-mlflow") == 0
    return Storage(str(tmp_path / "root"))


def command(folder: Path, name: str, *options: str) -> int:
    return cli.main([name, str(folder / "toy.yaml"), *options])


def damages(data: bytes) -> list[bytes]:
    middle = len(data) // 2
    flipped = [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(0, len(data), 7)]
    return [b"", data[:middle], data[:-1], data + b"\n{}", bytes(len(data)), b"{}", b"[1]", b"\xff\xfe", *flipped]


def test_a_sealed_document_is_believed_in_its_own_place_alone() -> None:
    data = sealed.dump("a/b.json", DOCUMENT)
    assert sealed.load("a/b.json", data) == json.loads(data)["value"] == DOCUMENT
    for damaged in damages(data):
        with pytest.raises(Torn):
            sealed.load("a/b.json", damaged)
    with pytest.raises(Torn):
        sealed.load("a/c.json", data)


def test_events_are_believed_whole_or_not_at_all_and_the_others_are_read(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for part in range(4):
        with Events(storage, "run", "driver") as written:
            written.metric("a", {"loss": part}, part)
    paths = [events.file_path("run", "driver", n) for n in range(4)]
    for damaged in damages(storage.read(paths[1])):
        storage.write(paths[1], damaged)
        read = list(events.read(storage, "run"))
        assert [e["at"] for e in read if e["kind"] == "metric"] == [0, 2, 3]
        (note,) = (e for e in read if e["kind"] == "note")
        assert paths[1] in note["text"] and "verify --repair" in note["text"]
    storage.write(paths[2], storage.read(paths[3]))
    assert [e["at"] for e in events.read(storage, "run") if e["kind"] == "metric"] == [0, 3]
    storage.delete(paths[1])
    seen = {"driver": 3}
    assert [e["at"] for e in events.read(storage, "run", seen)] == [3] and seen == {"driver": 4}
    with Events(storage, "run", "driver") as written:  # a gap makes nobody write over what is there
        written.metric("a", {"loss": 4}, 4)
    assert storage.names("events/run/driver")[-1] == "000004.jsonl"


def test_a_manifest_is_believed_in_its_own_place_alone(root: Storage) -> None:
    path, second = (
        next(p for p in root.walk(f"tests.toy.{stage}") if p.endswith("manifest.json")) for stage in ("Numbers", "Sum")
    )
    data = root.read(path)
    for damaged in [*damages(data), root.read(second)]:
        root.write(path, damaged)
        with pytest.raises(Torn, match="not a whole manifest"):
            manifest.read(root, path)


def test_every_file_under_a_root_is_of_a_known_kind(root: Storage) -> None:
    named = {f.path for m in verify.manifests(root) for f in m.all_files()}
    assert [p for p in root.walk("") if inventory.kind(p) is None and p not in named] == []


@pytest.mark.parametrize("how", ["cut", "foreign", "folder"])
def test_verify_names_every_file_that_is_torn_and_repair_mends_all(root: Storage, capsys, how: str) -> None:
    folder = Path(str(root)).parent
    before = {p: root.read(p) for p in root.walk("") if not p.startswith(("events", "claims", "costs", "reports"))}
    torn = [p for p in root.walk("") if "/crumbs/" not in p and not p.startswith("reports")]
    for path in torn:
        if how == "folder":
            os.unlink(root.path(path))
            os.makedirs(root.path(f"{path}/in"))
        else:
            root.write(path, root.read(path)[:-2] if how == "cut" else b'{"foreign": 1}')
    capsys.readouterr()
    assert command(folder, "verify") == 1
    named = {line.split(" ")[0] for line in capsys.readouterr().out.splitlines()}
    of_manifests = {p for p in torn if "/data/" in p or p.endswith("note.txt")}  # these nobody names any more
    assert set(torn) - of_manifests <= named
    for name in ("plan", "status", "failed"):
        assert command(folder, name) in (0, 1)
    assert "Traceback" not in "".join(capsys.readouterr())
    assert command(folder, "verify", "--repair") == 0
    assert command(folder, "run", "--no-mlflow") == 0
    assert {p: root.read(p) for p in before} == before
    assert command(folder, "verify") == 0


def test_gc_removes_nothing_while_a_manifest_is_torn(root: Storage, capsys) -> None:
    path = next(p for p in root.walk("tests.toy.Numbers") if p.endswith("manifest.json"))
    root.write(path, b"{}")
    data = [p for p in root.walk("") if "/data/" in p]
    assert command(Path(str(root)).parent, "verify", "--gc", "--repair") == 0
    assert "--gc waits" in capsys.readouterr().out
    assert [p for p in root.walk("") if "/data/" in p] == data
    with pytest.raises(HyperloomError):
        root.write(path, b"{}")
        verify.garbage(root)


def test_the_design_lists_every_kind_of_file() -> None:
    import hyperloom.stages  # noqa: F401  adds the stages' kinds

    design = (Path(__file__).parents[2] / "docs" / "design.md").read_text()
    rows = [line for line in design.splitlines() if line.startswith("| `")]
    expected = [f"| `{k.pattern}` | {k.form} | {k.writer} | {k.torn} | {k.mends} |" for k in inventory.kinds()]
    assert [row for row in expected if row not in rows] == []
