"""Label Studio's JSON: tasks with what people annotated and what models predicted.

    annotations = label_studio.parse(data, path)                        what people said, the latest of a task
    annotations = label_studio.parse(data, path, "predictions")         what models said

Boxes, polygons, brushes, keypoints and choices of pictures; a turned box is the polygon of its corners. Places are per
cent of the picture there and pixels here, to a billionth. Who annotated and when is kept, cancelled annotations are
none, and of several of one task the one changed last counts. Other kinds of regions, relations and answers, also those
to single regions, are counted and left out; a task that marks several pictures is a fault. The task's number is the
picture's; the whole task's `data` is among its attributes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats import brush
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet, categories_of, within
from hyperloom.stages.formats.cvat import turned
from hyperloom.stages.formats.documents import FORM, of_form, parse_json

OF_THE_WHOLE = ("choices", "textarea")
"""What is said of the whole picture, or of the region whose id it has."""
SHAPES = ("rectanglelabels", "polygonlabels", "brushlabels", "keypointlabels")
DIGITS = 9
AnswerKind = Literal["annotations", "predictions"]


@of_form("Label Studio")
def parse(data: bytes, path: str, kind: AnswerKind = "annotations") -> AnnotationSet:
    """The annotations of a file of tasks, or of one task. Raises SourceError for what is none; faults stand at their
    picture."""
    value = parse_json(data, path)
    tasks = value if isinstance(value, list) else [value]
    if not all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        raise SourceError(
            f"{path} is no file of Label Studio's tasks (the export JSON, not JSON-MIN). Next: export JSON"
        )
    pictures: dict[str, AnnotatedPicture] = {}
    twice = 0
    for picture in _named_apart([_picture(task, place, path, kind) for place, task in enumerate(tasks, 1)]):
        other = pictures.setdefault(picture.name, picture)
        if other is not picture:
            twice += 1
            if picture.at > other.at:  # a project exported twice: what was changed last counts
                pictures[picture.name] = picture
    sentences = [f"{twice} pictures stand twice, and what was changed last counts"] if twice else []
    labels = dict.fromkeys(a.label for p in pictures.values() for a in p.annotations)
    points = {a.label for p in pictures.values() for a in p.annotations if a.points and a.extent() and not a.box}
    categories = categories_of(labels)
    for category in categories:
        category.points = (category.name,) if category.name in points else ()
    return AnnotationSet(categories, list(pictures.values()), sentences)


def _picture(task: dict[str, Any], place: int, path: str, kind: AnswerKind) -> AnnotatedPicture:
    answers = [a for a in task.get(kind) or () if isinstance(a, dict) and not a.get("was_cancelled")]
    last = max(answers, key=lambda a: (_changed(a), _number_of(a)), default={})
    given = last.get("result")
    results = given if isinstance(given, list) else []
    regions = [r for r in results if isinstance(r, dict) and r.get("type") not in OF_THE_WHOLE]
    address, fault = _address(task["data"], [r for r in results if isinstance(r, dict)], task)
    if not address:
        raise SourceError(f"{path}: task {task.get('id', place)} names no picture. Next: check `data` of that task")
    picture = AnnotatedPicture(file_name(address, task), number=task.get("id", place))
    picture.attributes = {"data": task["data"]}
    picture.annotated = bool(answers)
    if not answers:
        return picture
    picture.faults += [fault] if fault else []
    picture.ignored += ["earlier annotations of a task"] * (len(answers) - 1)
    picture.at, picture.by = _changed(last), _author(last, kind)
    ids = {r.get("id") for r in regions} - {None}
    for place_, result in enumerate(results, 1):
        if isinstance(result, dict) and result.get("type") in OF_THE_WHOLE and result.get("id") in ids:
            picture.ignored.append(f"{result['type']} of single regions")
        else:
            _add(picture, result, place_, kind)
    return picture


def _address(data: dict[str, Any], results: list[dict[str, Any]], task: dict[str, Any]) -> tuple[str, str]:
    """That of the picture in which something is marked or of which something is said, by the name of its control; else
    of the first. With it, what keeps the task from being of one picture, else empty."""
    pictures = {name: value for name, value in data.items() if isinstance(value, str) and _is_picture(value)}
    first = next(iter(pictures.values()), "") or str(data.get("image") or "")
    ours = [r for r in results if r.get("type") in (*SHAPES, *OF_THE_WHOLE)]
    if any(r.get("item_index") for r in ours):
        return first, "its task marks several pictures (pages of one list), and a sample has one"
    names = {file_name(value, task) for value in pictures.values()}
    if sum(not any(other.endswith(f"/{name}") for other in names) for name in names) < 2:  # a name beside its address
        return max(pictures.values(), key=lambda value: len(file_name(value, task)), default=first), ""
    others = data.keys() - pictures.keys()
    marked = dict.fromkeys(str(r["to_name"]) for r in ours if r.get("to_name") and r["to_name"] not in others)
    if len(marked) > 1:
        return first, f"its task marks several pictures ({', '.join(marked)}), and a sample has one"
    name = next(iter(marked), "")
    if name and name not in pictures:
        which = f"{name!r} is none of its pictures, {', '.join(pictures)}"
        return first, f"{which}. Next: call the control as the field of `data` that it shows"
    return pictures.get(name, first), ""


def _changed(answer: dict[str, Any]) -> str:
    return str(answer.get("updated_at") or answer.get("created_at") or "")


def _number_of(answer: dict[str, Any]) -> int:
    number = answer.get("id")
    return number if isinstance(number, int) else 0


def _author(answer: dict[str, Any], kind: AnswerKind) -> str:
    who = answer.get("model_version" if kind == "predictions" else "completed_by", "")
    if isinstance(who, dict):
        who = who.get("email") or who.get("username") or who.get("id", "")
    return "" if who is None else str(who)


def _is_picture(address: str) -> bool:
    """Does it look like the address of a file?"""
    try:
        plain = urlsplit(address).path.lower()
    except ValueError:  # a text with `//[` in it
        return False
    suffix = os.path.splitext(plain)[1]
    return suffix in (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif") or "local-files" in plain


def file_name(address: str, task: dict[str, Any]) -> str:
    """The name of a task's picture: below the folder that Label Studio serves (`?d=`), as it was uploaded, or, of one
    in a store or on a server, its address up to the query, which `_named_apart` shortens."""
    parts = urlsplit(address)
    if (served := parse_qs(parts.query).get("d")) and "local-files" in parts.path:
        return served[0].lstrip("/")
    name = unquote(parts.path)
    if parts.scheme in ("http", "https", "s3", "gs", "azure-blob") or name.startswith("/data/upload"):
        name = name.rsplit("/", 1)[-1]
        head, dash, rest = name.partition("-")  # an upload has eight digits before its name
        if dash and len(head) == 8 and all(c in "0123456789abcdef" for c in head) and "/data/upload/" in parts.path:
            return rest
        if parts.scheme and "/data/upload/" not in parts.path:
            return f"{parts.scheme}://{parts.netloc}{unquote(parts.path)}"
    return name.lstrip("/")


def _named_apart(pictures: list[AnnotatedPicture]) -> list[AnnotatedPicture]:
    """Pictures of stores and servers by the last part of their address, or by all of it where others end so too; they
    belong to their folder there, whatever other tasks the file has."""
    wholes = {id(p): p.name.partition("://")[2] for p in pictures if "://" in p.name}
    ending: dict[str, set[str]] = {}
    for whole in wholes.values():
        ending.setdefault(whole.rsplit("/", 1)[-1], set()).add(whole)
    for picture in pictures:
        if own := wholes.get(id(picture)):
            last = own.rsplit("/", 1)[-1]
            picture.name = last if len(ending[last]) == 1 else own
            picture.group = "/".join(own.split("/")[1:-1]) or "all"
    return pictures


def _add(picture: AnnotatedPicture, result: Any, place: int, kind: AnswerKind) -> None:
    """One region or answer of a task; what is wrong with it is a fault of the picture."""
    type_, value = (result.get("type"), result.get("value")) if isinstance(result, dict) else (None, None)
    if not isinstance(value, dict):
        picture.ignored.append(f"{type_ or 'unknown'} results")
    elif type_ == "choices":
        picture.labels += [str(c) for c in value.get("choices") or ()]
    elif type_ == "textarea":
        picture.texts += [str(t) for t in value.get("text") or ()]
    elif type_ in SHAPES:
        try:
            picture.annotations += list(_shape(picture, result, value, kind))
        except (*FORM, ZeroDivisionError) as error:
            picture.faults.append(f"region {result.get('id', place)}: {error}")
    else:
        picture.ignored.append(f"{type_} results")


def _shape(
    picture: AnnotatedPicture, result: dict[str, Any], value: dict[str, Any], kind: AnswerKind
) -> Iterator[Annotation]:
    labels = value.get(result["type"]) or value.get("labels")
    if not labels:
        picture.ignored.append("regions without a label")
        return
    _sides(picture, result)
    score = result.get("score", value.get("score"))
    for label in labels:
        annotation = Annotation(str(label), str(result.get("id", "")) or 0)
        annotation.score = float(score) if score is not None and kind == "predictions" else None
        _placed(annotation, result["type"], value, picture)
        yield annotation


def _sides(picture: AnnotatedPicture, result: dict[str, Any]) -> None:
    width, height = int(result["original_width"]), int(result["original_height"])
    if width <= 0 or height <= 0:
        raise ValueError(f"no picture is {width}x{height}")
    if picture.width and (picture.width, picture.height) != (width, height):
        raise ValueError(f"it is of a picture of {width}x{height}, others of {picture.width}x{picture.height}")
    if result.get("image_rotation"):
        raise ValueError("the picture was turned in the editor, which is not taken")
    picture.width, picture.height = width, height


def _placed(annotation: Annotation, kind: str, value: dict[str, Any], picture: AnnotatedPicture) -> None:
    width, height = picture.width, picture.height
    if kind == "brushlabels":
        if value.get("format", "rle") != "rle":
            raise ValueError(f"its brush is in the format {value['format']!r}")
        annotation.mask = brush.parsed(value["rle"], (height, width))
        return
    if kind == "polygonlabels":
        corners = tuple(v for x, y in value["points"] for v in (_pixels(x, width), _pixels(y, height)))
        if len(corners) < 6:
            raise ValueError(f"a polygon of {len(corners) // 2} points")
        within(corners, picture)
        annotation.polygons = (corners,)
        return
    x, y = _pixels(value["x"], width), _pixels(value["y"], height)
    if kind == "keypointlabels":
        within((x, y), picture)
        annotation.points = {annotation.label: (x, y, 2)}
        return
    right, lower = (_pixels(value["x"] + value["width"], width), _pixels(value["y"] + value["height"], height))
    turn = float(value.get("rotation") or 0)
    if turn:
        annotation.polygons = (turned(x, y, right, lower, turn, about=(x, y)),)
    else:
        within((x, y, right, lower), picture)
        annotation.box = (x, y, right, lower)


def _pixels(share: Any, side: int) -> float:
    """Per cent of a side as pixels."""
    value = float(share)
    if not math.isfinite(value):
        raise ValueError(f"no place is {share}")
    return round(value * side / 100, DIGITS)
