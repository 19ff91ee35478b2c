"""Outputs: what a network's tensors most likely are, told by their shapes, by their numbers on three samples, and by
names in the file. Each guess is a modality (without size), a decoder as a recipe writes it, and remarks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperloom.stages.label.catalogue import usual_classes
from hyperloom.stages.label.decode.activation import SLACK, ScoreKind
from hyperloom.stages.modality import Size

COCO = 80
SETS = (10, 100, 365, 1000, 1001)
"""Numbers of classes of the sets that networks are trained on most."""
GROUPS, KINDS = [[0], [1, 3], [2, 5, 7]], ["people", "bicycles", "vehicles"]
"""What of COCO's numbers is a channel of a detector's maps, and what the channels are called."""
SPARSE = 0.1
"""Where half of a map lies no higher above its low numbers than this share of the span, most of it is nothing."""
CERTAIN = 0.85
"""The share of pixels near 0 or 1 from which a map of 0..1 is a mask."""
DENSE = r"depth|disp|midas|dpt|mono|edge|hed|contour|saliency|heat|height|albedo|density"
WORDS = {"depth": r"depth|disp|midas|dpt|mono", "edges": r"edge|hed|contour|pidi", "normals": "normal", "flow": "flow"}


@dataclass
class Guess:
    """What a network tells. `classes`: how many, where these are named by number only; `mend`: where to look."""

    modality: str
    definition: dict[str, Any]
    decode: dict[str, Any]
    remarks: list[str] = field(default_factory=list)
    unnamed: bool = False
    family: str = ""
    sparse: bool = False
    """Are its maps nearly nothing nearly everywhere, as of detections and edges?"""
    open: str = ""
    """The other reading that would be as good, for a question: segmentation or dense."""


@dataclass(frozen=True)
class NetworkOutputs:
    """What was seen: tensors (n, ...) by name, the layout and the height and width of the network's input, how it
    ends, the names of its classes if its file or one beside it has them, and the file's name."""

    tensors: dict[str, np.ndarray]
    layout: str
    tile: Size
    ending: ScoreKind | None
    names: Sequence[str]
    file: str
    task: str = ""
    choices: int | None = None
    """Of how many classes the first output is the highest, where the file shows it."""


def guess(seen: NetworkOutputs) -> Guess | None:
    """None where nothing here reads such outputs."""
    first = next(iter(seen.tensors.values()))
    if len(seen.tensors) > 1 and (pair := _boxes_and_scores(seen)) is not None:
        return pair
    if first.ndim == 4 or (first.ndim == 3 and _is_map(first.shape[1:], seen.tile)):
        return _map(first, seen)
    if first.ndim == 3:
        return _rows(first, seen)
    flat = first.reshape(len(first), -1)
    return (
        _whole(flat, seen) if first.size == flat.size and max(first.shape[1:], default=0) == flat.shape[1] > 1 else None
    )


def _whole(rows: np.ndarray, seen: NetworkOutputs) -> Guess:
    """One row of numbers a picture: scores of classes, or an embedding."""
    count = rows.shape[1]
    adds_up = bool(rows.min() >= -SLACK and np.abs(rows.sum(1) - 1).max() < 0.05)
    classes = len(seen.names) == count or adds_up or seen.ending == "probabilities" or count in SETS
    if seen.task == "embedding" or (seen.task != "category" and not classes):
        remark = f"{count} numbers of the whole picture that are no probabilities, taken as an embedding"
        return Guess("embedding", {"type": "embedding", "length": count}, {"type": "choice"}, [remark])
    result = _classes(count, seen)
    result.modality, result.definition["type"], result.decode = "kind", "category", {"type": "choice"}
    return result


def _is_map(sides: Sequence[int], tile: Size) -> bool:
    down, across = tile[0] / sides[0], tile[1] / sides[1]
    return abs(down - across) <= 0.1 * max(down, across)


def channels_last(raw: np.ndarray, layout: str, tile: Size) -> np.ndarray:
    """(n, h, w, C) of maps in either order; the network's own unless only the other one fits the frame."""
    if raw.ndim == 3:
        return raw[..., None]
    first, last = np.moveaxis(raw, 1, -1), raw
    order = (first, last) if layout == "nchw" else (last, first)
    return next((m for m in order if _is_map(m.shape[1:3], tile)), order[0])


def _map(raw: np.ndarray, seen: NetworkOutputs) -> Guess:
    maps = channels_last(raw, seen.layout, seen.tile)
    decode: dict[str, Any] = {}
    if raw.ndim == 4 and maps.shape[1:] != (np.moveaxis(raw, 1, -1) if seen.layout == "nchw" else raw).shape[1:]:
        decode["layout"] = "nhwc" if seen.layout == "nchw" else "nchw"
    count = maps.shape[-1]
    if count == 1 or seen.task == "dense":
        result = _one(maps, seen) if count == 1 else _numbers(maps, seen, "map")
    elif _is_fastestdet(maps):
        result = _fastestdet(seen)
    elif count == 2 and (seen.task == "flow" or "flow" in seen.file.lower()):
        result = Guess("flow", {"type": "dense", "channels": 2, "unit": "px"}, {"type": "dense"})
    elif count == 3 and seen.task in ("", "normals") and np.abs(np.linalg.norm(maps, axis=-1) - 1).max() < 0.05:
        result = Guess("normals", {"type": "dense", "channels": 3, "direction": True}, {"type": "dense"})
    else:
        result = _classes(count, seen)
        if count <= 3 and not seen.names:
            result.open = "dense"
    result.decode = {**result.decode, **decode}
    return result


def _one(maps: np.ndarray, seen: NetworkOutputs) -> Guess:
    low, high = float(maps.min()), float(maps.max())
    whole = bool((maps == np.rint(maps)).all())
    if seen.task != "dense" and low >= 0 and whole and high > 1:
        result = _classes(max(int(high) + 1, len(seen.names), seen.choices or 0), seen)
        if not (seen.names or seen.choices):
            result.decode["map"] = list(range(int(high) + 1))  # what is not in it is unknown, and no error
            result.remarks.append(
                f"its class numbers go to {high:.0f} on three samples; where it gives others, they are unknown: add "
                "them to `classes` and `map`"
            )
        return result
    inside = low >= -SLACK and high <= 1 + SLACK
    sure = ((maps < 0.1) | (maps > 0.9)).mean() >= CERTAIN
    named = seen.task == "dense" or _word(seen.file)
    if not named and (seen.task == "segmentation" or (inside and sure) or (seen.ending == "probabilities" and sure)):
        result = _classes(2, seen, ["background", "object"])
        result.open = "" if seen.task else "dense"
        return result
    result = _numbers(maps, seen, _word(seen.file) or "map")
    result.open = "" if named or not inside else "segmentation"
    return result


def _numbers(maps: np.ndarray, seen: NetworkOutputs, name: str) -> Guess:
    low, high = float(maps.min()), float(maps.max())
    few, half = np.percentile(maps, [5, 50])
    depth = _word(seen.file) == "depth"  # what is near may be a strip, and all the rest is far and not nothing
    sparse = not depth and bool(half - few <= SPARSE * (high - few))  # also where three samples show nothing at all
    definition: dict[str, Any] = {"type": "dense", "range": [0, 1]}
    if maps.shape[-1] > 1:
        definition["channels"] = maps.shape[-1]
    span = f"its numbers are {low:.3g} to {high:.3g} on three samples"
    if low >= -SLACK and high <= 1 + SLACK:
        return Guess(name, definition, {"type": "dense"}, [span], sparse=sparse)
    remark = (
        f"{span}, in no unit that is known here, so each picture's are brought to 0..1. Of a metric network: leave "
        "`normalise` out, and give the modality its unit and range"
    )
    return Guess(name, definition, {"type": "dense", "normalise": "percentiles"}, [remark], sparse=sparse)


def _classes(count: int, seen: NetworkOutputs, usual: Sequence[str] = ()) -> Guess:
    classes, remarks = _named(count, seen, usual)
    definition = {"type": "segmentation", "classes": classes}
    return Guess("semantic", definition, {"type": "classes"}, remarks, unnamed=classes[0] == "class0")


def _named(count: int, seen: NetworkOutputs, usual: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Names of so many classes, and what is to be said of them."""
    if len(seen.names) == count or usual:
        return list(seen.names) if len(seen.names) == count else list(usual), []
    known = usual_classes(count)
    if known is None:
        remark = "the file does not name its classes: put their names here, in its order"
        return [f"class{i}" for i in range(count)], [remark]
    name, classes = known
    return list(classes), [
        f"the file does not name its {count} classes: {name} has as many, so they are called as there"
    ]


def _is_fastestdet(maps: np.ndarray) -> bool:
    """A grid of objectness, four numbers of a box, and probabilities of classes."""
    if maps.shape[-1] < 7:
        return False
    sure, given = maps[..., 0], maps[..., 5:].sum(-1)
    return bool(sure.min() >= -SLACK and sure.max() <= 1 + SLACK and np.abs(given - 1).max() < 0.01)


def _fastestdet(seen: NetworkOutputs) -> Guess:
    remark = "a grid of detections (FastestDet), drawn as boxes; by COCO's numbers: person; bicycle, motorbike; "
    definition = {"type": "dense", "range": [0, 1], "channels": len(GROUPS), "names": KINDS}
    decode = {"type": "fastestdet", "groups": GROUPS}
    return Guess("objects", definition, decode, [f"{remark}car, bus, truck"], family="fastestdet", sparse=True)


def _rows(raw: np.ndarray, seen: NetworkOutputs) -> Guess | None:
    """One tensor of rows: YOLO, or box, score, class."""
    turned = raw.shape[1] < raw.shape[2] and raw.shape[1] > 4
    rows = raw.transpose(0, 2, 1) if turned else raw
    width = rows.shape[2]
    if width < 5:
        return None
    units = {"units": "shares"} if float(np.abs(rows[..., :4]).max()) <= 2 else {}
    if width == 6 and not turned and (rows[..., 5] == np.rint(rows[..., 5])).all() and rows[..., 4].max() <= 1 + SLACK:
        count = len(seen.names) or max(COCO, int(rows[..., 5].max()) + 1)
        return _detector(count, {"type": "detections", "chosen": True, **units}, seen)
    known = len(seen.names) or (COCO if width in (COCO + 4, COCO + 5) else 0)
    objectness = width == known + 5 if known else not turned
    count = width - 4 - objectness
    if count < 1 or (known and count != known):
        return None
    more = {"objectness": True} if objectness else {}
    return _detector(count, {"type": "detections", "format": "cxcywh", **more, **units}, seen)


def _boxes_and_scores(seen: NetworkOutputs) -> Guess | None:
    """Two or three tensors: boxes, scores, perhaps ids of classes."""
    shapes = {name: t.shape for name, t in seen.tensors.items()}
    corners = next((n for n, s in shapes.items() if len(s) == 3 and s[-1] == 4), None)
    if corners is None:
        return None
    rows = shapes[corners][1]
    scores = next((n for n, s in shapes.items() if n != corners and len(s) == 3 and s[1] == rows), None)
    flat = [n for n, s in shapes.items() if len(s) == 2 and s[1] == rows]
    box = seen.tensors[corners]
    ordered = bool((box[..., 2] >= box[..., 0]).all() and (box[..., 3] >= box[..., 1]).all())
    units = {"units": "shares"} if float(np.abs(box).max()) <= 2 else {}
    decode: dict[str, Any] = {
        "type": "detections",
        "boxes": corners,
        "format": "xyxy" if ordered else "cxcywh",
        **units,
    }
    if scores is not None:
        given = seen.tensors[scores]
        count = given.shape[-1]
        if np.abs(given.sum(-1) - 1).max() < 0.01 and count != len(seen.names):
            decode["background"] = int(given.mean((0, 1)).argmax())
            count -= 1
        return _detector(count, {**decode, "scores": scores}, seen)
    if len(flat) == 2:
        whole = [bool((seen.tensors[n] == np.rint(seen.tensors[n])).all()) for n in flat]
        score, ids = flat if whole[1] and not whole[0] else flat[::-1]
        count = len(seen.names) or max(COCO, int(seen.tensors[ids].max()) + 1)
        return _detector(count, {**decode, "scores": score, "labels": ids}, seen)
    return None


def _detector(count: int, decode: dict[str, Any], seen: NetworkOutputs) -> Guess:
    classes, remarks = _named(count, seen)
    definition = {"type": "boxes", "classes": classes, "most": 50}
    return Guess("objects", definition, decode, remarks, unnamed=classes[0] == "class0")


def _word(file: str) -> str:
    """The modality that a file's name speaks of; empty for none."""
    base = os.path.basename(file).lower()
    named = next((name for name, words in WORDS.items() if re.search(words, base)), "")
    return named or ("map" if re.search(DENSE, base) else "")
