"""The networks of recipes/street.yaml, set up as it says, on real frames: each at least as good as was measured.

Needs the published frames and networks (docs/street.md), in the folder that HYPERLOOM_SHARED names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("HYPERLOOM_SHARED", ROOT.parent / "shared"))
STREET, RGBD = SHARED / "data/street", SHARED / "data/rgbd"
VOID = 255
pytestmark = pytest.mark.skipif(
    not (STREET / "images").is_dir() or not (SHARED / "experts").is_dir(),
    reason=f"no street frames and networks in {SHARED}; set HYPERLOOM_SHARED to the folder that holds them",
)


@pytest.fixture(scope="module")
def street() -> Any:
    os.environ["HYPERLOOM_SHARED"] = str(SHARED)
    return recipe.load(ROOT / "recipes/street.yaml").recipe


@pytest.fixture(scope="module")
def drive(street) -> tuple[np.ndarray, np.ndarray]:
    """Eight frames of the drive 0016E5 as photo@camera, and their truth as semantic@truth."""
    import cv2

    found = sorted((STREET / "images").glob("0016E5_*.jpg"))[10:200:24]
    photos = [cv2.cvtColor(cv2.imread(str(f)), cv2.COLOR_BGR2RGB) for f in found]
    labels = [cv2.imread(str(STREET / "labels" / f"{f.stem}.png"), cv2.IMREAD_UNCHANGED) for f in found]
    semantic = street.modalities["semantic"]
    return np.stack(photos), np.stack([semantic.fit(np.where(x > 10, VOID, x)) for x in labels])


def answers(street: Any, out: str, photos: np.ndarray) -> dict[str, np.ndarray]:
    """What the recipe's expert that makes `out` says of photos; every answer passes its modality's check."""
    (expert,) = [e for e in street.steps["labels"].experts if out in e.out]
    function = expert.build(street.modalities, Storage("memory://street"))
    batch = expert.batch or 8
    parts = [function({"photo@camera": photos[i : i + batch]}) for i in range(0, len(photos), batch)]
    found = {c: np.concatenate([p[c] for p in parts]) for c in expert.out}
    for column, values in found.items():
        for value in values:
            street.modalities[column.partition("@")[0]].check(value)
    return found


def miou(found: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Mean intersection over union, of the classes that the truth has; a pixel without an answer is wrong."""
    known = truth != VOID
    scores = []
    for c in range(classes):
        said, is_ = (found == c) & known, truth == c
        if is_.any():
            scores.append((said & is_).sum() / (said | is_).sum())
    return float(np.mean(scores))


def test_deeplab_of_cityscapes(street, drive):
    photos, truth = drive
    found = answers(street, "semantic@deeplab", photos)
    classes = len(street.modalities["semantic"].classes)
    assert miou(found["semantic@deeplab"], truth, classes) > 0.58
    assert miou(found["soft@deeplab"].argmax(-1), truth, classes) > 0.55


def test_espnet(street, drive):
    photos, truth = drive
    found = answers(street, "semantic@espnet", photos)["semantic@espnet"]
    assert miou(found, truth, len(street.modalities["semantic"].classes)) > 0.42


def test_deeplab_of_pascal_knows_cars_and_abstains_elsewhere(street, drive):
    photos, truth = drive
    found = answers(street, "semantic@pascal", photos)["semantic@pascal"]
    car = street.modalities["semantic"].classes.index("Car")
    said, is_ = (found == car) & (truth != VOID), truth == car
    assert (said & is_).sum() / (said | is_).sum() > 0.75
    assert (found == VOID).mean() > 0.7


def test_fastestdet_scores_are_on_the_cars(street, drive):
    photos, truth = drive
    found = answers(street, "objects@fastestdet", photos)["objects@fastestdet"]
    classes = street.modalities["semantic"].classes
    is_ = truth == classes.index("Car")
    vehicles = found[..., 2]
    assert vehicles[is_].mean() > 10 * vehicles[~is_ & (truth != VOID)].mean()
    sky = truth == classes.index("Sky")
    assert found[sky].max(-1).mean() < 0.02


def test_pidinet_edges_are_where_classes_meet(street, drive):
    photos, truth = drive
    edges = answers(street, "edges@pidinet", photos)["edges@pidinet"][..., 0]
    border = np.zeros(truth.shape, bool)
    border[:, :, 1:] |= truth[:, :, 1:] != truth[:, :, :-1]
    border[:, 1:] |= truth[:, 1:] != truth[:, :-1]
    ranks = edges.ravel().argsort().argsort()[border.ravel()]
    positives, negatives = border.sum(), (~border).sum()
    area = (ranks.sum() - positives * (positives - 1) / 2) / (positives * negatives)
    assert area > 0.75


@pytest.mark.skipif(not RGBD.is_dir(), reason=f"no colour and depth pairs in {RGBD}")
def test_tcmonodepth_orders_pixels_by_true_inverse_depth(street):
    import cv2

    small = street.modalities["disparity"]
    scores = []
    for file in sorted(RGBD.glob("*.jpg")):
        photo = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        photo = street.modalities["photo"].fit(photo)
        depth = cv2.imread(str(file.with_name(f"{file.stem}_depth_mm.png")), cv2.IMREAD_UNCHANGED)
        depth = cv2.resize(depth, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_NEAREST)
        found = answers(street, "disparity@tcmono", photo[None])["disparity@tcmono"][0, ..., 0]
        known = depth > 0
        scores.append(rank_correlation(found[known], 1 / depth[known].astype(float)))
    assert len(scores) == 8 and np.median(scores) > 0.55


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, ties broken by position."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


@pytest.mark.parametrize("start", [0, 2, 4])
def test_init_tells_the_published_preprocess(drive, start: int) -> None:
    """`hyperloom init` gives these networks the pixels that their authors say, from any three frames."""
    from hyperloom.stages.starter.networks import look

    photos = list(drive[0][start : start + 3])
    depth = look(str(SHARED / "experts/tcmonodepth_small_192x320.onnx"), photos)
    assert (depth.column, depth.preprocess) == ("depth@tcmonodepth", {})
    boxes = look(str(SHARED / "experts/fastestdet_coco80_352.onnx"), photos)
    assert boxes.preprocess == {"channels": "bgr", "divide": 255} and boxes.guess.decode["type"] == "fastestdet"
    assert boxes.guess.definition["names"] == ["people", "bicycles", "vehicles"], "a legend says which colour is which"
