"""Annotations: boxes as YOLO, VOC and LabelMe write them, one file a picture, and COCO's one file of all.

What holds a whole data set is written anew as one file a picture below `hyperloom-labels`, which a source reads; the
file itself is left alone. Names of classes come from the files, or from one beside them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from hyperloom.stages.ingest.frame import same_aspect
from hyperloom.stages.modality import box_files, imagefile
from hyperloom.stages.modality.choice import whole
from hyperloom.stages.starter.coco_names import CocoNames
from hyperloom.stages.starter.pairing import Pairing, escaped, paired
from hyperloom.stages.starter.readable import left_out, shortened
from hyperloom.stages.starter.survey import DataFile, key
from hyperloom.stages.starter.truth import NAMES, UNNAMED, NotUnderstood, Truth, from_one, names_of

MOST = 50
"""Boxes of a sample, unless one has more."""
AS_STORED = "the source `annotated` with format: coco, and orientation: ignore on the picture, takes both as stored"
FIRST = 1 << 16
"""Bytes in which most pictures say their size."""
ANY = [str(number) for number in range(30_000)]
"""Classes of which a file may name any by its number: the largest sets have some 22,000."""


def box_truth(
    pictures: Sequence[DataFile], root: str, notes: Sequence[DataFile], given: Sequence[str], out: str
) -> tuple[Truth | None, list[str]]:
    """The boxes of pictures among these files, None where there are none; and what is to be said of files that are
    not used. Copies go below `out`. Raises NotUnderstood, naming a file."""
    for suffix in (".xml", ".txt", ".json"):
        files = [f for f in notes if f.suffix.lower() == suffix and f.stem.lower() not in NAMES]
        match = paired(pictures, root, files)
        if match is not None and (each := _of_each(match, given)) is not None:
            truth, torn = each
            return truth, [*torn, *(f"{f.path} belongs to no picture" for f in match.lost[:3])]
    wholes = [(f, coco) for f in notes if f.suffix.lower() == ".json" and (coco := _coco(f)) is not None]
    if wholes:
        return _of_coco(wholes, pictures, root, out)
    return None, _refused(pictures, root, notes, given)


def _refused(pictures: Sequence[DataFile], root: str, notes: Sequence[DataFile], given: Sequence[str]) -> list[str]:
    """What the reader of boxes says of files that look like annotations and are none that it reads."""
    sentences = []
    for suffix in (".xml", ".txt", ".json"):
        files = [f for f in notes if f.suffix.lower() == suffix and f.stem.lower() not in NAMES]
        match = paired(pictures, root, files)
        for file in [*(match.pairs.values() if match else ()), *(files[:3] if suffix != ".txt" else ())]:
            try:
                _boxes(file, given)
            except (OSError, ValueError) as error:
                sentences.append(f"{file.path} is not used: {error}")
                break
    return sentences


def _of_each(match: Pairing, given: Sequence[str]) -> tuple[Truth, list[str]] | None:
    """Of a file a picture, and what is to be said of those that cannot be read, as the run will leave them out; None
    where these are most, or no file holds a box."""
    counts, names, torn = Counter[str](), Counter[str](), list[str]()
    numbers = set[int]()
    for picture, file in match.pairs.items():
        try:
            boxes = _boxes(file, given)
        except (OSError, ValueError) as error:
            torn.append(left_out(file.name, error))
            continue
        counts[picture] = len(boxes)
        names.update(b for b in boxes if isinstance(b, str))
        numbers |= {b for b in boxes if isinstance(b, int)}
    if not sum(counts.values()) or len(torn) > len(counts):
        return None
    remarks = []
    classes = list(given) or sorted(names)
    if not classes:
        classes, remark = _by_number(numbers, next(iter(match.pairs.values())).folder)
        remarks = [remark]
    truth = _truth(classes, max(counts.values()), match.template, list(counts), remarks)
    return truth, shortened(torn, "label files")


def _by_number(numbers: set[int], folder: str) -> tuple[list[str], str]:
    """Names of the classes of these numbers, by a file beside the labels, and what is to be said of them."""
    near = names_of([folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))])
    names = near.names if near else []
    if near and near.first == 1 and min(numbers) >= 1 and max(numbers) == len(names):
        names = from_one(names)
    if near and len(names) > max(numbers):
        return names, f"names of {near.path}"
    return [f"class{i}" for i in range(max(numbers) + 1)], UNNAMED


def _truth(classes: list[str], most: int, template: str, keys: list[str], remarks: list[str]) -> Truth:
    definition = {"type": "boxes", "classes": classes, "most": max(MOST, most)}
    return Truth("objects", definition, {"path": template}, keys, remarks)


def _boxes(file: DataFile, given: Sequence[str]) -> list[str | int]:
    """The class of each box of a file, by name or number, as the run will read it with the user's classes. Raises
    ValueError for what holds no boxes, OSError."""
    with open(file.path, "rb") as opened:
        data = opened.read()
    classes = given or ANY
    boxes = box_files.parse(data, file.path, classes)
    if boxes is None:
        value = json.loads(data)
        if not (isinstance(value, list) and all(isinstance(b, dict) and "x0" in b for b in value)):
            raise ValueError(f"{file.base} holds no boxes")
        boxes = value
    return [_class(box, file.base, len(classes)) for box in boxes]


def _class(box: dict[str, Any], base: str, classes: int) -> str | int:
    value = box.get("class")
    if isinstance(value, str):
        return value
    if (number := whole(value)) is not None and 0 <= number < classes:
        return number
    raise ValueError(f"{base} has a box of the class {value!r}, which is no name and no number below {classes}")


def _coco(file: DataFile) -> dict[str, Any] | None:
    try:
        with open(file.path, encoding="utf-8-sig") as opened:
            value = json.load(opened)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and {"images", "annotations", "categories"} <= value.keys() else None


class CocoFile(NamedTuple):
    """A file of COCO's that can be used: its pictures, names of classes by id, boxes by image."""

    file: DataFile
    named: CocoNames
    classes: dict[str, str]
    boxes: dict[str, list[dict[str, Any]]]
    sizes: dict[str, tuple[float, float]]
    """Width and height by image."""
    example: str


def _of_coco(
    wholes: Sequence[tuple[DataFile, dict[str, Any]]], pictures: Sequence[DataFile], root: str, out: str
) -> tuple[Truth, list[str]]:
    """Of the file that names most of the pictures; one that lacks something ends nothing where another is whole."""
    every, broken = list[CocoFile](), list[str]()
    for file, coco in wholes:
        try:
            every.append(_read(file, coco, CocoNames(coco, pictures, root)))
        except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            broken.append(f"{file.path} is COCO's file, and it lacks {error}")
    if not every:
        raise NotUnderstood(f"{broken[0]}. Next: export it again")
    one = max(every, key=lambda each: len(each.named.keys))
    if not one.named.keys:
        raise NotUnderstood(
            f"{one.file.path} names {one.example}, and no such picture lies below {root}. Next: give that folder"
        )
    odd = _of_another_form(one, {key(p, root): p for p in pictures})
    if len(odd) == len(one.named.keys):
        raise NotUnderstood(f"{one.file.path}: {next(iter(odd.values()))}. Next: {AS_STORED}")
    keys = {image: name for image, name in one.named.keys.items() if name not in odd}
    _copied(one, keys, out)
    path = one.file.path
    sentences = [f"{path} (COCO) was copied to {out}, a file a picture: write it there anew with init --force"]
    sentences += one.named.remarks(path)
    sentences += [f"{name} has no label: {why}. Next: {AS_STORED}" for name, why in list(odd.items())[:1]]
    sentences += [f"{len(odd) - 1} more pictures have none for the same reason"] if len(odd) > 1 else []
    others = [each.file for each in every if each is not one]
    sentences += [f"{f.path} (COCO) is not used: one file is. Next: put both into one" for f in others]
    sentences += [f"{sentence}: it is not used. Next: export it again" for sentence in broken]
    order = sorted(one.classes, key=lambda i: (not i.isdecimal(), int(i) if i.isdecimal() else 0, i))
    most, template = max(len(b) for b in one.boxes.values()), f"{escaped(out)}/{{key}}.json"
    names = [one.classes[i] for i in order]
    sentences += [
        f"{path} has {n} categories called {c!r}: they are one class" for c, n in Counter(names).items() if n > 1
    ]
    return _truth(list(dict.fromkeys(names)), most, template, sorted(keys.values()), []), sentences


def _of_another_form(one: CocoFile, pictures: dict[str, DataFile]) -> dict[str, str]:
    """Pictures, by their keys, that people see in another form than the file gives their boxes for, and why: boxes in
    shares of the one would lie elsewhere in the other."""
    odd = {}
    for image, name in one.named.keys.items():
        width, height = one.sizes[image]
        head = _head(pictures[name].path)
        if head is None or min(width, height) < 1 or same_aspect((round(height), round(width)), head.shown):
            continue
        turned = head.sides != head.shown and same_aspect((round(height), round(width)), head.sides)
        why = ", as it is stored; EXIF turns it" if turned else ""
        shown = f"{head.shown[1]}x{head.shown[0]} (width x height)"
        odd[name] = f"its boxes are of a picture of {width:g}x{height:g}{why}; it is {shown}"
    return odd


def _head(path: str) -> imagefile.Header | None:
    """What a picture says of itself, most often in its first bytes; None of what cannot be read."""
    for length in (FIRST, -1):
        try:
            with open(path, "rb") as file:
                return imagefile.header(file.read(length), path)
        except (OSError, ValueError):
            continue
    return None


def _copied(one: CocoFile, keys: dict[str, str], out: str) -> None:
    """Write a file of boxes below `out` for each image of `keys`, which has the pictures' keys."""
    _empty(out)
    for image, name in keys.items():
        path = os.path.join(out, f"{name}.json")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as opened:
            json.dump(one.boxes[image], opened)


def _read(file: DataFile, coco: dict[str, Any], named: CocoNames) -> CocoFile:
    """Raises KeyError, TypeError, ValueError and others for what it lacks."""
    classes = {str(c["id"]): str(c["name"]) for c in coco["categories"]}
    example = coco["images"][0]["file_name"] if coco["images"] else "no picture"
    sizes = {str(image["id"]): (float(image["width"]), float(image["height"])) for image in coco["images"]}
    return CocoFile(file, named, classes, _shares(coco, classes, sizes), sizes, example)


def _shares(
    coco: dict[str, Any], names: dict[str, str], sizes: dict[str, tuple[float, float]]
) -> dict[str, list[dict[str, Any]]]:
    """The boxes of each image by its id, in shares of it. Ids may be numbers or letters, also of one file."""
    boxes: dict[str, list[dict[str, Any]]] = {str(image["id"]): [] for image in coco["images"]}
    for one in coco["annotations"]:
        if (image := str(one["image_id"])) in boxes:
            crowd = {"crowd": True} if one.get("iscrowd") else {}
            boxes[image].append({**_share(one, sizes[image], names), **crowd})
    return boxes


def _empty(out: str) -> None:
    """Take away what an earlier `init` wrote: pictures that have no labels any more would keep theirs."""
    for folder, _, names in os.walk(out):
        for name in names:
            if name.endswith(".json"):
                os.remove(os.path.join(folder, name))


def _share(one: dict[str, Any], size: tuple[float, float], names: dict[str, str]) -> dict[str, Any]:
    x, y, wide, high = map(float, one["bbox"])
    corners = {"x0": x / size[0], "y0": y / size[1], "x1": (x + wide) / size[0], "y1": (y + high) / size[1]}
    return {**corners, "class": names[str(one["category_id"])]}
