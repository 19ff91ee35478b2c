"""What a LiteRT (TFLite) file says of itself: its inputs, its outputs, its tensors, of how many classes it
chooses. Read by the format's own schema,
without an interpreter; nothing is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.stages.label.runtimes.network import library
from hyperloom.stages.modality import Size

CHANNELS = (1, 3, 4)
DTYPES: dict[int, Any] = {
    0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 7: np.int16, 9: np.int8, 10: np.float64,
    15: np.uint32, 16: np.uint16,
}  # fmt: skip
"""Of the schema's numbers for types, those that pixels may have."""


@dataclass(frozen=True)
class GraphTensor:
    """`kind` is None for a type that pixels cannot have."""

    index: int
    name: str
    shape: tuple[int, ...]
    kind: Any
    scale: float = 0.0
    """What a step is worth where it is quantised."""


@dataclass(frozen=True)
class LiteRTHeader:
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    tensors: tuple[GraphTensor, ...]


@dataclass(frozen=True)
class FrameInput:
    """The input that takes frames, `batch` at a time."""

    dtype: np.dtype[Any]
    layout: str
    batch: int
    size: Size
    channels: int


def image_input(path: str, shapes: Sequence[Sequence[int]], kinds: Sequence[Any], layout: str | None) -> FrameInput:
    """Raises RecipeError where there is not one input of four axes."""
    if len(shapes) != 1 or len(shapes[0]) != 4 or kinds[0] is None:
        listed = [[int(n) for n in shape] for shape in shapes]
        raise RecipeError(f"{path}: an expert has one image input, this network's inputs are {listed}")
    shape = [int(n) for n in shapes[0]]
    layout = layout or ("nchw" if shape[1] in CHANNELS and shape[3] not in CHANNELS else "nhwc")
    at = 2 if layout == "nchw" else 1
    return FrameInput(np.dtype(kinds[0]), layout, shape[0], (shape[at], shape[at + 1]), shape[1 if at == 2 else 3])


def numbers(dtype: np.dtype[Any], scale: float) -> np.dtype[Any]:
    """What pixels are brought to for an input: itself, but real numbers for steps of 16 bits, of which 255 is none."""
    return np.dtype(np.float32) if dtype == np.int16 and scale else dtype


def header(path: str) -> LiteRTHeader:
    """Of a local file. Raises SourceError, PluginError without the library."""
    schema = library("ai_edge_litert.schema_py_generated", "litert")
    with open(path, "rb") as file:
        data = file.read()
    if not data:
        raise SourceError(f"{path} is empty (0 bytes)")
    if data[4:8] != b"TFL3":
        raise SourceError(f"{path} is no LiteRT file: it has not its mark (TFL3)")
    try:
        model = schema.Model.GetRootAs(data, 0)
        graph = model.Subgraphs(0)
        tensors = tuple(_tensor(graph.Tensors(i), i) for i in range(graph.TensorsLength()))
        inputs = tuple(tensors[graph.Inputs(i)] for i in range(graph.InputsLength()))
        outputs = tuple(tensors[graph.Outputs(i)] for i in range(graph.OutputsLength()))
        ends = [_end(model.Buffers(i)) for i in range(model.BuffersLength())]
    except Exception as error:  # offsets that lead nowhere: whatever Python says of them
        raise SourceError(f"{path} is no whole LiteRT file: {error}") from error
    if max(ends, default=0) > len(data):
        raise SourceError(f"{path} was cut off: {len(data)} of {max(ends)} bytes")
    return LiteRTHeader(inputs, outputs, tensors)


def choices(path: str, output: int) -> int | None:
    """Of how many classes an output of class ids is the highest; None where the file does not show it."""
    schema = library("ai_edge_litert.schema_py_generated", "litert")
    with open(path, "rb") as file:
        model = schema.Model.GetRootAs(file.read(), 0)
    graph, kinds = model.Subgraphs(0), schema.BuiltinOperator
    passing = {kinds.CAST, kinds.EXPAND_DIMS, kinds.RESHAPE, kinds.SQUEEZE, kinds.QUANTIZE, kinds.DEQUANTIZE}
    producers = {
        operator.Outputs(j): operator
        for operator in map(graph.Operators, range(graph.OperatorsLength()))
        for j in range(operator.OutputsLength())
    }
    operator = producers.get(graph.Outputs(output))
    while operator is not None and _kind(model, operator) in passing:
        operator = producers.get(operator.Inputs(0))
    if operator is None or _kind(model, operator) != kinds.ARG_MAX:
        return None
    scores, ids = (_tensor(graph.Tensors(i), i).shape for i in (operator.Inputs(0), operator.Outputs(0)))
    axis = next((i for i in range(len(scores)) if scores[:i] + scores[i + 1 :] == ids), None)
    return scores[-1] if scores[:-1] == ids else scores[axis] if axis is not None else None


def _kind(model: Any, operator: Any) -> int:
    code = model.OperatorCodes(operator.OpcodeIndex())
    return int(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))  # the first is newer, and 0 in older files


def check_tensor(header: LiteRTHeader, tensor: str | int) -> None:
    """Raise RecipeError where the graph has no such output or tensor."""
    names = {t.name for t in header.tensors}
    if tensor in names or (isinstance(tensor, int) and 0 <= tensor < max(len(header.outputs), len(header.tensors))):
        return
    listed = ", ".join(t.name for t in header.outputs)
    raise RecipeError(f"the network has no tensor {tensor!r}; its outputs are: {listed}")


def _tensor(tensor: Any, index: int) -> GraphTensor:
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    quantum = tensor.Quantization()
    scale = float(quantum.Scale(0)) if quantum is not None and quantum.ScaleLength() == 1 else 0.0
    return GraphTensor(index, (tensor.Name() or b"").decode(), shape, DTYPES.get(tensor.Type()), scale)


def _end(buffer: Any) -> int:
    """Where a buffer's data end in the file."""
    if buffer.Offset() > 1:  # of files over 2 GB: behind the graph
        return int(buffer.Offset() + buffer.Size())
    place = buffer._tab.Offset(4)
    return int(buffer._tab.Vector(place) + buffer._tab.VectorLen(place)) if place else 0
