"""What an ONNX file says of itself: its versions, its inputs, where it keeps weights, its last operations and of how
many classes they choose.

Read by the `onnx` library without weights; nothing is run. ONNX Runtime's version decides what can be opened: a file
that is newer is refused with both numbers.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import PluginError, RecipeError, SourceError
from hyperloom.stages.label.decode.activation import ScoreKind
from hyperloom.stages.label.runtimes.network import library
from hyperloom.stages.modality import Size

DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(uint16)": np.uint16, "tensor(int16)": np.int16,
    "tensor(int32)": np.int32, "tensor(int64)": np.int64,
}  # fmt: skip
CHANNELS = (1, 3, 4)
LARGE = 10**9
"""Bytes of a file that is run as it is, since it would be in memory twice."""
OLD_IR, OLD_OPSET = 10, 21
"""What the oldest ONNX Runtime that we take can open, so that nobody needs to be asked."""
PASSING = {
    "Cast", "DepthToSpace", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Resize",
    "Slice", "Squeeze", "Transpose", "Unsqueeze", "Upsample",
}  # fmt: skip
"""Operations that move values and change none of what they mean."""
BY_CHANNEL = {"Cast", "Identity", "LogSoftmax", "Resize", "Sigmoid", "Softmax", "Upsample"}
"""Operations that leave each channel where it is."""
ENDINGS: dict[str, ScoreKind] = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax"), "probabilities"),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LogSoftmax"), "logits"),
    "ArgMax": "ids",
}  # fmt: skip


@dataclass(frozen=True)
class Port:
    """An input of a graph: its type as ONNX Runtime writes it, and its axes; None where an axis has any length."""

    name: str
    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind} {['?' if n is None else n for n in self.shape]})"


@dataclass(frozen=True)
class ImageInput:
    """The input that takes frames, and `others`, which need constants."""

    port: Port
    layout: str
    others: tuple[Port, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(DTYPES[self.port.kind])

    @property
    def channels(self) -> int | None:
        return self.port.shape[3 if self.layout == "nhwc" else 1]

    @property
    def size(self) -> Size | None:
        height, width = self.port.shape[1:3] if self.layout == "nhwc" else self.port.shape[2:4]
        return (height, width) if height and width else None


def image_input(path: str, ports: Sequence[Port], constants: Mapping[str, Any], layout: str | None) -> ImageInput:
    """Which input takes frames, and how. Raises RecipeError, naming inputs and the field to set."""
    listed = ", ".join(map(str, ports))
    if unknown := sorted(set(constants) - {p.name for p in ports}):
        raise RecipeError(f"{path}: constants: there is no input {', '.join(unknown)}; there are {listed}")
    left = [p for p in ports if p.name not in constants]
    images = [p for p in left if p.kind in DTYPES and len(p.shape) == 4]
    if len(images) != 1:
        raise RecipeError(
            f"{path}: an expert gives frames to one input of four axes, and there are {listed}. Next: give what is no "
            "image by `constants: {input: values}`; a network of another kind of input is an expert of type python"
        )
    image = images[0]
    if others := [p.name for p in left if p is not image]:
        given = ", ".join(f"{name}: [...]" for name in others)
        raise RecipeError(f"{path} has {len(ports)} inputs: {listed}. Next: constants: {{{given}}} beside `path`")
    return ImageInput(image, layout or _layout(image.shape), tuple(p for p in ports if p.name in constants))


def _layout(shape: tuple[int | None, ...]) -> str:
    """Channels are first unless the shape can only be read the other way."""
    first, last = shape[1], shape[3]
    if first in CHANNELS:
        return "nchw"
    return "nhwc" if last in CHANNELS or (first is not None and last is None) else "nchw"


def port(name: str, kind: str, shape: Sequence[Any]) -> Port:
    return Port(name, kind, tuple(n if isinstance(n, int) and n > 0 else None for n in shape))


@dataclass(frozen=True)
class GraphHeader:
    """Versions and ports of a file."""

    ir: int
    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]


@lru_cache(16)
def _parsed(path: str, mark: tuple[int, int]) -> Any:
    """The graph without weights that lie outside."""
    return library("onnx", "onnx").load(path, load_external_data=False)


def _graph(path: str) -> Any:
    """Raises SourceError for what is no ONNX file."""
    stat = os.stat(path)
    try:
        model = _parsed(path, (stat.st_size, stat.st_mtime_ns))
    except PluginError:
        raise
    except Exception as error:  # protobuf's own
        raise SourceError(f"{path} is no ONNX file: {error}") from error
    if not model.graph.output:
        raise SourceError(f"{path} is no ONNX file: it has no graph with an output")
    return model


def header(path: str) -> GraphHeader:
    """Of a local file. Raises SourceError, PluginError without `onnx`."""
    model = _graph(path)
    onnx = library("onnx", "onnx")
    weights = {w.name for w in model.graph.initializer} | {w.values.name for w in model.graph.sparse_initializer}
    inputs = []
    for value in model.graph.input:
        if value.name not in weights:
            tensor = value.type.tensor_type
            name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
            axes = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
            inputs.append(port(value.name, f"tensor({name})", axes))
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    return GraphHeader(model.ir_version, opset, tuple(inputs), tuple(o.name for o in model.graph.output))


def ending(path: str, output: str) -> ScoreKind | None:
    """What the last operation before an output makes, past those that only move values."""
    producers = {name: node for node in _graph(path).graph.node for name in node.output}
    node = producers.get(output)
    while node is not None and node.op_type in PASSING:
        node = producers.get(node.input[0])
    return ENDINGS.get(node.op_type) if node is not None and node.domain in ("", "ai.onnx") else None


def choices(path: str, output: str) -> int | None:
    """Of how many classes an output of class ids is the highest; None where the file does not show it."""
    model = _graph(path)
    try:
        graph = library("onnx", "onnx").shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # whatever it cannot infer: shapes that stand in the file may do
        graph = model.graph
    producers = {name: node for node in model.graph.node for name in node.output}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.input)}
    node = producers.get(output)
    while node is not None and node.op_type in PASSING:
        node = producers.get(node.input[0])
    if node is None or node.op_type != "ArgMax":
        return None
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    while node is not None:
        shape = shapes.get(node.input[0], [])
        if -len(shape) <= axis < len(shape) and shape[axis] > 0:
            return int(shape[axis])
        node = producers.get(node.input[0])
        node = node if node is not None and node.op_type in BY_CHANNEL else None
    return None


def too_new(path: str, error: str) -> PluginError | None:
    """The error for a file that is newer than ONNX Runtime, of what that says; None for another error."""
    ir = re.search(r"IR version: (\d+), max supported IR version: (\d+)", error)
    opset = re.search(r"Opset (\d+) is under development.*?support for domain \S+ is till opset (\d+)", error, re.S)
    if (match := ir or opset) is None:
        return None
    what, names = ("IR version", "ir_version") if ir else ("opset", "opset_version")
    version = library("onnxruntime", "onnx").__version__
    return PluginError(
        f"{path} is of ONNX {what} {match[1]}, and ONNX Runtime {version} opens {what} {match[2]} at most. Next: "
        f"pip install -U onnxruntime, or export the network with a smaller {names}"
    )


def beside(path: str) -> tuple[str, ...]:
    """The files in which a graph keeps tensors, as local paths, sorted. Of a graph that is no file here: none."""
    if not os.path.isfile(path) or not os.path.getsize(path):
        return ()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"location") < 0:  # the key that an outside tensor has; so most files need not be parsed
            return ()
    onnx = library("onnx", "onnx")
    try:
        model = _graph(path)
    except SourceError:
        return ()  # ONNX Runtime says what is wrong with the file
    folder, names = os.path.dirname(path), set[str]()
    for tensor in _tensors(model):
        if onnx.external_data_helper.uses_external_data(tensor):
            names |= {entry.value for entry in tensor.external_data if entry.key == "location"}
    return tuple(os.path.join(folder, name) for name in sorted(names))


def without_subnormals(model: str | bytes) -> str | bytes:
    """A graph, by its local path or its bytes, with zeros for the float32 weights that are subnormal, each of which
    costs a processor a hundred cycles and more (`stages.network.subnormal`). Itself where it has none, and where it
    keeps weights outside, is larger than 1 GB or is no ONNX file."""
    if (os.path.getsize(model) if isinstance(model, str) else len(model)) > LARGE:
        return model
    onnx = library("onnx", "onnx")
    try:
        content = Path(model).read_bytes() if isinstance(model, str) else model
        parsed = onnx.load_from_string(content)
        tensors = list(_tensors(parsed))
        if any(map(onnx.external_data_helper.uses_external_data, tensors)):
            return model
        weights = [onnx.numpy_helper.to_array(t) if t.data_type == onnx.TensorProto.FLOAT else None for t in tensors]
    except Exception:  # the runtime says what is wrong with it, or takes what the library does not
        return model
    least, changed = np.finfo(np.float32).tiny, False
    for tensor, values in zip(tensors, weights, strict=True):
        if values is not None and (tiny := (np.abs(values) < least) & (values != 0)).any():
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.where(tiny, np.float32(0), values), tensor.name))
            changed = True
    return bytes(parsed.SerializeToString()) if changed else model


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors of a model, wherever they are: initializers, attributes, subgraphs, functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                yield from _tensors(item)
