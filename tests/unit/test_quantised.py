"""Inputs of LiteRT files that count in steps: what the graph sees of black, grey and white pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from tests.unit.inline import modalities

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
flatbuffers = pytest.importorskip("flatbuffers")
KNOWN = modalities(
    rgb={"type": "image", "size": [2, 4]},
    seen={"type": "dense", "channels": 3, "size": [2, 4], "storage": "float32"},
)
TYPE = schema.TensorType


def graph(path: Path, kind: int, scale: float, zero: int) -> str:
    """A file whose only operation makes real numbers of its input's steps."""
    model, part, code, run = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version, model.version, model.operatorCodes = 3, 3, [code]
    model.buffers, part.name = [schema.BufferT() for _ in range(3)], b"main"
    part.tensors = [schema.TensorT() for _ in range(2)]
    for number, (tensor, type_) in enumerate(zip(part.tensors, (kind, TYPE.FLOAT32), strict=True)):
        tensor.name, tensor.shape, tensor.type, tensor.buffer = f"t{number}", [1, 2, 4, 3], type_, number + 1
    quantum = part.tensors[0].quantization = schema.QuantizationParametersT()
    quantum.scale, quantum.zeroPoint = [scale], [zero]
    part.inputs, part.outputs, run.inputs, run.outputs = [0], [1], [0], [1]
    run.opcodeIndex, part.operators, model.subgraphs = 0, [run], [part]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return str(path)


def seen(path: str, **fields: Any) -> list[float]:
    """What comes of white, grey and black."""
    expert = plugins.parse("expert", {"type": "litert", "path": path, "in": "rgb@camera", "out": "seen@net",
                                      "decode": "dense", **fields})  # fmt: skip
    expert.examine(path, KNOWN["rgb"])
    frame = np.zeros((1, 2, 4, 3), np.uint8)
    frame[0, 0], frame[0, 1, 0] = 255, 128
    (value,) = expert.build(KNOWN, Storage("memory://quantised"))({"rgb@camera": frame})["seen@net"]
    assert (value == value[..., :1]).all()
    return [float(value[0, 0, 0]), float(value[1, 0, 0]), float(value[1, 3, 0])]


@pytest.mark.parametrize("kind, zero", [(TYPE.UINT8, 128), (TYPE.INT8, 0)])
def test_eight_bits_are_pixels_as_they_are(tmp_path: Path, kind: int, zero: int) -> None:
    path = graph(tmp_path / "n.tflite", kind, 1 / 128, zero)
    assert seen(path) == pytest.approx([127 / 128, 0, -1])
    with pytest.raises(RecipeError, match=r"preprocess\.mean and std would do nothing"):
        seen(path, preprocess={"mean": [127.5], "std": [127.5]})


def test_sixteen_bits_are_steps_of_what_preprocess_makes(tmp_path: Path) -> None:
    path = graph(tmp_path / "n.tflite", TYPE.INT16, 1 / 32767, 0)
    assert seen(path, preprocess={"mean": [127.5], "std": [127.5]}) == pytest.approx([1, 0.5 / 127.5, -1], abs=1e-4)
    assert seen(path, preprocess={"divide": 255}) == pytest.approx([1, 128 / 255, 0], abs=1e-4)
    with pytest.raises(RecipeError, match=r"takes numbers of -1 to 1, and pixels come to .* to 255\. Next: in preproc"):
        seen(path)
    dim = graph(tmp_path / "d.tflite", TYPE.INT16, 0.9 / 32767, 0)  # measured on pictures without white
    assert seen(dim, preprocess={"divide": 255}) == pytest.approx([0.9, 128 / 255, 0], abs=1e-4)
    whole = graph(tmp_path / "w.tflite", TYPE.INT16, 255 / 32767, 0)
    assert seen(whole) == pytest.approx([255, 128, 0], abs=0.01)
