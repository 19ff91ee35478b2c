"""Batches of the label worker: sizes found by trial, memory that runs out, reading ahead, any mixture of bad samples;
and what the files that it writes say of their producer."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.stages.label import batching, reading
from hyperloom.stages.label.batching import SIZES, BatchSize
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.samples import ExpertInputs
from hyperloom.stages.label.stage import Label
from hyperloom.stages.shard.stage import Shard
from tests.unit.inline import column, finish, ingested, modalities, step

KNOWN = modalities(
    rgb={"type": "image", "size": [4, 6]},
    value={"type": "dense", "channels": 1, "storage": "float32"},
    semantic={"type": "segmentation", "classes": ["a", "b"]},
)
FATES = ("good", "silent", "raises", "names", "nan", "inf", "shape", "dtype", "class", "id", "text")


class Fated(Expert):
    """Each sample fares as its first pixel says: an index into FATES."""

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        def call(batch: Batch) -> Batch:
            marks = [FATES[m] for m in batch[self.in_[0]][:, 0, 0, 0]]
            if "raises" in marks:
                raise ZeroDivisionError("somewhere in this batch")
            return {
                "value@x": [_value(m) for m in marks],  # type: ignore[dict-item]
                "semantic@x": [_classes(m) for m in marks],  # type: ignore[dict-item]
            }

        return call


class Wide(Expert):
    """Copies the red channel, `room` samples at a time at most; `words` say that it was too much."""

    room: int = 1
    words: str = ""
    memory: bool = False

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        def call(batch: Batch) -> Batch:
            red = batch[self.in_[0]][..., :1]
            if len(red) > self.room:
                raise MemoryError if self.memory else RuntimeError(self.words)
            return {self.out[0]: red.astype(np.float32)}

        return call

    def weights(self) -> tuple[str, ...]:
        return (__file__,)


def _value(mark: str) -> Any:
    value: Any = np.ones((4, 6, 1), np.float32)
    if mark in ("nan", "inf"):
        value[2, 3] = float(mark)
    return {
        "silent": None,
        "names": ValueError("this one"),
        "shape": value[1:],
        "dtype": np.ones((4, 6, 1), np.int16),
        "text": "nothing",
    }.get(mark, value)


def _classes(mark: str) -> Any:
    ids = np.ones((4, 6), np.uint8)
    if mark == "class":
        ids[0, 0] = 2
    return ids.astype(np.int64) if mark == "id" else ids


def image(mark: int) -> dict[str, np.ndarray]:
    return {"rgb@camera": np.full((4, 6, 3), mark, np.uint8)}


def label(storage: Storage, marks: list[int], rows: int = 8, **expert: Any) -> Any:
    data = ingested(storage, KNOWN, {"g": [image(m) for m in marks]}, rows=rows)
    fields = {"in": "rgb@camera", "out": "value@x", **expert, "type": f"{__name__}:{expert['type']}"}
    return step(Label(stage="label", data="frames", experts=[fields]), storage, KNOWN, frames=data)


@settings(max_examples=25, deadline=None)
@given(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=24), batch=st.sampled_from([None, 1, 3, 8]))
def test_whatever_is_wrong_with_which_samples_the_others_are_kept(fates: list[str], batch: int | None) -> None:
    storage = Storage(f"memory://batches-{uuid.uuid4().hex}")
    fields = {"type": "Fated", "out": ["value@x", "semantic@x"], "batch": batch}
    made = finish(label(storage, [FATES.index(f) for f in fates], **fields))
    listed = [
        item
        for record in made.records
        if record.quarantined
        for item in storage.read_json(f"{record.space}/quarantine/{record.id}.json")
    ]
    bad = {f"g/{i:03d}": fate for i, fate in enumerate(fates) if fate not in ("good", "silent")}
    assert [item["key"] for item in listed] == sorted(bad)
    said = {
        "raises": "ZeroDivisionError", "names": "ValueError: this one", "nan": "NaN", "inf": "infinite",
        "shape": "(3, 6, 1)", "dtype": "int16", "class": "got 2", "id": "int64", "text": "value@x",
    }  # fmt: skip
    assert all(said[bad[item["key"]]] in item["error"] for item in listed)
    values, classes = column(storage, KNOWN, made, "value@x"), column(storage, KNOWN, made, "semantic@x")
    for i, fate in enumerate(fates):
        value, ids = values[f"g/{i:03d}"], classes[f"g/{i:03d}"]
        assert (value is None) == (fate != "good") and (ids is None) == (fate not in ("good", "silent"))
        assert value is None or (value == 1).all()
    assert made.quarantined == len(bad)


def clocked(monkeypatch: pytest.MonkeyPatch, seconds: Any) -> tuple[Any, list[int]]:
    """A call that takes `seconds(size)` on a clock of its own, and the sizes it was asked for."""
    now, asked = [0.0], list[int]()

    def call(rows: Any) -> int:
        asked.append(len(rows))
        now[0] += seconds(len(rows))
        return 1000 * len(rows)

    monkeypatch.setattr(batching.time, "perf_counter", lambda: now[0])
    return call, asked


@pytest.mark.parametrize(
    "seconds, rows, found, kept",
    [
        (lambda n: 0.001 * n, 64, 1, True),  # nothing is gained
        (lambda n: 0.01 + 0.001 * max(0, n - 8), 64, 32, True),  # a call costs as much as nine samples
        (lambda n: 0.01, 300, SIZES[-1], True),
        (lambda n: 0.01, 6, 4, False),  # too few samples to tell
        (lambda n: 2.0, 64, 1, True),  # so slow that a trial must not go on
    ],
)
def test_the_size_under_which_a_sample_is_cheapest(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, seconds: Any, rows: int, found: int, kept: bool
) -> None:
    storage = Storage(str(tmp_path))
    call, asked = clocked(monkeypatch, seconds)
    size = BatchSize(storage, "expert/x", None)
    assert not size.known
    size.find(range(rows), call)
    assert (size.now, size.known) == (found, kept)
    assert max(asked) <= 2 * found
    later = BatchSize(storage, "expert/x", None)
    assert (later.now, later.known) == ((found, True) if kept else (1, False))


def test_a_batch_of_many_bytes_grows_no_further(tmp_path: Any) -> None:
    size = BatchSize(Storage(str(tmp_path)), "expert/x", None)
    size.find(range(64), lambda rows: batching.ROOM)
    assert size.now == 1 and size.known


def test_a_trial_leaves_no_trace_in_the_labels(tmp_path: Any) -> None:
    marks = [0, 2, 0, 4, 0, 0, 0, 5, 0, 0, 0]
    made = []
    for name, batch in (("tried", None), ("given", 4)):
        storage = Storage(str(tmp_path / name))
        fields = {"type": "Fated", "out": ["value@x", "semantic@x"], "batch": batch}
        made.append(finish(label(storage, marks, **fields)))
    assert made[0].records == made[1].records and made[0].body == made[1].body


def out_of_memory_of_torch() -> str:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    return str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "CUDA out of memory. Tried to allocate 20.00 MiB",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 9",
        "std::bad_alloc",
        "torch",
    ],
)
def test_memory_that_runs_out_halves_the_batch_for_good(tmp_path: Any, words: str) -> None:
    storage = Storage(str(tmp_path))
    said = out_of_memory_of_torch() if words == "torch" else words
    fields = {"type": "Wide", "batch": 8, "room": 3, "words": said, "memory": not said}
    made = finish(label(storage, [7] * 16, **fields))
    assert made.quarantined == 0 and all((v == 7).all() for v in column(storage, KNOWN, made, "value@x").values())
    space = made.records[0].space
    assert BatchSize(storage, space, 8).now == 2 and BatchSize(storage, space, None).now == 1


def test_a_single_sample_that_does_not_fit_is_left_out(tmp_path: Any) -> None:
    made = finish(label(Storage(str(tmp_path)), [7] * 4, type="Wide", batch=4, room=0, memory=True))
    assert made.quarantined == 4


def test_the_next_batch_is_read_while_this_one_is_computed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[int, ...]] = []
    met, threads = threading.Condition(), set[str]()
    read = ExpertInputs.batch

    def watched(self: ExpertInputs, rows: Any) -> Batch:
        with met:
            begun.append(tuple(rows))
            threads.add(threading.current_thread().name)
            met.notify_all()
        return read(self, rows)

    class Patient(Expert):
        def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
            computed: list[int] = []

            def call(batch: Batch) -> Batch:
                computed.append(len(batch["rgb@camera"]))
                if 1 < len(computed) < 4:  # the first batch is read alone; after the last there is none
                    with met:
                        assert met.wait_for(lambda: len(begun) > len(computed), 10), "nobody reads ahead"
                assert len(begun) <= len(computed) + 1, "more than one batch ahead"
                return {"value@x": batch["rgb@camera"][..., :1].astype(np.float32)}

            return call

    monkeypatch.setattr(reading, "WORTH", -1.0)
    monkeypatch.setattr(ExpertInputs, "batch", watched)
    monkeypatch.setitem(globals(), "Patient", Patient)
    storage = Storage(str(tmp_path))
    made = finish(label(storage, list(range(8)), type="Patient", batch=2))
    assert [v[0, 0, 0] for v in column(storage, KNOWN, made, "value@x").values() if v is not None] == list(range(8))
    assert begun == [(0, 1), (2, 3), (4, 5), (6, 7)] and any(t.startswith("read-ahead") for t in threads)


def test_files_say_who_made_a_column(tmp_path: Any) -> None:
    storage = Storage(str(tmp_path))
    labels = label(storage, list(range(6)), type="Wide", room=9)
    made = finish(labels)
    shards = finish(
        step(
            Shard(stage="shard", data=["frames", "labels"]), storage, KNOWN, frames=labels.inputs["frames"], labels=made
        )
    )
    with open(__file__, "rb") as file:
        digest = sha256(file.read())
    for manifest in (made, shards):
        schema = pq.read_schema(storage.path(manifest.records[0].file.path))
        told = json.loads(schema.field("value@x").metadata[b"hyperloom"])
        assert told["producer"] == {
            "kind": "expert",
            "expert": {"type": f"{__name__}:Wide", "revision": 1, "in": ["rgb@camera"], "out": ["value@x"], "room": 9},
            "revision": 1,
            "weights": [digest],
            "inputs": ["rgb@camera"],
        }
        assert told["shape"] == [4, 6, 1]
    assert "producer" not in json.loads(schema.field("rgb@camera").metadata[b"hyperloom"])
