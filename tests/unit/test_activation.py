"""What a network's scores are: the same labels from logits, probabilities and ids, however the file ends; and what
cannot be told is refused with the field to set. A quarter of each frame is bright, and there is the person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper, save

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.stage import Label
from tests.unit.inline import column, finish, ingested, modalities, step

SHAPE = 8, 12
KNOWN = modalities(
    rgb={"type": "image", "size": SHAPE},
    semantic={"type": "segmentation", "classes": ["nobody", "person"]},
    three={"type": "segmentation", "classes": ["nobody", "person", "dog"]},
    soft={"type": "soft", "of": "semantic"},
    depth={"type": "dense", "storage": "float32"},
)
PERSON = np.zeros(SHAPE, np.uint8)
PERSON[:, 9:] = 1
FRAMES = np.where(PERSON, 220, 30).astype(np.uint8)[None, ..., None].repeat(3, 0).repeat(3, 3)
PROBABILITY = 1 / (1 + np.exp(-(FRAMES[..., :1].astype(np.float32) - 128) / 16))
Node = tuple[Any, ...]


def network(
    path: Path, *nodes: Node, dtype: int = T.FLOAT, shape: Sequence[Any] = ("n", 3, *SHAPE), extra: Any = (),
    **weights: Any,
) -> str:  # fmt: skip
    """Saves a graph whose `logit` is (grey - 128) / 16, whose `both` are minus that and that, and which ends in
    `nodes`: (operation, inputs, outputs, attributes). The last output is the graph's."""
    axis = list(shape).index(3) if 3 in shape else 1
    given = [
        ("ReduceMean", ["x"], ["grey"], {"axes": [axis]}), ("Sub", ["grey", "middle"], ["around"]),
        ("Div", ["around", "slope"], ["logit"]), ("Neg", ["logit"], ["minus"]),
        ("Concat", ["minus", "logit"], ["both"], {"axis": 1}), *nodes,
    ]  # fmt: skip
    used = [helper.make_node(n[0], n[1], n[2], **(n[3] if len(n) > 3 else {})) for n in given]
    constants = {"middle": np.float32(128), "slope": np.float32(16), **weights}
    inputs = [helper.make_tensor_value_info("x", dtype, shape), *extra]
    outputs = [helper.make_empty_tensor_value_info(given[-1][2][0])]
    kept = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(used, "person", inputs, outputs, kept)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return str(path)


def asked(path: str, decode: Any = "classes", out: str = "semantic@net", **fields: Any) -> tuple[np.ndarray, str]:
    """What the expert says of the frames, and its notes."""
    expert = {"type": "onnx", "path": path, "in": "rgb@camera", "out": out, "decode": decode, **fields}
    function: Any = plugins.parse("expert", expert).build(KNOWN, Storage("memory://activation"))
    return function({"rgb@camera": FRAMES})[out], " ".join(function.notes)


LOGIT = ("Identity", ["logit"], ["y"])
SIGMOID = ("Sigmoid", ["logit"], ["p"])
BY_HAND = [("Neg", ["logit"], ["a"]), ("Exp", ["a"], ["b"]), ("Add", ["b", "one"], ["c"]), ("Div", ["one", "c"], ["y"])]
CHOICE = ("ArgMax", ["both"], ["chosen"], {"axis": 1, "keepdims": 1})


@pytest.mark.parametrize(
    "nodes, note",
    [
        pytest.param([LOGIT], "", id="logit"),
        pytest.param([("Sigmoid", ["logit"], ["y"])], "sigmoid or softmax", id="sigmoid"),
        pytest.param(
            [SIGMOID, ("Resize", ["p", "", "scales"], ["y"])], "sigmoid or softmax", id="sigmoid, then resized"
        ),
        pytest.param(BY_HAND, "0.", id="a sigmoid by hand"),
        pytest.param([("Softmax", ["both"], ["y"], {"axis": 1})], "", id="softmax"),
        pytest.param([("LogSoftmax", ["both"], ["y"], {"axis": 1})], "", id="log-softmax"),
        pytest.param([("Sigmoid", ["both"], ["y"])], "", id="a sigmoid of each class"),
        pytest.param([CHOICE], "", id="argmax"),
        pytest.param([CHOICE, ("Cast", ["chosen"], ["y"], {"to": T.FLOAT})], "class ids", id="argmax as float"),
    ],
)
def test_a_quarter_of_each_picture_is_person(tmp_path: Path, nodes: list[Node], note: str) -> None:
    weights = {"one": np.float32(1), "scales": np.array([1, 1, 2, 2], np.float32)}
    found, notes = asked(network(tmp_path / "n.onnx", *nodes, **weights))
    assert found.mean() == 0.25 and np.array_equal(found[0], PERSON)
    assert (note in notes) if note else notes == ""
    assert "activation:" in notes or not note, "the line that says it for good"


@pytest.mark.parametrize(
    "nodes, decode",
    [
        ([LOGIT], {}),
        ([("Sigmoid", ["logit"], ["y"])], {}),
        ([("Sigmoid", ["logit"], ["y"])], {"activation": "none"}),
        ([("Softmax", ["twice"], ["y"], {"axis": 1})], {}),
        ([("LogSoftmax", ["twice"], ["y"], {"axis": 1})], {}),
        ([SIGMOID, ("Mul", ["p", "byte"], ["y"])], {"activation": "none", "divide": 255}),
    ],
)  # fmt: skip
def test_soft_labels_are_the_probabilities_whatever_the_network_ends_in(
    tmp_path: Path, nodes: list[Node], decode: dict[str, Any]
) -> None:
    twice = ("Concat", ["zero", "logit"], ["twice"], {"axis": 1})
    weights = {"byte": np.float32(255)}
    zero = ("Mul", ["logit", "none"], ["zero"])
    path = network(tmp_path / "n.onnx", zero, twice, *nodes, none=np.float32(0), **weights)
    found, _ = asked(path, {"type": "probabilities", **decode}, "soft@net")
    np.testing.assert_allclose(found[..., 1:], PROBABILITY, atol=1e-4)


def test_a_threshold_means_a_probability(tmp_path: Path) -> None:
    slope = np.float32(100)
    for nodes in ([LOGIT], [("Sigmoid", ["logit"], ["y"])], [("Softmax", ["both"], ["y"], {"axis": 1})]):
        path = network(tmp_path / "n.onnx", *nodes, slope=slope)
        sure = 0.86 if nodes[0][0] == "Softmax" else 0.72
        for threshold, unknown in ((sure - 0.02, False), (sure + 0.01, True)):
            found, _ = asked(path, {"type": "classes", "threshold": threshold})
            assert (found[0, 0, 11] == 255) == unknown, nodes


@pytest.mark.parametrize(
    "nodes, decode, said",
    [
        ([SIGMOID, ("Mul", ["p", "byte"], ["y"])], {}, "divide: 255"),
        ([SIGMOID, ("Mul", ["p", "byte"], ["q"]), ("Cast", ["q"], ["y"], {"to": T.UINT8})], {}, "divide: 255"),
        ([LOGIT], {"activation": "none"}, r"the network gave -8 where probabilities.*activation: logit"),
        ([("Softmax", ["both"], ["y"], {"axis": 3})], {}, "add up to 1 over the columns"),
        ([("Softmax", ["both"], ["y"], {"axis": 2})], {}, "add up to 1 over the rows"),
        ([("Transpose", ["both"], ["y"], {"perm": [0, 2, 3, 1]})], {}, "layout: nhwc"),
        ([("Concat", ["both", "both"], ["y"], {"axis": 1})], {}, "4 channels for 2 classes.*map:"),
        ([("Slice", ["both", "at", "to"], ["y"])], {}, r"shape \(1, 2, 8, 12\) for 2 frame.*its first"),
        ([("Concat", ["both", "both"], ["y"], {"axis": 0})], {}, r"shape \(4, 2, 8, 12\) for 2 frame"),
    ],
    ids=str,
)
def test_what_can_be_read_in_two_ways_is_refused_with_the_field_to_set(
    tmp_path: Path, nodes: list[Node], decode: dict[str, Any], said: str
) -> None:
    path = network(tmp_path / "n.onnx", *nodes, byte=np.float32(255), at=np.array([0]), to=np.array([1]))
    with pytest.raises(RecipeError, match=rf"n\.onnx: (semantic@net: )?.*{said}"):
        asked(path, {"type": "classes", **decode})


def test_a_sigmoid_of_each_class_times_255_makes_no_soft_labels_unasked(tmp_path: Path) -> None:
    nodes = [("Sigmoid", ["both"], ["p"]), ("Mul", ["p", "byte"], ["y"])]
    path = network(tmp_path / "n.onnx", *nodes, byte=np.float32(255))
    with pytest.raises(RecipeError, match="divide: 255"):
        asked(path, "probabilities", "soft@net")
    found, _ = asked(path, {"type": "probabilities", "activation": "none", "divide": 255}, "soft@net")
    np.testing.assert_allclose(found[..., 1:], PROBABILITY, atol=1e-4)


def test_no_label_is_made_of_nan() -> None:
    decoder = plugins.parse("decoder", {"type": "classes", "activation": "logit"})
    scores = np.where(PERSON[..., None], np.nan, [1.0, 2.0]).astype(np.float32)
    with pytest.raises(ValueError, match="gave NaN"):
        decoder.finish(scores, KNOWN["semantic"])


@pytest.mark.parametrize(
    ("decode", "scores", "modality", "said"),
    [
        ("choice", [np.nan, 1.0, 0.0], "kind", "NaN as a score"),
        ("choice", [0.0, np.nan, 0.0], "labels", "NaN as a score"),
        ({"type": "choice", "activation": "none"}, [0.2, 1.5, 0.0], "kind", "gave 1.5 where probabilities"),
        ({"type": "classes", "activation": "ids"}, [[0.0, np.nan]], "semantic", "nan where class ids are expected"),
        ({"type": "classes", "activation": "ids"}, [[0.0, 1.5]], "semantic", "1.5 where class ids are expected"),
    ],
    ids=str,
)
def test_what_is_no_score_and_no_id_chooses_no_class(decode: Any, scores: Any, modality: str, said: str) -> None:
    known = modalities(
        semantic={"type": "segmentation", "classes": ["a", "b", "c"], "size": [1, 2]},
        kind={"type": "category", "classes": 3},
        labels={"type": "multilabel", "classes": 3},
    )
    with pytest.raises((ValueError, RecipeError), match=said):
        plugins.parse("decoder", decode).finish(np.array(scores, np.float32), known[modality])


@pytest.mark.parametrize("decode", ["classes", "probabilities", "dense"])
def test_a_map_of_other_channels_is_refused_before_the_first_sample(tmp_path: Path, decode: str) -> None:
    path = network(tmp_path / "n.onnx", ("Concat", ["both", "both"], ["y"], {"axis": 1}))
    out = {"classes": "semantic@net", "probabilities": "soft@net", "dense": "depth@net"}[decode]
    with pytest.raises(RecipeError, match="gives 4 channels"):
        asked(path, decode, out)


def test_the_field_that_a_refusal_names_mends_it(tmp_path: Path) -> None:
    byte, turned = np.float32(255), ("Transpose", ["both"], ["y"], {"perm": [0, 2, 3, 1]})
    scores = [SIGMOID, ("Mul", ["p", "byte"], ["q"]), ("Cast", ["q"], ["y"], {"to": T.UINT8})]
    for nodes, decode in (([turned], {"layout": "nhwc"}), (scores, {"divide": 255, "activation": "none"})):
        found, notes = asked(network(tmp_path / "n.onnx", *nodes, byte=byte), {"type": "classes", **decode})
        assert np.array_equal(found[0], PERSON) and notes == ""


def test_a_background_that_has_no_channel(tmp_path: Path) -> None:
    for ending in ([("Identity", ["both"], ["y"])], [("Sigmoid", ["both"], ["y"])]):
        path = network(tmp_path / "n.onnx", *ending, middle=np.float32(30))  # logits of 0 and 12: one half, and person
        with pytest.raises(RecipeError, match=r"2 channels for 3 classes.*background: nobody"):
            asked(path, out="three@net")
        found, _ = asked(path, {"type": "classes", "background": "nobody", "threshold": 0.6}, "three@net")
        assert np.unique(found[:, :, :9]).tolist() == [0] and np.unique(found[:, :, 9:]).tolist() == [2]


def test_small_logits_of_a_convolution_are_no_probabilities(tmp_path: Path) -> None:
    kernel = np.full((1, 1, 1, 1), 0.001, np.float32)
    path = network(tmp_path / "n.onnx", ("Conv", ["grey", "kernel"], ["y"]), kernel=kernel)
    found, notes = asked(path)
    assert found.min() == 1 and notes == "", "0.03 is above 0"
    _, notes = asked(path, {"type": "classes", "activation": "none"})
    assert notes == ""


def test_a_torchscript_file_that_ends_in_a_sigmoid(tmp_path: Path) -> None:
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.Sigmoid())
    with torch.no_grad():
        net[0].weight[:], net[0].bias[:] = 1 / 48, -8
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 3, *SHAPE)), str(tmp_path / "n.pt"))
    found, notes = asked(str(tmp_path / "n.pt"), type="torch")
    assert np.array_equal(found[0], PERSON) and "taken as probabilities, class 1 above 0.5" in notes
    torch.jit.save(torch.jit.trace(net[0], torch.zeros(1, 3, *SHAPE)), str(tmp_path / "logits.pt"))
    found, notes = asked(str(tmp_path / "logits.pt"), type="torch")
    assert np.array_equal(found[0], PERSON) and notes == ""


@pytest.mark.parametrize("values, refused", [([0.2, 0.9], True), ([0.0, 1.0], True), ([-3.0, 0.4], False)])
def test_scores_of_a_service_are_refused_where_they_can_be_read_in_two_ways(values: list[float], refused: bool) -> None:
    """Nobody can try a network behind an endpoint: each answer says what it is, or its error names the field."""
    scores = np.array(values, np.float32).repeat(48).reshape(*SHAPE[::-1]).T[..., None]
    decoder = plugins.parse("decoder", "classes")
    if not refused:
        assert sorted(np.unique(decoder.finish(scores, KNOWN["semantic"]))) == [0, 1]
        return
    with pytest.raises(ValueError, match="activation: logit"):
        decoder.finish(scores, KNOWN["semantic"])
    settled = plugins.parse("decoder", {"type": "classes", "activation": "none"})
    assert settled.finish(scores, KNOWN["semantic"]).mean() == 0.5


def test_a_probability_that_later_frames_do_not_keep_to_ends_the_step(tmp_path: Path) -> None:
    """The trial frame cannot show it: only the third frame leaves 0..1."""
    nodes = [("Mul", ["grey", "part"], ["y"])]
    path = network(tmp_path / "n.onnx", *nodes, part=np.float32(1 / 255))
    expert = {"type": "onnx", "path": path, "in": "rgb@camera", "out": "semantic@net", "decode": "classes"}
    function: Any = plugins.parse("expert", expert).build(KNOWN, Storage("memory://activation"))
    assert "taken as probabilities" in function.notes[0]
    compute = function.compute
    function.compute = lambda prepared: [([2 * raw for raw in raws], count) for raws, count in compute(prepared)]
    with pytest.raises(RecipeError, match="the network gave 1.7"):
        function({"rgb@camera": FRAMES})


# -- inputs ------------------------------------------------------------------------------------------------------------
GREY = ("Identity", ["grey"], ["y"])
SECOND = helper.make_tensor_value_info("s", T.FLOAT, ["n", 2])
MINE = {"out": "depth@net", "decode": "dense"}


@pytest.mark.parametrize(
    "fields, graph, nodes",
    [
        pytest.param({}, {"shape": ("n", 1, *SHAPE)}, [("Identity", ["x"], ["y"])], id="one channel"),
        pytest.param({}, {"shape": (2, 1, *SHAPE)}, [("Identity", ["x"], ["y"])], id="one channel, batch of two"),
        pytest.param({"preprocess": {"channels": "grey"}}, {"shape": ("n", "c", *SHAPE)}, [("Identity", ["x"], ["y"])],
                     id="grey for free axes"),
        pytest.param({}, {"shape": ("n", *SHAPE, "c")}, [("ReduceMean", ["x"], ["y"], {"axes": [3]})], id="free NHWC"),
        pytest.param({}, {"shape": ("n", *SHAPE, 1)}, [("Identity", ["x"], ["y"])], id="grey NHWC"),
        pytest.param({}, {"dtype": T.UINT8}, [("Cast", ["x"], ["f"], {"to": T.FLOAT}),
                                              ("ReduceMean", ["f"], ["y"], {"axes": [1]})], id="uint8"),
        pytest.param({}, {"dtype": T.INT32}, [("Cast", ["x"], ["f"], {"to": T.FLOAT}),
                                              ("ReduceMean", ["f"], ["y"], {"axes": [1]})], id="int32"),
        pytest.param({}, {"dtype": T.DOUBLE}, [("ReduceMean", ["x"], ["d"], {"axes": [1]}),
                                               ("Cast", ["d"], ["y"], {"to": T.FLOAT})], id="double"),
        pytest.param({"constants": {"s": [1.0, -1.0]}}, {"extra": [SECOND]},
                     [("ReduceSum", ["s"], ["z"], {"keepdims": 0}), ("Add", ["grey", "z"], ["y"])], id="two inputs"),
    ],
)  # fmt: skip
def test_frames_reach_inputs_of_any_kind(tmp_path: Path, fields: Any, graph: Any, nodes: list[Node]) -> None:
    if "shape" in graph or "dtype" in graph:
        path = _plain(tmp_path / "n.onnx", nodes, **graph)
    else:
        path = network(tmp_path / "n.onnx", *nodes, **graph)
    found, _ = asked(path, **MINE, **fields)
    np.testing.assert_allclose(found, FRAMES[..., :1], atol=1e-3)


def _plain(path: Path, nodes: list[Node], dtype: int = T.FLOAT, shape: Sequence[Any] = ("n", 3, *SHAPE)) -> str:
    used = [helper.make_node(n[0], n[1], n[2], **(n[3] if len(n) > 3 else {})) for n in nodes]
    outputs = [helper.make_empty_tensor_value_info("y")]
    graph = helper.make_graph(used, "plain", [helper.make_tensor_value_info("x", dtype, shape)], outputs)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return str(path)


KEEP = [("Identity", ["x"], ["y"])]


@pytest.mark.parametrize(
    "graph, fields, said",
    [
        ({"shape": ("n", 4, *SHAPE)}, {}, "wants 4 channels, and rgb@camera has 3"),
        ({"dtype": T.UINT8}, {"preprocess": {"normalise": "imagenet"}}, "normalise would do nothing"),
        ({"dtype": T.UINT8}, {"preprocess": {"divide": 255}}, "divide would do nothing"),
        ({"shape": ("n", 3)}, {}, "one input of four axes"),
        ({"shape": ("n", 3, 24, 32)}, {"preprocess": {"size": [12, 16]}}, "wants frames of"),
        ({"shape": ("n", "a", "b", "c")}, {"decode": {"type": "dense", "tensor": "z"}},
         "no output 'z'"),
    ],
)  # fmt: skip
def test_an_input_that_frames_do_not_fit_is_refused(tmp_path: Path, graph: Any, fields: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        asked(_plain(tmp_path / "n.onnx", KEEP, **graph), **{**MINE, **fields})


def test_the_step_says_once_how_scores_were_read(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "root"))
    path = network(tmp_path / "n.onnx", ("Sigmoid", ["logit"], ["y"]))
    data = ingested(storage, KNOWN, {g: [{"rgb@camera": f} for f in FRAMES] for g in "ab"}, rows=2)
    expert = {"type": "onnx", "path": path, "in": "rgb@camera", "out": "semantic@net", "decode": "classes"}
    labels = finish(step(Label(stage="label", data="frames", experts=[expert]), storage, KNOWN, frames=data))
    (remark,) = labels.body["remarks"]
    assert "semantic@net (n.onnx): the network ends in a sigmoid" in remark
    found = column(storage, KNOWN, labels, "semantic@net")
    assert len(found) == 6 and all(v is not None and np.array_equal(v, PERSON) for v in found.values())


def test_a_file_that_is_newer_than_the_runtime_is_named_with_both_numbers(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(network(tmp_path / "n.onnx", LOGIT))
    model.ir_version = 99
    onnx.save(model, str(tmp_path / "n.onnx"))
    with pytest.raises(PluginError, match=r"IR version 99, and ONNX Runtime .* opens IR version \d+ at most.*pip"):
        asked(str(tmp_path / "n.onnx"))


# -- before anything runs ----------------------------------------------------------------------------------------------
RECIPE = """\
name: planned
root: {root}
modalities:
  rgb: {{type: image, size: [8, 12]}}
  depth: {{type: dense, storage: float32}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: {root}/images}}}}
  labels:
    stage: label
    data: frames
    experts:
      - {{type: {kind}, path: {path}, in: rgb@camera, out: depth@net, decode: {{type: dense, tensor: {tensor}}}{more}}}
"""


def planned(folder: Path, path: str, tensor: str = "y", more: str = "", kind: str = "onnx") -> None:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images/a.png").write_bytes(b"nobody looks at it")
    (folder / "r.yaml").write_text(RECIPE.format(root=folder, path=path, tensor=tensor, more=more, kind=kind))
    storage = Storage(str(folder / "root"))
    plan(recipe.load(folder / "r.yaml"), storage, Digests(storage))


def test_a_plan_refuses_what_an_onnx_file_shows(tmp_path: Path) -> None:
    """Each with the line of the recipe; nothing ran, and nothing was asked of a worker."""
    import onnx

    path = _plain(tmp_path / "n.onnx", KEEP)
    planned(tmp_path, path)
    with pytest.raises(RecipeError, match=r"r\.yaml:12: step 'labels': the network has no output 'z'; there are: y"):
        planned(tmp_path, path, "z")
    with pytest.raises(RecipeError, match=r"r\.yaml:12: .*there is no input shape; there are x"):
        planned(tmp_path, path, more=", constants: {shape: 1}")
    with pytest.raises(RecipeError, match=r"r\.yaml:12: .*wants 4 channels, and rgb@camera has 3"):
        planned(tmp_path, _plain(tmp_path / "n.onnx", KEEP, shape=("n", 4, *SHAPE)))
    with pytest.raises(RecipeError, match=r"r\.yaml:12: .*2 inputs.*s \(tensor\(float\).*constants: {s: "):
        planned(tmp_path, network(tmp_path / "n.onnx", LOGIT, extra=[SECOND]))
    with pytest.raises(RecipeError, match=r"r\.yaml:12: .*uint8.*normalise would do nothing"):
        path = _plain(tmp_path / "n.onnx", KEEP, dtype=T.UINT8)
        planned(tmp_path, path, more=", preprocess: {normalise: imagenet}")
    model = onnx.load(_plain(tmp_path / "n.onnx", KEEP))
    model.opset_import[0].version = 99
    onnx.save(model, str(tmp_path / "n.onnx"))
    with pytest.raises(RecipeError, match=r"r\.yaml:12: .*opset 99, and ONNX Runtime \S+ opens opset \d+ at most"):
        planned(tmp_path, path)
    (tmp_path / "n.onnx").write_bytes(b"no network")
    with pytest.raises(RecipeError, match=r"r\.yaml:12: .*is no ONNX file"):
        planned(tmp_path, path)
    with pytest.raises(RecipeError, match=r"r\.yaml:12: .*wants frames of \[4, 6\].*leave preprocess.size out"):
        planned(tmp_path, _plain(tmp_path / "n.onnx", KEEP, shape=("n", 3, 4, 6)), more=", preprocess: {size: [8, 12]}")
    assert not (tmp_path / "root/steps").exists()


def litert(path: Path, shape: tuple[int, ...] = (1, *SHAPE, 3), kind: int = 0) -> str:
    """A graph of one input `x` of that shape and one output `y`, without operations."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model, graph = schema.ModelT(), schema.SubGraphT()
    graph.tensors = [schema.TensorT() for _ in "xy"]
    for tensor, name in zip(graph.tensors, "xy", strict=True):
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, 1
    graph.inputs, graph.outputs, graph.operators = [0], [1], []
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = list(range(200))
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return str(path)


def test_a_plan_refuses_what_a_litert_file_shows(tmp_path: Path) -> None:
    from functools import partial

    path, look = litert(tmp_path / "n.tflite"), partial(planned, tmp_path, kind="litert")
    look(path)
    look(path, "1")
    for fields, text in (
        ((path, "z"), "has no tensor 'z'; its outputs are: y"),
        ((path, "7"), "has no tensor 7; its outputs are: y"),
        ((litert(tmp_path / "four.tflite", (1, *SHAPE, 4)),), "wants 4 channels, and rgb@camera has 3"),
        ((litert(tmp_path / "flat.tflite", (1, 96)),), r"one image input, this network's inputs are \[\[1, 96\]\]"),
        ((litert(tmp_path / "b.tflite", kind=3), "y", ", preprocess: {normalise: imagenet}"), "normalise would do"),
    ):
        with pytest.raises(RecipeError, match=rf"r\.yaml:12: .*{text}"):
            look(*fields)
    data = Path(path).read_bytes()
    for broken, text in (
        (data[:-150], "is no whole LiteRT|was cut off"),
        (b"", "is empty"),
        (b"no network", "no LiteRT"),
    ):
        Path(path).write_bytes(broken)
        with pytest.raises(RecipeError, match=text):
            look(path)


def test_a_plan_refuses_what_a_file_of_torch_shows(tmp_path: Path) -> None:
    """By its first bytes and the names in its archive; torch is not asked."""
    import pickle
    import zipfile
    from collections import OrderedDict

    def archive(name: str, **files: bytes) -> str:
        with zipfile.ZipFile(tmp_path / name, "w") as zipped:
            for place, content in files.items():
                zipped.writestr(f"archive/{place.replace('__', '/').replace('_pkl', '.pkl')}", content)
        return str(tmp_path / name)

    weights = pickle.dumps(OrderedDict(a=1))
    state = archive("a.pth", data_pkl=weights, version=b"3")
    script = archive("b.pt", data_pkl=weights, constants_pkl=weights, code__x=b"")
    objects = archive("c.pth", data_pkl=pickle.dumps(Path("x")))
    header = b'{"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}'
    (tmp_path / "d.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(15))
    (tmp_path / "e.pth").write_bytes(Path(state).read_bytes()[:-30])
    (tmp_path / "f.pth").write_text("<!DOCTYPE html><html>")
    (tmp_path / "g.pth").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "h.pth").write_bytes(b"")
    (tmp_path / "i.pth").write_bytes(Path(litert(tmp_path / "n.tflite")).read_bytes())
    net = ", net: espnet"
    planned(tmp_path, state, "0", net, "torch")
    planned(tmp_path, script, "0", "", "torch")
    for path, more, text in (
        (state, "", r"weights alone .a state dict., and is read as a TorchScript archive. Next: net:"),
        (script, net, "holds a TorchScript archive, and is read as weights alone .a state dict.. Next: leave net"),
        (objects, net, "holds Python objects .pathlib.*save its weights alone"),
        ("d.safetensors", net, "was cut off: 85 of 86 bytes"),
        ("e.pth", net, "is damaged or was cut off"),
        ("f.pth", net, "is a web page"),
        ("g.pth", net, "git lfs pull"),
        ("h.pth", net, r"is empty \(0 bytes\)"),
        ("i.pth", net, "Next: type: litert"),
    ):
        with pytest.raises(RecipeError, match=rf"r\.yaml:12: .*{text}"):
            planned(tmp_path, path if "/" in path else str(tmp_path / path), "0", more, "torch")
