"""From what tools say to values: what lies in front, what is unknown, whose points they are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hyperloom.stages import remarks
from hyperloom.stages.data.annotations import annotated, categories
from hyperloom.stages.formats import (
    coco,
    coco_writer,
    cvat,
    cvat_writer,
    label_studio,
    label_studio_writer,
    panoptic,
    polygon_files,
    yolo,
)
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet, ThingClass
from hyperloom.stages.formats.identity import digest
from hyperloom.stages.formats.values import value_of
from hyperloom.stages.modality.runs import MaskRuns
from hyperloom.stages.people import markup
from tests.unit import inline


def street(**objects: Any) -> Any:
    def corners(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
        return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]

    shapes = [{"label": name, "polygon": corners(*place)} for name, place in objects.items()]
    value = {"imgWidth": 8, "imgHeight": 4, "objects": shapes}
    return polygon_files.parse(json.dumps(value).encode(), "a.json", "a")


MAP = inline.modalities(semantic={"type": "segmentation", "classes": ["background", "car", "pole"], "size": [4, 8]})[
    "semantic"
]


def test_what_lies_in_front_is_what_the_format_says() -> None:
    """Of Cityscapes' objects the later one, of CVAT's shapes that of the higher z_order; else the smaller thing."""
    picture = street(pole=(3, 0, 4, 4), car=(1, 1, 7, 3))
    assert value_of(picture, MAP, (4, 8))[1].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]
    xml = """<annotations><image id="0" name="a.png" width="8" height="4">
      <polygon label="pole" points="3,0;4,0;4,4;3,4" z_order="{}"/>
      <polygon label="car" points="1,1;7,1;7,3;1,3" z_order="{}"/></image></annotations>"""
    for orders, seen in (((1, 2), 1), ((2, 1), 2), ((0, 0), 2), ((-1, 0), 1)):  # what was sent to the back is below 0
        (picture,) = cvat.parse(xml.format(*orders).encode(), "a.xml").pictures
        assert value_of(picture, MAP, (4, 8))[1, 3] == seen


def test_another_order_of_shapes_is_another_answer() -> None:
    def shapes(**layers: int) -> AnnotatedPicture:
        return AnnotatedPicture("a", 8, 4, annotations=[Annotation(n, layer=at) for n, at in layers.items()])

    assert digest(shapes(car=0, pole=1)) != digest(shapes(car=1, pole=0)) != digest(shapes(car=0, pole=0))
    assert digest(shapes(car=0, pole=0)) == digest(shapes(car=2, pole=2)), "nothing of it can be seen"


def test_polygons_of_a_group_of_labelme_are_one_thing() -> None:
    """As LabelMe's own converters have it, and as our export of a thing of two parts writes it."""

    def part(label: str, x: int, group: int | None) -> dict[str, Any]:
        points = [[x, 0], [x + 2, 0], [x + 2, 2], [x, 2]]
        return {"label": label, "points": points, "group_id": group, "shape_type": "polygon"}

    parts = [part("car", 0, 1), part("pole", 2, 1), part("car", 4, 1), part("car", 6, 2), part("pole", 6, None)]
    value = {"imageWidth": 8, "imageHeight": 4, "shapes": parts}
    picture = polygon_files.parse(json.dumps(value).encode(), "a.json", "a")
    assert [(a.label, a.extent()) for a in picture.annotations] == [
        ("car", (0, 0, 6, 2)), ("pole", (2, 0, 4, 2)), ("car", (6, 0, 8, 2)), ("pole", (6, 0, 8, 2))
    ]  # fmt: skip
    again = polygon_files.parse(polygon_files.written(picture), "a.json", "a")
    assert [a.polygons for a in again.annotations] == [a.polygons for a in picture.annotations]


def test_what_is_said_of_one_region_is_not_said_of_the_picture() -> None:
    place: dict[str, Any] = {"x": 10, "y": 10, "width": 20, "height": 20}

    def result(id_: str, kind: str, to: str = "image", **value: Any) -> dict[str, Any]:
        sides = {"original_width": 40, "original_height": 30}
        return {"id": id_, "type": kind, "from_name": kind, "to_name": to, "value": value, **sides}

    car = result("r", "rectanglelabels", **place, rectanglelabels=["car"])
    own = [result("r", "choices", **place, choices=["hidden"]), result("r", "textarea", **place, text=["AB 12"])]
    whole = [result("c", "choices", choices=["wet"]), result("t", "textarea", text=["a street"])]

    def read(results: list[Any], **data: str) -> AnnotatedPicture:
        task = {"data": data or {"image": "a.png"}, "annotations": [{"result": results}]}
        return label_studio.parse(json.dumps([task]).encode(), "a.json").pictures[0]

    picture = read([car, *own, *whole])
    assert (picture.labels, picture.texts, len(picture.annotations)) == (["wet"], ["a street"], 1)
    assert picture.ignored == ["choices of single regions", "textarea of single regions"]
    two = {"before": "a.png", "after": "b.png"}
    in_second = result("s", "rectanglelabels", "after", **place, rectanglelabels=["car"])
    assert read([in_second], **two).name == "b.png"
    several = read([{**car, "to_name": "before"}, in_second], **two)
    assert several.faults == ["its task marks several pictures (before, after), and a sample has one"]
    assert read([car, {**car, "id": "p", "item_index": 1}]).faults
    wet = result("w", "choices", "after", choices=["wet"])
    assert (read([wet], **two).name, read([wet], **two).labels) == ("b.png", ["wet"])
    (fault,) = read([{**car, "to_name": "img-2"}], **two).faults
    assert fault.startswith("'img-2' is none of its pictures, before, after. Next: call the control as the field")
    assert not read([{**car, "to_name": "img"}], image="https://host/a.png", file="a.png").faults, "one picture, twice"


def test_a_name_beside_its_address_and_folders_called_upload_are_no_other_pictures() -> None:
    def names(*data: dict[str, str]) -> list[str]:
        tasks = [{"data": one, "annotations": [{"result": []}]} for one in data]
        return [p.name for p in label_studio.parse(json.dumps(tasks).encode(), "a.json").pictures]

    served = "/data/local-files/?d="
    days = [{"filename": "1.jpg", "image": f"{served}{day}/1.jpg"} for day in ("night", "day")]
    assert names(*days) == ["night/1.jpg", "day/1.jpg"]
    hosts = [{"image": f"https://host/c/upload/v1/{day}/1.jpg"} for day in ("night", "day")]
    assert names(*hosts) == ["host/c/upload/v1/night/1.jpg", "host/c/upload/v1/day/1.jpg"]
    assert names({"image": "https://host/data/upload/3/0123abcd-a.jpg"}) == ["a.jpg"]


def test_a_picture_beside_a_text_is_marked_alone() -> None:
    sides = {"original_width": 40, "original_height": 30}
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["car"]}
    car = {"id": "r", "type": "rectanglelabels", "to_name": "image", "value": value, **sides}
    name = {"id": "n", "type": "labels", "to_name": "text", "value": {"start": 0, "end": 5, "labels": ["name"]}}
    said = {"id": "t", "type": "textarea", "to_name": "text", "value": {"text": ["hello"]}}
    task = {"data": {"image": "a.png", "text": "hello"}, "annotations": [{"result": [car, name, said]}]}
    picture = label_studio.parse(json.dumps([task]).encode(), "a.json").pictures[0]
    assert (picture.name, len(picture.annotations), picture.faults) == ("a.png", 1, [])
    assert picture.ignored == ["labels results"]


def test_masks_of_another_size_are_a_reason() -> None:
    thing = Annotation("car", 7, mask=MaskRuns.of(np.ones((2, 2), bool)))
    with pytest.raises(ValueError, match="annotation 7: its mask is 2x2, not 4x8"):
        value_of(AnnotatedPicture("a", annotations=[thing]), MAP, (4, 8))
    named = AnnotatedPicture("a", 8, 4, map="a.png")
    with pytest.raises(ValueError, match="a.png is 2x2, the picture 8x4"):
        panoptic.filled(named, np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="three channels"):
        panoptic.filled(named, np.zeros((4, 8), np.uint8))


def test_pixels_of_a_box_alone_are_unknown_in_a_map() -> None:
    (picture,) = [street(car=(0, 0, 3, 4))]
    picture.annotations.append(Annotation("pole", 9, box=(4.5, 1, 6, 3)))
    with remarks.collected() as said:
        row = value_of(picture, MAP, (4, 8))[1].tolist()
    assert row == [1, 1, 1, 0, 255, 255, 0, 0] and "box alone" in "".join(said)
    picture = street(car=(0, 0, 8, 4))
    picture.annotations.append(Annotation("sign", 9, box=(4.5, 1, 6, 3)))
    assert (value_of(picture, MAP, (4, 8)) == 1).all(), "what somebody drew stays"


@pytest.mark.parametrize("tool", ["coco", "cvat", "label-studio", "panoptic"])
def test_unknown_pixels_come_back_unknown(tool: str) -> None:
    value = np.array([[0, 0, 1, 1, 2, 0, 255, 255]] * 4, np.uint8)
    known = {"semantic": MAP}
    whole = AnnotationSet(
        categories(["semantic@truth"], known), [annotated("a.png", (4, 8), {"semantic@truth": value}, known)]
    )
    if tool == "panoptic":
        data, maps = panoptic.written(whole)
        back = panoptic.filled(panoptic.parse(data, "a.json").pictures[0], maps["a.png"])
    else:
        parse, written = {
            "coco": (coco.parse, coco_writer.written), "cvat": (cvat.parse, cvat_writer.written),
            "label-studio": (label_studio.parse, label_studio_writer.written),
        }[tool]  # fmt: skip
        (back,) = parse(written(whole), "a").pictures
    assert np.array_equal(value_of(back, MAP, (4, 8)), value)


def test_points_of_two_things_are_not_mixed_and_stay_in_the_picture() -> None:
    kind = inline.modalities(joints={"type": "keypoints", "points": ["nose", "tail"]})["joints"]

    def picture(*points: tuple[str, float]) -> AnnotatedPicture:
        things = [Annotation("dog", i, points={name: (x, 10.0, 2)}) for i, (name, x) in enumerate(points, 1)]
        return AnnotatedPicture("a.png", 100, 100, annotations=things)

    assert value_of(picture(("nose", 10), ("tail", 101)), kind, (100, 100))[:, 0].tolist() == pytest.approx([0.1, 1])
    with pytest.raises(ValueError, match="'nose' stands twice"):
        value_of(picture(("nose", 10), ("tail", 20), ("nose", 80)), kind, (100, 100))
    with pytest.raises(ValueError, match="'tail' reaches 400 pixels out"):
        value_of(picture(("nose", 10), ("tail", 500)), kind, (100, 100))


def test_a_predicted_pose_of_yolo_has_its_score_and_points() -> None:
    known = yolo.YoloNames(("dog",), 3, 3)
    line = "0 0.5 0.5 0.2 0.4 0.1 0.2 0.98 0.3 0.4 0.2 0.5 0.6 1.0"
    (pose,) = yolo.parse(f"{line} 0.88\n".encode(), "a.txt", "a", known).annotations
    assert (pose.score, pose.polygons, pose.box) == (0.88, (), pytest.approx((0.4, 0.3, 0.6, 0.7)))
    assert [seen for *_, seen in pose.points.values()] == [2, 0, 1]
    (plain,) = yolo.parse(f"{line}\n".encode(), "a.txt", "a", known).annotations
    assert (plain.score, plain.points) == (None, pose.points)
    for wrong, reason in ((f"{line} 0.88 7", "no box"), (line.replace("0.1 0.2", "50 30"), "look like pixels")):
        with pytest.raises(ValueError, match=reason):
            yolo.parse(f"{wrong}\n".encode(), "a.txt", "a", known)


def test_instances_without_a_number_get_one_that_nobody_has() -> None:
    kind = inline.modalities(things={"type": "instances", "classes": ["car"], "size": [4, 8], "most": 4})["things"]
    things = [
        Annotation(
            "car", i, polygons=((2.0 * place, 0.0, 2.0 * place + 2, 0.0, 2.0 * place + 2, 4.0, 2.0 * place, 4.0),)
        )
        for place, i in enumerate((0, 1, 0, 2))
    ]
    value = value_of(AnnotatedPicture("a", 8, 4, annotations=things), kind, (4, 8))
    assert sorted(kind.unpacked_value(value).ids.tolist()) == [1, 2, 3, 4]


def test_what_is_open_of_labels_and_crowds_outlives_people() -> None:
    kinds = inline.modalities(
        marks={"type": "multilabel", "classes": ["wet", "dark", "fast"]},
        things={"type": "boxes", "classes": ["car"], "most": 4},
    )
    picture, before = AnnotatedPicture("a", 100, 100), np.array([1, 255, 255], np.uint8)
    markup.draw(before, kinds["marks"], picture)
    assert markup.read(picture, kinds["marks"], before).tolist() == [1, 255, 255]
    picture.labels.append("fast")
    assert markup.read(picture, kinds["marks"], before).tolist() == [1, 255, 1]
    corners = {"x0": 0.1, "y0": 0.1, "x1": 0.4, "y1": 0.5, "class": "car"}
    boxes = kinds["things"].fit([corners | {"crowd": True}, corners | {"x1": 0.3}])
    for crowds in (True, False):  # a tool with a mark for crowds, and one without
        picture = AnnotatedPicture("a", 100, 100)
        markup.draw(boxes, kinds["things"], picture)
        assert sorted(a.crowd for a in picture.annotations) == [False, True]
        for annotation in picture.annotations:
            annotation.crowd = annotation.crowd and crowds
        back = markup.read(picture, kinds["things"], boxes)
        assert sorted(back[~np.isnan(back[:, 0]), 5].tolist()) == [0, 1]


def test_labels_of_which_one_is_not_known_do_not_say_no() -> None:
    known = inline.modalities(marks={"type": "multilabel", "classes": ["wet", "dark", "fast"]})
    with remarks.collected() as counts:
        picture = annotated("a", (4, 8), {"marks@truth": np.array([1, 255, 0], np.uint8)}, known)
    assert not picture.annotated and not picture.labels and "say no" in "".join(counts)
    whole = annotated("a", (4, 8), {"marks@truth": np.array([1, 0, 0], np.uint8)}, known)
    assert whole.annotated and whole.labels == ["wet"]


@pytest.mark.parametrize(("labels", "weather", "kind"), [
    (["sun", "кот"], 0, 1), (["кот"], None, 1), (["wet", "кот"], None, 1), (["wet", "dark"], None, None),
    ([], None, None),
])  # fmt: skip
def test_labels_that_answer_other_questions_are_no_answer(labels: list[str], weather: Any, kind: Any) -> None:
    """Of a sample without `weather` the class of `kind` was the answer to it, and the sample was in quarantine."""
    known = inline.modalities(
        weather={"type": "category", "classes": ["sun", "rain"]},
        kind={"type": "ordinal", "levels": ["пёс", "кот"]},
        road={"type": "multilabel", "classes": ["wet", "dark"]},
    )
    picture = AnnotatedPicture("a", 8, 4, labels=labels)
    said = [value_of(picture, known[name], (4, 8), known.values()) for name in ("weather", "kind")]
    assert said == [weather, kind]
    for name in ("weather", "kind"):
        with pytest.raises(ValueError, match="'fog'"):
            value_of(AnnotatedPicture("a", 8, 4, labels=["fog", "wet"]), known[name], (4, 8), known.values())
    with pytest.raises(ValueError, match="the labels fog, mist, and one is expected"):
        value_of(AnnotatedPicture("a", 8, 4, labels=["fog", "mist"]), known["kind"], (4, 8), known.values())


def test_of_labels_that_answer_other_questions_nothing_is_said() -> None:
    known = inline.modalities(
        weather={"type": "category", "classes": ["sun", "rain"]},
        road={"type": "multilabel", "classes": ["wet", "dark"]},
        words={"type": "tags", "tags": ["sun", "wet"], "length": 3},
    )
    picture = AnnotatedPicture("a", 8, 4, labels=["sun", "wet", "fog"])
    picture.annotations.append(Annotation("car", 1, box=(1, 1, 2, 2)))  # no answer where there are labels
    with remarks.collected() as counts:
        assert value_of(picture, known["road"], (4, 8), known.values()).tolist() == [1, 0]
        assert value_of(picture, known["words"], (4, 8), known.values()).tolist() == [0, 1, -1]
    kinds = ("multilabel", "tags")
    assert sorted(counts) == [f"annotations of 'fog', which is no class of {k} here, are left out" for k in kinds]


@pytest.mark.parametrize("order", [("things", "semantic"), ("semantic", "things")])
def test_things_lie_before_the_map_in_cvat(order: tuple[str, str]) -> None:
    """All had the order 0, and with the map last its road lay over the car."""
    known = inline.modalities(
        semantic={"type": "segmentation", "classes": ["road"], "size": [4, 8]},
        things={"type": "instances", "classes": ["car"], "most": 2, "size": [4, 8]},
    )
    mask = np.zeros((4, 8), bool)
    mask[1:3, 2:5] = True
    whole = {"things@t": known["things"].fit([{"mask": mask, "class": "car"}]),
             "semantic@t": np.zeros((4, 8), np.uint8)}  # fmt: skip
    picture = annotated("a", (4, 8), {f"{name}@t": whole[f"{name}@t"] for name in order}, known)
    data = cvat_writer.written(AnnotationSet(categories([f"{n}@t" for n in order], known), [picture]))
    (back,) = cvat.parse(data, "a.xml").pictures
    assert {a.label: a.layer for a in back.annotations} == {"car": 1, "road": 0}
    again = cvat.parse(cvat_writer.written(AnnotationSet([ThingClass(1, "car"), ThingClass(2, "road")], [back])), "a")
    assert [a.layer for a in again.pictures[0].annotations] == [a.layer for a in back.annotations]
