"""What looks wrong about labels is said once where it was made, with the option that mends it, and stays with the data:
in the step's manifest, in the shards', in the report, and in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.events import read
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.ingest.look import ColumnLook, suspicions
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.stage import Label
from hyperloom.stages.shard.stage import Shard
from tests.unit.inline import finish, ingested, modalities, step

SIZE = (4, 6)
KNOWN = modalities(
    rgb={"type": "image", "size": SIZE},
    semantic={"type": "segmentation", "classes": ["a", "b", "c"]},
    depth={"type": "dense", "storage": "float32"},
    weather={"type": "category", "classes": ["sun", "rain", "snow"]},
    objects={"type": "boxes", "classes": ["car", "bus"], "most": 3},
)


class Says(Expert):
    """Gives the value `ids[i]` for the frame whose first pixel is `i`, everywhere."""

    values: tuple[float, ...]

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        modality = modalities[self.out[0].partition("@")[0]]

        def call(batch: Batch) -> Batch:
            numbers = np.array([self.values[i] for i in batch[self.in_[0]][:, 0, 0, 0]])
            full = np.ones((1, *modality.shape), modality.dtype)
            return {self.out[0]: (numbers.reshape(-1, *[1] * len(modality.shape)) * full).astype(modality.dtype)}

        return call


def frames(count: int) -> list[dict[str, np.ndarray]]:
    return [{"rgb@camera": np.full((*SIZE, 3), i, np.uint8)} for i in range(count)]


def labelled(storage: Storage, out: str, values: Sequence[float], groups: str = "t") -> tuple[Manifest, Manifest, Any]:
    """The step `labels` over frames of these groups, one after the other; its input, its manifest and itself."""
    own = {g: frames(len(values))[i :: len(groups)] for i, g in enumerate(groups)}
    data = ingested(storage, KNOWN, own, rows=2)
    expert = {"type": f"{__name__}:Says", "in": "rgb@camera", "out": out, "values": list(values)}
    running = step(Label(stage="label", data="frames", experts=[expert]), storage, KNOWN, "labels", frames=data)
    return data, finish(running), running


@pytest.mark.parametrize(
    "out, values, said",
    [
        ("semantic@x", [1, 2, 1, 2], r"class 0 (a) never occurs: do the ids start at 1? Then set map of its decoder"),
        ("semantic@x", [1, 1, 1, 1], "all 4 samples hold the one class 1 (b): are its scores read as they are meant"),
        ("semantic@x", [0, 0, 0, 0], "all 4 samples hold the one class 0 (a)"),
        ("semantic@x", [0, 255, 0, 0], "all 4 samples hold the one class 0 (a)"),
        ("depth@x", [7, 7, 7, 7], "every number of all 4 samples is 7: is it the right tensor"),
        ("weather@x", [2, 2, 2, 2], "all 4 samples hold the one class 2 (snow)"),
        ("weather@x", [1, 2, 2, 2], "class 0 (sun) never occurs"),
        ("semantic@x", [0, 1, 2, 1], ""),
        ("depth@x", [7, 7, 7, 8], ""),
        ("semantic@x", [1], ""),
    ],
)
def test_what_is_odd_about_an_experts_column(tmp_path: Path, out: str, values: list[float], said: str) -> None:
    storage = Storage(str(tmp_path))
    _, labels, running = labelled(storage, out, values)
    remarks = labels.body["remarks"]
    assert [r for r in remarks if said and f"{out}: {said}" in r] == remarks and len(remarks) == bool(said)
    running.events.flush()
    shown = [e for e in read(storage, running.events.run) if e["kind"] in ("note", "tag")]
    assert [e["text"] for e in shown if e["kind"] == "note"] == remarks
    tags = [text for e in shown if e["kind"] == "tag" for k, text in e["values"].items() if k.startswith("remark.")]
    assert tags == remarks


def test_ids_of_boxes_that_start_at_1() -> None:
    look, rows = ColumnLook(), np.full((3, 6), np.nan, np.float32)
    rows[0] = [0, 0, 1, 1, 1, 1]
    for _ in range(3):
        look.add([rows], KNOWN["objects"])
    (sentence,) = suspicions([{"objects@human": look.figures()}], KNOWN)
    assert "all 3 samples hold the one class 1 (bus)" in sentence


def test_what_is_odd_goes_with_the_shards_to_the_report(tmp_path: Path) -> None:
    """Class c is in the test split alone, and the expert says b for all."""
    storage = Storage(str(tmp_path))
    ids = [0, 1, 0, 1, 2, 2]
    data = ingested(
        storage, KNOWN,
        {g: [{**f, "semantic@truth": np.full(SIZE, ids[2 * i + k], np.uint8)} for k, f in enumerate(frames(2))]
         for i, g in enumerate("xyz")}, rows=2,
    )  # fmt: skip
    expert = {"type": f"{__name__}:Says", "in": "rgb@camera", "out": "semantic@bad", "values": [1, 1]}
    labels = finish(step(Label(stage="label", data="frames", experts=[expert]), storage, KNOWN, frames=data))
    split = {"test": 0.4, "pin": {"test": ["z"]}}
    sharding = Shard(stage="shard", data=["frames", "labels"], split=split)
    shards = finish(step(sharding, storage, KNOWN, "shards", frames=data, labels=labels))
    remarks = shards.body["remarks"]
    assert any("semantic@bad: all 6 samples hold the one class 1 (b)" in r for r in remarks)
    assert any(r == "semantic@truth: no class c in train, but in test" for r in remarks)
    running = step(Evaluate(stage="evaluate", data="shards", models={}, pictures=0), storage, KNOWN, shards=shards)
    report = finish(running)
    assert report.body["remarks"] == remarks
    running.events.flush()
    tables = {e["name"]: e["rows"] for e in read(storage, running.events.run) if e["kind"] == "table"}
    assert [row["remark"] for row in tables["remarks"]] == remarks


def test_values_looked_at_together_say_what_each_says_alone() -> None:
    nan = float("nan")
    values = [np.array(v, np.float32) for v in ([1, nan], [nan, nan], [float("inf"), 3], [-float("inf"), nan])]
    kind = modalities(place={"type": "vector", "length": 2})["place"]
    together, alone = ColumnLook(), ColumnLook()
    together.add([*values, None, b"kept"], kind)
    for value in values:
        alone.add([value], kind)
    assert together.figures() == alone.figures() == {"samples": 4, "low": 1.0, "high": float("inf")}


def test_a_map_without_pixels_is_noted_as_any_other() -> None:
    look = ColumnLook()
    look.refuse(np.zeros((0, 5), np.uint8), KNOWN["semantic"])
    assert look.figures() == {}
