"""`hyperloom init`: labels as tools and people really write them belong to their own pictures and classes, or that is
said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.stages.starter.truth import read_names
from tests.unit.test_starter import init, network, pictures, written  # noqa: F401  (a fixture)

cv2 = pytest.importorskip("cv2")
Init = Callable[..., tuple[int, str]]
NAMES = [f"{folder}/{i}.jpg" for folder in "abc" for i in range(4)]
KINDS = [{"id": 1, "name": "cat"}]


def coco(images: list[tuple[Any, str]], ids: Callable[[Any], Any] = lambda i: i) -> str:
    """A file in which each image has one box, as wide as its number says."""
    listed = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in images]
    boxes = [{"image_id": ids(i), "category_id": ids(1), "bbox": [0, 0, n + 1, 9]} for n, (i, _) in enumerate(images)]
    return json.dumps({"images": listed, "annotations": boxes, "categories": KINDS})


def widths(folder: Path) -> dict[str, list[float]]:
    """By key of a picture its boxes as `init` copied them, in pixels."""
    out = folder / "hyperloom-labels"
    read = {p.relative_to(out).with_suffix("").as_posix(): json.loads(p.read_text()) for p in out.rglob("*.json")}
    return {name: [round(box["x1"] * 64, 3) for box in boxes] for name, boxes in read.items()}


def test_a_name_of_coco_s_that_fits_several_pictures_is_nobody_s(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """It was that of the last folder, whose pictures then had the labels of others."""
    pictures(tmp_path / "images", [*NAMES, "c/9.jpg"])
    (tmp_path / "all.json").write_text(coco([(0, "a/0.jpg"), (1, "1.jpg"), (2, "9.jpg"), (3, "x/images/b/2.jpg")]))
    code, text = init(str(tmp_path))
    assert code == 0 and "1 name in" in text and "such as 1.jpg" in " ".join(text.split()), text
    assert widths(tmp_path) == {"a/0": [1.0], "c/9": [3.0], "b/2": [4.0]}
    images = ["a/0.jpg", "val/0.jpg", "v1/9.jpg", "v2/9.jpg", "b/2.jpg", "images/c/2.jpg"]
    (tmp_path / "all.json").write_text(coco(list(enumerate(images))))
    code, text = init(str(tmp_path), "--force")
    assert code == 0 and "3 names in" in text, text
    assert widths(tmp_path) == {"a/0": [1.0], "b/2": [5.0], "c/2": [6.0]}, "two images of one name are no picture's"


def test_ids_of_coco_s_may_be_letters_in_one_place(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """Their boxes were dropped, and pictures without any taught that there is nothing."""
    pictures(tmp_path / "images", NAMES)
    (tmp_path / "all.json").write_text(coco(list(enumerate(NAMES)), ids=str))
    assert init(str(tmp_path))[0] == 0
    assert widths(tmp_path) == {name[:-4]: [number + 1.0] for number, name in enumerate(NAMES)}


def test_of_several_files_of_coco_s_the_one_that_names_most_is_used_and_that_is_said(
    tmp_path: Path, init: Init  # noqa: F811
) -> None:  # fmt: skip
    pictures(tmp_path / "images", NAMES)
    (tmp_path / "a.json").write_text(coco([(0, NAMES[0]), (1, "elsewhere.jpg")]))
    (tmp_path / "b.json").write_text(coco(list(enumerate(NAMES[1:]))))
    code, text = init(str(tmp_path))
    assert code == 0 and "11 with labels" in text and "a.json (COCO) is not used" in text, text


def test_a_mark_at_the_beginning_and_one_torn_file_leave_the_other_labels(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """All of them were left out without a word, and the recipe learned something else."""
    pictures(tmp_path / "images", NAMES)
    for number, name in enumerate(NAMES):
        path = tmp_path / "labels" / Path(name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0 .5 .5 .2 .2\n", encoding="utf-8-sig" if number == 2 else "utf-8")
    (tmp_path / "classes.txt").write_text("cat\ndog\n", encoding="utf-8-sig")
    code, text = init(str(tmp_path))
    assert code == 0 and "12 with labels; learns objects" in text, text
    assert written(tmp_path).modalities["objects"].classes == ("cat", "dog")
    (tmp_path / "labels/b/3.txt").write_text("0 .1 .1 .9 .1 .5 .9\n")
    code, text = init(str(tmp_path), "--force")
    assert code == 0 and "11 with labels" in text and "3.txt cannot be read and will be left out" in text, text


def test_names_of_a_voc_file_in_another_encoding(tmp_path: Path, init: Init) -> None:  # noqa: F811
    pictures(tmp_path / "images", NAMES)
    corners = "<bndbox><xmin>4</xmin><ymin>4</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    size = "<size><width>64</width><height>48</height></size>"
    head, thing = '<?xml version="1.0" encoding="ISO-8859-1"?>', f"<object><name>Bär</name>{corners}</object>"
    for name in NAMES:
        path = tmp_path / "labels" / Path(name).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{head}<annotation>{size}{thing}</annotation>", encoding="latin-1")
    code, text = init(str(tmp_path))
    assert code == 0 and written(tmp_path).modalities["objects"].classes == ("Bär",), text


@pytest.mark.parametrize("text, names", [
    ("\ufeffsky\nroad\n", ["sky", "road"]), ("1 road\n0 sky\n", ["sky", "road"]), ("0: sky\n2: road\n", []),
    ("2 wheeler\nperson\n", ["2 wheeler", "person"]), ("2 seater\n2 wheeler\n", ["2 seater", "2 wheeler"]),
])  # fmt: skip
def test_a_name_is_that_of_its_number(tmp_path: Path, text: str, names: list[str]) -> None:
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    assert read_names(str(tmp_path / "classes.txt")) == names


def masks(folder: Path, *ids: int) -> None:
    for name in NAMES:
        path = folder / "masks" / Path(name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.resize(np.repeat(np.asarray(ids, np.uint8), 16), (48, 64)))


@pytest.mark.parametrize("file, text", [
    ("labels.txt", "1 person\n2 car\n"), ("label_map.yaml", "names: {1: person, 2: car}"),
    ("categories.json", '[{"id": 2, "name": "car"}, {"id": 1, "name": "person"}]'),
])  # fmt: skip
@pytest.mark.parametrize("ids", [(0, 1, 2), (1, 2), (0, 1)])
def test_names_that_are_numbered_from_one_are_those_of_their_numbers(
    tmp_path: Path, init: Init, file: str, text: str, ids: tuple[int, ...]  # noqa: F811
) -> None:  # fmt: skip
    """Pixels of 1 were called car, and those of 2 unknown."""
    pictures(tmp_path / "images", NAMES)
    masks(tmp_path, *ids)
    (tmp_path / file).write_text(text)
    code, said = init(str(tmp_path))
    made = written(tmp_path)
    assert code == 0 and made.modalities["semantic"].classes == ("background", "person", "car"), said
    assert not made.steps["frames"].source.columns["semantic@truth"].void
    assert "numbered from 1" in " ".join(said.split())


def test_names_in_a_network_s_file_are_in_the_order_of_their_numbers(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """As letters 10 comes before 2."""
    pictures(tmp_path / "images", NAMES)
    names = [f"kind{i}" for i in range(12)]
    for written_as in (json.dumps(dict(enumerate(names))), str(names)):
        path = network(tmp_path / "net.onnx", 255, 12, names=written_as)
        code, text = init(str(tmp_path), "--expert", path, "--force", "--task", "segmentation")
        assert code == 0 and written(tmp_path).modalities["semantic"].classes == tuple(names), text


def arrays(folder: Path, *values: Any) -> None:
    """Maps of numbers, of which the last three rows hold one of `values` each, all that lies above runs from 0 up."""
    for number, name in enumerate(NAMES):
        path = folder / "masks" / Path(name).with_suffix(".npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = np.full((48, 64), values[number % len(values)], np.result_type(*map(np.asarray, values)))
        numbers[:40] = np.arange(40 * 64).reshape(40, 64) % 9
        np.save(path, numbers)


@pytest.mark.parametrize("values", [(0.5, np.inf), (np.nan, 0.25), (-np.inf, 8.5, np.nan)])
def test_numbers_that_are_none_leave_the_range_of_the_others(
    tmp_path: Path, init: Init, values: tuple[float, ...]  # noqa: F811
) -> None:  # fmt: skip
    """A far sky of infinity made a range that ended in no number, and of NaN alone every sample was refused."""
    pictures(tmp_path / "images", NAMES)
    arrays(tmp_path, *values)
    np.save(tmp_path / "masks/a/0.npy", np.full((48, 64), np.nan, np.float32))
    code, text = init(str(tmp_path))
    assert code == 0 and "0 means unknown, and so do NaN and infinity" in " ".join(text.split()), text
    depth = written(tmp_path).modalities["depth"]
    assert depth.range in ((0, 9), (0, 10))
    kind = depth.model_copy(update={"size": (1, 4)})
    assert np.isnan(kind.fit(np.array([[[np.nan], [np.inf], [-np.inf], [1.0]]], np.float32))).ravel().tolist() == [
        True, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("values, void", [((np.nan, 8.0), ()), ((-1, 8), (-1,)), ((255, 8), ())])
def test_class_numbers_of_which_some_say_nothing_are_classes(
    tmp_path: Path, init: Init, values: tuple[float, ...], void: tuple[int, ...]  # noqa: F811
) -> None:  # fmt: skip
    """With NaN they were depths, and -1 was refused in every sample."""
    pictures(tmp_path / "images", NAMES)
    arrays(tmp_path, *values)
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    assert code == 0 and len(made.modalities["semantic"].classes) == 9, text
    assert made.steps["frames"].source.columns["semantic@truth"].void == void


def test_two_of_many_named_classes_keep_their_names(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """The seventh was called `object`, and a class of which no file was opened was none."""
    pictures(tmp_path / "images", NAMES)
    masks(tmp_path, 0, 7)
    (tmp_path / "classes.txt").write_text("".join(f"kind{i}\n" for i in range(9)))
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    assert code == 0 and made.modalities["semantic"].classes == tuple(f"kind{i}" for i in range(9)), text
    assert not made.steps["frames"].source.columns["semantic@truth"].remap
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    assert init(str(tmp_path), "--force")[0] == 0
    assert written(tmp_path).steps["frames"].source.columns["semantic@truth"].remap == {7: 1}


def test_what_is_to_be_learned_by_other_names_is_no_feature(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """It was, and every figure was perfect. One value more or less makes a field one of its own."""
    kinds, rows = ("ant", "bee", "cat"), []
    for i in range(90):
        code, near = i % 3 + 7, i % 3 if i > 1 else 3
        rows.append(f"{i % 13}.5,{code},{near},{'xyz'[i % 3]},{'' if i % 5 == 0 else kinds[i % 3]}")
    (tmp_path / "train.csv").write_text("size,kind id,near,short,kind\n" + "\n".join(rows) + "\n")
    (tmp_path / "a.csv").write_text("size\n1\n")
    code_, text = init(str(tmp_path), "--task", "kind")
    made = written(tmp_path)
    assert code_ == 0 and made.steps["teacher"].inputs == ("size@table", "near@table"), text
    assert "nothing is learned from kind id, short, which is kind by other names" in text
    assert "not used: a.csv" in text


@pytest.mark.parametrize("names, ids, classes", [
    ({1: "road", 2: "car", 4: "tree", 5: "sky"}, (0, 1, 2, 4, 5),
     ("background", "road", "car", "class3", "tree", "sky")),
    ({4: "tree", 5: "sky"}, (4, 5), ("class0", "class1", "class2", "class3", "tree", "sky")),
])  # fmt: skip
def test_names_by_ids_with_a_hole_are_those_of_their_ids(
    tmp_path: Path, init: Init, names: dict[int, str], ids: tuple[int, ...], classes: tuple[str, ...]  # noqa: F811
) -> None:  # fmt: skip
    """Pixels of 1 were called car, and all others were unknown."""
    pictures(tmp_path / "images", NAMES)
    masks(tmp_path, *ids)
    (tmp_path / "categories.json").write_text(json.dumps([{"id": i, "name": name} for i, name in names.items()]))
    code, text = init(str(tmp_path))
    made = written(tmp_path)
    assert code == 0 and made.modalities["semantic"].classes == classes, text
    side = made.steps["frames"].source.columns["semantic@truth"]
    assert not side.void and not side.remap


def each(folder: Path, suffix: str, text: Callable[[int], str]) -> None:
    """A file of labels a picture."""
    for number, name in enumerate(NAMES):
        path = folder / "labels" / Path(name).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(number))


def test_yolo_s_classes_beyond_a_thousand(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """Their files were called torn; with the names given, a number beyond these is."""
    pictures(tmp_path / "images", NAMES)
    each(tmp_path, ".txt", lambda number: f"{1202 - number} .5 .5 .2 .2\n")
    names = [f"kind {i}" for i in range(1203)]
    code, text = init(str(tmp_path), "--classes", ",".join(names))
    assert code == 0 and "12 with labels" in text, text
    assert len(written(tmp_path).modalities["objects"].classes) == 1203
    code, text = init(str(tmp_path), "--classes", ",".join(names[:1200]), "--force")
    assert code == 0 and "9 with labels" in text and "expected class ids below 1200, got 1202" in text, text


CORNERS = {"x0": 0.1, "y0": 0.1, "x1": 0.5, "y1": 0.5}


@pytest.mark.parametrize("odd, why", [
    ([{**CORNERS, "class": None}], "a box of the class None"), ([{**CORNERS, "class": 10**9}], "a box of the class"),
    ({"shapes": ["x"], "imageWidth": 64, "imageHeight": 48}, "LabelMe's JSON"), ([CORNERS], "a box of the class None"),
])  # fmt: skip
def test_an_odd_file_of_boxes_ends_nothing(tmp_path: Path, init: Init, odd: Any, why: str) -> None:  # noqa: F811
    pictures(tmp_path / "images", NAMES)
    each(tmp_path, ".json", lambda number: json.dumps(odd if number == 3 else [{**CORNERS, "class": 1}]))
    code, text = init(str(tmp_path))
    assert code == 0 and "11 with labels" in text and why in " ".join(text.split()), text
    assert written(tmp_path).modalities["objects"].classes == ("class0", "class1")
    each(tmp_path, ".json", lambda number: json.dumps(odd))
    code, text = init(str(tmp_path), "--labels", str(tmp_path / "labels"), "--force")
    assert code != 0 and "Traceback" not in text, text


def test_a_file_of_coco_s_that_lacks_something_leaves_the_good_one(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """The good one was blamed, and init failed. One that begins with a mark was none of COCO's."""
    pictures(tmp_path / "images", NAMES)
    whole = coco(list(enumerate(NAMES)))
    (tmp_path / "b.json").write_text(whole, encoding="utf-8-sig")
    (tmp_path / "a.json").write_text(whole.replace('"file_name"', '"coco_url"'))
    code, text = init(str(tmp_path))
    why = "a.json is COCO's file, and it lacks 'file_name': it is not used"
    assert code == 0 and why in " ".join(text.split()), text
    assert widths(tmp_path) == {name[:-4]: [number + 1.0] for number, name in enumerate(NAMES)}
    (tmp_path / "b.json").unlink()
    code, text = init(str(tmp_path), "--force")
    assert code != 0 and "a.json is COCO's file, and it lacks 'file_name'. Next: export it again" in text, text


def test_boxes_of_pictures_that_people_see_turned_are_nobody_s(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """They were copied as shares of the stored picture, and lay elsewhere in the one that is seen."""
    from PIL import Image

    pictures(tmp_path / "images", NAMES)
    for name in NAMES[:2]:
        path = tmp_path / "images" / name
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = 6
            image.save(path, exif=exif)
    (tmp_path / "all.json").write_text(coco(list(enumerate(NAMES))))
    code, text = init(str(tmp_path))
    plain = " ".join(text.split())
    assert code == 0 and "10 with labels" in plain and "1 more pictures have none for the same reason" in plain, text
    assert "a/0 has no label: its boxes are of a picture of 64x48, as it is stored; EXIF turns it; it is 48x64" in plain
    assert widths(tmp_path) == {name[:-4]: [number + 1.0] for number, name in enumerate(NAMES) if number >= 2}


def test_two_categories_of_one_name_are_one_class(tmp_path: Path, init: Init) -> None:  # noqa: F811
    """The recipe had the class twice, and could not be read."""
    pictures(tmp_path / "images", NAMES)
    value = json.loads(coco(list(enumerate(NAMES))))
    value["categories"] = [{"id": 1, "name": "cat"}, {"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    (tmp_path / "all.json").write_text(json.dumps(value))
    code, text = init(str(tmp_path))
    assert code == 0 and "has 2 categories called 'cat': they are one class" in " ".join(text.split()), text
    assert "classes: [cat, dog]" in (tmp_path / "hyperloom.yaml").read_text()
