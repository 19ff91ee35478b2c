"""Experts from network files, through `parse` and `build`, on tiny networks made here."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import PluginError, RecipeError, SourceError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.decode.activation import softmax
from hyperloom.stages.label.nets.pidinet import PiDiNet, fold
from hyperloom.stages.label.runtimes.preprocess import Preprocess
from hyperloom.stages.label.stage import Label
from hyperloom.stages.network.espnet import ESPNet
from tests.unit.inline import column, finish, ingested, modalities, step

CLASSES = ["grass", "brick", "sky"]
KNOWN = modalities(
    rgb={"type": "image", "size": [12, 16]},
    semantic={"type": "segmentation", "classes": CLASSES},
    soft={"type": "soft", "of": "semantic"},
    depth={"type": "dense", "storage": "float32"},
    colors={"type": "dense", "channels": 3, "storage": "float32"},
    objects={"type": "dense", "channels": 2, "range": [0, 1]},
)
CONV = "torch.nn:Conv2d"
POINTWISE = {"in_channels": 3, "out_channels": 3, "kernel_size": 1, "bias": False}


@pytest.fixture
def frames() -> np.ndarray:
    """(3, 12, 16, 3): each pixel mostly red, green or blue."""
    rng = np.random.default_rng(0)
    made = rng.integers(0, 100, (3, 12, 16, 3))
    strong = rng.integers(0, 3, (3, 12, 16))
    np.put_along_axis(made, strong[..., None], 200, axis=-1)
    return made.astype(np.uint8)


def onnx_file(path: Any, shape: list[Any] | None = None) -> str:
    """A network whose `scores` are the pixels themselves and whose `grey` is their sum."""
    from onnx import TensorProto, checker, helper, save

    shape = shape or ["n", 3, "h", "w"]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Identity", ["x"], ["scores"]),
        helper.make_node("ReduceSum", ["x", "axes"], ["grey"], keepdims=1),
    ]
    value = helper.make_tensor_value_info
    outputs = [
        value("scores", TensorProto.FLOAT, shape),
        value("grey", TensorProto.FLOAT, [shape[0], 1, *shape[2:]]),
    ]
    graph = helper.make_graph(nodes, "pixels", [value("x", TensorProto.FLOAT, shape)], outputs, [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, str(path))
    return str(path)


def made(frames: np.ndarray, **fields: Any) -> dict[str, np.ndarray]:
    """What an expert with these fields answers."""
    expert = plugins.parse("expert", {"in": "rgb@camera", **fields})
    return expert.build(KNOWN, Storage("memory://networks"))({"rgb@camera": frames})


def test_onnx_classes_soft_labels_and_numbers_from_one_network(tmp_path, frames):
    path = onnx_file(tmp_path / "net.onnx")
    found = made(
        frames,
        type="onnx",
        path=path,
        out=["semantic@net", "soft@net", "depth@net"],
        decode=[
            {"type": "classes", "map": ["brick", "grass", None]},
            {"type": "probabilities", "map": {0: "brick", 1: "grass"}, "temperature": 50, "activation": "logit"},
            {"type": "dense", "tensor": "grey"},
        ],
    )
    strongest = frames.argmax(-1)
    assert np.array_equal(found["semantic@net"], np.array([1, 0, 255])[strongest])
    assert found["soft@net"].shape == (3, 12, 16, 3)
    np.testing.assert_allclose(found["soft@net"].sum(-1), 1, atol=1e-5)
    known = strongest < 2
    share = found["soft@net"][~known][:, :2]
    expected = softmax(frames[~known][:, [1, 0]] / 50)
    np.testing.assert_allclose(share, expected, atol=1e-3)
    assert np.array_equal(found["soft@net"].argmax(-1)[known], found["semantic@net"][known])
    np.testing.assert_allclose(found["depth@net"][..., 0], frames.sum(-1), rtol=1e-6)


def test_a_fixed_batch_and_size_are_met_and_classes_come_back_at_the_modalitys_size(tmp_path, frames):
    path = onnx_file(tmp_path / "net.onnx", [2, 3, 24, 32])
    frames = frames[:, ::4, ::4].repeat(4, 1).repeat(4, 2)
    assert len(frames) % 2, "the last batch must need padding"
    found = made(frames, type="onnx", path=path, out="semantic@net", decode="classes")["semantic@net"]
    assert np.array_equal(found, frames.argmax(-1))


def test_preparation_channel_order_and_statistics(tmp_path, frames):
    path = onnx_file(tmp_path / "net.onnx")
    fields = {"type": "onnx", "path": path, "out": "colors@net", "decode": "dense"}
    plain = made(frames, **fields)["colors@net"]
    bgr = made(frames, preprocess={"channels": "bgr", "mean": [1, 2, 3], "std": [4, 5, 6], "divide": 2}, **fields)
    imagenet = made(frames, preprocess={"normalise": "imagenet", "channels": "bgr"}, **fields)["colors@net"]
    assert np.array_equal(plain, frames.astype(np.float32))
    np.testing.assert_allclose(bgr["colors@net"], (frames[..., ::-1] - [1, 2, 3]) / [4, 5, 6] / 2, rtol=1e-5, atol=1e-6)
    expected = (frames / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(imagenet, expected[..., ::-1], rtol=1e-4, atol=1e-4)


def test_tiles_give_what_the_whole_frame_gives(tmp_path, frames):
    path = onnx_file(tmp_path / "net.onnx", [1, 3, 8, 10])
    cut = {"size": [12, 16], "tile": [8, 10]}
    found = made(frames, type="onnx", path=path, out="colors@net", decode="dense", preprocess=cut)["colors@net"]
    assert np.array_equal(found, frames.astype(np.float32))


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([0.0, 0.25, 0.6]),
)
def test_any_grid_covers_the_frame_and_stitches_back(size, tile, overlap):
    tile = (min(tile[0], size[0]), min(tile[1], size[1]))
    grid = Preprocess(size=size, tile=tile, overlap=overlap).grid((99, 99), None)
    frame = np.arange(size[0] * size[1]).reshape(size)
    parts = grid.cut(frame)
    assert {part.shape for part in parts} == {tile}
    assert np.array_equal(grid.stitch(parts), frame)


def test_one_logit_a_pixel_and_a_threshold(tmp_path):
    path = onnx_file(tmp_path / "net.onnx")
    frames = np.array([[5, 0, 0], [0, 0, 0], [90, 0, 0]], np.uint8).reshape(3, 1, 1, 3).repeat(12, 1).repeat(16, 2)
    shifted = {"mean": [7, 0, 0], "std": [10, 1, 1]}
    fields = {"type": "onnx", "path": path, "out": "semantic@net", "preprocess": shifted}
    binary = made(frames, decode={"type": "classes", "tensor": "grey"}, **fields)["semantic@net"]
    assert [int(b.max()) for b in binary] == [0, 0, 1] and binary[2].min() == 1
    sure = made(frames, decode={"type": "classes", "threshold": 0.9}, **fields)["semantic@net"]
    assert np.unique(sure[1]).tolist() == [255] and np.unique(sure[2]).tolist() == [0]


def test_a_dense_map_is_normalised_and_turned_over(tmp_path, frames):
    path = onnx_file(tmp_path / "net.onnx")

    def depth(**decode: Any) -> np.ndarray:
        decode = {"type": "dense", "tensor": "grey", **decode}
        return made(frames, type="onnx", path=path, out="depth@net", decode=decode)["depth@net"][..., 0]

    grey = frames.sum(-1)
    low, high = grey.min((1, 2), keepdims=True), grey.max((1, 2), keepdims=True)
    np.testing.assert_allclose(depth(normalise="range"), (grey - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(depth(normalise="range", invert="flip"), 1 - (grey - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(depth(scale=2, offset=1, invert="reciprocal"), 1 / (2 * grey + 1), rtol=1e-5)
    np.testing.assert_allclose(depth(scale=0.01, activation="sigmoid"), 0.01, atol=1e-6)


def test_torch_state_dicts_and_scripts_agree(tmp_path, frames):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 3, 1, bias=False)
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}
    torch.save(wrapped, tmp_path / "wrapped.pth")
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    torch.jit.save(torch.jit.trace(net, torch.zeros(2, 3, 12, 16)), tmp_path / "net.pt")
    state = {"net": CONV, "arguments": POINTWISE}
    weight = net.weight.detach().numpy()[:, :, 0, 0]
    for name, extra in {"wrapped.pth": state, "net.safetensors": state, "net.pt": {}}.items():
        fields = {"type": "torch", "path": str(tmp_path / name), "out": "colors@net", "decode": "dense", **extra}
        found = made(frames, **fields)["colors@net"]
        np.testing.assert_allclose(found, frames @ weight.T, rtol=1e-4, atol=1e-3, err_msg=name)


def test_boxes_become_scores_in_the_groups_channels(tmp_path, frames):
    from onnx import TensorProto, helper, save

    rows = [  # pixels of a frame of 12 x 16
        [2, 3, 6, 9, 0.9, 0],
        [2, 3, 6, 8, 0.8, 0],  # the same object again
        [4, 4, 8, 9, 0.7, 5],  # another class of the same group
        [8, 0, 16, 6, 0.6, 2],
        [0, 0, 16, 12, 0.95, 7],  # no group wants it
        [0, 0, 2, 2, 0.1, 2],  # too weak
    ]
    constant = helper.make_tensor("rows", TensorProto.FLOAT, [1, 6, 6], np.ravel(rows))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["found"], value=constant)],
        "detector",
        [value("x", TensorProto.FLOAT, [1, 3, 12, 16])],
        [value("found", TensorProto.FLOAT, [1, 6, 6])],
    )
    path = str(tmp_path / "detector.onnx")
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    decode = {"type": "boxes", "groups": [[0, 5], [2]]}
    found = made(frames[:1], type="onnx", path=path, out="objects@net", decode=decode)["objects@net"][0]
    expected = np.zeros((12, 16, 2), np.float32)
    expected[4:9, 4:8, 0] = 0.7
    expected[3:9, 2:6, 0] = 0.9
    expected[0:6, 8:16, 1] = 0.6
    np.testing.assert_allclose(found, expected)


def test_fastestdet_grid_becomes_boxes():
    grid = np.full((7, 4, 4), -20.0, np.float32)  # two classes, nothing found
    grid[0], grid[5:] = 0.0, 0.0
    grid[:5, 1, 2] = [0.9, 0.0, 0.5, 0.0, -1.0]
    grid[5:, 1, 2] = [0.1, 0.8]
    decoder = plugins.parse("decoder", {"type": "fastestdet", "groups": [[0], [1]]})
    (row,) = decoder.tile(grid, "nchw", (32, 32))
    height = 1 / (1 + np.e)
    centre = (1 + np.tanh(0.5)) / 4
    score = 0.9**0.6 * 0.8**0.4
    np.testing.assert_allclose(row, [0.25, centre - height / 2, 0.75, centre + height / 2, score, 1], rtol=1e-5)


def test_pixel_difference_kernels_fold_into_plain_ones():
    """Each against its definition: a weighted sum of differences of pixels, at one place of a 5x5 patch."""
    rng = np.random.default_rng(1)
    weight, patch = rng.normal(size=9), rng.normal(size=(5, 5))
    inner = patch[1:4, 1:4].ravel()
    ring = [0, 1, 2, 5, 8, 7, 6, 3]  # clockwise from the top left
    angular = sum(weight[a] * (inner[a] - inner[b]) for a, b in zip(ring, [*ring[1:], ring[0]]))
    rays = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    radial = sum(w * (patch[2 + 2 * y, 2 + 2 * x] - patch[2 + y, 2 + x]) for w, (y, x) in zip(weight[1:], rays))
    expected = {
        "plain": (weight * inner).sum(),
        "central": (weight * (inner - inner[4])).sum(),
        "angular": angular,
        "radial": radial,
    }
    for kind, value in expected.items():
        kernel = fold(kind, torch.from_numpy(weight.reshape(1, 1, 3, 3)))[0, 0].numpy()
        seen = patch if kernel.shape == (5, 5) else patch[1:4, 1:4]
        assert np.isclose((kernel * seen).sum(), value), kind


def test_published_architectures_have_the_published_shapes():
    espnet, pidinet = ESPNet(classes=20, p=2, q=8).eval(), PiDiNet().eval()
    assert sum(p.numel() for p in espnet.parameters()) == 364_569  # 0.36 M in the paper
    with torch.inference_mode():
        assert espnet(torch.zeros(1, 3, 32, 64)).shape == (1, 20, 32, 64)
        edges = pidinet(torch.zeros(1, 3, 33, 46))
    assert edges.shape == (1, 1, 33, 46) and edges.min() >= 0 and edges.max() <= 1


def test_mistakes_are_said_with_what_would_be_right(tmp_path, frames):
    path = onnx_file(tmp_path / "net.onnx", [1, 3, 12, 16])
    onnx = {"type": "onnx", "path": path, "out": "semantic@net"}

    def message(error: type[Exception], **fields: Any) -> str:
        with pytest.raises(error) as caught:
            made(frames, **{**onnx, "decode": "classes", **fields})
        return str(caught.value)

    assert "scores, grey" in message(RecipeError, decode={"type": "classes", "tensor": "logits"})
    assert "'water'" in message(RecipeError, decode={"type": "classes", "map": ["water"]})
    assert "[12, 16]" in message(RecipeError, preprocess={"size": [24, 32]})
    assert "a segmentation" in message(RecipeError, out="depth@net")
    assert "one decoder" in message(ValueError, out=["semantic@a", "semantic@b"])
    assert "cannot be put together" in message(
        ValueError,
        decode={"type": "boxes", "groups": [[0]]},
        preprocess={"size": [24, 32], "tile": [12, 16]},
    )
    assert "nowhere.onnx" in message(SourceError, path=str(tmp_path / "nowhere.onnx"))
    (tmp_path / "text.onnx").write_text("not a network")
    assert "no ONNX file" in message(SourceError, path=str(tmp_path / "text.onnx"))
    assert "no file of PyTorch" in message(SourceError, type="torch", path=str(tmp_path / "text.onnx"))
    assert "espnet" in message(ValueError, type="torch", net="espent")


def test_a_missing_library_names_the_extra(tmp_path, frames, monkeypatch):
    for type_, module, extra in (("onnx", "onnxruntime", "onnx"), ("litert", "ai_edge_litert.interpreter", "litert")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(PluginError, match=rf"pip install 'hyperloom\[{extra}\]'"):
            made(frames, type=type_, path=str(tmp_path), out="semantic@net", decode="classes")


def test_a_pickle_that_would_run_code_is_refused(tmp_path, frames):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    fields = {"type": "torch", "net": CONV, "arguments": POINTWISE, "out": "colors@net", "decode": "dense"}
    with pytest.raises(SourceError):
        made(frames, path=str(tmp_path / "evil.pth"), **fields)
    assert not (tmp_path / "ran").exists()


def test_paths_are_placement_and_decoding_is_meaning():
    def identity(**fields: Any) -> Any:
        fields = {"in": "rgb@camera", "out": "semantic@net", "path": "a.onnx", "decode": "classes", **fields}
        return payload(plugins.parse("expert", {"type": "onnx", **fields}))

    assert identity() == identity(path="elsewhere/b.onnx", batch=1)
    assert identity() != identity(decode={"type": "classes", "map": ["sky"]})
    assert identity() != identity(preprocess={"channels": "bgr"})


def test_reading_a_recipe_loads_no_network_library():
    code = """
import sys, stages
from hyperloom.pipeline import plugins
for type_ in ("onnx", "litert", "torch"):
    plugins.parse("expert", {"type": type_, "path": "x", "in": "rgb@camera", "out": "depth@net", "decode": "dense"})
print(sorted({"torch", "onnxruntime", "ai_edge_litert", "cv2", "pyarrow"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_in_the_label_stage_frames_become_columns_of_another_size(tmp_path):
    known = modalities(
        photo={"type": "image", "size": [12, 16]},
        rgb={"type": "image", "size": [6, 8]},
        semantic={"type": "segmentation", "classes": CLASSES, "size": [6, 8]},
    )
    frame = np.zeros((12, 16, 3), np.uint8)
    frame[:, :8, 0], frame[:, 8:, 2] = 200, 200
    storage = Storage(str(tmp_path / "root"))
    data = ingested(storage, known, {"a": [{"photo@camera": frame}] * 3})
    experts = [
        {"type": "resize", "in": "photo@camera", "out": "rgb@camera"},
        {
            "type": "onnx",
            "path": onnx_file(tmp_path / "net.onnx"),
            "in": "photo@camera",
            "out": "semantic@net",
            "decode": "classes",
        },
    ]
    stage = Label.model_validate({"stage": "label", "data": "frames", "experts": experts})
    labels = finish(step(stage, storage, known, frames=data))
    small = column(storage, known, labels, "rgb@camera")
    semantic = column(storage, known, labels, "semantic@net")
    assert len(small) == len(semantic) == 3
    for key, value in semantic.items():
        assert value is not None and np.array_equal(value, np.repeat([[0] * 4 + [2] * 4], 6, axis=0))
        tiny = small[key]
        assert tiny is not None and tiny.shape == (6, 8, 3) and np.array_equal(tiny.argmax(-1), value)
