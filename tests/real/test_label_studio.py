"""Samples go out to Label Studio's own server, are changed there, and come back.

`HYPERLOOM_LABEL_STUDIO` names its program (`pip install label-studio` in an environment of its own); a minute.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperloom.pipeline.root.storage import Storage
from tests.unit import inline, test_people

PROGRAM = os.environ.get("HYPERLOOM_LABEL_STUDIO", "")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
PATIENCE = 240
"""Seconds until the server must answer: its first start makes a database."""
Call = Callable[..., Any]

pytestmark = [
    pytest.mark.skipif(not PROGRAM, reason="HYPERLOOM_LABEL_STUDIO names no program"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """Asks a fresh server: method, path, what is sent."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [PROGRAM, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    command += ["--data-dir", str(folder), "--username", "anna@x.org", "--password", "secret-123"]
    command += ["--user-token", TOKEN, "--enable-legacy-api-token"]
    env = {**os.environ, "COLLECT_ANALYTICS": "False", "LATEST_VERSION_CHECK": "False"}
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def asked(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    try:
        for _ in range(PATIENCE):
            try:
                asked("GET", "/api/version")
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(1)
        yield asked
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("name", test_people.VALUES)
def test_what_is_changed_on_a_real_server_comes_back(call: Call, tmp_path: Path, name: str) -> None:
    """One sample of eight is changed, one skipped, the others submitted as they were."""
    storage = Storage(str(tmp_path / "root"))
    root = SimpleNamespace(storage=storage, frames=test_people._frames(storage), out=tmp_path / "out")
    export = test_people._send(root, "label-studio", name)
    label_config = (root.out / "interface.xml").read_text()
    project = call("POST", "/api/projects", {"title": name, "label_config": label_config})["id"]
    call("POST", f"/api/projects/{project}/import", json.loads((root.out / "tasks.json").read_text()))
    for task in call("GET", f"/api/tasks?project={project}&page_size=100&fields=all")["tasks"]:
        whole, key = call("GET", f"/api/tasks/{task['id']}"), task["data"]["key"]
        result = whole["predictions"][0]["result"]
        if key == "g0/002":
            test_people._edit(result, name)
        answer = {"result": result, "was_cancelled": key == "g1/001"}
        call("POST", f"/api/tasks/{task['id']}/annotations", answer)
    back = tmp_path / "back.json"
    back.write_text(json.dumps(call("GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")))
    kind = test_people.KNOWN[name]
    read = test_people.read_file(str(back), "label-studio")
    report = test_people.take(export.ledger, kind, read, looked=True)
    assert (report.changed, report.same, report.unseen, report.faults) == (1, 6, 1, {})
    people = inline.finish(test_people._people(root, name))
    assert test_people.CHANGED[name](inline.column(storage, test_people.KNOWN, people, f"{name}@human")["g0/002"])
