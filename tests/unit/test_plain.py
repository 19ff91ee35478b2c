"""What is stored is JSON that any reader takes: a number that is none is null."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import plain
from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Output, Unit, execute
from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage

WILD = {"a": math.nan, "b": [1.5, -math.inf, {"c": (math.inf, "NaN")}], "d": None}
PLAIN = {"a": None, "b": [1.5, None, {"c": [None, "NaN"]}], "d": None}


def strict(text: bytes | str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_does_not_know_are_null() -> None:
    assert strict(plain.dumps(WILD)) == PLAIN
    assert plain.dumps({"b": 1, "a": [0.1]}, sort_keys=True) == '{"a": [0.1], "b": 1}'


class Wild:
    def setup(self) -> None: ...

    def run(self, unit: Unit, out: Output) -> None:
        out.meta = dict(WILD)


def test_records_manifests_events_and_other_files(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    record = execute(storage, Wild(), Unit("space", "0" * 16, "wild", {}), 1)  # type: ignore[arg-type]
    made = Manifest("evaluate", "e" * 64, {}, (record,), (), {"figures": WILD})
    manifests.commit(storage, made)
    storage.write_json("small.json", WILD)
    with Events(storage, "run", "driver") as events:
        events.emit("table", "report", rows=[WILD])
        events.metric("report", {"loss": math.nan, "miou": 0.5, "rmse": math.inf})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    for path in files:
        for line in path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]:
            strict(line)
    later = manifests.load(storage, made.stage, made.fingerprint)
    assert later is not None and later.body["figures"] == PLAIN and storage.read_json("small.json") == PLAIN
    (metric,) = (e for e in event_log.read(storage, "run") if e["kind"] == "metric")
    assert metric["values"] == {"miou": 0.5}


@pytest.mark.parametrize("value", [1, "x", True, [], {}])
def test_what_is_plain_stays(value: Any) -> None:
    assert plain.finite(value) == value
