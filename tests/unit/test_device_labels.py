"""Labelling in steps: maps decoded as tensors are those of the host, a batch trial on a device, reading for the unit
that waits, files written beside. The device here is the CPU: what a GPU does of it, `benchmarks/gpu.py` shows."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.workers.executor import Host
from hyperloom.stages import remarks
from hyperloom.stages.label import batching, reading
from hyperloom.stages.label.batching import BatchSize
from hyperloom.stages.label.decode.activation import softmax
from hyperloom.stages.label.decode.decoders import as_map
from hyperloom.stages.label.decode.scores import BLOCK, vote
from hyperloom.stages.label.decode.tensors import resized
from hyperloom.stages.label.runtimes.device import Landing, OnDevice, decoded, landed
from hyperloom.stages.label.runtimes.onnxdevice import BoundSession
from hyperloom.stages.label.samples import ExpertInputs
from hyperloom.stages.label.stage import Label
from hyperloom.stages.label.steps import Steps
from tests.unit.inline import ingested, modalities, step

CLASSES = ["a", "b", "c", "d", "e"]
KNOWN = modalities(
    rgb={"type": "image", "size": [24, 36]},
    semantic={"type": "segmentation", "classes": CLASSES},
    soft={"type": "soft", "of": "semantic"},
    depth={"type": "dense", "range": [0, 300]},
)
SIZES = [(24, 36), (48, 72), (6, 9), (30, 41), (24, 72), (25, 20)]
DECODERS: list[dict[str, Any]] = [
    {"type": "classes"},
    {"type": "classes", "threshold": 0.3, "map": ["b", None, "a", "d", "e"], "activation": "softmax"},
    {"type": "classes", "threshold": 0.6, "activation": "sigmoid"},
    {"type": "classes", "threshold": 0.4, "activation": "none"},
    {"type": "probabilities", "temperature": 2.0, "activation": "logit"},
    {"type": "probabilities", "map": {0: "a", 2: "b", 4: "a"}, "activation": "softmax"},
    {"type": "probabilities", "activation": "sigmoid"},
    {"type": "probabilities", "activation": "none", "divide": 1.5},
    {"type": "dense", "activation": "sigmoid"},
    {"type": "dense", "normalise": "percentiles", "invert": "flip"},
    {"type": "dense", "scale": 2.0, "offset": 1.0, "invert": "reciprocal"},
]


@pytest.mark.parametrize("fields", DECODERS, ids=str)
def test_maps_decoded_as_tensors_are_those_of_the_host(fields: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    target = KNOWN[{"classes": "semantic", "probabilities": "soft", "dense": "depth"}[fields["type"]]]
    decoder = plugins.parse("decoder", fields)
    for size in SIZES:
        raw = random.normal(size=(2, 1 if fields["type"] == "dense" else 5, *size)).astype(np.float32)
        raw = 1 / (1 + np.exp(-raw)) if fields.get("activation") == "none" else raw
        values = decoder.on_device(torch.from_numpy(raw), target)
        assert values is not None and tuple(values.shape[1:]) == target.shape
        landed_ = np.stack([decoder.landed(value, target) for value in values.numpy()])
        expected = np.stack([decoder.finish(as_map(one, "nchw"), target) for one in raw])
        if fields["type"] == "probabilities":
            assert values.dtype == torch.float16
            np.testing.assert_allclose(values.numpy(), expected, atol=1e-3)
        elif fields["type"] == "classes":
            assert values.dtype == torch.uint8 and np.array_equal(landed_, expected)
        else:
            np.testing.assert_allclose(values.numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "value", "text"),
    [
        ({"type": "classes"}, np.nan, "NaN as a score"),
        ({"type": "classes", "activation": "none", "threshold": 0.2}, 1.5, "gave 1.5 where probabilities are expected"),
        ({"type": "probabilities", "activation": "none"}, -0.5, "gave -0.5 where probabilities"),
        ({"type": "classes", "activation": "ids"}, 300.0, "the class id 300, and ids end at 255"),
    ],
    ids=str,
)
def test_scores_that_cannot_be_are_refused_on_a_device_as_on_the_host(
    fields: dict[str, Any], value: float, text: str
) -> None:
    """Of maps that are decoded where the network runs, the least and the greatest score come along."""
    target = KNOWN["soft" if fields["type"] == "probabilities" else "semantic"]
    decoder, channels = plugins.parse("decoder", fields), 1 if fields.get("activation") == "ids" else 5
    raw = (
        np.random.default_rng(0)
        .uniform(0, 1, (3, channels, 24, 36))
        .astype(np.float32)
        .round(0 if channels == 1 else 3)
    )
    raw[1, 0, 3, 4] = value

    def asked() -> list[Any]:
        (given,) = Landing([decoded(decoder, torch.from_numpy(raw), "nchw", target)]).arrays()
        assert given.ready
        return list(landed(given, decoder, target))

    with pytest.raises((ValueError, RecipeError), match=text):
        decoder.finish(as_map(raw[1], "nchw"), target)
    if fields.get("activation") == "none":  # what the recipe says is wrong for all
        with pytest.raises(RecipeError, match=text):
            asked()
        return
    answers = asked()
    assert [isinstance(answer, ValueError) for answer in answers] == [False, True, False] and text in str(answers[1])


@pytest.mark.parametrize("channels", [1, 5], ids=["ids", "scores"])
def test_classes_beyond_a_map_are_counted_on_a_device_as_on_the_host(channels: int) -> None:
    """Beside pixels that the network itself calls unknown, and not for a map that lists single classes."""
    target, random = KNOWN["semantic"], np.random.default_rng(0)
    raw = random.normal(size=(3, channels, 24, 36)).astype(np.float32)
    if channels == 1:
        raw = random.choice([0, 1, 255], raw.shape).astype(np.float32)
        raw[1, 0, 3, 4] = 3
    else:
        raw[::2, 2:] = -9
    for map_, said in ((["a", None], True), (["a", None, "b", "c", "d"], False), ({0: "a"}, False)):
        decoder = plugins.parse(
            "decoder", {"type": "classes", "map": map_, "activation": "ids" if channels == 1 else "logit"}
        )
        (given,) = Landing([decoded(decoder, torch.from_numpy(raw), "nchw", target)]).arrays()
        with remarks.collected() as there:
            values = landed(given, decoder, target)
        with remarks.collected() as host:
            expected = np.stack([decoder.finish(as_map(one, "nchw"), target) for one in raw])
        assert given.ready and np.array_equal(values, expected)
        assert there == host and list(there.values()) == ([1] if said else [])


@pytest.mark.parametrize("shape", [(7, 5, 11), (300, 200, 3), (4, 4, 300)], ids=str)
def test_a_vote_is_the_first_class_of_the_highest_score(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    scores = random.integers(0, 4, shape).astype(np.float32)  # many ties
    for layout in (scores, np.moveaxis(np.ascontiguousarray(np.moveaxis(scores, -1, 0)), 0, -1)):
        assert np.array_equal(vote(layout), np.minimum(scores.argmax(-1), 255))
        sure = softmax(scores).max(-1)
        assert np.array_equal(vote(layout, 0.4) == 255, (sure < 0.4) | (scores.argmax(-1) > 254))
    scores[1, 2, 1] = np.nan
    assert vote(scores)[1, 2] == 1, "what is no number is what NumPy makes of it"
    assert vote(np.zeros((5, 0, 3), np.float32)).shape == (5, 0)


def test_resizing_under_gradients_works_after_it_was_done_without() -> None:
    with torch.inference_mode():
        resized(torch.ones(1, 1, 7, 9), (3, 4))
    x = torch.ones(1, 1, 7, 9, requires_grad=True)
    resized(x, (3, 4)).sum().backward()
    assert x.grad is not None and float(x.grad.sum()) == pytest.approx(12)


@pytest.mark.parametrize("size", [(1, 1), (370, 709), (2, BLOCK + 1)])
def test_a_map_of_any_number_of_blocks_is_voted_on_whole(size: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).standard_normal((*size, 3)).astype(np.float32)
    assert np.array_equal(vote(scores), scores.argmax(-1))
    scores[-1, -1, 0] = np.nan
    assert np.array_equal(vote(scores), scores.argmax(-1)), "also where the last block has what is no number"


@pytest.mark.parametrize("preprocess", [{"normalise": "imagenet"}, {"channels": "bgr", "size": [20, 30]},
                                        {"size": [24, 36], "tile": [16, 20], "overlap": 0.2}], ids=str)  # fmt: skip
def test_frames_that_go_to_a_device_as_bytes_get_the_hosts_answers(tmp_path: Any, preprocess: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = torch.nn.Conv2d(3, 5, 3, padding=1)
    torch.save(module.state_dict(), tmp_path / "net.pt")
    arguments = {"in_channels": 3, "out_channels": 5, "kernel_size": 3, "padding": 1}
    fields = {"type": "torch", "path": str(tmp_path / "net.pt"), "net": "torch.nn:Conv2d", "arguments": arguments}
    fields |= {"in": "rgb@camera", "out": ["semantic@n", "soft@n"], "decode": ["classes", "probabilities"]}
    expert = plugins.parse("expert", {**fields, "preprocess": preprocess})
    frames = np.random.default_rng(0).integers(0, 256, (3, 24, 36, 3), np.uint8)
    host = expert.build(KNOWN, Storage("memory://device"))({"rgb@camera": frames})
    grid = expert.preprocess.grid((24, 36), None)
    device = OnDevice(expert, expert.session(), grid, [KNOWN["semantic"], KNOWN["soft"]])({"rgb@camera": frames})
    assert (device["semantic@n"] != host["semantic@n"]).mean() < 1e-3
    assert device["soft@n"].dtype == np.float32
    np.testing.assert_allclose(device["soft@n"], host["soft@n"], atol=1e-3)


def test_precision_bears_meaning_and_its_default_none(tmp_path: Any) -> None:
    fields = {"type": "torch", "path": "net.ts", "in": "rgb@camera", "out": "semantic@n", "decode": "classes"}
    plain, half, placed = (
        payload(plugins.parse("expert", {**fields, **more}), str)
        for more in ({}, {"precision": "bf16"}, {"compile": True, "gpus": 1})
    )
    assert "precision" not in plain and plain == placed and half != plain
    with torch.inference_mode():
        torch.jit.trace(torch.nn.Conv2d(3, 5, 1), torch.rand(1, 3, 4, 4)).save(str(tmp_path / "net.ts"))
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 36, 3), np.uint8)
    found = [
        plugins.parse("expert", {**fields, "path": str(tmp_path / "net.ts"), "precision": p}).build(
            KNOWN, Storage("memory://precision")
        )({"rgb@camera": frames})["semantic@n"]
        for p in ("fp32", "bf16")
    ]
    assert 0 < (found[0] != found[1]).mean() < 0.05


def test_on_a_device_the_trial_leaves_reading_and_first_calls_out(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, seen = [0.0], set[int]()

    def read(rows: Any) -> list[int]:
        now[0] += 5.0 * len(rows)
        return list(rows)

    def call(rows: list[int]) -> int:
        now[0] += 0.01 + (0.0 if len(rows) in seen else 0.3)
        seen.add(len(rows))
        return 1

    monkeypatch.setattr(batching.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(batching, "DEVICE_SECONDS", 1e9)
    size = BatchSize(Storage(str(tmp_path)), "expert/x", None)
    assert size.wants(48)
    size.find(range(48), call, read)
    assert size.now == 32 and not size.known, "more samples could tell more"
    assert not size.wants(48) and size.wants(64)

    def full(rows: list[int]) -> int:
        if len(rows) > 16:
            raise RuntimeError("CUDA out of memory")
        return call(rows)

    size.find(range(64), full, read)
    assert size.now == 16 and size.known


class Waiting(Steps):
    """Waits, in the first unit, until the samples of the second are being read."""

    opened = threading.Event()

    def compute(self, prepared: Any) -> Any:
        if not prepared["rgb@camera"].any():
            assert self.opened.wait(10), "nobody reads for the unit that waits"
        return {"depth@x": prepared["rgb@camera"][..., :1].astype(np.float32)}


def test_a_waiting_unit_is_read_and_the_file_is_written_beside(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyperloom.stages.label.expert import Expert

    class Held(Expert):
        def build(self, modalities: dict[str, Any], storage: Storage) -> Any:
            return Waiting()

    Waiting.opened.clear()
    threads, batch = list[str](), ExpertInputs.batch

    def watched(self: ExpertInputs, rows: Any) -> Any:
        values = batch(self, rows)
        if values["rgb@camera"].any():
            threads.append(threading.current_thread().name)
            Waiting.opened.set()
        return values

    monkeypatch.setitem(globals(), "Held", Held)
    monkeypatch.setattr(ExpertInputs, "batch", watched)
    monkeypatch.setattr(reading, "WORTH", -1.0)
    storage = Storage(str(tmp_path))
    groups = {f"g{i}": [{"rgb@camera": np.full((24, 36, 3), red, np.uint8)}] for i, red in enumerate((1, 0, 2))}
    data = ingested(storage, KNOWN, groups)
    expert = {"type": f"{__name__}:Held", "in": "rgb@camera", "out": "depth@x", "batch": 1}
    labels = step(Label(stage="label", data="frames", experts=[expert]), storage, KNOWN, frames=data)
    units, workers = labels.stage.units(labels)
    first, *rest = list(units)
    host = Host(str(storage), lambda name: workers[name[1]], ThreadPoolExecutor(1))
    run = lambda unit: host.run("s", frozenset({"s"}), [unit], [1])  # noqa: E731
    outcomes = run(first)
    Waiting.opened.clear()
    with ThreadPoolExecutor(2) as calls:
        zero = calls.submit(run, rest[0])
        while not host._at_hand:
            pass
        outcomes += [*calls.submit(run, rest[1]).result(), *zero.result()]
    for record in (o.record for o in outcomes):
        assert record and not record.quarantined and storage.size(record.file.path) == record.file.bytes
    assert threads[-1].startswith("read-ahead")


class Echo:
    """Stands for a Hugging Face model: its maps are what it is given."""

    def prepared(self, frames: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(frames.astype(np.float32) / 50).permute(0, 3, 1, 2)

    def tensors(self, prepared: torch.Tensor, tensors: Any) -> list[torch.Tensor]:
        return [torch.cat([prepared, prepared[:, :2].flip(1) + 0.5], 1) for _ in tensors]


def test_maps_of_hugging_face_models_are_decoded_on_their_device_as_on_the_host() -> None:
    from hyperloom.stages.label.hub.maps import MapSteps

    decoders = [plugins.parse("decoder", name) for name in ("classes", "probabilities")]
    targets = [KNOWN["semantic"], KNOWN["soft"]]
    frames = np.random.default_rng(0).integers(0, 256, (3, 12, 18, 3), np.uint8)
    host, device = (
        MapSteps(Echo(), on, "rgb@camera", ["semantic@n", "soft@n"], decoders, targets)({"rgb@camera": frames})  # type: ignore[arg-type]
        for on in (False, True)
    )
    assert np.array_equal(host["semantic@n"], device["semantic@n"])
    np.testing.assert_allclose(device["soft@n"], host["soft@n"], atol=1 / 255)


@pytest.mark.parametrize("batch", ["n", 1, 2], ids=lambda b: f"batch-{b}")
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", [3, 1])
def test_an_onnx_network_bound_to_a_device_answers_as_on_the_host(
    tmp_path: Any, batch: Any, layout: str, channels: int
) -> None:
    """Frames, maps and classes without a way through the host; graphs of a fixed batch get their frames piece by piece,
    an input that takes no frames its constant."""
    axes = [channels, 24, 36] if layout == "nchw" else [24, 36, channels]
    path = bound_network(tmp_path / "net.onnx", [batch, *axes], layout, channels)
    fields = {"type": "onnx", "path": path, "in": "rgb@camera", "out": ["semantic@n", "soft@n"]}
    fields |= {"decode": ["classes", "probabilities"], "constants": {"gain": [0.5]}, "preprocess": {"divide": 255}}
    expert = plugins.parse("expert", fields)
    frames = np.random.default_rng(0).integers(0, 256, (3, 24, 36, 3), np.uint8)
    host = expert.build(KNOWN, Storage("memory://bound"))({"rgb@camera": frames})
    session, targets = expert.session(), [KNOWN["semantic"], KNOWN["soft"]]
    grid = expert.preprocess.grid((24, 36), session.size)
    device = OnDevice(expert, BoundSession(session, "cpu"), grid, targets)({"rgb@camera": frames})
    assert len(np.unique(host["semantic@n"])) >= 3 and (device["semantic@n"] != host["semantic@n"]).mean() < 1e-3
    np.testing.assert_allclose(device["soft@n"], host["soft@n"], atol=1e-3)


def bound_network(path: Any, shape: list[Any], layout: str, channels: int) -> str:
    """Saves a graph with a convolution to five scores and an input `gain` that they are multiplied by."""
    weights = np.random.default_rng(1).normal(size=(5, channels, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["planes", "w"], ["scores"], pads=[1, 1, 1, 1])]
    turned = layout == "nhwc"
    nodes.insert(0, helper.make_node("Transpose" if turned else "Identity", ["x"], ["planes"],
                                     **({"perm": [0, 3, 1, 2]} if turned else {})))  # fmt: skip
    nodes.append(helper.make_node("Mul", ["scores", "gain"], ["scaled"]))
    nodes.append(helper.make_node("Transpose" if turned else "Identity", ["scaled"], ["y"],
                                  **({"perm": [0, 2, 3, 1]} if turned else {})))  # fmt: skip
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
              helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1])]  # fmt: skip
    outputs = [helper.make_empty_tensor_value_info("y")]
    graph = helper.make_graph(nodes, "bound", inputs, outputs, [numpy_helper.from_array(weights, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return str(path)
