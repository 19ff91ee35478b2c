"""CVAT's XML (1.1, for images and for video), as a file or as the zip that CVAT gives.

    annotations = cvat.parse(data, path)        file.write(cvat_writer.written(annotations))

Boxes, polygons, masks, points, skeletons and tags; a turned box is the polygon of its corners. Of a video each frame
that has something shown is a picture, and what belongs to one track has the track's id. Polylines, ellipses and cuboids
are counted and left out. Attributes are kept as texts; `occluded`, `z_order` and `source` are among them. What was not
drawn by hand has its attribute `score`, of 0 to 1, as its score.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats.annotation import (
    AnnotatedPicture,
    Annotation,
    AnnotationSet,
    SeenPoint,
    ThingClass,
    within,
)
from hyperloom.stages.formats.documents import of_form, parse_xml
from hyperloom.stages.modality.runs import MaskRuns, painted

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

INSIDE = "annotations.xml"
"""The name of the file in CVAT's zip."""
KEPT = ("occluded", "z_order", "source")
LEFT_OUT = {"polyline": "polylines", "ellipse": "ellipses", "cuboid": "cuboids"}


@of_form("CVAT")
def parse(data: bytes, path: str) -> AnnotationSet:
    """The annotations of CVAT's file. Raises SourceError for what is none; faults stand at their picture."""
    root = parse_xml(_inner(data, path), path)
    if root.tag != "annotations":
        raise SourceError(f"{path}: its root is <{root.tag}>, not CVAT's <annotations>. Next: check the format")
    labels = [label for label in root.iter("label") if label.find("name") is not None]
    categories = _categories(labels)
    video = root.findall("track")
    pictures = list(_of_tracks(root, video)) if video else [_picture(image, i) for i, image in enumerate(_images(root))]
    seen = list(dict.fromkeys(a.label for p in pictures for a in p.annotations))
    known = {c.name for c in categories}
    categories += [
        ThingClass(len(categories) + 1 + i, name) for i, name in enumerate(n for n in seen if n not in known)
    ]
    distinct = {p.name: p for p in reversed(pictures)}
    twice = len(pictures) - len(distinct)
    remarks = [f"{twice} pictures stand twice, and the first counts"] if twice else []
    return AnnotationSet(categories, list(reversed(distinct.values())), remarks)


def author(data: bytes, path: str) -> tuple[str, str]:
    """Who has the task or job, and when it was changed last, as far as the file says. Raises SourceError."""
    root = parse_xml(_inner(data, path), path)
    named = [
        root.findtext(f"./meta/{part}/{who}/username") for part in ("job", "task") for who in ("assignee", "owner")
    ]
    dates = [root.findtext(f"./meta/{part}/updated") for part in ("job", "task", "project")]
    return next((n for n in named if n), ""), next((d for d in (*dates, root.findtext("./meta/dumped")) if d), "")


def _inner(data: bytes, path: str) -> bytes:
    """The XML of CVAT's zip, or the bytes themselves."""
    if data[:2] != b"PK":
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            names = [n for n in file.namelist() if n.rsplit("/", 1)[-1] == INSIDE]
            if len(names) != 1:
                raise SourceError(f"{path} holds no {INSIDE}. Next: export it as CVAT for images 1.1")
            return file.read(names[0])
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise SourceError(f"{path} is no whole zip: {error}. Next: export it again") from error


def _categories(labels: list[Element]) -> list[ThingClass]:
    """Labels of the project, with the points of skeletons; sublabels of these are no categories."""
    parts = {c.findtext("name") for c in labels if (c.findtext("parent") or "").strip()}
    names = dict.fromkeys(str(c.findtext("name")).strip() for c in labels if c.findtext("name") not in parts)
    points: dict[str, tuple[str, ...]] = {}
    for label in labels:
        parent = (label.findtext("parent") or "").strip()
        if parent:
            points[parent] = (*points.get(parent, ()), str(label.findtext("name")).strip())
    return [ThingClass(i + 1, name, points=points.get(name, ())) for i, name in enumerate(names)]


def _images(root: Element) -> Iterator[Element]:
    for image in root.iter("image"):
        if not image.get("name"):
            raise SourceError("an <image> of CVAT's file has no name. Next: export it again")
        yield image


def _picture(image: Element, place: int) -> AnnotatedPicture:
    picture = AnnotatedPicture(str(image.get("name")), _whole(image.get("width")), _whole(image.get("height")))
    picture.number, picture.group = _whole(image.get("id"), place), image.get("subset") or ""
    for number, shape in enumerate(image, 1):
        _add(picture, shape, str(shape.get("label", "")).strip(), shape.get("id") or number)
    return picture


def _of_tracks(root: Element, tracks: list[Element]) -> Iterator[AnnotatedPicture]:
    """Frames of a video in order, with what is shown in them."""
    size = root.find(".//original_size")
    width, height = (_whole(size.findtext(side) if size is not None else None) for side in ("width", "height"))
    frames: dict[int, AnnotatedPicture] = {}
    for track in tracks:
        for shape in track:
            frame = _whole(shape.get("frame"))
            if shape.get("outside") == "1":
                continue
            picture = frames.setdefault(frame, AnnotatedPicture(f"frame_{frame:06d}", width, height, frame))
            label = str(track.get("label", "")).strip()
            _add(picture, shape, label, _whole(track.get("id")) + 1)
    yield from (frames[number] for number in sorted(frames))


def _add(picture: AnnotatedPicture, shape: Element, label: str, number: Any) -> None:
    """One shape of a picture; what is wrong with it is a fault of the picture."""
    if shape.tag == "tag":
        picture.labels.append(label)
        return
    if shape.tag not in ("box", "polygon", "mask", "points", "skeleton"):
        picture.ignored.append(LEFT_OUT.get(shape.tag, f"<{shape.tag}>"))
        return
    try:
        number = int(number) if str(number).isdecimal() else number
        annotation = Annotation(label, number)
        _place(annotation, shape, picture)
        annotation.layer = _layer(shape.get("z_order"))
        annotation.attributes = {k: v for k in KEPT if (v := shape.get(k)) not in (None, "0", "manual")}
        annotation.attributes |= {str(a.get("name")): a.text or "" for a in shape.findall("attribute")}
        if "source" in annotation.attributes and (score := _share(annotation.attributes.get("score"))) is not None:
            annotation.score = score  # not drawn by hand
            del annotation.attributes["score"]
        picture.annotations.append(annotation)
    except (ValueError, TypeError, KeyError) as error:
        picture.faults.append(f"{shape.tag} {number} ({label}): {error}")


def _place(annotation: Annotation, shape: Element, picture: AnnotatedPicture) -> None:
    if shape.tag == "box":
        x0, y0, x1, y1 = (_number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
        if x1 < x0 or y1 < y0:
            raise ValueError(f"no box goes from {x0:g}, {y0:g} to {x1:g}, {y1:g}")
        turn = float(shape.get("rotation") or 0)
        if turn:
            annotation.polygons = (turned(x0, y0, x1, y1, turn),)
        else:
            within((x0, y0, x1, y1), picture)
            annotation.box = (x0, y0, x1, y1)
    elif shape.tag == "polygon":
        corners = tuple(v for pair in _pairs(shape) for v in pair)
        if len(corners) < 6:
            raise ValueError(f"a polygon of {len(corners) // 2} points")
        within(corners, picture)
        annotation.polygons = (corners,)
    elif shape.tag == "mask":
        annotation.mask = _mask(shape, picture)
    elif shape.tag == "points":
        pairs = _pairs(shape)
        names = [annotation.label] if len(pairs) == 1 else [f"{annotation.label}{i}" for i in range(1, len(pairs) + 1)]
        annotation.points = {name: (x, y, 2) for name, (x, y) in zip(names, pairs, strict=True)}
    else:
        annotation.points = dict(_joint(point) for point in shape.findall("points"))


def _joint(point: Element) -> tuple[str, SeenPoint]:
    (x, y), *_ = _pairs(point)
    seen = 0 if point.get("outside") == "1" else 1 if point.get("occluded") == "1" else 2
    return str(point.get("label", "")).strip(), (x, y, seen) if seen else (0.0, 0.0, 0)


def _mask(shape: Element, picture: AnnotatedPicture) -> MaskRuns:
    """MaskRuns row by row of a window of the picture."""
    import numpy as np

    if not picture.width or not picture.height:
        raise ValueError("a mask of a picture whose sides are not given")
    left, top, width, height = (round(_number(shape, name)) for name in ("left", "top", "width", "height"))
    counts = [int(v) for v in str(shape.get("rle", "")).split(",")]
    if min(counts) < 0 or sum(counts) != width * height:
        raise ValueError(f"its runs cover {sum(counts)} pixels, its window {width}x{height} has {width * height}")
    if left < 0 or top < 0 or left + width > picture.width or top + height > picture.height:
        raise ValueError(f"its window {width}x{height} at {left}, {top} reaches out of the picture")
    mask = np.zeros((picture.height, picture.width), bool)
    mask[top : top + height, left : left + width] = painted(counts).reshape(height, width)
    return MaskRuns.of(mask)


def turned(
    x0: float, y0: float, x1: float, y1: float, degrees: float, about: tuple[float, float] | None = None
) -> tuple[float, ...]:
    """The corners of a box that is turned clockwise about a point, by default its middle."""
    middle = about or ((x0 + x1) / 2, (y0 + y1) / 2)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners: list[float] = []
    for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1)):
        right, down = x - middle[0], y - middle[1]
        corners += [middle[0] + cosine * right - sine * down, middle[1] + sine * right + cosine * down]
    return tuple(corners)


def _pairs(shape: Element) -> list[tuple[float, float]]:
    pairs = []
    for pair in str(shape.get("points", "")).split(";"):
        x, y = (float(v) for v in pair.split(","))
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"no point is {pair}")
        pairs.append((x, y))
    return pairs


def _number(shape: Element, name: str) -> float:
    value = float(shape.get(name) or "nan")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {shape.get(name)!r}, no number")
    return value


def _share(text: Any) -> float | None:
    """A number of 0 to 1; None for what else an attribute of that name may say."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 <= value <= 1 else None


def _layer(text: str | None) -> int:
    """What was sent to the back lies below 0."""
    plain = (text or "").strip()
    return -_whole(plain[1:]) if plain.startswith("-") else _whole(plain)


def _whole(text: str | None, instead: int = 0) -> int:
    return int(text) if text is not None and text.strip().isdecimal() else instead
