"""`hyperloom init`: from a folder to a recipe that `hyperloom plan` accepts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.recipes import recipe
from hyperloom.stages.ingest.parts import part_of
from hyperloom.stages.starter import named
from hyperloom.stages.starter.questions import MOST, Questions

cv2 = pytest.importorskip("cv2")
SIDES = (48, 64)


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a bright square, and the classes of its pixels."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 90, (*SIDES, 3), np.uint8)
    top, left = random.integers(4, 20, 2)
    ids = np.zeros(SIDES, np.uint8)
    ids[top : top + 16, left : left + 20] = 1 + number % 2
    pixels[ids > 0] += 140
    return pixels, ids


def pictures(folder: Path, names: list[str], masks: Path | None = None, every: int = 1) -> None:
    for number, name in enumerate(names):
        pixels, ids = scene(number)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), pixels)
        if masks is not None and number % every == 0:
            target = masks / Path(name).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(target), ids)


def network(path: Path, scale: float, channels: int = 1, **metadata: str) -> str:
    """An ONNX file of one convolution and a sigmoid, for pixels that were divided by `scale`."""
    onnx = pytest.importorskip("onnx")
    helper, numpy = onnx.helper, onnx.numpy_helper
    weights = np.full((channels, 3, 3, 3), 8 / scale / 27, np.float32)
    bias = np.full(channels, -4, np.float32)
    shape = [1, 3, 32, 32]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["z"], pads=[1] * 4), helper.make_node("Sigmoid", ["z"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, [1, channels, 32, 32])],
        [numpy.from_array(weights, "w"), numpy.from_array(bias, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return str(path)


@pytest.fixture
def init(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        code = cli.main(["init", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def written(folder: Path) -> Any:
    """The recipe, as `hyperloom plan` reads it and accepts it."""
    path = folder / "hyperloom.yaml"
    assert cli.main(["plan", str(path)]) == 0
    return recipe.load(path).recipe


ODD = ["Tag 1 [neu]/Müll {a} 01.jpg", "Tag 1 [neu]/Müll {a} 02.jpg", "Tag 2/x.jpg", "Tag 2/y z.jpg", "Tag 3/-1.jpg"]


def test_labels_of_a_few_odd_names(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    data = tmp_path / "my data"
    pictures(data / "images", ODD, data / "masks", every=1)
    (data / "classes.txt").write_text("ground\ncar\ntree\n")
    code, text = init(str(data))
    assert code == 0, text
    made = written(data)
    assert made.modalities["semantic"].classes == ("ground", "car", "tree")
    assert list(made.steps) == ["frames", "shards", "teacher", "soft", "lessons", "student", "report", "release"]
    held = made.steps["shards"].split.pin["test"]
    assert len(held) == 1 and made.steps["lessons"].split == made.steps["shards"].split
    assert made.steps["report"].truth == {"semantic": "semantic@truth"}
    code, text = init(str(data))
    assert code == Exit.WRONG and "is there already" in text and "--force" in text
    assert init(str(data), "--force", "--classes", "a,b,c")[0] == 0
    assert written(data).modalities["semantic"].classes == ("a", "b", "c")


def test_empty_pictures_are_no_samples(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    """They were counted, also among those with labels and those held out, though none of them is ever read."""
    names = [f"{d}/{i}.jpg" for d in "abcdef" for i in range(4)]
    pictures(tmp_path / "images", names, tmp_path / "masks")
    for name in ("a/1.jpg", "b/3.jpg", *(f"c/{i}.jpg" for i in range(4))):
        (tmp_path / "images" / name).write_bytes(b"")
    code, text = init(str(tmp_path))
    assert code == 0 and "18 pictures, 18 with labels" in text, text
    assert text.count("is empty, and will be left out") == 3 and "3 more of the pictures are empty" in text
    made = written(tmp_path).steps
    assert "5 groups" in text and "c" not in made["shards"].split.pin["test"]
    assert made["frames"].source.only == (), "whatever comes later is read, and the run says which are empty"


def test_an_empty_picture_with_one_of_few_labels(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    pictures(tmp_path / "images", [f"IMG_{i:04}.jpg" for i in range(24)], tmp_path / "gt", every=4)
    (tmp_path / "images/IMG_0004.jpg").write_bytes(b"")
    for folder in ("claims", "events", "steps"):  # a root of other runs, with a picture
        (tmp_path / "images/runs" / folder).mkdir(parents=True)
    pictures(tmp_path / "images/runs/pilots", ["labels.png"])
    code, text = init(str(tmp_path))
    assert code == 0 and "23 pictures, 5 with labels" in text and "semantic@truth: 5 samples" in text, text
    assert "images/runs is the root of other runs" in text
    assert "IMG_0004" not in written(tmp_path).steps["known"].source.only


def test_few_labels_teach_alone(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    """One sample in four has a label: the teacher reads those alone, and labels all."""
    pictures(tmp_path, [f"IMG_{i:04}.jpg" for i in range(24)], tmp_path / "gt", every=4)
    code, text = init(str(tmp_path))
    assert code == 0, text
    made = written(tmp_path)
    assert len(made.steps["known"].source.only) == 6
    assert made.steps["shards"].data == ("known",) and "frames" in made.steps["soft"].data
    held = set(made.steps["shards"].split.pin["test"])
    assert held and len(held) < 6, "some labelled ones are held out, and some are left to learn from"


def test_masks_beside_pictures(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    pictures(tmp_path, [f"{d}/{i}.jpg" for d in "abcd" for i in range(2)])
    for path in sorted(tmp_path.rglob("*.jpg")):
        mask = np.where(cv2.imread(str(path))[..., 0] > 120, 255, 0).astype(np.uint8)
        mask = cv2.medianBlur(mask, 5)
        assert cv2.imwrite(str(path.with_name(f"{path.stem}_mask.png")), mask)
    code, text = init(str(tmp_path))
    assert code == 0 and "255 in the files is taken as class 1" in text
    side = written(tmp_path).steps["frames"].source.columns["semantic@truth"]
    assert side.remap == {255: 1} and side.path.endswith("{key}_mask.png")


@pytest.mark.parametrize(("scale", "scaled"), [(255, True), (1, False)])
def test_a_network_says_how_it_wants_its_pixels(
    tmp_path: Path, init: Callable[..., tuple[int, str]], scale: float, scaled: bool
) -> None:
    pictures(tmp_path / "in", ODD)
    path = network(tmp_path / "depth.onnx", 0.4 * 255 / scale)
    code, text = init(str(tmp_path / "in"), "--expert", path)
    assert code == 0, text
    made = written(tmp_path / "in")
    (_, expert) = made.steps["labels"].experts
    assert bool(expert.preprocess.arithmetic) == scaled
    assert expert.out == ("depth@depth",) and "teacher" not in made.steps
    assert made.steps["student"].targets == {"depth": {"depth@depth": 1.0}}
    assert "NOTHING IS PROVEN" in (tmp_path / "in" / "hyperloom.yaml").read_text()


def test_two_networks_and_labels(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    """Networks of the labels' classes, in another order: mapped by name; without names: a modality of their own."""
    pictures(tmp_path / "in", ODD, tmp_path / "truth")
    (tmp_path / "truth" / "names.txt").write_text("Ground\nCar\nTree\n")
    named = network(tmp_path / "one.onnx", 102, 3, names="{0: 'tree', 1: 'ground', 2: 'car'}")
    code, text = init(
        str(tmp_path / "in"), "--labels", str(tmp_path / "truth"), "--expert", named, "--expert",
        network(tmp_path / "two.onnx", 102, 4), "--expert", str(tmp_path / "bad.pth"),
    )  # fmt: skip
    assert code == 0 and "bad.pth is no file" in text
    made = written(tmp_path / "in")
    _, first, second = made.steps["labels"].experts
    assert first.out == ("semantic@one",) and first.decode[0].map == ("Tree", "Ground", "Car")
    assert second.out == ("semantic_two@two",)
    assert made.modalities["semantic_two"].classes == ("class0", "class1", "class2", "class3")
    assert made.steps["teacher"].targets["semantic"] == {"semantic@truth": 1.0, "semantic@one": 0.3}
    assert made.steps["teacher"].model.residual is True
    asked = made.steps["soft"].experts[0].ensemble.mask
    assert asked.visible == ("semantic", "semantic_two"), "no member goes without the only network of a modality"
    assert made.steps["release"].gate == {"semantic.miou": ("> best_expert",)}


def yolo(folder: Path) -> None:
    for name in ODD[:4]:
        path = folder / "labels" / Path(name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1 0.5 0.5 0.2 0.2\n0 0.3 0.3 0.1 0.1\n")
    (folder / "data.yaml").write_text("names: [car, person]\n")


def voc(folder: Path) -> None:
    for name, kind in zip(ODD, ("car", "person", "car", "car", "person"), strict=True):
        path = folder / "Annotations" / Path(name).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        corners = "<xmin>4</xmin><ymin>4</ymin><xmax>20</xmax><ymax>20</ymax>"
        size = "<size><width>64</width><height>48</height></size>"
        path.write_text(
            f"<annotation>{size}<object><name>{kind}</name><bndbox>{corners}</bndbox></object></annotation>"
        )


def coco(folder: Path) -> None:
    images = [{"id": i, "file_name": n, "width": 64, "height": 48} for i, n in enumerate(ODD)]
    boxes = [{"image_id": i, "category_id": 3 + i % 2, "bbox": [4, 4, 16, 16]} for i in range(5)]
    kinds = [{"id": 3, "name": "car"}, {"id": 4, "name": "person"}]
    whole = {"images": images, "annotations": boxes, "categories": kinds}
    (folder / "instances.json").write_text(json.dumps(whole))


@pytest.mark.parametrize("annotate", [yolo, voc, coco])
def test_boxes(tmp_path: Path, init: Callable[..., tuple[int, str]], annotate: Callable[[Path], None]) -> None:
    pictures(tmp_path / "images", ODD)
    annotate(tmp_path)
    code, text = init(str(tmp_path))
    assert code == 0, text
    made = written(tmp_path)
    assert made.modalities["objects"].classes == ("car", "person")
    assert made.steps["report"].truth == {"objects": "objects@truth"}


def test_what_is_not_understood_is_named(
    tmp_path: Path, init: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "AT_HAND", {})  # no package that labels pictures is installed
    (tmp_path / "empty").mkdir()
    code, text = init(str(tmp_path / "empty"))
    assert code != 0 and "no data" in text and "Next:" in text
    pictures(tmp_path / "in", ODD)
    code, text = init(str(tmp_path / "in"))
    assert code == Exit.WRONG and "--labels" in text and "--expert" in text
    (tmp_path / "net.pth").write_bytes(b"PK")
    code, text = init(str(tmp_path / "in"), "--expert", str(tmp_path / "net.pth"))
    assert code == Exit.WRONG and "net.pth" in text and "type: torch, net:" in text
    colours = tmp_path / "in" / "masks" / Path(ODD[0]).with_suffix(".png")
    colours.parent.mkdir(parents=True)
    assert cv2.imwrite(str(colours), scene(0)[0])
    code, text = init(str(tmp_path / "in"))
    assert code == Exit.WRONG and colours.name in text and "holds colours" in text
    assert not (tmp_path / "in" / "hyperloom.yaml").exists()


def test_questions_end_after_five_and_where_nobody_answers() -> None:
    asked: list[str] = []
    questions = Questions(True, lambda prompt: asked.append(prompt) or "2")  # type: ignore[func-returns-value]
    answers = [questions.choice("which?", ["one", "two"]) for _ in range(MOST + 2)]
    assert len(asked) == MOST and answers == ["two"] * MOST + ["one"] * 2
    assert Questions(False, lambda _: "2").choice("which?", ["one", "two"]) == "one"


def test_a_table_with_few_labels(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    """Semicolons, decimal commas, umlauts, a blank target: learned from the rows that have it."""
    lines = ["id;Größe;Ort;label"]
    lines += [f"h{i};{20 + i},5;{'Stadt' if i % 3 else 'Land'};{'' if i % 4 else 'ab'[i // 4 % 2]}" for i in range(80)]
    (tmp_path / "Häuser.csv").write_text("\n".join(lines), encoding="cp1252")
    code, text = init(str(tmp_path))
    assert code == 0, text
    made = written(tmp_path)
    source = made.steps["rows"].source
    assert (source.separator, source.decimal, source.encoding, source.key, source.parts) == (
        ";",
        ",",
        "cp1252",
        "id",
        20,
    )
    assert made.modalities["label"].classes == ("a", "b") and made.modalities["grosse"].type == "scalar"
    assert made.steps["teacher"].inputs == ("grosse@table", "ort@table") and made.steps["teacher"].batch == 6
    code, text = init(str(tmp_path), "--force", "--task", "Größe", "--group", "Ort")
    assert code == 0, text
    made = written(tmp_path)
    assert made.steps["report"].truth == {"grosse": "grosse@truth"} and made.steps["rows"].source.group == "Ort"
    code, text = init(str(tmp_path), "--force", "--task", "Groesse")
    assert code == Exit.WRONG and "it has id, Größe, Ort, label" in text


def test_of_a_table_with_a_few_labels_enough_are_held_out_of_every_class(
    tmp_path: Path, init: Callable[..., tuple[int, str]]
) -> None:
    """A share of the groups by chance may hold no labelled row; what numbers the rows is nothing to learn from."""
    kinds = {3: "rare", 200: "rare", 390: "rare"}
    rows = [f"{i};{i % 7},5;{kinds.get(i) or ('often' if i % 40 == 1 else '')}" for i in range(400)]
    (tmp_path / "t.csv").write_text("\n".join(["lfd;Breite;Klasse", *rows]))
    code, text = init(str(tmp_path), "--task", "Klasse")
    assert code == 0 and "lfd numbers the rows" in text and "of the 13 rows with Klasse are held out" in text, text
    made = written(tmp_path)
    assert made.steps["rows"].source.key == "lfd" and made.steps["teacher"].inputs == ("breite@table",)
    for step in ("shards", "lessons"):
        test = set(made.steps[step].split.pin["test"])
        truth = {i: row.rpartition(";")[2] for i, row in enumerate(rows) if not row.endswith(";")}
        sides = {i: part_of(str(i), 20) in test for i in truth}
        assert {truth[i] for i in truth if sides[i]} == {truth[i] for i in truth if not sides[i]} == {"rare", "often"}
        assert 2 <= sum(sides.values()) <= 5


def sounds(folder: Path, names: list[str]) -> None:
    import wave

    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(2 * 4000))


def test_sounds_by_name_and_by_folder(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    names = [
        f"{kind}/{who}_{i}.wav" for kind in ("ja", "nein") for who in ("ann", "bob", "cy", "dee") for i in range(3)
    ]
    sounds(tmp_path, names)
    code, text = init(str(tmp_path))
    assert code == 0 and "the names of their folders are the classes: ja, nein. Where they are not" in text
    assert written(tmp_path).modalities["label"].classes == ("ja", "nein")
    code, text = init(str(tmp_path / "ja"))
    assert code == Exit.WRONG and "--task folder" in text and "--labels TABLE" in text
    code, text = init(str(tmp_path), "--task", r"(?P<label>ja|nein)/(?P<group>[a-z]+)_", "--force")
    assert code == 0, text
    made = written(tmp_path)
    assert made.modalities["label"].classes == ("ja", "nein")
    assert (made.modalities["file"].rate, made.modalities["file"].seconds) == (8000, 0.5)
    assert set(made.steps["shards"].split.pin["test"]) < {"ann", "bob", "cy", "dee"}
    for number in range(5):
        (tmp_path / "ja" / f"Ann_torn{number}.wav").write_bytes(b"RIFF1234")
    code, text = init(str(tmp_path), "--task", "folder", "--force")
    assert code == 0 and written(tmp_path).steps["rows"].source.parts, text
    assert text.count("cannot be read and will be left out: ") == 3 and "2 more of the sounds cannot be read" in text


def test_a_torn_picture_that_a_table_names_first_is_left_out(
    tmp_path: Path, init: Callable[..., tuple[int, str]]
) -> None:
    pictures(tmp_path, [f"{kind}/{i}.jpg" for kind in ("cat", "dog") for i in range(20)])
    (tmp_path / "cat" / "0.jpg").write_bytes(b"")
    code, text = init(str(tmp_path), "--task", "folder", "--force")
    assert code == 0 and "cat/0.jpg cannot be read and will be left out: " in text, text
    assert written(tmp_path).modalities["file"].type == "image"


def test_pictures_by_folder(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    pictures(tmp_path, [f"{kind}/{i} ü.jpg" for kind in ("cat", "dog") for i in range(20)])
    code, text = init(str(tmp_path))
    assert code == 0 and "are the classes: cat, dog" in text, text
    made = written(tmp_path)
    assert made.modalities["label"].classes == ("cat", "dog")
    assert made.modalities["file"].type == "image" and made.steps["teacher"].model.trunk.type == "unet"
    assert list(made.steps)[-1] == "release"


@pytest.mark.parametrize("folders", [("train", "val"), ("2024-05-01", "2024-05-02"), ("drive 1", "drive 2"), ("only",)])
def test_folders_that_are_no_classes(
    tmp_path: Path, init: Callable[..., tuple[int, str]], folders: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "AT_HAND", {})
    pictures(tmp_path, [f"{folder}/{i}.jpg" for folder in folders for i in range(4)])
    code, text = init(str(tmp_path))
    assert code == Exit.WRONG and "nothing to learn from" in text and "--labels" in text, text


@pytest.mark.parametrize("shown", [True, False])
def test_a_network_of_class_ids_has_the_classes_that_its_file_shows(
    tmp_path: Path, init: Callable[..., tuple[int, str]], shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three samples need not show each class: one that comes later ended the run."""
    onnx = pytest.importorskip("onnx")
    network(tmp_path / "map.onnx", 102, 21)
    model = onnx.load(str(tmp_path / "map.onnx"))
    sizes = onnx.numpy_helper.from_array(np.array([1, 21, 32, 32], np.int64), "sizes")
    model.graph.initializer.append(sizes)
    model.graph.node.append(onnx.helper.make_node("Resize", ["y", "", "", "sizes"], ["up"]))
    model.graph.node.append(onnx.helper.make_node("ArgMax", ["up"], ["ids"], axis=1, keepdims=0))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, 32, 32]))
    bias = next(i for i in model.graph.initializer if i.name == "b")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.where(np.arange(21) == 7, 9, -4).astype(np.float32), "b"))
    onnx.save(model, str(tmp_path / "map.onnx"))
    if not shown:
        monkeypatch.setattr("hyperloom.stages.label.runtimes.onnxfile.choices", lambda path, output: None)
    pictures(tmp_path / "in", ODD)
    code, text = init(str(tmp_path / "in"), "--expert", str(tmp_path / "map.onnx"))
    assert code == 0, text
    made = written(tmp_path / "in")
    decode = made.steps["labels"].experts[1].decode[0]
    if shown:
        assert made.modalities["semantic"].classes[7] == "car" and len(made.modalities["semantic"].classes) == 21
        assert "its 21 classes: Pascal VOC has as many" in text and decode.map is None
    else:
        assert len(made.modalities["semantic"].classes) == len(decode.map) == 8 and "others, they are unknown" in text


def test_a_network_of_whole_pictures(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    """A row of scores is a category; what says so is tried on the spot, as the expert of the recipe."""
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "kinds.onnx"
    network(path, 102, 2)
    model = onnx.load(str(path))
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["y"], ["row"], axes=[2, 3], keepdims=0))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("row", 1, [1, 2]))
    onnx.helper.set_model_props(model, {"names": "{0: 'dark', 1: 'light'}"})
    onnx.save(model, str(path))
    pictures(tmp_path / "in", ODD)
    code, text = init(str(tmp_path / "in"), "--expert", str(path))
    assert code == 0, text
    made = written(tmp_path / "in")
    _, expert = made.steps["labels"].experts
    assert made.modalities["kind"].classes == ("dark", "light") and expert.decode[0].type == "choice"
    function = expert.build(made.modalities, None)
    answer = function({"photo@camera": np.stack([scene(0)[0], scene(1)[0]])})["kind@kinds"]
    assert [int(a) for a in answer] == [0, 0]


def test_what_is_not_read_is_said(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    """A torn picture, a HEIC, KITTI's labels and VIA's: each by name, with what to do."""
    pictures(tmp_path, [f"{i}.jpg" for i in range(9)], tmp_path / "masks")
    (tmp_path / "0.jpg").write_bytes((tmp_path / "0.jpg").read_bytes()[:300])
    (tmp_path / "x.heic").write_bytes(b"heic")
    (tmp_path / "label_2").mkdir()
    (tmp_path / "label_2" / "3.txt").write_text("Car 0.0 0 0.0 1 2 3 4\n")
    (tmp_path / "via.json").write_text(json.dumps({"3.jpg": {"filename": "3.jpg", "regions": []}}))
    code, text = init(str(tmp_path))
    assert code == 0, text
    for words in ("0.jpg cannot be read", "x.heic. Next: convert them", "KITTI", "VIA's file of a whole data set"):
        assert words in text


def test_a_relative_depth_is_not_the_depth_in_metres(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    pictures(tmp_path / "in", ODD)
    for number, name in enumerate(ODD):
        path = tmp_path / "depths" / Path(name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full(SIDES, 900 + 500 * number, np.uint16))
    net = network(tmp_path / "midas.onnx", 102)
    code, text = init(str(tmp_path / "in"), "--labels", str(tmp_path / "depths"), "--expert", net)
    assert code == 0, text
    made = written(tmp_path / "in")
    truth, told = made.modalities["depth"], made.modalities["depth_midas"]
    assert (truth.unit, truth.range, told.unit, told.range) == ("m", (0, 4), "", (0, 1))
    assert made.steps["frames"].source.columns["depth@truth"].scale == 0.001
    assert made.steps["report"].truth == {"depth": "depth@truth"}


def test_what_was_given_and_is_wrong_is_an_error(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    pictures(tmp_path / "in", ODD, tmp_path / "truth")
    code, text = init(str(tmp_path / "in"), "--labels", str(tmp_path / "trut"))
    assert code == Exit.WRONG and "trut: nothing is there" in text
    code, text = init(str(tmp_path / "in"), "--labels", str(tmp_path / "truth"), "--task", "segmentaton")
    assert code == Exit.WRONG and "did you mean 'segmentation'" in text
    code, text = init(str(tmp_path / "in"), "--labels", str(tmp_path / "truth"), "--group", "(x")
    assert code == Exit.WRONG and "--group '(x'" in text
    code, text = init(str(tmp_path / "nowhere"))
    assert code != 0 and "is no folder" in text
    (tmp_path / "${HOME}").mkdir()
    code, text = init(str(tmp_path / "${HOME}"))
    assert code == Exit.WRONG and "rename the folder" in text


def test_a_table_of_pictures_elsewhere(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    """A table beside the data names pictures without their folder; some rows have no class yet."""
    names = [f"p {i:02}.jpg" for i in range(40)]
    pictures(tmp_path / "in" / "deep down", names)
    rows = "".join(f"{n},{'' if i % 4 == 3 else 'ab'[i % 2]},s{i // 5}\n" for i, n in enumerate(names))
    (tmp_path / "labels.csv").write_text("picture,label,session\n" + rows)
    code, text = init(str(tmp_path / "in"), "--labels", str(tmp_path / "labels.csv"))
    assert code == 0, text
    made = written(tmp_path / "in")
    source = made.steps["rows"].source
    assert source.columns["picture@table"].folder == str(tmp_path / "in" / "deep down") and source.group == "session"
    assert made.modalities["label"].classes == ("a", "b") and made.modalities["picture"].type == "image"


def test_videos_with_odd_names_are_groups_as_the_source_names_them(
    tmp_path: Path, init: Callable[..., tuple[int, str]]
) -> None:
    for name in ("trip 1 (a)", "deep/trip 2 [b]", "deep/er/trip #3"):
        path = tmp_path / "clips & more" / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
        for i in range(12):
            writer.write(np.full((32, 48, 3), 20 * i, np.uint8))
        writer.release()
    code, text = init(str(tmp_path / "clips & more"), "--expert", network(tmp_path / "net.onnx", 255), "--yes")
    assert code == 0 and "3 videos" in text, text
    assert len(written(tmp_path / "clips & more").steps["shards"].split.pin["test"]) == 1
    torn = tmp_path / "clips & more" / "a torn one.avi"
    torn.write_bytes(b"RIFF....AVI ")
    code, text = init(str(tmp_path / "clips & more"), "--expert", str(tmp_path / "net.onnx"), "--yes", "--force")
    assert code == 0 and "a torn one.avi cannot be read and will be left out: it has no frame" in text, text
    assert "a torn one" not in str(written(tmp_path / "clips & more").steps["shards"].split.pin["test"])
    (tmp_path / "alone").mkdir()
    torn.rename(tmp_path / "alone" / torn.name)
    (tmp_path / "clips & more" / "deep" / "er" / "trip #3.avi").rename(tmp_path / "alone" / "a b.avi")
    code, text = init(str(tmp_path / "alone"), "--expert", str(tmp_path / "net.onnx"), "--yes")
    assert code == 0 and "nothing is held out" in text and "ffmpeg" in text, text
    made = written(tmp_path / "alone")
    assert made.steps["report"].split == "train" and "release" in made.steps
    (tmp_path / "alone" / "a b.avi").unlink()
    code, text = init(str(tmp_path / "alone"), "--expert", str(tmp_path / "net.onnx"), "--yes", "--force")
    assert code == Exit.WRONG and "none of the videos that were tried can be read: a torn one.avi" in text, text


def test_cocos_one_file_may_be_named(tmp_path: Path, init: Callable[..., tuple[int, str]]) -> None:
    data = tmp_path / "data"
    pictures(data, [f"{i}.jpg" for i in range(6)])
    image = {"width": 64, "height": 48}
    box = {"category_id": 7, "bbox": [4, 4, 9, 9]}
    coco = {
        "images": [{"id": i, "file_name": f"{i}.jpg", **image} for i in range(6)],
        "annotations": [{"id": i, "image_id": i, **box} for i in range(6)],
        "categories": [{"id": 7, "name": "car"}],
    }
    (tmp_path / "notes of all.json").write_text(json.dumps(coco))
    code, text = init(str(data), "--labels", str(tmp_path / "notes of all.json"))
    assert code == 0 and "6 with labels" in text, text
    assert written(data).modalities["objects"].classes == ("car",)
    coco["images"], coco["annotations"] = coco["images"][:5], coco["annotations"][:5]  # type: ignore[index]
    (tmp_path / "notes of all.json").write_text(json.dumps(coco))
    code, text = init(str(data), "--labels", str(tmp_path / "notes of all.json"), "--force")
    assert code == 0 and "5 with labels" in text and "data: 6 pictures\n" in text, "copies are nobody's data"
    assert sorted(f.name for f in (data / "hyperloom-labels").iterdir()) == [f"{i}.json" for i in range(5)]
    (tmp_path / "other.json").write_text("[1]")
    code, text = init(str(data), "--labels", str(tmp_path / "other.json"), "--force")
    assert code == Exit.WRONG and "other.json" in text and "Next:" in text, text
