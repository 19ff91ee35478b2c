"""A recipe full of secrets, in MLflow: none is in its store, its files, its server's log, or a process's arguments."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hyperloom.pipeline import cli
from tests.tracking.conftest import Server
from tests.unit.test_secrets import all_leaks, leaks, planted


@pytest.mark.timeout(240)
def test_mlflow_is_shown_no_secret(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = planted(tmp_path, monkeypatch)
    path.write_text(path.read_text().replace("127.0.0.1:9/", f"127.0.0.1:{server.port}/").replace("/?key=", "?key="))
    path.write_text(path.read_text().replace("?key=canary-query-1", ""))  # a server's URL has none
    arguments: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    arguments.add(process.read_bytes().decode(errors="replace"))
                except OSError:
                    continue  # it has ended

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        code = cli.main(["run", str(path)])
    finally:
        over.set()
        watcher.join()
    out, err = capfd.readouterr()
    assert code == 0 and "MLflow has not seen" not in out, out + err
    assert any("hyperloom.pipeline.tracking" in line for line in arguments)
    assert leaks("\n".join([*arguments, out, err]).encode()) == []
    assert all_leaks(server.folder) == {} and all_leaks(tmp_path / "canary-root") == {}
    assert any(b"${SALT}" in f.read_bytes() for f in server.folder.rglob("*") if f.is_file()), "the run is in the store"
