"""Pictures that other tools annotated, through the ingest stage, and exported again; what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import HyperloomError, RecipeError, SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.data.export import export
from hyperloom.stages.data.reader import SampleReader
from hyperloom.stages.formats import coco_writer, label_studio_writer
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet, ThingClass
from hyperloom.stages.modality.runs import MaskRuns
from hyperloom.stages.remarks import collected
from hyperloom.stages.results import Ingested
from hyperloom.stages.table import read_table
from tests.unit import inline

SIZE = (24, 32)
KNOWN = inline.modalities(
    rgb={"type": "image", "size": list(SIZE), "codec": "file"},
    objects={"type": "boxes", "classes": ["car", "dog"], "most": 5},
    things={"type": "instances", "classes": ["car", "dog"], "most": 5},
    semantic={"type": "segmentation", "classes": ["background", "car", "dog"]},
    joints={"type": "keypoints", "points": ["head", "tail"], "swap": []},
    weather={"type": "category", "classes": ["sun", "rain"]},
    caption={"type": "text", "length": 60},
)
COLUMNS = ["rgb@camera", "objects@truth", "things@truth"]


def square(top: int, left: int, side: int = 8) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def whole() -> AnnotationSet:
    """Two pictures with things, one with none."""
    classes = [ThingClass(1, "dog", points=("head", "tail")), ThingClass(3, "car")]
    first = [
        Annotation("car", 11, (4.0, 2.0, 12.0, 10.0), mask=MaskRuns.of(square(2, 4))),
        Annotation("dog", 12, (20.0, 9.0, 28.0, 17.0), mask=MaskRuns.of(square(9, 20)),
                   points={"head": (22.0, 11.0, 2), "tail": (0.0, 0.0, 0)}),
    ]  # fmt: skip
    second = [Annotation("dog", 13, (1.0, 1.0, 9.0, 9.0), mask=MaskRuns.of(square(1, 1)))]
    names = ["day one/a.png", "b.png", "c.png"]
    pictures = [
        AnnotatedPicture(n, SIZE[1], SIZE[0], i, a) for i, (n, a) in enumerate(zip(names, (first, second, [])), 5)
    ]
    return AnnotationSet(classes, pictures)


def pictures(folder: Path, names: Any = ("day one/a.png", "b.png", "c.png")) -> Path:
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), random.integers(0, 256, (*SIZE, 3), np.uint8))
    return folder


def ingest(root: Path, **source: Any) -> tuple[Manifest, Storage]:
    storage = Storage(str(root))
    value = {"stage": "ingest", "source": {"type": "annotated", "columns": COLUMNS, **source}}
    stage = load("stage", "ingest").model_validate(value)
    step = inline.step(stage, storage, KNOWN)
    step.fingerprint = fingerprint([step.fingerprint, stage.facts(Digests(storage))])
    return inline.finish(step), storage


def table(made: Manifest, storage: Storage) -> dict[str, list[Any]]:
    parts = [read_table(storage, r.file.path) for r in made.records if r.files]
    rows: dict[str, list[Any]] = pa.concat_tables(parts).to_pydict()
    return rows


def left_out(made: Manifest, storage: Storage) -> dict[str, str]:
    lists = [storage.read_json(f"{r.space}/quarantine/{r.id}.json") for r in made.records if r.quarantined]
    return {sample["key"]: sample["error"] for samples in lists for sample in samples}


def remarks(made: Manifest) -> list[str]:
    return list(Ingested.from_manifest(made).remarks)


def of_coco(tmp_path: Path, change: Any = None, **source: Any) -> tuple[Manifest, Storage]:
    value = json.loads(coco_writer.written(whole()))
    if change is not None:
        change(value)
    (tmp_path / "a.json").write_text(json.dumps(value))
    images = pictures(tmp_path / "images")
    return ingest(tmp_path / "root", format="coco", path=str(tmp_path / "a.json"), images=str(images), **source)


def test_coco_becomes_pictures_boxes_masks_points_and_maps(tmp_path: Path) -> None:
    columns = [*COLUMNS, "semantic@truth", "joints@truth"]
    made, storage = of_coco(tmp_path, columns=columns)
    rows = table(made, storage)
    assert rows["key"] == ["b", "c", "day one/a"] and left_out(made, storage) == {}
    assert [b["class"] for b in rows["objects@truth"][2]] == ["car", "dog"] and rows["objects@truth"][1] == []
    assert rows["objects@truth"][2][0]["x0"] == pytest.approx(4 / 32)
    assert [b["id"] for b in rows["things@truth"][2]] == [11, 12]
    ids = np.frombuffer(rows["semantic@truth"][2], np.uint8).reshape(SIZE)
    assert (ids == 1 * square(2, 4) + 2 * square(9, 20)).all()
    assert np.frombuffer(rows["joints@truth"][2], np.float32).tolist() == pytest.approx([22 / 32, 11 / 24, 1, 0, 0, 0])
    assert rows["joints@truth"][0] is None, "a thing without points is no hidden dog"


@pytest.mark.parametrize("layout", ["coco", "coco-panoptic", "cvat", "label-studio", "yolo", "voc", "labelme"])
def test_a_format_goes_out_and_comes_back_equal(tmp_path: Path, layout: str) -> None:
    made, storage = of_coco(tmp_path)
    if layout in ("yolo", "voc"):
        columns = ["rgb@camera", "objects@truth"]
    else:
        columns = ["rgb@camera", "things@truth"]
    reader = SampleReader(storage, "data", made, [made], columns)
    out = tmp_path / "out"
    assert export(reader, KNOWN, Storage(str(out)), layout) >= 4
    first = {p: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    if layout == "voc":
        assert sorted((out / "ImageSets/Main/default.txt").read_text().splitlines()) == ["b", "c", "day one/a"]
    export(SampleReader(storage, "data", made, [made], columns), KNOWN, Storage(str(out)), layout)
    assert {p: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()} == first, "again is the same"
    files = {
        "coco": "annotations.json", "coco-panoptic": "panoptic.json", "cvat": "annotations.xml",
        "label-studio": "tasks.json", "yolo": "labels", "voc": "Annotations", "labelme": "images",
    }  # fmt: skip
    images = out / ("JPEGImages" if layout == "voc" else "images")
    back, again = ingest(
        tmp_path / "again", format=layout, path=str(out / files[layout]), images=str(images), columns=columns
    )
    assert left_out(back, again) == {}
    one, other = table(made, storage), table(back, again)
    assert sorted(other["key"]) == sorted(one["key"]), "names are kept, blanks too"
    order = [other["key"].index(key) for key in one["key"]]
    assert [other["rgb@camera"][i] for i in order] == one["rgb@camera"], "pictures are the bytes that came"
    for before, at in zip(one[columns[1]], order, strict=True):
        after = other[columns[1]][at]
        assert [b["class"] for b in after] == [b["class"] for b in before]
        for a, b in zip(after, before, strict=True):
            assert a.get("mask") == b.get("mask"), "to the pixel"
            assert layout in ("label-studio", "labelme") or a.get("id") == b.get("id")
            ours, theirs = ([v[c] for c in ("x0", "y0", "x1", "y1")] for v in (a, b))
            assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("layout", ["coco", "cvat", "yolo"])
def test_crowds_and_pictures_that_nobody_saw_are_no_plain_answers(tmp_path: Path, layout: Any) -> None:
    """Where a format has no word for them they stay out, and that is said."""
    made, storage = of_coco(tmp_path, lambda value: value["annotations"][0].update(iscrowd=1))
    columns = ["rgb@camera", "objects@truth"]
    kept = [b["score"] for boxes in table(made, storage)["objects@truth"] for b in boxes]
    assert kept.count(0) == 1
    reader = SampleReader(storage, "data", made, [made], columns)
    with collected() as counts:
        export(reader, KNOWN, Storage(str(tmp_path / "out")), layout)
    assert any("no mark for a crowd" in text for text in counts) is (layout != "coco")
    files = {"coco": "annotations.json", "cvat": "annotations.xml", "yolo": "labels"}
    source = {"format": layout, "path": str(tmp_path / "out" / files[layout]), "images": str(tmp_path / "out/images")}
    back, again = ingest(tmp_path / "again", **source, columns=columns)
    scores = [b["score"] for boxes in table(back, again)["objects@truth"] for b in boxes]
    assert sorted(scores) == sorted(kept if layout == "coco" else [s for s in kept if s])


@pytest.mark.parametrize("layout", ["coco", "cvat", "yolo"])
def test_a_picture_that_nobody_saw_is_no_picture_of_nothing(tmp_path: Path, layout: Any) -> None:
    images, labels = pictures(tmp_path / "images"), tmp_path / "labels"
    labels.mkdir()
    (tmp_path / "data.yaml").write_text("names: {0: car, 1: dog}\n")
    (labels / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (labels / "c.txt").write_text("")
    columns = ["rgb@camera", "objects@truth"]
    made, storage = ingest(tmp_path / "root", format="yolo", path=str(labels), images=str(images), columns=columns)
    export(SampleReader(storage, "data", made, [made], columns), KNOWN, Storage(str(tmp_path / "out")), layout)
    files = {"coco": "annotations.json", "cvat": "annotations.xml", "yolo": "labels"}
    source = {"format": layout, "path": str(tmp_path / "out" / files[layout]), "images": str(tmp_path / "out/images")}
    rows = table(*ingest(tmp_path / "again", **source, columns=columns))
    seen = dict(zip(rows["key"], rows["objects@truth"], strict=True))
    assert seen["c"] == [] and len(seen["b"]) == 1 and seen.get("day one/a") is None


def test_what_is_wrong_is_named_and_the_rest_is_used(tmp_path: Path) -> None:
    def change(value: Any) -> None:
        value["annotations"][0]["segmentation"]["size"] = [9, 9]
        value["images"].append({"id": 99, "file_name": "gone.png", "width": 32, "height": 24})
        value["images"].append({"id": 98, "file_name": "d.png", "width": 640, "height": 480})
        value["annotations"].append({"id": 50, "image_id": 6, "category_id": 3})

    pictures(tmp_path / "images", ["d.png", "unlisted.png"])
    made, storage = of_coco(tmp_path, change)
    wrong = left_out(made, storage)
    assert "annotation 11: its mask is 9x9" in wrong["day one/a"]
    assert "list gone.png, which is not there" in wrong["gone"]
    assert "of a picture of 640x480; it is 32x24" in wrong["d"]
    assert table(made, storage)["key"] == ["b", "c"]
    sentences = " ".join(remarks(made))
    assert "not named in a.json: unlisted.png" in sentences and "without a place are left out" in sentences
    assert "without a mask are no instances" in sentences


def test_new_annotations_cost_their_own_pictures_only(tmp_path: Path) -> None:
    before, _ = of_coco(tmp_path, parts=8)

    def change(value: Any) -> None:
        value["annotations"][-1]["bbox"][0] += 1

    after, _ = of_coco(tmp_path, change, parts=8)
    same = {r.id for r in before.records} & {r.id for r in after.records}
    assert len(before.records) > 1 and len(same) == len(before.records) - 1


def test_classes_that_are_not_listed_are_said(tmp_path: Path) -> None:
    def change(value: Any) -> None:
        value["categories"].append({"id": 8, "name": "sky"})
        value["annotations"].append({"id": 77, "image_id": 7, "category_id": 8, "bbox": [1, 1, 2, 2]})

    made, storage = of_coco(tmp_path, change)
    assert any("annotations of 'sky', which is no class of boxes here" in s for s in remarks(made))
    assert table(made, storage)["objects@truth"][1] == []


def test_label_studio_gives_labels_texts_and_nothing_of_what_nobody_saw(tmp_path: Path) -> None:
    def region(kind: str, **value: Any) -> dict[str, Any]:
        return {"type": kind, "value": value, "id": kind, "from_name": "x", "to_name": "image"}

    results = [region("choices", choices=["rain"]), region("textarea", text=["a wet day"])]
    tasks = [
        {"id": 1, "data": {"image": "/data/local-files/?d=b.png"}, "annotations": [{"result": results}]},
        {"id": 2, "data": {"image": "c.png"}, "annotations": []},
    ]
    (tmp_path / "t.json").write_text(json.dumps(tasks))
    made, storage = ingest(
        tmp_path / "root", format="label-studio", path=str(tmp_path / "t.json"), images=str(pictures(tmp_path / "i")),
        columns=["rgb@camera", "weather@truth", "caption@truth", "objects@truth"],
    )  # fmt: skip
    rows = table(made, storage)
    assert (rows["weather@truth"], rows["caption@truth"]) == (["rain", None], ["a wet day", None])
    assert rows["objects@truth"] == [[], None], "nobody looked at the second"


def test_yolo_segments_poses_and_what_is_wrong_in_a_line(tmp_path: Path) -> None:
    images, labels = pictures(tmp_path / "images"), tmp_path / "labels"
    (labels / "day one").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: {0: car, 1: dog}\n")
    (labels / "day one/a.txt").write_text("1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n")
    (labels / "b.txt").write_text("0 12 10 30 20\n")
    made, storage = ingest(tmp_path / "root", format="yolo", path=str(labels), images=str(images))
    rows, wrong = table(made, storage), left_out(made, storage)
    assert wrong == {"b": "ValueError: b.txt, line 1: 27 is no share of a picture: these look like pixels"}
    assert rows["things@truth"][rows["key"].index("day one/a")][0]["class"] == "dog"
    assert rows["objects@truth"][rows["key"].index("c")] is None, "no file: nobody annotated it"
    (tmp_path / "data.yaml").write_text("names: [car, dog]\nkpt_shape: [2, 3]\n")
    (labels / "b.txt").write_text("1 0.5 0.5 0.5 0.5 0.25 0.5 2 0 0 0\n")
    made, storage = ingest(
        tmp_path / "root", format="yolo", path=str(labels), images=str(images), columns=["rgb@camera", "joints@truth"]
    )
    points = table(made, storage)["joints@truth"]
    assert np.frombuffer(points[0], np.float32).tolist() == [0.25, 0.5, 1, 0, 0, 0]


def test_cityscapes_polygons_and_crowds(tmp_path: Path) -> None:
    images = pictures(tmp_path / "leftImg8bit", ["aachen/aachen_000_leftImg8bit.png"])
    square_ = [[4, 2], [12, 2], [12, 10], [4, 10]]
    other = [[20, 9], [28, 9], [28, 17], [20, 17]]
    objects = [{"label": "cargroup", "polygon": square_}, {"label": "dog", "polygon": other}]
    (tmp_path / "gtFine/aachen").mkdir(parents=True)
    path = tmp_path / "gtFine/aachen/aachen_000_gtFine_polygons.json"
    path.write_text(json.dumps({"imgWidth": 32, "imgHeight": 24, "objects": objects}))
    made, storage = ingest(tmp_path / "root", format="cityscapes", path=str(tmp_path / "gtFine"), images=str(images))
    rows = table(made, storage)
    assert rows["group"] == ["aachen"]
    assert [(t["class"], t["crowd"]) for t in rows["things@truth"][0]] == [("car", True), ("dog", False)]
    assert [(b["class"], b["score"]) for b in rows["objects@truth"][0]] == [("car", 0), ("dog", 1)]


def test_a_torn_file_among_several_is_one_entry_and_alone_an_error(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/a.json").write_bytes(coco_writer.written(whole()))
    (tmp_path / "parts/z.json").write_text('{"images": [')
    images = str(pictures(tmp_path / "images"))
    made, storage = ingest(tmp_path / "root", format="coco", path=str(tmp_path / "parts"), images=images)
    assert list(left_out(made, storage)) == ["z"] and "is cut off after 12 bytes" in left_out(made, storage)["z"]
    with pytest.raises(SourceError, match="is cut off"):
        ingest(tmp_path / "root", format="coco", path=str(tmp_path / "parts/z.json"), images=images)


def test_columns_that_annotations_cannot_give_are_refused(tmp_path: Path) -> None:
    source = {"type": "annotated", "format": "coco", "path": "a.json", "images": "i", "columns": ["depth@truth"]}
    stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": source})
    with pytest.raises(RecipeError, match="annotations give a picture or boxes"):
        stage.source.check(inline.modalities(depth={"type": "dense", "size": [4, 4]}))


def test_two_sources_of_one_modality_cannot_both_be_written(tmp_path: Path) -> None:
    made, storage = of_coco(tmp_path, columns=["rgb@camera", "objects@truth", "objects@other"])
    with pytest.raises(HyperloomError, match="say the same thing"):
        export(SampleReader(storage, "data", made, [made]), KNOWN, Storage(str(tmp_path / "o")), "coco")


def test_colours_are_classes_by_the_palette(tmp_path: Path) -> None:
    made, storage = of_coco(tmp_path, columns=["rgb@camera", "semantic@truth"])
    reader = SampleReader(storage, "data", made, [made])
    export(reader, KNOWN, Storage(str(tmp_path / "out")), "colour-masks")
    colours = json.loads((tmp_path / "out/classes.json").read_text())
    definition = {
        "type": "segmentation",
        "classes": list(colours),
        "palette": list(colours.values()),
        "size": list(SIZE),
    }
    modality = inline.modalities(semantic=definition)["semantic"]
    assert list(colours) == ["background", "car", "dog"]
    rows = table(made, storage)
    for key, before in zip(rows["key"], rows["semantic@truth"], strict=True):
        data = (tmp_path / f"out/masks/{key}.png").read_bytes()
        assert modality.read(data, "m.png").tobytes() == before
    data = cv2.imencode(".png", np.full((*SIZE, 3), 7, np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match=r"768 pixels have the colour \(7, 7, 7\), which is none of the palette"):
        modality.read(data, "m.png")
    unknown = cv2.imencode(".png", np.zeros((*SIZE, 3), np.uint8))[1].tobytes()
    assert (modality.read(unknown, "m.png") == 255).all()


def folder_of(tmp_path: Path, **changes: Any) -> dict[str, str]:
    """A folder of COCO files, each the same project after a change; and its pictures."""
    (tmp_path / "several").mkdir()
    for name, change in changes.items():
        value = json.loads(coco_writer.written(whole()))
        change(value)
        (tmp_path / f"several/{name}.json").write_text(json.dumps(value))
    return {"format": "coco", "path": str(tmp_path / "several"), "images": str(pictures(tmp_path / "images"))}


def renumbered(value: Any) -> None:
    for one in value["annotations"]:
        one["id"] += 100


def moved(value: Any) -> None:
    value["annotations"][0]["bbox"] = [5, 2, 10, 10]


def test_a_picture_that_several_files_list_is_one_sample(tmp_path: Path) -> None:
    """A project that was exported twice; where its two files differ, and nothing says which is later, that is said."""
    source = folder_of(tmp_path, a=lambda value: None, b=renumbered, c=moved)
    made, storage = ingest(tmp_path / "root", **source)
    assert table(made, storage)["key"] == ["b", "c"]
    assert left_out(made, storage) == {
        "day one/a": "ValueError: a.json and c.json both list day one/a.png, and mark it differently"
    }
    assert "3 pictures stand in both a.json and b.json, and count once" in remarks(made)


def test_a_file_that_contradicts_another_is_noticed_in_a_root_that_knows_the_first(tmp_path: Path) -> None:
    source = folder_of(tmp_path, a=lambda value: None)
    made, storage = ingest(tmp_path / "root", **source)
    assert left_out(made, storage) == {}
    value = json.loads(coco_writer.written(whole()))
    moved(value)
    value["annotations"][1]["image_id"] = 99
    (tmp_path / "several/c.json").write_text(json.dumps(value))
    made, storage = ingest(tmp_path / "root", **source)
    assert list(left_out(made, storage)) == ["day one/a"]
    assert [text for text in remarks(made) if "pictures that are not listed" in text]  # of the file that came second


def test_of_two_exports_of_label_studio_the_later_answers_count(tmp_path: Path) -> None:
    annotations = whole()
    annotations.pictures[2].annotated = False
    (tmp_path / "several").mkdir()
    for name, at in (("old", "2026-01-01T00:00:00Z"), ("new", "2026-02-01T00:00:00Z")):
        for picture in annotations.pictures:
            picture.by, picture.at = "anna", at
        (tmp_path / f"several/{name}.json").write_bytes(label_studio_writer.written(annotations, folder="images"))
        annotations.pictures[0].annotations = annotations.pictures[0].annotations[:1]  # before the next is written
    source = {"path": str(tmp_path / "several"), "images": str(pictures(tmp_path / "images"))}
    made, storage = ingest(tmp_path / "root", format="label-studio", **source)
    rows = table(made, storage)
    assert sorted(rows["key"]) == ["b", "c", "day one/a"] and left_out(made, storage) == {}
    assert len(rows["objects@truth"][rows["key"].index("day one/a")]) == 1
    assert any("with other marks, and the later ones count" in text for text in remarks(made))


@pytest.mark.parametrize("marked", ["alike", "differently", "by one"])
def test_one_picture_under_two_addresses_counts_once_or_is_refused(tmp_path: Path, marked: str) -> None:
    """A bucket that was moved ended the whole ingest, as two pictures would share one key."""

    def task(number: int, address: str, answer: str) -> dict[str, Any]:
        said = {"type": "choices", "value": {"choices": [answer]}, "from_name": "x", "to_name": "image"}
        return {"id": number, "data": {"image": address}, "annotations": [{"result": [said]}] if answer else []}

    other = {"alike": "rain", "differently": "sun", "by one": ""}[marked]
    tasks = [
        task(1, "s3://old/street/b.png", "rain"),
        task(2, "s3://old/street/c.png", "sun"),
        task(3, "https://new.example/street/b.png?Signature=x", other),
    ]
    (tmp_path / "t.json").write_text(json.dumps(tasks))
    made, storage = ingest(
        tmp_path / "root", format="label-studio", path=str(tmp_path / "t.json"), images=str(pictures(tmp_path / "i")),
        columns=["rgb@camera", "weather@truth"],
    )  # fmt: skip
    rows, wrong = table(made, storage), left_out(made, storage)
    assert dict(zip(rows["key"], rows["weather@truth"], strict=True)) == {"c": "sun"} | ({} if wrong else {"b": "rain"})
    assert set(rows["group"]) == {"street"}, "whatever other tasks there are"
    if marked == "alike":
        assert not wrong and any("1 pictures stand under two names, and count once" in text for text in remarks(made))
    else:
        assert "old/street/b.png and new.example/street/b.png" in wrong["b"] and "marked differently" in wrong["b"]


def test_a_picture_of_another_folder_that_is_not_here_does_not_take_the_place_of_one_that_is(tmp_path: Path) -> None:
    """The last part of their addresses is the same: one has the file, with its own group, the other is not there."""
    (tmp_path / "i/cam2").mkdir(parents=True)
    (pictures(tmp_path / "flat") / "b.png").rename(tmp_path / "i/cam2/b.png")

    def task(number: int, folder: str, answer: str) -> dict[str, Any]:
        said = {"type": "choices", "value": {"choices": [answer]}, "from_name": "x", "to_name": "image"}
        return {"id": number, "data": {"image": f"s3://o/{folder}/b.png"}, "annotations": [{"result": [said]}]}

    for answer in ("rain", "sun"):
        (tmp_path / "t.json").write_text(json.dumps([task(1, "cam1", answer), task(2, "cam2", "rain")]))
        made, storage = ingest(
            tmp_path / f"root {answer}", format="label-studio", path=str(tmp_path / "t.json"),
            images=str(tmp_path / "i"), columns=["rgb@camera", "weather@truth"],
        )  # fmt: skip
        rows = table(made, storage)
        assert (rows["key"], rows["group"], rows["weather@truth"]) == (["cam2/b"], ["cam2"], ["rain"])
        assert left_out(made, storage) == {
            "o/cam1/b": "ValueError: the annotations list o/cam1/b.png, which is not there"
        }


def test_two_files_of_labels_of_one_picture_are_named(tmp_path: Path) -> None:
    images = pictures(tmp_path / "images")
    for folder, line in (("one", "0 .5 .5 .2 .2"), ("two", "1 .5 .5 .2 .2")):
        (tmp_path / f"labels/{folder}").mkdir(parents=True)
        (tmp_path / f"labels/{folder}/b.txt").write_text(line + "\n")
    (tmp_path / "data.yaml").write_text("names: {0: car, 1: dog}\n")
    made, storage = ingest(tmp_path / "root", format="yolo", path=str(tmp_path / "labels"), images=str(images))
    (why,) = left_out(made, storage).values()
    assert "one/b.txt and " in why and "two/b.txt" in why and "are both of b.png, and are marked differently" in why


@pytest.mark.parametrize("layout", ["coco", "coco-panoptic"])
def test_classes_of_whole_pictures_come_back_from_coco(tmp_path: Path, layout: Any) -> None:
    """They were written and never read: a category was missing, and a multilabel said no to all."""
    known = {**KNOWN, **inline.modalities(road={"type": "multilabel", "classes": ["wet", "dark"]})}
    marks = [[1, 0], [0, 1], [0, 0]]
    rows = [
        {"rgb@camera": known["rgb"].read(cv2.imencode(".png", np.full((*SIZE, 3), i, np.uint8))[1].tobytes(), "a.png"),
         "things@truth": known["things"].fit([{"mask": square(1, 1), "class": "car"}]),
         "weather@truth": np.int64(i % 2), "road@truth": np.array(mark, np.uint8)} for i, mark in enumerate(marks)
    ]  # fmt: skip
    storage, columns = Storage(str(tmp_path / "root")), list(rows[0])
    frames = inline.ingested(storage, known, {"g": rows})
    export(SampleReader(storage, "frames", frames, [frames], columns), known, Storage(str(tmp_path / "out")), layout)
    path = tmp_path / "out" / {"coco": "annotations.json", "coco-panoptic": "panoptic.json"}[layout]
    source = {"type": "annotated", "format": layout, "path": str(path), "images": str(tmp_path / "out/images")}
    stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": {**source, "columns": columns}})
    again = Storage(str(tmp_path / "again"))
    step = inline.step(stage, again, known)
    step.fingerprint = fingerprint([step.fingerprint, stage.facts(Digests(again))])
    made = inline.finish(step)
    weather = inline.column(again, known, made, "weather@truth")
    road = inline.column(again, known, made, "road@truth")
    assert weather == {"g/000": 0, "g/001": 1, "g/002": 0}
    assert [v.tolist() for v in road.values() if v is not None] == marks


def test_pictures_with_answers_to_other_questions_leave_quarantine(tmp_path: Path) -> None:
    """Their record stood, whatever was read by now: nothing in their identity had moved. Other columns stay."""
    about = {"type": "annotated", "format": "cvat", "path": "a.xml", "images": "images"}
    for column, moved in (("weather@truth", {"labels": 2}), ("objects@truth", {}), ("caption@truth", {})):
        source = {**about, "columns": ["rgb@camera", column]}
        stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": source})
        assert stage.revised_for(KNOWN) == moved
    source = {**about, "format": "labelme", "columns": ["rgb@camera", "objects@truth"]}
    stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": source})
    assert stage.revised_for(KNOWN) == {"parts": 2}
