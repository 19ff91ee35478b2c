"""Annotations: boxes as YOLO, VOC and LabelMe write them, one file a picture, and COCO's one file of all.

What holds a whole data set is written anew as one file a picture below `hyperloom-labels`, which a source reads; the
file itself is left alone. Names of classes come from the files, or from one beside them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from hyperloom.stages.modality import box_files
from hyperloom.stages.starter.pairing import Pairing, escaped, paired
from hyperloom.stages.starter.survey import DataFile, key
from hyperloom.stages.starter.truth import NAMES, UNNAMED, NotUnderstood, Truth, names_of

MOST = 50
"""Boxes of a sample, unless one has more."""


def box_truth(
    pictures: Sequence[DataFile], root: str, notes: Sequence[DataFile], given: Sequence[str], out: str
) -> tuple[Truth | None, list[str]]:
    """The boxes of pictures among these files, None where there are none; and what is to be said of files that are
    not used. Copies go below `out`. Raises NotUnderstood, naming a file."""
    for suffix in (".xml", ".txt", ".json"):
        files = [f for f in notes if f.suffix.lower() == suffix and f.stem.lower() not in NAMES]
        match = paired(pictures, root, files)
        if match is not None and (truth := _of_each(match, suffix, given)) is not None:
            return truth, [f"{f.path} belongs to no picture" for f in match.lost[:3]]
    for file in (f for f in notes if f.suffix.lower() == ".json"):
        if (coco := _coco(file)) is not None:
            return _of_coco(coco, file, pictures, root, out)
    return None, _refused(pictures, root, notes)


def _refused(pictures: Sequence[DataFile], root: str, notes: Sequence[DataFile]) -> list[str]:
    """What the reader of boxes says of files that look like annotations and are none that it reads."""
    sentences = []
    for suffix in (".xml", ".txt", ".json"):
        files = [f for f in notes if f.suffix.lower() == suffix and f.stem.lower() not in NAMES]
        match = paired(pictures, root, files)
        for file in [*(match.pairs.values() if match else ()), *(files if suffix != ".txt" else ())][:3]:
            try:
                with open(file.path, "rb") as opened:
                    box_files.parse(opened.read(), file.path, [str(i) for i in range(1000)])
            except (OSError, ValueError) as error:
                sentences.append(f"{file.path} is not used: {error}")
                break
    return sentences


def _of_each(match: Pairing, suffix: str, given: Sequence[str]) -> Truth | None:
    counts, names, highest = Counter[str](), Counter[str](), -1
    for picture, file in match.pairs.items():
        try:
            with open(file.path, encoding="utf-8") as opened:
                boxes = _boxes(opened.read(), suffix)
        except (OSError, ValueError, ElementTree.ParseError):
            boxes = None
        if boxes is None:
            return None
        counts[picture] = len(boxes)
        names.update(b for b in boxes if isinstance(b, str))
        highest = max([highest, *(b for b in boxes if isinstance(b, int))])
    if not sum(counts.values()):
        return None
    remarks = []
    classes = list(given) or sorted(names)
    if not classes:
        folder = next(iter(match.pairs.values())).folder
        near = names_of([folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))])
        classes = near[0] if near and len(near[0]) > highest else [f"class{i}" for i in range(highest + 1)]
        remarks = [f"names of {near[1]}" if near and classes is near[0] else UNNAMED]
    return _truth(classes, max(counts.values()), match.template, list(match.pairs), remarks)


def _truth(classes: list[str], most: int, template: str, keys: list[str], remarks: list[str]) -> Truth:
    definition = {"type": "boxes", "classes": classes, "most": max(MOST, most)}
    return Truth("objects", definition, {"path": template}, keys, remarks)


def _boxes(text: str, suffix: str) -> list[str | int] | None:
    """The class of each box of a file, by name or number; None for what holds no boxes."""
    if suffix == ".txt":
        rows = [line.split() for line in text.splitlines() if line.strip()]
        if any(len(row) not in (5, 6) or not row[0].isdecimal() for row in rows):
            return None
        return [int(row[0]) for row in rows]
    if suffix == ".xml":
        root = ElementTree.fromstring(text)
        return [(o.findtext("name") or "").strip() for o in root.iter("object")] if root.tag == "annotation" else None
    value = json.loads(text)
    if isinstance(value, dict) and "shapes" in value:
        return [str(shape.get("label", "")).strip() for shape in value["shapes"]]
    if isinstance(value, list) and all(isinstance(b, dict) and "x0" in b for b in value):
        return [b.get("class", 0) for b in value]
    return None


def _coco(file: DataFile) -> dict[str, Any] | None:
    try:
        with open(file.path, encoding="utf-8") as opened:
            value = json.load(opened)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and {"images", "annotations", "categories"} <= value.keys() else None


def _of_coco(
    coco: dict[str, Any], file: DataFile, pictures: Sequence[DataFile], root: str, out: str
) -> tuple[Truth, list[str]]:
    by_name = {os.path.relpath(p.path, root): key(p, root) for p in pictures} | {p.base: key(p, root) for p in pictures}
    try:
        names = {c["id"]: str(c["name"]) for c in coco["categories"]}
        boxes: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in coco["images"]}
        sizes = {image["id"]: (float(image["width"]), float(image["height"])) for image in coco["images"]}
        for one in coco["annotations"]:
            if one["image_id"] in boxes:
                crowd = {"crowd": True} if one.get("iscrowd") else {}
                boxes[one["image_id"]].append({**_share(one, sizes[one["image_id"]], names), **crowd})
        present = {i["id"]: k for i in coco["images"] if (k := _of(str(i["file_name"]), by_name))}
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise NotUnderstood(f"{file.path} is COCO's file, and it lacks {error}. Next: export it again") from error
    if not present:
        example = coco["images"][0]["file_name"] if coco["images"] else "no picture"
        raise NotUnderstood(
            f"{file.path} names {example}, and no such picture lies below {root}. Next: give that folder"
        )
    _empty(out)
    for image, name in present.items():
        path = os.path.join(out, f"{name}.json")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as opened:
            json.dump(boxes[image], opened)
    most = max(len(b) for b in boxes.values())
    sentences = [f"{file.path} (COCO) was copied to {out}, a file a picture: write it there anew with init --force"]
    if len(present) < len(coco["images"]):
        sentences.append(f"{len(coco['images']) - len(present)} pictures of {file.path} do not lie below {root}")
    template = f"{escaped(out)}/{{key}}.json"
    return _truth([names[i] for i in sorted(names)], most, template, sorted(present.values()), []), sentences


def _empty(out: str) -> None:
    """Take away what an earlier `init` wrote: pictures that have no labels any more would keep theirs."""
    for folder, _, names in os.walk(out):
        for name in names:
            if name.endswith(".json"):
                os.remove(os.path.join(folder, name))


def _of(name: str, by_name: dict[str, str]) -> str:
    return by_name.get(name) or by_name.get(os.path.basename(name), "")


def _share(one: dict[str, Any], size: tuple[float, float], names: dict[Any, str]) -> dict[str, Any]:
    x, y, wide, high = map(float, one["bbox"])
    corners = {"x0": x / size[0], "y0": y / size[1], "x1": (x + wide) / size[0], "y1": (y + high) / size[1]}
    return {**corners, "class": names[one["category_id"]]}
