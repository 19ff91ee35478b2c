"""`hyperloom ui` beside other servers: the URL that it prints is never a foreign server's."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.tracking import listening


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(listening, "FIRST", server.getsockname()[1])
        yield server.getsockname()[1]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = tmp_path / "r.yaml"
    path.write_text(f"name: r\nroot: {tmp_path}\nmodalities: {{}}\nsteps: {{a: {{stage: 'tests.toy:Numbers'}}}}\n")
    return path


def test_a_taken_port_is_said_or_passed_over(
    taken: int, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    became: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *how: became.append(how))
    assert cli.main(["ui", str(recipe), "--port", str(taken)]) == Exit.FAILED and not became
    said = capsys.readouterr()
    assert said.out == "" and f"port {taken} of 127.0.0.1 is taken. Next: --port " in said.err
    assert taken < int(said.err.split("--port ")[1]) < taken + 100  # others may have taken the next one, too
    assert cli.main(["ui", str(recipe)]) == 0
    ((_, command, _),) = became
    port = int(command[command.index("--port") + 1])
    assert taken < port < taken + 100 and f"http://127.0.0.1:{port} " in capsys.readouterr().out


def test_with_json_what_the_server_says_goes_beside(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aside: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "execve", lambda *how: aside.append((-1, -1)))
    monkeypatch.setattr(os, "dup2", lambda *how: aside.append(how))
    assert cli.main(["ui", str(recipe), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"server", "pages"}
    assert cli.main(["ui", str(recipe)]) == 0
    assert aside == [(2, 1), (-1, -1), (-1, -1)], "standard output is the answer's alone, and only then"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--port", "70000"], "70000 is no port"),
        (["--port", "-1"], "-1 is no port"),
        (["--host", "192.0.2.77", "--no-password"], "cannot listen on 192.0.2.77, port "),
        (["--host", "", "--port", "0"], "0 is no port"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_sentence(
    options: list[str], says: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ui", str(recipe), *options]) == Exit.FAILED
    said = capsys.readouterr()
    assert says in said.err and "Next: --" in said.err and said.out == "" and said.err.count("\n") == 1
