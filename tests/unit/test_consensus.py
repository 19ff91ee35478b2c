"""Consensus through its stage: ties, abstentions, missing sources, weights, agreement, what counts by default."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.consensus.stage import ConsensusStage
from hyperloom.stages.label.algorithms.majority import vote
from tests.unit.inline import column, finish, ingested, modalities, step

KNOWN = modalities(
    rgb={"type": "image", "size": [2, 2]},
    depth={"type": "dense", "channels": 1, "storage": "float32"},
    normals={"type": "dense", "channels": 3, "direction": True, "storage": "float32"},
    agreement={"type": "dense", "channels": 1, "storage": "float32"},
    semantic={"type": "segmentation", "classes": ["a", "b", "c"]},
)


def classes(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(2, 2)


def depth(value: float) -> np.ndarray:
    return np.full((2, 2, 1), value, np.float32)


@pytest.fixture
def storage(tmp_path: Any) -> Storage:
    return Storage(str(tmp_path))


def consensus(storage: Storage, samples: list[dict[str, Any]], **fields: Any) -> Any:
    stage = ConsensusStage(stage="consensus", data="labels", **fields)
    return step(stage, storage, KNOWN, labels=ingested(storage, KNOWN, {"g": samples}))


SAMPLES = [
    {
        "semantic@x": classes(0, 1, 2, 255),
        "semantic@y": classes(0, 1, 1, 255),
        "semantic@z": classes(1, 0, 0, 255),
        "semantic@truth": classes(2, 2, 2, 2),
    },
    {
        "semantic@x": None,
        "semantic@y": classes(1, 1, 1, 1),
        "semantic@z": classes(2, 1, 255, 1),
        "semantic@truth": None,
    },
    {"semantic@x": None, "semantic@y": None, "semantic@z": None, "semantic@truth": classes(0, 0, 0, 0)},
]


def test_votes_ties_abstentions_and_nulls(storage: Storage) -> None:
    method = {"type": "vote", "agreement": "agreement@vote"}
    made = finish(consensus(storage, SAMPLES, out="semantic@vote", method=method))
    values = column(storage, KNOWN, made, "semantic@vote")
    assert made.body["columns"]["semantic@vote"]["about"]["inputs"] == ["semantic@x", "semantic@y", "semantic@z"]
    assert (values["g/000"] == classes(0, 1, 2, 255)).all()  # third pixel: three ways, x comes first
    assert (values["g/001"] == classes(1, 1, 1, 1)).all()  # first pixel: a tie that y, listed before z, decides
    assert values["g/002"] is None
    share = column(storage, KNOWN, made, "agreement@vote")["g/000"]
    assert share is not None and np.allclose(share.ravel(), [2 / 3, 2 / 3, 1 / 3, 0])
    assert made.quarantined == 0 and made.body["coverage"]["semantic@vote"] == {"rows": 3, "missing": 1}


def test_agreement_counts_pixels_where_both_say_something(storage: Storage) -> None:
    report = finish(consensus(storage, SAMPLES, out="semantic@vote", method="vote")).body["agreement"]["semantic@vote"]
    assert report["columns"] == ["semantic@x", "semantic@y", "semantic@z", "semantic@vote"]
    equal = report["equal"]
    assert equal[0][1] == equal[1][0] == pytest.approx(2 / 3, abs=1e-6)  # x is missing in the second sample
    assert equal[1][2] == pytest.approx((0 / 3 + 2 / 3) / 2, abs=1e-6)
    assert equal[0][3] == 1.0 and equal[0][0] is None


def test_weights_and_quorum(storage: Storage) -> None:
    method = {"type": "vote", "weights": {"z": 3}, "quorum": 0.6}
    made = finish(consensus(storage, SAMPLES, out="semantic@vote", method=method))
    values = column(storage, KNOWN, made, "semantic@vote")
    assert (values["g/000"] == classes(1, 0, 0, 255)).all()
    assert (values["g/001"] == classes(2, 1, 1, 1)).all()
    strict = {"type": "vote", "quorum": 0.9}
    values = column(storage, KNOWN, finish(consensus(storage, SAMPLES, out="semantic@v", method=strict)), "semantic@v")
    assert (values["g/000"] == 255).all() and (values["g/001"] == classes(255, 1, 1, 1)).all()


def test_a_tie_is_a_tie_whatever_the_order_of_the_sums() -> None:
    maps = [np.array([m], np.uint8) for m in (0, 1, 1, 1)]
    winner, share = vote(maps, [0.6, 0.1, 0.2, 0.3], 2)
    assert winner[0] == 0 and share[0] == pytest.approx(0.5)


def test_smooth_votes_heed_the_surroundings_but_fill_no_abstention() -> None:
    labels = np.zeros((1, 9, 9), np.uint8)
    labels[0, 4, 4], labels[0, 0, 0] = 1, 255
    plain, _ = vote([labels], [1.0], 2)
    smooth, share = vote([labels], [1.0], 2, smooth=1.0)
    assert plain[0, 4, 4] == 1 and smooth[0, 4, 4] == 0 and 0.5 < share[0, 4, 4] < 1
    assert smooth[0, 0, 0] == 255 and share[0, 0, 0] == 0


def test_median_mean_and_copy_use_what_is_there(storage: Storage) -> None:
    samples = [
        {"depth@x": depth(1), "depth@y": depth(2), "depth@z": depth(9)},
        {"depth@x": None, "depth@y": depth(2), "depth@z": depth(4)},
    ]
    choices = {
        "depth@median": {"method": "median"},
        "depth@mean": {"method": {"type": "mean", "weights": {"z": 2}}},
        "depth@copy": {"method": "copy", "of": ["depth@x", "depth@z"]},
    }
    made = finish(consensus(storage, samples, columns=choices))
    found = {
        n: [float(v.max()) for v in column(storage, KNOWN, made, f"depth@{n}").values() if v is not None]
        for n in ("median", "mean", "copy")
    }
    assert found["median"] == [2, 3] and found["copy"] == [1, 4]
    assert found["mean"] == pytest.approx([21 / 4, 10 / 3])
    assert made.body["agreement"]["depth@median"]["mae"][0][1] == 1.0


def test_mean_of_directions_has_length_one_and_agreement_is_an_angle(storage: Storage) -> None:
    up, side = np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 3), np.float32)
    up[..., 2], side[..., 0] = 1, 1
    made = finish(consensus(storage, [{"normals@x": up, "normals@y": side}], out="normals@mean", method="mean"))
    (value,) = column(storage, KNOWN, made, "normals@mean").values()
    assert value is not None and np.allclose(np.linalg.norm(value, axis=-1), 1)
    assert made.body["agreement"]["normals@mean"]["angle"][0][1:] == pytest.approx([90, 45], abs=1e-3)


def test_mistakes_are_said(storage: Storage) -> None:
    with pytest.raises(ValidationError, match="either out and method, or columns"):
        consensus(storage, SAMPLES, out="semantic@vote")
    with pytest.raises(RecipeError, match="'vote' is for segmentation"):
        finish(consensus(storage, [{"depth@x": depth(1)}], out="depth@vote", method="vote"))
    with pytest.raises(RecipeError, match="weights for q, but the sources are semantic@x"):
        finish(consensus(storage, SAMPLES, out="semantic@vote", method={"type": "vote", "weights": {"q": 2}}))
    with pytest.raises(RecipeError, match="nothing to find a consensus of for 'depth@c'"):
        finish(consensus(storage, SAMPLES, out="depth@c", method="median"))


ENDED = modalities(
    note={"type": "text", "length": 16},
    pos={"type": "tags", "tags": ["A", "B", "C"], "length": 6},
    pulse={"type": "series", "steps": 5},
)


@pytest.mark.parametrize(
    ("name", "expert", "person", "read"),
    [
        ("note", "elephant", "cat", lambda v: ENDED["note"].words(v)),
        ("pos", "A B C A", "C C", lambda v: ENDED["pos"].words(v)),
        ("pulse", [1, 2, 3, 4], [9, 9], lambda v: v[np.isfinite(v)].tolist()),
    ],
)
def test_what_a_person_wrote_does_not_go_on_as_the_expert_did(
    storage: Storage, name: str, expert: Any, person: Any, read: Any
) -> None:
    kind = ENDED[name]
    rows = [(expert, person), (expert, None), (None, person), (person, expert)]
    samples = [
        {f"{name}@{who}": None if v is None else kind.fit(v) for who, v in zip(("net", "human"), row, strict=True)}
        for row in rows
    ]
    labels = ingested(storage, ENDED, {"g": samples})
    stage = ConsensusStage(stage="consensus", data="labels", out=f"{name}@out", method="copy")
    made = finish(step(stage, storage, ENDED, labels=labels))
    assert [read(v) for v in column(storage, ENDED, made, f"{name}@out").values()] == [person, expert, person, expert]


def test_tags_that_go_on_are_no_equal_ones_and_such_steps_are_made_anew(storage: Storage) -> None:
    kind = ENDED["pos"]
    samples = [{"pos@a": kind.fit(a), "pos@b": kind.fit(b)} for a, b in (("A B", "A B C C"), ("A", "A"))]
    stage = ConsensusStage(stage="consensus", data="labels", out="pos@out", method="copy", of=("pos@a", "pos@b"))
    made = finish(step(stage, storage, ENDED, labels=ingested(storage, ENDED, {"g": samples})))
    assert made.body["agreement"]["pos@out"]["equal"][0][1] == pytest.approx((2 / 4 + 1) / 2)
    assert stage.revised_for(ENDED) == {"longer tags": 2}
    people = ConsensusStage(stage="consensus", data="labels", out="note@out", method="copy")
    assert people.revised_for(ENDED) == {"answers as a whole": 2}
    assert people.model_copy(update={"of": ("note@a", "note@b")}).revised_for(ENDED) == {}
    assert ConsensusStage(stage="consensus", data="labels", out="semantic@v", method="vote").revised_for(KNOWN) == {}


def test_points_agree_by_their_places(storage: Storage) -> None:
    """That a point is visible was a third number of it, the same of both: half as far apart as they are at most."""
    known = modalities(joints={"type": "keypoints", "points": ["a", "b", "c"]})
    one, other = {"a": [0.2, 0.3], "b": [0.4, 0.9], "c": [0.1, 0.1]}, {"a": [0.5, 0.6], "b": [0.8, 0.5]}
    samples = [{f"joints@{who}": known["joints"].fit(v) for who, v in (("x", one), ("y", other))}]
    stage = ConsensusStage(
        stage="consensus", data="labels", out="joints@out", method="copy", of=("joints@x", "joints@y")
    )
    made = finish(step(stage, storage, known, labels=ingested(storage, known, {"g": samples})))
    agreed = made.body["agreement"]["joints@out"]
    a, b = np.array([0.2, 0.3, 0.4, 0.9]), np.array([0.5, 0.6, 0.8, 0.5])
    assert agreed["mae"][0][1] == pytest.approx(np.abs(a - b).mean(), abs=1e-6)
    assert agreed["correlation"][0][1] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)
    assert stage.revised_for(known) == {"places of points": 2}
