"""Pictures that look like copies: what is found of those that were encoded anew, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.storage import Storage
from hyperloom.stages.evaluate.grounds import ground
from hyperloom.stages.evaluate.overlap import JudgedSamples
from hyperloom.stages.lesson import Lesson
from hyperloom.stages.shard.likeness import BYTES, NEAR, STEPS, alike, signature
from hyperloom.stages.shard.stage import Shard
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
