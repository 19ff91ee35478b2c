"""Consistency and flicker beside an independent twin: pixel by pixel, over all frames at once, by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.motion import Motion, Temporal
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.measure.scores import measures
from hyperloom.stages.measure.sums import merged
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline

Frame = tuple[str, int, np.ndarray | None, dict[str, np.ndarray]]
"""Group, index, picture, values that are there."""
CLASSES = ["a", "b", "c"]
DEFINED: dict[str, dict[str, Any]] = {
    "semantic": {"type": "segmentation", "classes": CLASSES},
    "depth": {"type": "dense", "storage": "float32", "range": [0, 9]},
    "flow": {"type": "dense", "channels": 2, "unit": "px", "storage": "float32"},
    "normal": {"type": "dense", "channels": 3, "direction": True, "storage": "float32"},
}
FIGURE = {"semantic": "consistency", "depth": "flicker", "flow": "flicker", "normal": "flicker"}


def flow(now: np.ndarray, before: np.ndarray, zoom: int) -> np.ndarray:
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    search.setPatchStride(2)
    height, width = now.shape[:2]
    grey = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (now, before)]
    if zoom == 1:
        return search.calc(*grey, None)
    large = [cv2.resize(one, (width * zoom, height * zoom), interpolation=cv2.INTER_CUBIC) for one in grey]
    return cv2.resize(search.calc(*large, None), (width, height), interpolation=cv2.INTER_AREA) / np.float32(zoom)


def between(field: np.ndarray, x: float, y: float) -> np.ndarray:
    """The value of a field at a place between its pixels, the edge going on outside."""
    height, width = field.shape[:2]
    left, top = math.floor(x), math.floor(y)
    total = np.zeros(field.shape[2])
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        share = (1 - abs(x - column)) * (1 - abs(y - row))
        total += share * field[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return total


def says(name: str, value: np.ndarray) -> bool:
    if name == "semantic":
        return int(value) != 255
    return bool(np.isfinite(value).all()) and (name != "normal" or bool((np.abs(value) > 1e-6).any()))


def change(name: str, now: np.ndarray, before: np.ndarray) -> list[float]:
    if name == "semantic":
        return [float(now == before)]
    if name == "normal":
        one, other = (v.astype(float) / np.sqrt((v.astype(float) ** 2).sum()) for v in (now, before))
        return [math.degrees(math.acos(min(1.0, max(-1.0, float(one @ other)))))]
    return [abs(float(a) - float(b)) for a, b in zip(now.reshape(-1), before.reshape(-1), strict=True)]


def twin(frames: list[Frame], config: Temporal, unsure: float = 0.0) -> dict[str, list[float]]:
    """All changes of all pairs. `unsure` moves what counts as the same way back."""
    changes: dict[str, list[float]] = {}
    for (group0, index0, picture0, values0), (group, index, picture, values) in itertools.pairwise(frames):
        if group != group0 or index - index0 > config.gap or picture is None or picture0 is None:
            continue
        there, back = flow(picture, picture0, config.zoom), flow(picture0, picture, config.zoom)
        height, width = picture.shape[:2]
        for name in values.keys() & values0.keys():
            now, before = values[name], values0[name]
            rows, columns = now.shape[:2]
            for r in range(rows):
                for c in range(columns):
                    y, x = r * height // rows, c * width // columns
                    toward = (x + float(there[y, x, 0]), y + float(there[y, x, 1]))
                    place = (round(toward[0]), round(toward[1]))
                    if not (0 <= place[0] < width and 0 <= place[1] < height):
                        continue
                    missed = there[y, x] + between(back, *toward)
                    if math.hypot(*missed) >= config.tolerance + unsure:
                        continue
                    old = before[place[1] * rows // height, place[0] * columns // width]
                    if says(name, now[r, c]) and says(name, old):
                        changes.setdefault(name, []).extend(change(name, now[r, c], old))
    return changes


def film(random: np.random.Generator, count: int, size: tuple[int, int], told: tuple[int, int]) -> list[Frame]:
    """Frames of a camera that moves; values that are unknown in places, frames without picture or value, gaps."""
    world = cv2.resize(random.integers(0, 255, (size[0] // 3 + 1, size[1], 3)).astype(np.uint8), (size[1] * 3, size[0]))
    frames: list[Frame] = []
    index, group = 0, "g0"
    for _ in range(count):
        if random.random() < 0.15:
            index, group = 0, f"h{len(frames)}"
        index += int(random.choice([1, 1, 1, 2, 3]))
        at = min(index * 2, size[1] * 2)
        picture = np.ascontiguousarray(world[:, at : at + size[1]])
        values: dict[str, np.ndarray] = {
            "semantic": random.choice([0, 1, 2, 255], told, p=[0.5, 0.2, 0.2, 0.1]).astype(np.uint8),
            "depth": random.choice([np.nan, 1, 4.5], (*told, 1), p=[0.1, 0.5, 0.4]).astype(np.float32),
            "flow": np.where(random.random((*told, 1)) < 0.1, np.nan, random.normal(size=(*told, 2))).astype(
                np.float32
            ),
            "normal": np.where(random.random((*told, 1)) < 0.1, 0, random.normal(size=(*told, 3))).astype(np.float32),
        }
        kept = {name: value for name, value in values.items() if random.random() < 0.9}
        frames.append((group, index, picture if random.random() < 0.9 else None, kept))
    return frames


def agree(found: dict[str, float], sums: dict[str, Any], name: str, changes: list[float], room: list[int]) -> None:
    """`room`: how many changes there are where the way back may miss by a little less, and a little more: pixels at the
    very edge may fall to either side."""
    if not sums.get("moved") and not sums.get("changes"):
        assert room[0] == 0 and FIGURE[name] not in found
        return
    counted = sums["moved"] if name == "semantic" else sums["changes"]
    assert room[0] <= counted <= room[1]
    if room[0] == room[1]:
        total = sums["same"] if name == "semantic" else sums["change"]
        assert total == pytest.approx(sum(changes), rel=1e-5, abs=1e-4)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 5),
    st.sampled_from([(16, 20), (17, 33), (24, 16)]),
    st.sampled_from([(16, 20), (8, 10), (5, 41)]),
    st.builds(Temporal, gap=st.integers(1, 3), tolerance=st.sampled_from([0.25, 1.0, 3.0]), zoom=st.integers(1, 3)),
)
def test_what_moves_is_compared_pixel_by_pixel(
    seed: int, count: int, size: tuple[int, int], told: tuple[int, int], config: Temporal
) -> None:
    known = inline.modalities(rgb={"type": "image", "size": list(size)}, **sized(told))
    frames = film(np.random.default_rng(seed), count, size, told)
    motion = Motion(config, known)
    parts = [motion.step(*frame) for frame in frames]
    expected = twin(frames, config)
    less, more = (twin(frames, config, by) for by in (-0.05, 0.05))
    for name in DEFINED:
        sums = merged(part[name] for part in parts if name in part)
        found = measures(known[name], {**sums, **answered(name)})
        agree(found, sums, name, expected.get(name, []), [len(side.get(name, [])) for side in (less, more)])
        if FIGURE[name] in found and name == "semantic":
            assert found["consistency"] == sums["same"] / sums["moved"]


def sized(told: tuple[int, int]) -> dict[str, dict[str, Any]]:
    return {name: {**definition, "size": list(told)} for name, definition in DEFINED.items()}


def answered(name: str) -> dict[str, Any]:
    """Statistics of one right answer, so that figures are given at all."""
    if name == "semantic":
        return {"matrix": [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], "foreign": [0, 0, 0]}
    if name == "normal":
        return {"known": 1, "answered": 1, "angle": 0.0, "angles": 1}
    nothing = {"absolute": 0.0, "squared": 0.0, "values": 1, "relative": 0.0, "relatives": 0}
    return {"known": 1, "answered": 1, **nothing}


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([1e-6, 0.004, 64]), st.integers(1, 9))
def test_no_cut_and_no_order_of_work_moves_them(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, shard_mb: float, batch: int
) -> None:
    """The figures of a whole report, however partitions, shards and batches are cut, and whichever unit comes first."""
    size = (16, 20)
    known = inline.modalities(rgb={"type": "image", "size": list(size)}, semantic=DEFINED["semantic"])
    random = np.random.default_rng(seed)
    frames = [
        (f"g{n // 6}", n % 6, picture, values.get("semantic"))
        for n, (_, _, picture, values) in enumerate(film(random, 12, size, size))
    ]
    groups: dict[str, list[dict[str, Any]]] = {"rest": []}
    for group, _, picture, values in frames:
        groups.setdefault(group, []).append({"rgb@camera": picture, "semantic@truth": values, "semantic@told": values})
    groups["rest"] = groups["g0"][:1]
    storage = Storage(str(tmp_path_factory.mktemp("root")))
    shard = Shard(
        stage="shard", data="frames", split={"pin": {"test": ["g0", "g1"], "train": ["rest"]}}, shard_mb=shard_mb
    )
    raw = inline.ingested(storage, known, groups, rows)
    shards = inline.finish(inline.step(shard, storage, known, "shards", frames=raw))
    config = {"gap": 1, "zoom": 1}
    judged = inline.step(
        Evaluate(stage="evaluate", data="shards", batch=batch, pictures=1, temporal=config, intervals=None),
        storage,
        known,
        "report",
        shards=shards,
    )
    every = judged.run_units

    def backwards(units: Any, workers: Any) -> Any:
        units = list(units)
        by_id = {record.id: record for record in every(units[::-1], workers)}
        return [by_id[unit.id] for unit in units]

    object.__setattr__(judged, "run_units", backwards)
    body = inline.finish(judged).body
    expected = twin([(g, i, p, {} if v is None else {"semantic": v}) for g, i, p, v in frames], Temporal(**config))
    found = body["figures"]["told"].get("semantic.consistency")
    changes = expected.get("semantic", [])
    assert found == (pytest.approx(np.mean(changes), abs=0.03) if changes else None)
