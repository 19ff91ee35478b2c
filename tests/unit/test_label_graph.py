"""The graph of experts as units: partition by partition, neighbours across borders, nothing kept that can be made."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.records import Records
from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.stage import Label
from tests.unit.inline import column, finish, step
from tests.unit.test_label import KNOWN, REDS, expert, label

CLIP = expert("Before", **{"in": "value@a"}, out="value@x")
AFTER = expert("Plus", **{"in": "value@x"}, out="value@y")


@pytest.fixture
def storage(tmp_path: Any) -> Storage:
    return Storage(str(tmp_path))


def test_partitions_flow_through_the_graph_one_after_the_other(storage: Storage) -> None:
    todo = label(storage, AFTER, CLIP, REDS, frames=40, groups=("f", "g"))
    units, _ = todo.stage.units(todo)
    given: list[tuple[str, str]] = []
    count: dict[str, int] = {}
    for unit in units:
        assert set(unit.after) <= set(given), "a unit comes after those it reads"
        given.append(unit.key)
        count[unit.worker] = count.get(unit.worker, 0) + 1
        assert max(count.values()) - min(count.values()) <= 2, "no expert runs ahead further than the clip reaches"
    assert sorted(count.values()) == [20, 20, 20]
    assert len(units) == len(set(given)) == 60
    assert given == [u.key for u in units], "the same units in the same order each time"


def test_a_clip_of_another_experts_column_crosses_partitions(storage: Storage) -> None:
    made = finish(label(storage, AFTER, CLIP, REDS, frames=9))
    for key, value in column(storage, KNOWN, made, "value@y").items():
        i = int(key.rpartition("/")[2])
        before, after = (i - 2 if i >= 2 else i), (i + 1 if i < 8 else i)
        assert value is not None and value[0, 0, 0] == i - before + 1
        assert (value[1:] == before * 1000 + after + 1).all()


def many(count: int) -> Manifest:
    """What an ingest step of `count` partitions leaves."""
    pids = [f"{i:016x}" for i in range(count)]
    records = Records(Record("ingest/0", p, 4, (), 0, {"group": "g", "first": 4 * i}) for i, p in enumerate(pids))
    columns = {"rgb@camera": {"space": "ingest/0", "fingerprint": "f", "about": {}}}
    body = {"columns": columns, "partitions": [[p, "g", 4 * i, 4] for i, p in enumerate(pids)], "group": "group"}
    return Manifest("ingest", "f" * 64, {}, records, (), body)


def test_units_are_made_as_they_are_asked_for(storage: Storage) -> None:
    """Going through thousands of units of a clip leaves no more behind than going through a hundred."""

    def left(count: int) -> int:
        todo = step(
            Label(stage="label", data="frames", experts=[AFTER, CLIP, REDS]), storage, KNOWN, frames=many(count)
        )
        units, _ = todo.stage.units(todo)
        walk = iter(units)
        for _ in range(60):
            next(walk)
        tracemalloc.start()
        thresholds = gc.get_threshold()
        gc.set_threshold(700, 10, 10)  # what waits to be collected is not left behind
        try:
            assert sum(1 for _ in walk) == 3 * count - 60
            return tracemalloc.get_traced_memory()[1]
        finally:
            gc.set_threshold(*thresholds)
            tracemalloc.stop()

    left(100)  # what the first one loads must not count
    assert left(900) < left(500) + 100_000
