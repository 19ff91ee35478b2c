"""What goes out to annotation tools says what the columns say: no more, nothing by another name, nothing unsaid."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.data.annotations import categories
from hyperloom.stages.data.export import ExportLayout, export
from hyperloom.stages.data.reader import SampleReader
from hyperloom.stages.formats import cvat, label_studio, panoptic
from hyperloom.stages.picture import palette
from hyperloom.stages.remarks import collected
from tests.unit import inline

SIZE = (12, 16)
RGB = np.zeros((*SIZE, 3), np.uint8)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    kind={"type": "category", "classes": ["traffic light", "кот", "a/b"]},
    weather={"type": "category", "classes": ["sun", "rain"]},
    tags={"type": "multilabel", "classes": ["wet", "dark", "far"]},
    caption={"type": "text", "length": 20},
    objects={"type": "boxes", "classes": ["car", "dog"], "most": 3},
    things={"type": "instances", "classes": ["car"], "most": 3},
    semantic={"type": "segmentation", "classes": ["road", "car"], "palette": [[128, 64, 128], [0, 0, 142]]},
    many={"type": "segmentation", "classes": [f"c{i}" for i in range(200)]},
    pose={"type": "keypoints", "points": ["head", "tail"], "swap": []},
    depth={"type": "scalar"},
    depth_a={"type": "scalar"},
    key={"type": "category", "classes": ["a", "b"]},
)


def sent(out: Path, layout: ExportLayout, *samples: dict[str, Any], group: str = "g") -> Counter[str]:
    """Samples of one group with the picture `RGB` go out; what was said of it."""
    storage = Storage(f"memory://{out}")
    frames = inline.ingested(storage, KNOWN, {group: list(samples)})
    with collected() as said:
        export(SampleReader(storage, "frames", frames, [frames]), KNOWN, Storage(str(out)), layout)
    return said


def of(column: str, value: Any) -> dict[str, Any]:
    return {"rgb@camera": RGB, column: KNOWN[column.partition("@")[0]].fit(value)}


BOX = {"x0": 0.25, "y0": 0.25, "x1": 0.5, "y1": 0.75, "class": "dog"}


def segments(out: Path) -> list[tuple[int, int, int]]:
    """Of the only picture each segment's category, the area that the file says, and the pixels that it has."""
    value = json.loads((out / "panoptic.json").read_text())
    (one,) = value["annotations"]
    ids = panoptic.ids_of(cv2.imread(str(out / "panoptic" / one["file_name"]))[..., ::-1])
    assert not (ids == 0).all()
    return [(s["category_id"], s["area"], int((ids == s["id"]).sum())) for s in one["segments_info"]]


def test_a_map_of_one_class_alone_is_no_void(tmp_path: Path) -> None:
    """A segment without an id of its own got 0, which is what belongs to nothing, and was all of the picture."""
    road = np.full(SIZE, 255, np.uint8)
    road[:3] = 0
    sent(tmp_path, "coco-panoptic", of("semantic@truth", road))
    assert segments(tmp_path) == [(1, 48, 48)]


@pytest.mark.parametrize("order", [("semantic@truth", "things@truth"), ("things@truth", "semantic@truth")])
def test_things_lie_before_maps_and_ids_are_what_pixels_hold(tmp_path: Path, order: tuple[str, str]) -> None:
    """COCO's crowds have ids of twelve digits, of which three bytes held the last ones."""
    mask = np.zeros(SIZE, bool)
    mask[2:6, 2:6] = True
    values = of("semantic@truth", np.zeros(SIZE, np.uint8))
    values |= of("things@truth", [{"mask": mask, "class": "car", "id": 900100259571}])
    sent(tmp_path, "coco-panoptic", {"rgb@camera": RGB, **{c: values[c] for c in order}})
    assert sorted(area for _, area, _ in segments(tmp_path)) == [16, 12 * 16 - 16]
    assert all(area == pixels for _, area, pixels in segments(tmp_path))
    kinds = {c["name"]: c["isthing"] for c in json.loads((tmp_path / "panoptic.json").read_text())["categories"]}
    assert kinds == {"road": 0, "car": 1}


@pytest.mark.parametrize("layout", ["coco", "cvat", "voc", "labelme", "label-studio", "yolo"])
def test_a_sample_without_boxes_is_none_in_which_there_is_nothing(tmp_path: Path, layout: Any) -> None:
    """Its class is known, its boxes are not: it went out as a picture without a thing."""
    weather = {"weather@truth": np.int64(1)}
    without = {"rgb@camera": RGB, "objects@truth": None, **weather}
    said = sent(tmp_path, layout, of("objects@truth", [BOX]) | weather, without)
    held = layout in ("coco", "cvat", "label-studio")
    assert any("samples without objects@truth go out unmarked" in text for text in said) is held
    assert any(f"{layout} has no place for weather@truth" in text for text in said) is not held
    if layout == "coco":
        value = json.loads((tmp_path / "annotations.json").read_text())
        assert [i["file_name"] for i in value["images"]] == ["g/000.png"] and value["annotations"][0]["id"] == 1
    elif layout == "cvat":
        assert [i.get("name") for i in ElementTree.parse(tmp_path / "annotations.xml").iter("image")] == ["g/000.png"]
    elif layout == "label-studio":
        tasks = label_studio.parse((tmp_path / "tasks.json").read_bytes(), "tasks.json").pictures
        assert [(p.annotated, p.labels) for p in tasks] == [(True, ["rain"]), (False, [])]
    else:
        marks = {"voc": "Annotations/g/{}.xml", "labelme": "images/g/{}.json", "yolo": "labels/g/{}.txt"}[layout]
        assert [(tmp_path / marks.format(name)).exists() for name in ("000", "001")] == [True, False]


def test_yolo_names_the_pictures_that_somebody_looked_at(tmp_path: Path) -> None:
    """Trainings take every picture of the folder, those without labels as pictures of nothing."""
    said = sent(tmp_path / "some", "yolo", of("objects@truth", [BOX]), {"rgb@camera": RGB, "objects@truth": None})
    assert "train: train.txt\n" in (tmp_path / "some/data.yaml").read_text()
    assert (tmp_path / "some/train.txt").read_text() == "./images/g/000.png\n"
    assert any("a picture without labels for one of nothing" in text for text in said)
    assert not sent(tmp_path / "all", "yolo", of("objects@truth", [BOX]), of("objects@truth", []))
    assert "train: images\n" in (tmp_path / "all/data.yaml").read_text()
    assert (tmp_path / "all/labels/g/001.txt").read_text() == ""


def test_yolos_labels_lie_where_trainings_look(tmp_path: Path) -> None:
    """They put `labels` in the place of the last folder called `images`, which may be one of the user's."""
    sent(tmp_path, "yolo", of("objects@truth", [BOX]), group="day/images")
    assert (tmp_path / "images/day/images/000.png").exists()
    first, second = (tmp_path / place / "000.txt" for place in ("labels/day/images", "images/day/labels"))
    assert first.read_text() == second.read_text() == "1 0.375 0.5 0.25 0.5\n"


@pytest.mark.parametrize("layout", ["yolo", "voc", "labelme", "colour-masks"])
def test_a_column_that_a_layout_cannot_hold_is_refused(tmp_path: Path, layout: Any) -> None:
    """Each picture went out as one without a thing."""
    with pytest.raises(RecipeError, match=rf"{layout} holds .*no column is one of these \(weather@truth\)"):
        sent(tmp_path, layout, {"rgb@camera": RGB, "weather@truth": np.int64(0)})


def test_folders_have_the_names_of_the_classes(tmp_path: Path) -> None:
    """Names that are not plain ASCII became underscores and digits."""
    samples = [{"rgb@camera": RGB, "kind@truth": np.int64(i)} for i in range(3)]
    said = sent(tmp_path, "folders", *samples)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_b-c14cdd", "traffic light", "кот"]
    assert list(said) == ["the class 'a/b' cannot be a folder's name: it goes out as 'a_b-c14cdd'"]
    with pytest.raises(RecipeError, match="kind@truth and weather@truth both name a folder"):
        sent(tmp_path, "folders", samples[0] | {"weather@truth": np.int64(0)})


def test_label_studio_finds_pictures_of_any_name_and_all_controls(tmp_path: Path) -> None:
    """`+` and `&` mean something in an address; points are called by their own names, and texts have a control."""
    sample = of("pose@truth", {"head": [0.5, 0.5]}) | of("tags@truth", ["wet", "far"]) | of("caption@truth", "a day")
    sent(tmp_path, "label-studio", sample, group="a+b & 50%")
    (picture,) = label_studio.parse((tmp_path / "tasks.json").read_bytes(), "tasks.json").pictures
    assert picture.name == "images/a+b & 50%/000.png" and (tmp_path / picture.name).exists()
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    assert task["data"]["image"] == "/data/local-files/?d=images/a%2Bb%20%26%2050%25/000.png"
    view = ElementTree.parse(tmp_path / "interface.xml").getroot()
    controls = {c.get("name"): c for c in view}
    for result in task["annotations"][0]["result"]:
        control, value = controls[result["from_name"]], result["value"]
        names = [c.get("value") for c in control]
        assert set(value.get("keypointlabels") or value.get("choices") or ()) <= set(names)
    assert [c.get("value") for c in controls["choice"]] == ["wet", "dark", "far"]
    assert controls["choice"].get("choice") == "multiple" and controls["text"].tag == "TextArea"


def test_colours_are_those_of_the_recipe_and_no_two_the_same(tmp_path: Path) -> None:
    sent(tmp_path / "own", "colour-masks", of("semantic@truth", np.zeros(SIZE, np.uint8)))
    assert json.loads((tmp_path / "own/classes.json").read_text()) == {"road": [128, 64, 128], "car": [0, 0, 142]}
    sent(tmp_path / "many", "colour-masks", of("many@truth", np.zeros(SIZE, np.uint8)))
    colours = json.loads((tmp_path / "many/classes.json").read_text())
    assert len(colours) == 200 == len({tuple(rgb) for rgb in colours.values()}), "from 156 on two were the same"
    assert len({tuple(rgb) for rgb in palette(1728).tolist()}) == 1728
    columns = ["things@truth", "semantic@truth"]
    for order in (columns, columns[::-1]):  # where things came first, their class had no colour
        colours = {c.name: c.colour for c in categories(order, KNOWN)}
        assert {n: tuple(c or ()) for n, c in colours.items()} == {"road": (128, 64, 128), "car": (0, 0, 142)}


def test_what_a_layout_does_not_keep_is_said(tmp_path: Path) -> None:
    ring = np.ones(SIZE, bool)
    ring[4:8, 4:8] = False
    sample = of("things@sam", [{"mask": ring, "class": "car", "score": 0.5}])
    assert any("polygons have no holes" in text for text in sent(tmp_path / "a", "yolo", sample))
    apart = np.zeros(SIZE, bool)
    apart[2:5, 2:5] = apart[2:5, 8:12] = True
    parts = of("things@truth", [{"mask": apart, "class": "car"}])
    assert any("no thing of several parts" in text for text in sent(tmp_path / "e", "yolo", parts))
    said = " ".join(sent(tmp_path / "b", "voc", sample))
    assert "voc has no place for masks" in said and "voc has no place for scores" in said
    assert not sent(tmp_path / "c", "coco", sample)
    box = of("objects@sam", [{"x0": 0.25, "y0": 0.25, "x1": 0.75, "y1": 0.5, "class": "car", "score": 0.5}])
    for layout in ("yolo", "label-studio"):
        assert any("scores" in text for text in sent(tmp_path / layout, layout, box))
    lines = [p.read_text() for p in (tmp_path / "yolo/labels").rglob("*.txt")]
    assert [len(line.split()) for line in lines] == [5], "trainings take a picture with a sixth column for a torn one"
    assert not sent(tmp_path / "d", "cvat", box)
    (back,) = cvat.parse((tmp_path / "d/annotations.xml").read_bytes(), "a").pictures[0].annotations
    assert (back.score, back.attributes) == (0.5, {"source": "auto"}), "it came back as 1"
    text = (tmp_path / "d/annotations.xml").read_text()
    for other in ("", "high", "87"):
        (back,) = cvat.parse(text.replace(">0.5<", f">{other}<").encode(), "a").pictures[0].annotations
        assert (back.score, back.attributes["score"]) == (None, other), "an attribute of that name may say anything"


def test_captions_are_a_file_that_pycocotools_opens(tmp_path: Path) -> None:
    tool = pytest.importorskip("pycocotools.coco")
    sent(tmp_path, "coco", of("caption@truth", "a day"))
    loaded = tool.COCO(str(tmp_path / "annotations.json"))
    assert [a["caption"] for a in loaded.anns.values()] == ["a day"]


@pytest.mark.parametrize("layout", ["vre", "dronescapes", "png", "huggingface", "webdataset", "csv", "jsonl"])
def test_two_columns_never_go_out_by_one_name(tmp_path: Path, layout: Any) -> None:
    """The second took the place of the first."""
    one, two = np.ones(1, np.float32), np.zeros(1, np.float32)
    with pytest.raises(RecipeError, match="would both be called 'depth_a"):
        sent(tmp_path, layout, {"depth@a_b": one, "depth@c": one, "depth_a@b": two, "depth@a": two})
    if layout == "huggingface":
        with pytest.raises(RecipeError, match="the samples' own and key@truth would both be called 'key'"):
            sent(tmp_path, layout, {"key@truth": np.int64(1)})
