"""Pictures that look like copies: what is found of those that were encoded anew, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.grounds import ground
from hyperloom.stages.evaluate.overlap import JudgedSamples
from hyperloom.stages.lesson import Lesson
from hyperloom.stages.shard.joining import joined
from hyperloom.stages.shard.likeness import BYTES, NEAR, STEPS, alike, links, packed, signature
from hyperloom.stages.shard.nearest import Others
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.shard.together import together
from tests.unit import inline

SIZE = (48, 64)
KNOWN = inline.modalities(rgb={"type": "image", "size": list(SIZE)})


def scene(seed: int) -> np.ndarray:
    """Shapes before a slope of light, with some noise."""
    random = np.random.default_rng(seed)
    light = np.add.outer(
        np.linspace(0, random.uniform(-90, 90), SIZE[0]), np.linspace(0, random.uniform(-90, 90), SIZE[1])
    )
    picture = np.clip(light[..., None] + 128 + random.normal(0, 3, (*SIZE, 3)), 0, 255).astype(np.uint8)
    for _ in range(8):
        centre, radius = random.integers(0, SIZE[::-1]), int(random.integers(3, 18))
        cv2.circle(picture, centre.tolist(), radius, random.integers(0, 255, 3).tolist(), -1)
    return picture


def encoded(picture: np.ndarray, how: str) -> np.ndarray:
    """The picture after it was stored otherwise, in its own size."""
    if how == "half":
        small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR))
    if how == "double":
        return np.asarray(cv2.resize(cv2.resize(picture, None, fx=2, fy=2), SIZE[::-1], interpolation=cv2.INTER_AREA))
    kind, _, quality = how.partition(" ")
    flag = {"jpg": cv2.IMWRITE_JPEG_QUALITY, "webp": cv2.IMWRITE_WEBP_QUALITY}[kind]
    return np.asarray(cv2.imdecode(cv2.imencode(f".{kind}", picture, [flag, int(quality)])[1], cv2.IMREAD_COLOR))


@pytest.mark.parametrize("how", ["jpg 90", "jpg 50", "webp 60", "half", "double"])
def test_copies_in_another_encoding_are_found_and_nothing_else(how: str) -> None:
    pictures = [scene(seed) for seed in range(100)]
    known = np.stack([signature(p) for p in pictures])
    partner = alike(np.stack([signature(encoded(p, how)) for p in pictures[:50]]), known)
    assert (partner == np.arange(50)).mean() >= 0.9 and np.isin(partner, [-1, *range(50)]).all()
    assert (alike(known[:50], known[50:]) == -1).all()
    black = signature(np.full((*SIZE, 3), 3, np.uint8))
    assert not black.any() and alike(black[None], black[None]).tolist() == [-1]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(0, 40))
def test_the_search_finds_what_comparing_all_finds(seed: int, mine: int, theirs: int) -> None:
    random = np.random.default_rng(seed)

    def signed(waves: np.ndarray) -> np.ndarray:
        return np.rint(STEPS * waves / np.linalg.norm(waves, axis=1, keepdims=True)).astype(np.int8)

    waves = random.normal(0, 1, (max(theirs, 1), BYTES))
    known = signed(waves)[:theirs]
    known[random.random(theirs) < 0.1] = 0
    of = random.integers(0, len(waves), mine)
    query = signed(waves[of] + random.normal(0, 1, (mine, BYTES)) * random.choice([0.01, 0.05, 0.3], (mine, 1)))
    apart = np.linalg.norm(query[:, None].astype(int) - known[None], axis=2)
    near = (apart <= NEAR * STEPS) & known.any(1)[None]
    partner = alike(query, known)
    assert np.mean((partner >= 0) == near.any(1)) >= 0.9  # a number of seven may have changed its sign
    assert all(near[i, place] for i, place in enumerate(partner) if place >= 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8))
def test_sets_that_share_likes_are_joined_as_comparing_all_joins_them(seed: int, count: int, sets: int) -> None:
    random = np.random.default_rng(seed)
    waves = random.normal(0, 1, (4, BYTES))[random.integers(0, 4, count)] + random.normal(0, 0.01, (count, BYTES))
    signed = np.rint(STEPS * waves / np.linalg.norm(waves, axis=1, keepdims=True)).astype(np.int8)
    group = random.integers(0, sets, count)
    apart = np.linalg.norm(signed[:, None].astype(int) - signed[None], axis=2)
    every = np.argwhere(apart <= NEAR * STEPS)
    for mine in (group, np.arange(count)):
        pairs = links(signed, mine)
        assert (mine[pairs[:, 0]] != mine[pairs[:, 1]]).all() and (
            apart[pairs[:, 0], pairs[:, 1]] <= NEAR * STEPS
        ).all()
        first, expected = (joined(max(count, sets), mine[some]) for some in (pairs, every))
        assert (first == expected).all()


def test_groups_with_likes_of_their_own_are_held_together_with_others() -> None:
    random = np.random.default_rng(0)
    base = random.normal(size=BYTES)
    base[5] = 0  # a small frequency: its sign tells the keys of both groups apart

    def near(sign: int) -> np.ndarray:
        waves = base + random.normal(0, 0.002, BYTES)
        waves[5] = 0.05 * sign
        return np.rint(STEPS * waves / np.linalg.norm(waves)).astype(np.int8)

    def record(group: str, signed: list[np.ndarray]) -> Record:
        return Record("s", group, len(signed), (), 0, {"group": group, "likeness": packed(signed)})

    flown, sent = [near(1), near(1)], [near(-1), near(-1)]
    assert (alike(np.stack(flown), np.stack(sent)) >= 0).all()
    records = [record("flown", flown), record("sent", sent), record("other", [signature(scene(9))])]
    sets = together(None, records, "duplicates", (), {})  # type: ignore[arg-type]
    assert sets == {"flown": "flown", "other": "other", "sent": "flown"}


@pytest.mark.parametrize("most", [8192, 64])
def test_the_nearest_of_other_groups_is_found_behind_any_number_of_the_own(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("hyperloom.stages.shard.nearest.FEW", most)
    random = np.random.default_rng(0)
    centre, shift = random.normal(size=16), np.eye(16)[0] * 0.15
    rows = np.concatenate([centre + at * shift + random.normal(size=(40, 16)) * 0.01 for at in range(2)])
    rows = np.concatenate([rows, random.normal(size=(80, 16))]).astype(np.float32)
    sets = np.repeat(np.arange(82), [40, 40, *[1] * 80])
    apart, place = Others(rows, np.arange(160) >= 80).nearest(np.arange(80), sets)
    every = np.linalg.norm(rows[:80, None] - rows[None], axis=2)
    every[sets[:80, None] == sets[None]] = np.inf
    assert apart == pytest.approx(every.min(1), rel=1e-4) and (place == every.argmin(1)).all()
    assert Others(rows[:40], np.zeros(40, bool)).nearest(np.arange(40), sets[:40])[1].tolist() == [-1] * 40


def test_an_embedding_holds_groups_together_though_each_has_near_ones_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    centre = random.normal(size=(2, 16))
    groups = {f"g{i:02d}": random.normal(size=(1, 16)) for i in range(40)}
    for i, name in enumerate("abcd"):  # four in a row, each nearest to one other
        at = centre[0] + np.eye(16)[0] * (0, 0.1, 0.25, 0.35)[i]
        groups[name] = at + random.normal(size=(8, 16)) * 0.005
    known = inline.modalities(clip={"type": "embedding", "length": 16})
    storage = Storage(str(tmp_path))
    data = {group: [{"clip@net": row.astype(np.float32)} for row in rows] for group, rows in groups.items()}
    frames = inline.ingested(storage, known, data)
    made = inline.finish(inline.step(Shard(stage="shard", data=("frames",)), storage, known, "shards", frames=frames))
    sets = together(storage, made.records, "embedding", ("clip@net",), known)
    assert {group: first for group, first in sets.items() if group != first} == {"b": "a", "c": "a", "d": "a"}


def test_only_splits_that_hold_copies_together_mean_something_else() -> None:
    plain, apart = (
        Shard.model_validate({"stage": "shard", "data": "f", "split": s}) for s in ({}, {"apart": "clip@net"})
    )
    assert payload(plain)["revision"] == 5 and payload(apart)["revision"] == 6
    assert fingerprint(payload(plain)) != fingerprint(payload(apart))


@pytest.fixture
def shards(tmp_path: Path) -> Any:
    """A flight, one of which three frames are the same in another encoding, and one of its own."""
    storage, clip = Storage(str(tmp_path)), [scene(i) for i in range(4)]
    groups = {"flight": clip, "sent": [*(encoded(p, "jpg 50") for p in clip[:3]), clip[3]], "other": [scene(9)]}
    rows = {group: [{"rgb@camera": p} for p in pictures] for group, pictures in groups.items()}
    data = inline.ingested(storage, KNOWN, rows)
    config = {"stage": "shard", "data": ["frames"], "split": {"pin": {"test": ["sent"]}}}
    return storage, inline.finish(inline.step(Shard.model_validate(config), storage, KNOWN, "shards", frames=data))


def test_shards_name_what_looks_like_a_copy_beside_what_is_one(shards: Any) -> None:
    equal, like = shards[1].body["remarks"]
    assert equal.startswith(
        "1 of 4 samples of the split `test` are samples of `train` too, byte for byte (sent/003 = flight/003)"
    )
    assert like.startswith(
        "3 of 4 samples of the split `test` look like copies of samples of `train`, in another encoding"
    )
    assert "(sent/000 ~ flight/000, sent/001 ~ flight/001, sent/002 ~ flight/002). Next: look at these" in like


def test_a_report_says_how_many_judged_samples_look_like_copies_and_holds_nothing_up(shards: Any) -> None:
    storage, made = shards
    judged = JudgedSamples(storage, made, "test", [made])
    lesson = Lesson(f"{made.stage}/{made.fingerprint}", "train", "trained")
    judged_by = ground("student", [lesson], judged)
    likely = [note for note in judged_by.notes if "look like copies" in note]
    assert likely == [
        "student: 3 of the 4 samples that are judged look like copies of such that it learned from, in another "
        "encoding or size (groups sent); if they are, it is judged on what it learned from"
    ]
    assert not judged_by.unseen and "1 of the 4" in judged_by.leaks[0]
