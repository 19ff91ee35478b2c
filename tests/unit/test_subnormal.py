"""Weights that a processor is slow with: zeros take their place wherever a network is read, and it answers the same."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hyperloom.stages.label.runtimes.torch import Torch
from hyperloom.stages.network.statefile import read_state
from hyperloom.stages.network.subnormal import as_zeros, flush, flushed

TINY, SMALL = 1e-40, 2e-38
"""Below and above float32's least normal number."""


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(4), nn.Conv2d(4, 2, 1)).eval()
    with torch.no_grad():
        network[0].weight[:2] = TINY
        network[0].weight[2, 0] = SMALL
        network[1].running_mean[:2] = -TINY
        network[1].weight[1] = TINY
    return network


def _many(weights: torch.Tensor) -> int:
    return int(((weights != 0) & (weights.abs() < torch.finfo(torch.float32).tiny)).sum())


def test_what_is_subnormal_becomes_zero_and_nothing_else_does() -> None:
    weights = torch.tensor([0.0, TINY, -TINY, SMALL, -SMALL, 1.0])
    assert flushed(weights).tolist() == [0.0, 0.0, 0.0, *weights[3:].tolist()]
    assert flushed(weights[3:]) is not None and torch.equal(flushed(weights[3:]), weights[3:])
    half = torch.tensor([6e-8], dtype=torch.float16)  # subnormal as a half, and not to a processor
    whole = torch.tensor([3])
    assert flushed(half) is half and flushed(whole) is whole


@pytest.mark.parametrize("form", ["state", "script"])
def test_a_network_of_torch_is_read_without_them(form: str, tmp_path: Path) -> None:
    network, content = _network(), io.BytesIO()
    assert sum(map(_many, network.state_dict().values())) == 57
    if form == "state":
        torch.save(network.state_dict(), content)
        state = read_state(content.getvalue(), "net.pth")
        assert not sum(map(_many, state.values())) and float(state["0.weight"][2, 0, 0, 0]) > 0
        return
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.script(network), path)
    expert = Torch.model_validate(
        {"type": "torch", "path": str(path), "in": "rgb@camera", "out": "semantic@net", "decode": "classes"}
    )
    session = expert.session()
    assert not sum(map(_many, session._module.state_dict().values()))
    frames = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    assert np.array_equal(session(frames, [0])[0], network(torch.from_numpy(frames)).detach().numpy())


def test_a_module_is_mended_in_its_place() -> None:
    network = _network()
    before = network[0].weight.data_ptr()
    flush(network)
    assert not sum(map(_many, network.state_dict().values())) and network[0].weight.data_ptr() == before


def test_a_graph_of_onnx_is_run_without_them(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    from hyperloom.stages.label.runtimes.onnx import OnnxSession
    from hyperloom.stages.label.runtimes.onnxfile import without_subnormals

    weights = np.ones((2, 3, 1, 1), np.float32)
    weights[0, :2] = TINY
    add = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array([TINY], np.float32), "add"))
    nodes = [add, helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "c"], ["z"])]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 4, 4]) for n, c in (("x", 3), ("z", 2))]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    less = without_subnormals(str(path))
    assert isinstance(less, bytes) and without_subnormals(less) is less
    read = onnx.load_from_string(less)
    assert numpy_helper.to_array(read.graph.initializer[0])[0, :, 0, 0].tolist() == [0.0, 0.0, 1.0]
    frames = np.random.default_rng(0).random((1, 3, 4, 4), np.float32)
    assert np.allclose(OnnxSession(str(path))(frames, [0])[0][0, 0], frames[0, 2], rtol=0, atol=0)
    parted = onnx.load_from_string(path.read_bytes())
    parted.graph.initializer[0].segment.end = 3  # the library does not read tensors in parts
    onnx.save(parted, tmp_path / "parted.onnx")
    assert without_subnormals(str(tmp_path / "parted.onnx")) == str(tmp_path / "parted.onnx")
    (tmp_path / "torn.onnx").write_bytes(b"no graph")
    assert without_subnormals(str(tmp_path / "torn.onnx")) == str(tmp_path / "torn.onnx")


def test_what_is_computed_is_as_zeros_meanwhile_and_no_longer() -> None:
    small = torch.full((4,), 2 * TINY)
    with as_zeros():
        with as_zeros():
            assert not small.mul(0.5).any()
        assert not small.mul(0.5).any(), "the outer one goes on"
    assert small.mul(0.5).all()
    with pytest.raises(ValueError), as_zeros():
        raise ValueError
    assert small.mul(0.5).all()
