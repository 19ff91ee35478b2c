"""The expert `http` against a real server in a process of its own: every API, 429s, bad questions, keys, kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.workers.executor import Host
from hyperloom.stages.label.stage import Label
from tests.experts.server import KEY
from tests.unit.inline import column, finish, ingested, modalities, step

HERE = Path(__file__).parents[2]
KNOWN = modalities(
    rgb={"type": "image", "size": [4, 6]},
    value={"type": "dense", "channels": 1, "storage": "float32"},
    text={"type": "text", "length": 40},
    light={"type": "category", "classes": ["dark", "bright"]},
    mood={"type": "category", "classes": ["good", "bad"]},
    embedding={"type": "embedding", "length": 2},
    pair={"type": "vector", "length": 2},
)
KEYED = {"key_env": "HYPERLOOM_TEST_KEY"}
EYE = {"api": "chat", "model": "eye", "prompt": "Is it dark?", "in": "rgb@camera", "out": "light@eye", **KEYED}


class Server:
    """The process, and what it noted."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.process = subprocess.Popen([sys.executable, "-m", "tests.experts.server", str(folder)], cwd=HERE)
        deadline = time.monotonic() + 60
        while not (folder / "port").exists():
            assert self.process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{(folder / 'port').read_text()}"

    def log(self, status: int | None = 200) -> list[dict[str, Any]]:
        file = self.folder / "log"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [line for line in lines if status in (None, line["status"])]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def server(process: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    (process.folder / "log").unlink(missing_ok=True)
    monkeypatch.setenv("HYPERLOOM_TEST_KEY", KEY)
    return process


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def images(count: int) -> list[dict[str, np.ndarray]]:
    return [{"rgb@camera": np.full((4, 6, 3), i, np.uint8)} for i in range(count)]


def label(storage: Storage, server: Server, samples: list[dict[str, Any]], rows: int = 64, **fields: Any) -> Any:
    base = "" if fields.get("api") in ("json", "kserve") else "/v1"
    expert = {"type": "http", "url": server.url + base, **fields}
    data = ingested(storage, KNOWN, {"g": samples}, rows=rows)
    return step(Label(stage="label", data="frames", experts=[expert]), storage, KNOWN, frames=data)


def quarantine(storage: Storage, made: Any) -> dict[str, str]:
    found = {}
    for record in made.records:
        if record.quarantined:
            listed = storage.read_json(f"{record.space}/quarantine/{record.id}.json")
            found |= {item["key"]: item["error"] for item in listed}
    return found


def test_pictures_are_asked_about_once_whatever_comes_after(server: Server, storage: Storage) -> None:
    samples = [*images(8), images(8)[7], {"rgb@camera": np.full((4, 6, 3), 200, np.uint8)}]
    fields = {**EYE, "concurrency": 3, "parameters": {"pause": 0.05}}
    made = finish(label(storage, server, samples, **fields))
    values = column(storage, KNOWN, made, "light@eye")
    assert [None if v is None else int(v) for v in values.values()] == [0, 0, 0, 0, 0, None, 0, 0, 0, 1]
    assert list(quarantine(storage, made)) == ["g/005"] and "I cannot say" in quarantine(storage, made)["g/005"]
    assert len(server.log()) == 9, "two samples are one question"
    assert 1 < max(line["here"] for line in server.log()) <= 3
    again = finish(label(storage, server, samples, **fields, batch=2, rows=3))  # other units, the same questions
    assert again.records[0].id != made.records[0].id and len(server.log()) == 9
    fresh = finish(label(storage, server, samples, **fields, version="2", rows=64))
    assert len(server.log()) == 18 and fresh.records[0].space != made.records[0].space


def test_429_and_restarts_are_waited_out_as_long_as_the_server_says(server: Server, storage: Storage) -> None:
    made = finish(label(storage, server, images(4), **EYE, parameters={"busy": "first"}, concurrency=2))
    assert made.quarantined == 0 and not column(storage, KNOWN, made, "light@eye")["g/000"]
    refused, granted = server.log(429), server.log(200)
    assert len(refused) == len(granted) == 4
    first = min(line["went"] for line in refused)
    waited = [line["came"] for line in server.log(None) if line["came"] > max(r["came"] for r in refused[:2])]
    assert min(waited) - first >= 0.95, "all threads wait for what one was told"
    finish(label(storage, server, images(1), **EYE, parameters={"busy": "broken"}))
    assert [line["status"] for line in server.log(None)][-3:] == [503, 503, 200]


def test_no_wait_is_without_end(server: Server, storage: Storage) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 2 s \(patience\); the last time: 429.*go away"):
        finish(label(storage, server, images(1), **EYE, parameters={"busy": "always"}, patience=2))
    assert time.monotonic() - began < 30 and len(server.log(429)) == 1
    todo = label(storage, server, images(1), **{**EYE, "url": "http://127.0.0.1:9"}, patience=1)
    with pytest.raises(TimeoutError, match="did not answer"):
        finish(todo)
    units, workers = todo.stage.units(todo)
    (outcome,) = Host(str(storage), lambda name: workers[name[1]]).run("step", frozenset(), list(units), [1])
    assert outcome.infrastructure and not outcome.hopeless, "who stays away uses up the patience for machines"


def test_the_key_is_seen_by_nobody(
    server: Server, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = finish(label(storage, server, images(6), **EYE))
    assert made.quarantined == 1
    wrong = "sk-wrong-but-still-secret"
    monkeypatch.setenv("HYPERLOOM_TEST_KEY", wrong)
    with pytest.raises(SourceError, match="lets nobody in .*HYPERLOOM_TEST_KEY") as caught:
        finish(label(storage, server, images(7), **EYE))
    assert "wrong key" in str(caught.value), "the server repeats the key, the error does not"
    assert wrong not in str(caught.value)
    monkeypatch.delenv("HYPERLOOM_TEST_KEY")
    with pytest.raises(RecipeError, match="HYPERLOOM_TEST_KEY, which holds"):
        finish(label(storage, server, images(7), **EYE))
    files = [p for p in (tmp_path / "root").rglob("*") if p.is_file()]
    assert any("calls" in str(p) for p in files)
    for secret in (KEY, wrong):
        assert not [p for p in files if secret.encode() in p.read_bytes()]
    for fields in ({"key_env": wrong}, {"url": f"http://me:{wrong}@127.0.0.1"}):
        with pytest.raises(ValidationError) as refused:
            label(storage, server, images(1), **{**EYE, **fields})
        assert all(wrong not in e["msg"] and not isinstance(e["input"], str) for e in refused.value.errors())


def test_texts_become_answers_in_several_columns(server: Server, storage: Storage) -> None:
    texts = [{"text@review": KNOWN["text"].fit(t)} for t in ("I love it", "Never again {sic}")]
    fields = {
        "api": "chat", "model": "ear", "in": "text@review", "out": ["mood@ear", "text@ear"], **KEYED,
        "prompt": 'Answer as {"mood": ...}: {text@review}', "fields": {"text@ear": "mood"},
    }  # fmt: skip
    made = finish(label(storage, server, texts, **fields))
    assert [int(v) for v in column(storage, KNOWN, made, "mood@ear").values() if v is not None] == [0, 1]
    assert [KNOWN["text"].words(v) for v in column(storage, KNOWN, made, "text@ear").values()] == ["good", "bad"]
    finish(label(storage, server, texts, **{**fields, "out": ["mood@ear"], "fields": {}}))
    assert len(server.log()) == 2, "another reading of the same answers asks for none"


def test_embeddings_go_in_groups_and_one_bad_text_costs_only_itself(server: Server, storage: Storage) -> None:
    words = ["one", "two", "foo", "bad", "five", "too", "one"]
    texts = [{"text@review": KNOWN["text"].fit(t)} for t in words]
    fields = {"api": "embeddings", "model": "e", "in": "text@review", "out": "embedding@e", **KEYED, "per_request": 3}
    made = finish(label(storage, server, texts, **fields))
    values = column(storage, KNOWN, made, "embedding@e")
    expected = [None if "bad" in w else [len(w), w.count("o")] for w in words]
    assert [None if v is None else v.tolist() for v in values.values()] == expected
    assert "one of these is bad" in quarantine(storage, made)["g/003"]
    assert len(server.log()) == 3 and len(server.log(400)) == 2  # of two groups of three, one is taken apart


def test_tensors_and_any_json_route(server: Server, storage: Storage) -> None:
    tensors = {
        "api": "kserve", "model": "double", "in": "rgb@camera", "out": "value@k", "layout": "nchw", "per_request": 4,
        "fields": {"value@k": "doubled"},
    }  # fmt: skip
    made = finish(label(storage, server, images(6), **tensors))
    assert [float(v.mean()) for v in column(storage, KNOWN, made, "value@k").values()] == [0, 2, 4, 6, 8, 10]
    assert len(server.log()) == 2
    route = {"api": "json", "path": "/measure", "in": "rgb@camera", "out": "pair@m", "fields": {"pair@m": "found.red"}}
    made = finish(label(storage, server, images(3), **route))
    assert [v.tolist() for v in column(storage, KNOWN, made, "pair@m").values()] == [[0, 1.5], [1, 1.5], [2, 1.5]]
    made = finish(label(storage, server, images(1), **{**route, "fields": {"pair@m": "lost"}}))
    assert "the answer has no 'lost'" in quarantine(storage, made)["g/000"]
    with pytest.raises(SourceError, match="no such endpoint"):
        finish(label(storage, server, images(1), **{**route, "path": "/nowhere"}))


KILLED = """
import sys
from pathlib import Path
from hyperloom.pipeline.root.storage import Storage
from tests.experts.test_http import EYE, finish, images, label
from types import SimpleNamespace
finish(label(Storage(sys.argv[1]), SimpleNamespace(url=sys.argv[2]), images(40), rows=20, concurrency=2, **EYE,
             parameters={"pause": 0.03}))
"""


def test_a_process_that_is_killed_has_paid_for_what_it_heard(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    command = [sys.executable, "-c", KILLED, str(root), server.url]
    victim = subprocess.Popen(command, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)})
    deadline = time.monotonic() + 60
    while len(server.log()) < 25:  # somewhere in the second partition
        assert victim.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    kept = len(list((root / "calls").rglob("*.json")))
    assert kept >= 25 - 2
    done = subprocess.run(command, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)}, timeout=100)
    assert done.returncode == 0
    asked = Counter(line["question"] for line in server.log())
    assert len(asked) == 40 and sum(asked.values()) <= 40 + 2, "only what was in the air when it died is asked again"
    assert sum(asked.values()) == 40 + sum(n - 1 for n in asked.values())
    assert not list(root.rglob("*.asking"))


def test_processes_that_meet_a_question_ask_it_once(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "root"), server.url]
    several = [subprocess.Popen(command, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)}) for _ in range(2)]
    assert [process.wait(100) for process in several] == [0, 0]
    asked = Counter(line["question"] for line in server.log())
    assert len(asked) == 40 and set(asked.values()) == {1}
