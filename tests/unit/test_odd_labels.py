"""Boxes, sounds, empty files, weights and names as people have them: the right value, or a reason that mends it."""

from __future__ import annotations

import io
import json
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.recipes import recipe
from hyperloom.stages.remarks import collected
from tests.unit import inline

BOX = {"x0": 0.375, "y0": 0.25, "x1": 0.625, "y1": 0.75, "class": "car"}


def boxes(**fields: Any) -> Any:
    return inline.modalities(objects={"type": "boxes", "classes": ["person", "car"], "most": 3, **fields})["objects"]


def corners(value: np.ndarray) -> list[float]:
    return [round(float(x), 6) for x in value[0, :4]]


def checked(modality: Any, value: Any) -> np.ndarray:
    fitted = modality.fit(value)
    modality.check(fitted)
    return np.asarray(fitted)


def test_a_rounding_error_is_none_and_a_little_outside_is_a_choice() -> None:
    with collected() as said:
        assert corners(checked(boxes(), [{**BOX, "x1": 1 + 1e-7}]))[2] == 1
        assert not said
        assert corners(checked(boxes(clip=0.05), [{**BOX, "x1": 1.0371, "y0": -0.01}])) == [0.375, 0, 1, 0.75]
        assert said == {"boxes that reach out of the picture are clipped": 1}
    with pytest.raises(ValueError, match=r"got 1\.0371.*clip: 0\.05"):
        checked(boxes(), [{**BOX, "x1": 1.0371}])
    with pytest.raises(ValueError, match=r"got -0\.0[19].*clip"):
        checked(boxes(), [{**BOX, "y0": -0.01}])


def test_pixels_are_recognised_and_can_be_set() -> None:
    in_pixels = {"x0": 90, "y0": 40, "x1": 150, "y1": 120, "class": "car"}
    with pytest.raises(ValueError, match=r"got 150; these look like pixels.*pixels: \[height, width\]"):
        checked(boxes(), [in_pixels])
    assert corners(checked(boxes(pixels=[160, 240]), [in_pixels])) == [0.375, 0.25, 0.625, 0.75]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("p.txt", b"1 0.5 0.5 0.25 0.5\n"),
        ("p.json", json.dumps([BOX]).encode()),
        (
            "m.json",
            b'{"version": "5", "shapes": [{"label": "car", "points": [[15, 4], [9, 12]], "shape_type": "rectangle"}],'
            b' "imageHeight": 16, "imageWidth": 24, "imageData": null}',
        ),
        (
            "p.xml",
            b"<annotation><size><width>24</width><height>16</height><depth>3</depth></size><object><name>car</name>"
            b"<bndbox><xmin>9</xmin><ymin>4</ymin><xmax>15</xmax><ymax>12</ymax></bndbox></object></annotation>",
        ),
    ],
)
def test_one_box_is_the_same_from_every_form_of_file(name: str, data: bytes) -> None:
    value = boxes().read(data, name)
    boxes().check(value)
    assert corners(value) == [0.375, 0.25, 0.625, 0.75] and value[0, 4:].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("c.json", b'{"images": [], "annotations": [], "categories": []}', "c.json is COCO's file of a whole data set"),
        ("s.json", b'[{"id": 0, "data": {}, "annotations": []}]', "s.json is Label Studio's file"),
        ("t.json", b'{"id": 0, "data": {}, "annotations": []}', "t.json is Label Studio's task"),
        ("a.json", b'[{"image_id": 1, "category_id": 3, "bbox": [9, 4, 6, 8]}]', "list of COCO's annotations"),
        ("v.json", b'{"p.jpg12": {"filename": "p.jpg", "regions": []}}', "v.json is VIA's file"),
        ("d.json", b'{"boxes": [[0, 0, 1, 1]], "labels": [1]}', "d.json holds an object with boxes, labels"),
        (
            "m.json",
            b'{"shapes": [{"label": "car", "points": [], "shape_type": "polygon"}], "imageHeight": 1, "imageWidth": 1}',
            "LabelMe's JSON, and a shape is a polygon",
        ),
        ("m.json", b'{"shapes": [{"label": "car"}], "imageHeight": 1, "imageWidth": 1}', "lacks a size, points"),
        ("p.xml", b"<annotations><image/></annotations>", "its root is <annotations> .CVAT's"),
        ("k.txt", b"Car 0.00 0 -1.57 614 181 727 284 1.5 1.7 4.1 1 1.7 8.4 -1.56\n", "begins with 'Car'.*KITTI"),
        ("p.txt", b"1 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n", "9 fields .a polygon or a turned box"),
        ("p.txt", b"1 12 8 6 8\n", r"pixels: .height, width."),
        ("p.txt", b"1 0.5 0.5 0.25\n", "p.txt is read as YOLO's text.*a line has 4 fields"),
        ("p.txt", b"7 0.5 0.5 0.25 0.5\n", "class ids below 2, got 7"),
        ("p.xml", b"<annotation><object/></annotation>", "p.xml is read as VOC's XML.*lacks the picture's size"),
        ("p.xml", b"<annotation", "p.xml is read as VOC's XML, and it is no XML"),
        ("p.json", b"", r"p.json is empty \(0 bytes\)"),
    ],
)
def test_a_file_that_is_no_sample_s_boxes_says_what_it_is(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        boxes().check(boxes().read(data, name))


def test_text_in_pixels_by_the_option_that_its_refusal_names() -> None:
    value = boxes(pixels=[16, 24]).read(b"1 12 8 6 8\n", "p.txt")
    assert corners(value) == [0.375, 0.25, 0.625, 0.75]


@pytest.mark.parametrize("name", ["coco", "label_studio"])
def test_the_lines_of_the_docs_convert_a_data_set(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tool wrote it, the box of the picture p is the same."""
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "car"}]}
    coco["images"].append({"id": 7, "file_name": "day/p.jpg", "width": 24, "height": 16})
    coco["annotations"].append({"id": 1, "image_id": 7, "category_id": 3, "bbox": [9, 4, 6, 8]})
    rectangle = {"x": 37.5, "y": 25, "width": 25, "height": 50, "rectanglelabels": ["car"]}
    task = {"id": 1, "data": {"image": "/day/p.jpg"}, "annotations": [{"result": [{"value": rectangle}]}]}
    page = (Path(__file__).parents[2] / "docs/modalities.md").read_text(encoding="utf-8")
    code: dict[str, Any] = {}
    exec(page.split("## Boxes of annotation tools")[1].split("```python")[1].split("```")[0], code)
    monkeypatch.chdir(tmp_path)
    Path("all.json").write_text(json.dumps({"coco": coco, "label_studio": [task]}[name]))
    with pytest.raises(ValueError, match="Boxes of annotation tools"):
        boxes().read(Path("all.json").read_bytes(), "all.json")
    code[f"from_{name}"]("all.json")
    value = boxes().read(Path("boxes/p.json").read_bytes(), "p.json")
    assert corners(value) == [0.375, 0.25, 0.625, 0.75] and value[0, 4:].tolist() == [1, 1]


def sound(samples: np.ndarray, length: int | None = None) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, len(samples), "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    data = out.getvalue()
    place = data.index(b"data") + 4
    return data if length is None else data[:place] + struct.pack("<I", length) + data[place + 4 :]


@pytest.mark.parametrize("codec", ["raw", "file"])
@pytest.mark.parametrize("length", [None, 0, 0xFFFFFFFF])
def test_a_recorder_that_was_cut_off_loses_no_sound(codec: str, length: int | None) -> None:
    modality = inline.modalities(s={"type": "audio", "rate": 8000, "seconds": 0.01, "codec": codec})["s"]
    tone = (np.sin(np.arange(80)) * 9000).astype(np.int16)
    value = modality.read(sound(tone, length), "a.wav")
    assert (modality.decode(modality.encode([value]))[0][0] * 32768 - tone).max() < 1


def test_a_file_without_a_sample_is_no_silence() -> None:
    modality = inline.modalities(s={"type": "audio", "rate": 8000, "seconds": 0.01})["s"]
    with pytest.raises(ValueError, match="a.wav: holds no sample"):
        modality.read(sound(np.zeros(0)), "a.wav")
    with pytest.raises(ValueError, match=r"a.wav: is empty \(0 bytes\)"):
        modality.read(b"", "a.wav")


@pytest.mark.parametrize("beside", ["model.onnx.data", "model.onnx_data", "weights.pb"])
def test_every_file_that_a_graph_names_belongs_to_its_expert(tmp_path: Path, beside: str) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from hyperloom.stages.label.runtimes.onnx import Onnx

    weights = numpy_helper.from_array(np.ones((1, 3, 20, 20), np.float32), "w")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 3, 8, 12))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", inputs, outputs, [weights])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), str(path), save_as_external_data=True, location=beside, size_threshold=10)
    expert = {"type": "onnx", "path": str(path), "in": "rgb@camera", "out": "depth@net", "decode": "dense"}
    assert Onnx.model_validate(expert).weights() == (str(path), str(tmp_path / beside))
    plain = tmp_path / "plain.onnx"
    onnx.save(helper.make_model(graph), str(plain))
    assert Onnx.model_validate({**expert, "path": str(plain)}).weights() == (str(plain),)


def test_a_name_that_yaml_takes_for_a_number_is_shown_as_it_is_written() -> None:
    text = (
        "name: a\nroot: runs\nmodalities:\n  rgb: {type: image, size: [16, 24]}\nsteps:\n"
        "  frames: {stage: ingest, source: {type: files, path: imgs, only: [0042, 0016E5]}}\n"
    )
    with pytest.raises(RecipeError) as caught:
        recipe.parse(text)
    assert 'quote it: "0042"' in str(caught.value) and 'quote it: "0016E5"' in str(caught.value)


def test_one_group_cannot_fill_two_splits() -> None:
    from hyperloom.stages.shard.splits import Split

    with pytest.raises(RecipeError, match=r"1 group \(t\) cannot fill train and test"):
        Split(by="group", test=0.2).assign(["t"])
