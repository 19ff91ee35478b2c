"""Annotations of other tools: read, written again, and equal to the id and the pixel; what is wrong is named."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats import brush, coco, coco_runs, coco_writer, cvat, cvat_writer, label_studio, shapes, yolo
from hyperloom.stages.formats import label_studio_writer as studio_writer
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet, ThingClass
from hyperloom.stages.modality.runs import MaskRuns

SIZE = (30, 40)


def ring() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:20, 8:31] = True
    mask[9:12, 12:20] = False
    return mask


def annotated() -> AnnotationSet:
    """One of each kind of shape, with ids, a hole in the categories' ids, and a picture with nothing in it."""
    things = [
        Annotation("car", 7, (1.25, 2.5, 10.75, 12.125), attributes={"colour": "red"}),
        Annotation("car", 9, mask=MaskRuns.of(ring())),
        Annotation("sky", 12, polygons=((2.0, 3.0, 20.5, 3.0, 20.5, 9.5),)),
        Annotation(
            "person", 40, points={"nose": (5.5, 6.0, 2), "left foot": (9.0, 20.0, 1), "right foot": (0.0, 0.0, 0)}
        ),
    ]
    categories = [
        ThingClass(1, "car", "vehicle"),
        ThingClass(3, "person", points=("nose", "left foot", "right foot"), skeleton=((1, 2),)),
        ThingClass(90, "sky"),
    ]
    pictures = [
        AnnotatedPicture("a/One Pic.jpg", SIZE[1], SIZE[0], 31, things),
        AnnotatedPicture("b.jpg", SIZE[1], SIZE[0], 77),
    ]
    return AnnotationSet(categories, pictures)


def masks(picture: AnnotatedPicture) -> list[np.ndarray]:
    return [m for a in picture.annotations if (m := shapes.mask_of(a, SIZE)) is not None]


def test_runs_are_cocos_strings_to_the_byte() -> None:
    coder = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for i in range(60):
        size = tuple(int(v) for v in random.integers(1, 50, 2))
        mask = random.random(size) < (i % 3) / 2
        theirs = coder.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert coco_runs.written(MaskRuns.of(mask)) == theirs
        assert (coco_runs.parsed(theirs, size).mask() == mask).all()
    with pytest.raises(ValueError, match="cover"):
        coco_runs.parsed(theirs, (7, 3))
    with pytest.raises(ValueError, match="string of runs"):
        coco_runs.parsed("~", (1, 1))


def test_a_masks_polygons_fill_to_the_mask_again() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        mask = np.zeros(SIZE, bool)
        for _ in range(3):
            (y0, x0), (y1, x1) = random.integers(0, SIZE, (2, 2))
            mask[min(y0, y1) : max(y0, y1) + 1, min(x0, x1) : max(x0, x1) + 1] = True
        solid = shapes.polygons_of(mask)
        assert (shapes.filled(solid, SIZE) | mask == shapes.filled(solid, SIZE)).all()
    assert (shapes.filled(shapes.polygons_of(ring()), SIZE) ^ ring()).sum() == 3 * 8, "a hole is filled, no more"


def test_coco_comes_back_to_the_id_and_the_pixel() -> None:
    first = coco_writer.written(annotated())
    back = coco.parse(first, "a.json")
    assert coco_writer.written(back) == first and back.faults() == {} and back.remarks == []
    assert [(c.id, c.name, c.parent, c.points) for c in back.categories] == [
        (c.id, c.name, c.parent, c.points) for c in annotated().categories
    ]
    assert [(p.name, p.number, len(p.annotations)) for p in back.pictures] == [
        ("a/One Pic.jpg", 31, 4),
        ("b.jpg", 77, 0),
    ]
    ours, theirs = masks(annotated().pictures[0]), masks(back.pictures[0])
    assert len(ours) == 2 and all((a == b).all() for a, b in zip(ours, theirs, strict=True))
    assert back.pictures[0].annotations[0].attributes == {"colour": "red"}
    assert back.pictures[0].annotations[3].points["left foot"] == (9.0, 20.0, 1)


def test_coco_is_what_pycocotools_reads(tmp_path: Any) -> None:
    tool = pytest.importorskip("pycocotools.coco")
    (tmp_path / "a.json").write_bytes(coco_writer.written(annotated()))
    loaded = tool.COCO(str(tmp_path / "a.json"))
    assert (loaded.annToMask(loaded.anns[9]).astype(bool) == ring()).all()
    assert loaded.anns[9]["area"] == ring().sum() and loaded.getAnnIds(imgIds=[31]) == [7, 9, 12, 40]


def test_cvat_comes_back_also_from_its_zip() -> None:
    first = cvat_writer.written(annotated())
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("annotations.xml", first)
    back = cvat.parse(sink.getvalue(), "a.zip")
    assert cvat_writer.written(back) == first and back.faults() == {}
    picture = back.pictures[0]
    assert (picture.name, picture.number, back.names) == ("a/One Pic.jpg", 31, ["car", "person", "sky"])
    assert [a.id for a in picture.annotations] == [7, 9, 12, 40]
    assert picture.annotations[0].box == (1.25, 2.5, 10.75, 12.125)
    assert picture.annotations[0].attributes == {"colour": "red"}
    assert all((a == b).all() for a, b in zip(masks(annotated().pictures[0]), masks(picture), strict=True))
    assert picture.annotations[3].points == annotated().pictures[0].annotations[3].points


def test_tracks_of_cvat_are_frames_with_the_ids_of_tracks() -> None:
    track = "".join(
        f'<box frame="{f}" outside="{int(f == 2)}" xtl="1" ytl="1" xbr="{5 + f}" ybr="6"/>' for f in range(3)
    )
    meta = "<meta><task><original_size><width>40</width><height>30</height></original_size></task></meta>"
    text = f'<annotations>{meta}<track id="4" label="car">{track}</track></annotations>'
    back = cvat.parse(text.encode(), "v.xml")
    assert [(p.name, p.number, [(a.id, a.box) for a in p.annotations]) for p in back.pictures] == [
        ("frame_000000", 0, [(5, (1, 1, 5, 6))]),
        ("frame_000001", 1, [(5, (1, 1, 6, 6))]),
    ]


def test_label_studio_comes_back_with_who_and_when() -> None:
    before = annotated()
    before.pictures[0].by, before.pictures[0].at, before.pictures[0].labels = (
        "ann@lab.org",
        "2026-03-01T10:00:00Z",
        ["day"],
    )
    before.pictures[1].annotated = False
    data = studio_writer.written(before, folder="cams")
    back = label_studio.parse(data, "a.json")
    one, other = back.pictures
    assert (one.name, one.number, one.by, one.at) == ("cams/a/One Pic.jpg", 31, "ann@lab.org", "2026-03-01T10:00:00Z")
    assert one.labels == ["day"] and not other.annotated and back.faults() == {}
    assert [(a.label, a.id) for a in one.annotations] == [
        ("car", "7"), ("car", "9"), ("sky", "12"), ("nose", "40"), ("left foot", "40-1"),
    ]  # fmt: skip
    assert one.annotations[0].box == (1.25, 2.5, 10.75, 12.125), "per cents and back"
    assert one.annotations[4].points == {"left foot": (9.0, 20.0, 2)}
    assert all((a == b).all() for a, b in zip(masks(before.pictures[0]), masks(one), strict=True))
    view = studio_writer.interface(before)
    assert all(f'value="{name}"' in view for name in ("car", "sky", "day")) and "BrushLabels" in view


def test_predictions_are_apart_from_annotations() -> None:
    before = annotated()
    before.pictures[0].by = "deeplab"
    for annotation in before.pictures[0].annotations:
        annotation.score = 0.75
    data = studio_writer.written(before, "predictions")
    assert not label_studio.parse(data, "a.json").pictures[0].annotated
    back = label_studio.parse(data, "a.json", "predictions").pictures[0]
    assert back.by == "deeplab" and {a.score for a in back.annotations} == {0.75}


def test_label_studios_own_export_is_read() -> None:
    """Of its documentation: an upload, a turned box, an older and a cancelled annotation, what has no place."""
    box = {"x": 50, "y": 25, "width": 25, "height": 50, "rotation": 90, "rectanglelabels": ["car"]}
    sides = {"original_width": 40, "original_height": 20, "image_rotation": 0, "to_name": "image", "from_name": "label"}
    new = {"id": 2, "updated_at": "2026-02-02", "completed_by": {"email": "a@b.c"}, "result": [
        {"id": "r1", "type": "rectanglelabels", "value": box, **sides},
        {"id": "r2", "type": "ellipselabels", "value": {"x": 1, "y": 1, "radiusX": 2, "radiusY": 2}, **sides},
        {"type": "relation", "from_id": "r1", "to_id": "r2"},
    ]}  # fmt: skip
    old = {"id": 1, "updated_at": "2026-01-01", "completed_by": 3, "result": []}
    cancelled = {"id": 3, "updated_at": "2026-03-03", "was_cancelled": True, "result": []}
    task = {"id": 5, "data": {"image": "/data/upload/1/0a1b2c3d-my%20pic.jpg"}, "annotations": [old, new, cancelled]}
    picture = label_studio.parse(json.dumps([task]).encode(), "x.json").pictures[0]
    assert (picture.name, picture.by) == ("my pic.jpg", "a@b.c")
    assert np.allclose(picture.annotations[0].polygons[0], [20, 5, 20, 15, 10, 15, 10, 5])
    assert sorted(picture.ignored) == ["earlier annotations of a task", "ellipselabels results", "relation results"]


def test_pictures_of_one_name_in_several_folders_of_a_store_are_several() -> None:
    """Of frames that each folder counts from 1, all but one folder's were taken for copies, and left out."""

    def named(*addresses: str) -> list[str]:
        tasks = [{"data": {"image": a}, "annotations": [{"id": i, "result": []}]} for i, a in enumerate(addresses)]
        return [p.name for p in label_studio.parse(json.dumps(tasks).encode(), "a.json").pictures]

    night, day = "s3://frames/night/1.jpg?X=1", "s3://frames/day/1.jpg?X=2"
    assert named(night, day) == ["frames/night/1.jpg", "frames/day/1.jpg"]
    assert named(night, night.replace("X=1", "X=3"), "https://a.b/c%20d/2.jpg") == ["1.jpg", "2.jpg"]


def test_a_brush_of_label_studios_converter_is_read() -> None:
    """Its encoder writes a single value as 0, 00, 000 and its bits."""
    flat = np.zeros(4 * 4, np.uint8)
    flat[7] = 128  # the alpha of the second of four pixels
    bits = f"{16:032b}{7:05b}" + "".join(f"{s - 1:04b}" for s in (3, 4, 8, 16))
    bits += f"1{0:02b}{6:03b}{0:08b}" + f"0{0:02b}000{128:08b}" + f"1{0:02b}{7:03b}{0:08b}"
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert brush.parsed(code, (2, 2)).mask().tolist() == [[False, True], [False, False]]
    with pytest.raises(ValueError, match="4 pixels"):
        brush.parsed(code, (3, 2))
    with pytest.raises(ValueError, match="cut off"):
        brush.parsed(code[:-2], (2, 2))


def plain(**changes: Any) -> dict[str, Any]:
    value = json.loads(coco_writer.written(annotated()))
    for name, change in changes.items():
        change(value[name])
    return value


def faults(value: Any) -> AnnotationSet:
    return coco.parse(json.dumps(value).encode(), "a.json")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda v: v["annotations"][0].update(category_id=5), "annotation 7: category 5 is not listed"),
        (lambda v: v["annotations"][0].update(bbox=[0.1, 0.1, 0.5, 0.5]), "annotation 7: .* in shares of the picture"),
        (lambda v: v["annotations"][0].update(bbox=[1, 1, -2, 5]), "annotation 7: no box is"),
        (lambda v: v["annotations"][0].update(bbox=[1, 1, float("nan"), 5]), "annotation 7: no box is"),
        (lambda v: v["annotations"][0].update(bbox=[1, 1, 200, 5]), "annotation 7: it reaches 161 pixels out"),
        (
            lambda v: v["annotations"][2].update(segmentation=[[0, 0, 90, 0, 90, 9]]),
            "annotation 12: a polygon reaches 50",
        ),
        (lambda v: v["annotations"][2].update(segmentation=[[0, 0, 9, 0, 9]]), "polygon of 5 numbers"),
        (lambda v: v["annotations"][1]["segmentation"].update(size=[20, 20]), "annotation 9: its mask is 20x20"),
        (lambda v: v["annotations"][1]["segmentation"].update(counts="04"), "annotation 9: its runs cover"),
        (lambda v: v["annotations"][3].update(keypoints=[1, 2, 2]), "annotation 40: 3 numbers are no x, y, v"),
        (lambda v: v["annotations"][1].update(id=7), "two annotations have the id 7"),
        (lambda v: v["categories"].append({"id": 90, "name": "sea"}), "category 90 is both 'sky' and 'sea'"),
        (lambda v: v["images"][1].update(id=31), "image id 31 is that of a/One Pic.jpg and of b.jpg"),
    ],
)
def test_what_is_wrong_with_a_picture_of_coco_is_named(change: Any, text: str) -> None:
    value = plain()
    change(value)
    wrong = faults(value).faults()
    assert "a/One Pic.jpg" in wrong and re.search(text, wrong["a/One Pic.jpg"]), wrong
    assert ("b.jpg" in wrong) == ("image id" in text), "the others are used"


def test_a_project_exported_twice_counts_once() -> None:
    value = plain()
    twice = {name: value[name] * 2 for name in value}
    back = faults(twice)
    assert coco_writer.written(back) == coco_writer.written(annotated())
    assert back.remarks == [
        "3 categories stand twice",
        "2 pictures stand twice",
        "4 annotations stand twice, and count once",
    ]


def merged(value: Any) -> None:
    """Two exports put together under other ids, as tools that join files do."""
    value["images"] += [{**one, "id": one["id"] + 50} for one in value["images"]]
    value["annotations"] += [
        {**one, "id": one["id"] + 50, "image_id": one["image_id"] + 50} for one in value["annotations"]
    ]


def merged_projects(value: Any) -> None:
    """The same, where categories have other ids too, some of them in words."""
    shift = max(one["id"] for one in value["categories"])
    count = len(value["annotations"])
    merged(value)
    value["categories"] += [{**one, "id": one["id"] + shift} for one in value["categories"]]
    for one in value["annotations"][count:]:
        one["category_id"] = str(one["category_id"] + shift)


def in_words(value: Any) -> None:
    for one in value["annotations"]:
        one["image_id"], one["category_id"] = str(one["image_id"]), float(one["category_id"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (merged, ["2 pictures stand twice", "4 annotations stand twice, and count once"]),
        (in_words, []),
    ],
)
def test_ids_of_other_numbers_or_forms_are_the_same_things(change: Any, said: list[str]) -> None:
    value = plain()
    change(value)
    back = faults(value)
    assert coco_writer.written(back) == coco_writer.written(annotated()) and back.remarks == said


def test_two_projects_with_other_ids_of_categories_count_things_once() -> None:
    value = plain()
    merged_projects(value)
    back, once = faults(value), annotated()
    assert [len(p.annotations) for p in back.pictures] == [len(p.annotations) for p in once.pictures]
    assert back.remarks[-1] == "4 annotations stand twice, and count once"


def test_what_is_odd_about_a_file_of_coco_is_said() -> None:
    value = plain()
    value["categories"].append({**value["categories"][0], "id": 99})
    shown = next(
        one for one in value["annotations"] if one.get("segmentation") and not isinstance(one["segmentation"], dict)
    )
    shown["bbox"] = [0, 0, 2, 2]
    assert faults(value).remarks == [
        f"1 further categories are called {value['categories'][0]['name']!r} too, and count as that one",
        "1 boxes lie apart from the polygons of the same annotation",
    ]
    assert faults({**value, "annotations": []}).remarks[1:] == ["not one of its 2 pictures has an annotation"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is empty"),
        (b'{"images": [{"id": 1, "file_na', "is cut off after 30 bytes"),
        (b'{"images": [}', "is no JSON at line 1"),
        (b'{"images": []}{"images": []}', "two documents in one file"),
        (b'\xff\xfe{"images": []}', "is no UTF-8"),
        (b'{"pictures": []}', "is no COCO file"),
        (b'[{"image_id": 1, "category_id": 2}]', "list of COCO's results"),
        (b'{"images": [{"id": 1}]}', "lacks its id or file_name"),
        (b"[" * 100_000, "nests too deeply|is cut off"),
    ],
)
def test_a_torn_file_of_coco_is_one_line(data: bytes, text: str) -> None:
    with pytest.raises(SourceError, match=text) as caught:
        coco.parse(data, "a.json")
    assert "a.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"<annotations><image", "is no whole XML"),
        (b"<a/>", "its root is <a>"),
        (b"PK\x03\x04cut", "is no whole zip"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>", "defines entities"),
    ],
)
def test_a_torn_file_of_cvat_is_one_line(data: bytes, text: str) -> None:
    with pytest.raises(SourceError, match=text):
        cvat.parse(data, "a.xml")


def test_what_is_wrong_with_a_picture_of_cvat_is_named() -> None:
    bad = [
        '<box xtl="9" ytl="1" xbr="3" ybr="4" label="a"/>',
        '<box xtl="9" ytl="1" xbr="one" ybr="4" label="a"/>',
        '<polygon points="1,1;2,2" label="a"/>',
        '<mask rle="3, 3" left="0" top="0" width="5" height="5" label="a"/>',
        '<mask rle="0, 25" left="38" top="0" width="5" height="5" label="a"/>',
        '<points points="1;2" label="a"/>',
    ]
    images = "".join(f'<image id="{i}" name="{i}.jpg" width="40" height="30">{b}</image>' for i, b in enumerate(bad))
    ellipse = (
        '<image id="9" name="9.jpg" width="40" height="30"><ellipse label="a" cx="1" cy="1" rx="1" ry="1"/></image>'
    )
    back = cvat.parse(f"<annotations>{images}{ellipse}</annotations>".encode(), "a.xml")
    assert sorted(back.faults()) == [f"{i}.jpg" for i in range(6)], back.faults()
    assert back.ignored() == {"ellipses": 1}


def test_what_is_wrong_with_a_task_of_label_studio_is_named() -> None:
    def result(**value: Any) -> dict[str, Any]:
        return {"id": "r", "type": "rectanglelabels", "original_width": 40, "original_height": 30, "value": value}

    place = {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["a"]}
    cases = [
        result(**place | {"x": 95, "width": 50}),
        result(**place | {"x": "left"}),
        {**result(**place), "original_width": 0},
        {**result(**place), "image_rotation": 90},
        {**result(format="rle", rle=[1, 2, 3], brushlabels=["a"]), "type": "brushlabels"},
    ]
    tasks = [{"data": {"image": f"{i}.png"}, "annotations": [{"result": [c]}]} for i, c in enumerate(cases)]
    back = label_studio.parse(json.dumps(tasks).encode(), "a.json")
    assert sorted(back.faults()) == [f"{i}.png" for i in range(5)], back.faults()
    with pytest.raises(SourceError, match="names no picture"):
        label_studio.parse(b'[{"data": {"n": 3}}]', "a.json")
    with pytest.raises(SourceError, match="no file of Label Studio's tasks"):
        label_studio.parse(b'[{"image": "a.png", "label": []}]', "a.json")


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("data.yaml", "names: {0: car, 2: bus}", ("car", "", "bus")),
        ("data.yaml", "names: {'1': bus, '0': car}\nnc: 2", ("car", "bus")),
        ("classes.txt", "car\n\nbus\n\n", ("car", "", "bus")),
    ],
)
def test_yolos_classes_keep_their_numbers_where_some_have_no_name(name: str, text: str, names: tuple[str, ...]) -> None:
    known = yolo.names_in(text.encode(), name)
    assert known.names == names
    assert yolo.parse(b"0 .5 .5 .2 .2\n", "a.txt", "a", known).annotations[0].label == "car"
    if "" in names:
        with pytest.raises(ValueError, match="line 1: class 1, which has no name"):
            yolo.parse(b"1 .5 .5 .2 .2\n", "a.txt", "a", known)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("names: [car, car]", "the classes 0 and 1 are both called 'car'"),
        ("nc: 3\nnames: [car, bus]", "says nc: 3, and 2 are named"),
        ("names: 3", "is no list of YOLO's classes"),
        ("names: {a: car}", "is no list of YOLO's classes"),
    ],
)
def test_yolos_classes_that_cannot_be_are_refused(text: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        yolo.names_in(text.encode(), "data.yaml")


def test_a_line_of_yolo_that_stands_twice_counts_once_and_is_said() -> None:
    known = yolo.YoloNames(("car",))
    picture = yolo.parse(b"0 .5 .5 .2 .2\n0 .1 .1 .2 .2\n0  .5 .5 .2 .2\n", "a.txt", "a", known)
    assert len(picture.annotations) == 2 and picture.ignored == ["lines that stand twice in a file"]
