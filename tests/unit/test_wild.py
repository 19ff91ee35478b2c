"""Values far outside what a column usually holds are said with their sample, and decide no scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.ingest.stage import Ingest
from hyperloom.stages.modality.vector import Scalar
from hyperloom.stages.network.processors import processor_of
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.shard.statistics import ColumnCounter, merged
from hyperloom.stages.train.stage import Train
from tests.unit import inline

SIZE = (8, 8)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    depth={"type": "dense", "unit": "m", "storage": "float32"},
    half={"type": "dense", "channels": 2, "unit": "m"},
    count={"type": "scalar"},
    track={"type": "series", "steps": 5, "channels": 2},
)


def statistics(name: str, *shards: list[Any]) -> dict[str, Any]:
    figures = []
    for values in shards:
        tally = ColumnCounter(KNOWN[name])
        tally.add(*KNOWN[name].unpack(KNOWN[name].encode([None if v is None else KNOWN[name].fit(v) for v in values])))
        figures.append(tally.figures())
    return merged(KNOWN[name], figures)


def maps(count: int, seed: int = 0, channels: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.uniform(5, 15, (*SIZE, channels)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize(("name", "wild"), [("depth", 1e9), ("depth", -9999.0), ("half", 6e4), ("half", -6e4)])
def test_one_wild_number_decides_no_scale(name: str, wild: float) -> None:
    channels = KNOWN[name].channels
    calm, marked = maps(9, 0, channels), maps(9, 0, channels)
    marked[4][1, 2, -1] = wild
    plain, found = statistics(name, calm[:4], [None, *calm[4:]]), statistics(name, marked[:4], [None, *marked[4:]])
    assert "wild" not in plain
    assert found["mean"] == pytest.approx(plain["mean"], rel=0.01) and found["std"] == pytest.approx(
        plain["std"], rel=0.02
    )
    assert found["wild"]["values"] == 1 and found["wild"]["most"] == pytest.approx(wild, rel=1e-3)
    assert 14 < found["wild"]["usual"] < 15.1 and found["wild"]["at"] == [[1, 1]]  # behind a missing row
    assert wild in (pytest.approx(found["max"][-1], rel=1e-3), pytest.approx(found["min"][-1], rel=1e-3))


def test_long_tails_rare_events_and_two_kinds_of_numbers_are_usual() -> None:
    random = np.random.default_rng(1)
    usual = {
        "exponential": random.exponential(size=4000),
        "log-normal": random.lognormal(sigma=1.5, size=4000),
        "rare": (random.random(4000) < 0.003).astype(float),
        "two kinds": np.where(random.random(4000) < 0.1, 1000.0, 1.0) * random.uniform(1, 2, 4000),
        "few": np.array([1, 2, 1e6]),
        "zeros": np.zeros(40),
    }
    for name, values in usual.items():
        assert "wild" not in statistics("count", list(values)), name
    track = [[[1, 2]] * 5] * 9 + [[[1, 1e7]]]
    assert statistics("track", track)["wild"] == {"values": 1, "most": 1e7, "usual": 2, "at": [[0, 9]]}


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-7, 1e-9, 1e-12, 1e-15])
def test_a_mark_is_wild_whatever_the_unit(unit: float) -> None:
    """Currents in amperes had no magnitude, so that -9999 decided their scale without a word."""
    values = np.random.default_rng(2).uniform(5, 15, 400) * unit
    values[[7, 9]] = -9999
    seen = statistics("count", list(values))
    assert seen["wild"]["values"] == 2 and seen["wild"]["most"] == -9999 and seen["wild"]["at"] == [[0, 7]]
    usual = np.delete(values, [7, 9])
    assert seen["mean"] == pytest.approx([usual.mean()]) and seen["std"] == pytest.approx([usual.std()], rel=1e-4)


def test_numbers_of_any_size_are_counted() -> None:
    """A modality of one's own may keep float64; what is below 1e-48 there ended the step."""

    class Fine(Scalar):
        @property
        def dtype(self) -> np.dtype[Any]:
            return np.dtype(np.float64)

    fine = Fine(type="scalar")
    tally = ColumnCounter(fine)
    tally.add(np.array([5e-324, 1e-300, 1e-60, 1e-45, 1.0, 1e30]), np.ones(6, bool))
    seen = merged(fine, [tally.figures()])
    assert seen["min"] == [5e-324] and seen["max"] == [1e30]


def test_few_real_numbers_among_what_rounding_left_of_zero_are_usual() -> None:
    random = np.random.default_rng(3)
    values = random.normal(0, 1e-16, 4000)
    values[:20] = random.uniform(1, 2, 20)
    assert "wild" not in statistics("count", list(values))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-50, 50, width=32), min_size=24, max_size=60), st.integers(0, 23), st.data())
def test_what_is_wild_depends_on_no_cut(values: list[float], place: int, data: st.DataObject) -> None:
    values[place] = 1e8
    cut = data.draw(st.integers(1, len(values) - 1))
    whole, parts = statistics("count", values), statistics("count", values[:cut], values[cut:])
    assert whole.get("wild", {}).get("values") == parts.get("wild", {}).get("values")
    assert whole["mean"] == pytest.approx(parts["mean"], abs=1e-9)
    usual = [v for i, v in enumerate(values) if i != place]
    if sum(v != 0 for v in usual) >= 10 and sum(abs(v) >= 2**-20 for v in usual) not in range(1, 10):
        assert whole["wild"]["most"] == pytest.approx(1e8)
        assert whole["mean"] == pytest.approx([np.mean(usual)], abs=1e-4)
        assert whole["std"] == pytest.approx([np.std(usual)], abs=1e-3)


def test_it_is_said_with_its_sample_at_shard_and_at_train(tmp_path: Path) -> None:
    storage, depth = Storage(str(tmp_path)), maps(16)
    depth[5][0, 0] = 1e9
    rgb = np.zeros((*SIZE, 3), np.uint8)
    samples = [{"rgb@camera": rgb, "depth@laser": values} for values in depth]
    groups = {"g0": samples[:8], "g1": samples[8:]}
    frames = inline.ingested(storage, KNOWN, groups)
    shard = Shard(stage="shard", data="frames", split={"pin": {"train": ["g0", "g1"]}})
    sharding = inline.step(shard, storage, KNOWN, "shards", frames=frames)
    shards = inline.finish(sharding)
    sharding.events.flush()
    fields = {"data": "shards", "in": "rgb@camera", "targets": {"depth": "depth@laser"}, "updates": 1, "batch": 4}
    train = Train.model_validate({"stage": "train", **fields})
    step = inline.step(train, storage, KNOWN, "teacher", shards=shards)
    (task,) = step.stage.job(step).architecture.tasks
    assert task.scale.std == pytest.approx([2.9], rel=0.1)
    step.events.flush()
    notes = [(e["step"], e["text"]) for e in event_log.read(storage, "test") if e["kind"] == "note"]
    mine = [(who, text) for who, text in notes if "1e+09" in text]
    assert {who for who, _ in mine} == {"shards", "teacher"}
    assert all("depth@laser holds 1 number" in t and "g0/005" in t and "Next: unknown: 1e+09" in t for _, t in mine)


@pytest.mark.parametrize(("mean", "deviation", "scale"), [(2e-9, 1e-9, 1e-9), (5.0, 2.0, 2.0), (0.1, 1e-9, 1e-6)])
def test_what_varies_is_standardised_whatever_its_unit(mean: float, deviation: float, scale: float) -> None:
    """Currents of some nanoamperes were all zero to a network; what does not vary but for rounding stays one number."""
    kind = processor_of(inline.modalities(current={"type": "scalar"})["current"])
    read = kind.scale({"mean": [mean], "std": [deviation]})
    assert read.std == (pytest.approx(scale),)
    values = torch.tensor(np.random.default_rng(0).normal(mean, deviation, (500, 1)), dtype=torch.float32)
    planes = kind.reader(read)(values)
    assert float(planes.std()) == pytest.approx(deviation / scale, rel=0.1, abs=1e-2)
    back = kind.finish(planes, read)
    assert torch.allclose(back, values, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(
    ("definition", "low", "high", "round_"),
    [
        ({"type": "scalar", "unit": "deg"}, 0.5, 359.5, True),
        ({"type": "scalar", "unit": "rad"}, -3.1, 3.1, True),
        ({"type": "vector", "length": 2, "unit": "degrees"}, -179, 179, True),
        ({"type": "scalar", "unit": "deg"}, 0, 90, False),
        ({"type": "scalar", "unit": "deg"}, -450, 450, False),
        ({"type": "scalar", "unit": "m"}, 0.5, 359.5, False),
        ({"type": "dense", "unit": "deg", "size": [2, 2], "kind": "scalar"}, 0.5, 359.5, False),
    ],
)
def test_angles_that_come_round_are_said(
    tmp_path: Path, definition: Any, low: float, high: float, round_: bool
) -> None:
    """The mean of 359 and 1 degrees was 180, and an error of 2 was 358, without a word."""
    known = inline.modalities(heading=definition)
    kind = known["heading"]
    samples = [{"heading@imu": np.full(kind.shape, v, np.float32)} for v in np.linspace(low, high, 12)]
    frames = inline.ingested(Storage(str(tmp_path)), known, {"g": samples})
    stage = Shard(stage="shard", data="frames")
    made = inline.finish(inline.step(stage, Storage(str(tmp_path)), known, "shards", frames=frames))
    remarks = [text for text in made.body["remarks"] if "nearly a whole turn" in text]
    assert [text.startswith("heading@imu reaches from") for text in remarks] == [True] * round_


@pytest.mark.parametrize(
    ("definition", "size"),
    [
        ({"type": "dense", "size": [2, 2], "unit": "A"}, 1e-9), ({"type": "dense", "size": [2, 2], "unit": "A"}, 1e-5),
        ({"type": "series", "steps": 4, "storage": "float16"}, 1e-9),
        ({"type": "embedding", "length": 3, "storage": "float16"}, 1e-9),
    ],
)  # fmt: skip
def test_numbers_that_float16_loses_are_said(tmp_path: Path, definition: Any, size: float) -> None:
    """Maps of currents in amperes were zero everywhere, and nothing was said."""
    folder = tmp_path / "raw"
    folder.mkdir()
    known = inline.modalities(current=definition)
    shape = known["current"].shape
    for i, scale in enumerate((1.0, size, 0.0)):
        np.save(folder / f"{i}.npy", np.full(shape, scale, np.float32))
    source = {"type": "files", "path": f"{folder}/*.npy", "column": "current@meter"}
    storage = Storage(str(tmp_path / "root"))
    made = inline.finish(inline.step(Ingest(stage="ingest", source=source), storage, known))
    (said,) = (text for text in made.body["remarks"] if "float16" in text)
    assert said.startswith("1 file: no number of a value reaches 6.1e-05")


def test_an_embedding_holds_what_its_storage_holds() -> None:
    with pytest.raises(ValueError, match="expected numbers that float16 holds.*got 70000"):
        inline.modalities(e={"type": "embedding", "length": 2, "storage": "float16"})["e"].check(
            np.array([70000, 1], np.float32)
        )
