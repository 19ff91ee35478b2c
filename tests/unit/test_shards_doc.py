"""The documentation of shards: its code runs as it stands, on shards that the stage made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.column import produced
from hyperloom.stages.shard.stage import Shard
from tests.unit.inline import finish, ingested, modalities, step

DOCUMENT = Path(__file__).parents[2] / "docs/shards.md"


def test_plain_readers_understand_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb", reason="the extra `test` brings DuckDB")
    pytest.importorskip("pandas", reason="the extra `test` brings pandas")
    known = modalities(
        rgb={"type": "image", "size": [8, 6], "codec": "jpeg"},
        depth={"type": "dense", "unit": "m", "range": [0, 10], "storage": "uint8"},
        weather={"type": "category", "classes": ["sun", "rain"]},
        caption={"type": "text", "length": 40},
        objects={"type": "boxes", "classes": ["car", "tree"], "most": 5},
    )
    samples: list[dict[str, Any]] = [
        {
            "rgb@camera": np.full((8, 6, 3), 40 * i, np.uint8),
            "depth@midas": None if i == 1 else np.full((8, 6, 1), i, np.float32),
            "weather@truth": known["weather"].fit(["sun", "rain"][i % 2]),
            "caption@human": known["caption"].fit(f"a straße, {i}"),
            "objects@yolo": known["objects"].fit([[0.25, 0, 0.75, 1, 0, 0.9], [0, 0, 1, 1, 1, 0.8]][:i]),
        }
        for i in range(4)
    ]
    monkeypatch.chdir(tmp_path)
    storage = Storage("runs")
    monkeypatch.setattr(type(known["depth"]), "field", _noted(type(known["depth"]).field))
    data = ingested(storage, known, {"a": samples, "b": samples[:2]})
    made = finish(step(Shard.model_validate({"stage": "shard", "data": "frames"}), storage, known, frames=data))

    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), names)

    assert names["path"] in {f"runs/{shard['path']}" for shard in made.body["shards"]}
    assert np.allclose(names["depth"][names["there"]][:, 0, 0, 0], [0, 2, 3][: names["there"].sum()], atol=10 / 254)
    assert names["stored"].base is not None and names["about"]["producer"] == {"type": "midas"}
    assert [round(width, 3) for _, width in names["cars"]] == [0.5] * 4
    assert names["first"].shape == (8, 6, 1) and set(names["depths"].map(np.shape)) == {(8, 6, 1)}
    assert names["picture"].size == (6, 8)
    assert names["frame"]["caption@human"][0] == "a straße, 0"


def _noted(field: Any) -> Any:
    """The field as an expert's label file has it: with its producer."""
    return lambda self, column: produced(field(self, column), {"type": "midas"})
