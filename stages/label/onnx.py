"""Experts from ONNX files, run by ONNX Runtime.

Any network with one image input works from a recipe alone: `decode` says what its outputs mean. A tensor is an output's
name or number. A file that keeps its weights in others, under any names, needs a local path; they count like the file.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import PluginError, RecipeError, SourceError
from hyperloom.stages.label.network import Network, library, read_weights
from hyperloom.stages.modality import Size

DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}


class Onnx(Network):
    """`{type: onnx, path: midas.onnx, in: rgb@camera, out: depth@midas, decode: dense}`."""

    def weights(self) -> tuple[str, ...]:
        return (self.path, *beside(os.path.expanduser(self.path)))

    def session(self) -> OnnxSession:
        tensors = [d.tensor for d in self.decode]
        return OnnxSession(self.path, tensors, threads=max(1, int(self.cpus)), gpu=self.gpus > 0)


def beside(path: str) -> tuple[str, ...]:
    """The files in which a graph keeps tensors, as local paths, sorted. Of a graph that is no file here: none."""
    if not os.path.isfile(path):
        return ()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"location") < 0:  # the key that an outside tensor has; so most files need not be parsed
            return ()
    onnx = library("onnx", "onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # protobuf's own; ONNX Runtime says what is wrong with the file
        return ()
    folder, names = os.path.dirname(path), set[str]()
    for tensor in _tensors(model):
        if onnx.external_data_helper.uses_external_data(tensor):
            names |= {entry.value for entry in tensor.external_data if entry.key == "location"}
    return tuple(os.path.join(folder, name) for name in sorted(names))


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors of a model, wherever they are: initializers, attributes, subgraphs, functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                yield from _tensors(item)


class OnnxSession:
    """An ONNX graph with one image input."""

    batch: int | None
    size: Size | None

    def __init__(self, path: str, tensors: Sequence[str | int] = (), threads: int = 1, gpu: bool = False):
        self._session = _loaded(path, threads, gpu)
        self._outputs = [o.name for o in self._session.get_outputs()]
        self._input, kind, shape = _image_input(path, self._session.get_inputs())
        self.dtype: np.dtype[Any] = np.dtype(DTYPES[kind])
        self.layout: str = "nhwc" if shape[3] == 3 and shape[1] != 3 else "nchw"
        height, width = shape[1:3] if self.layout == "nhwc" else shape[2:4]
        self.batch = shape[0]
        self.size = (height, width) if height and width else None
        for tensor in tensors:
            self._name(tensor)

    def __call__(self, images: np.ndarray, tensors: Sequence[str | int]) -> list[np.ndarray]:
        return self._session.run([self._name(t) for t in tensors], {self._input: images})

    def _name(self, tensor: str | int) -> str:
        if isinstance(tensor, int) and 0 <= tensor < len(self._outputs):
            return self._outputs[tensor]
        if str(tensor) in self._outputs:
            return str(tensor)
        raise RecipeError(f"the network has no output {tensor!r}; there are: {', '.join(self._outputs)}")


def _loaded(path: str, threads: int, gpu: bool) -> Any:
    """An ONNX Runtime session on `threads` threads that sleep, not spin, while they wait."""
    runtime = library("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    local = os.path.expanduser(path)
    model = local if os.path.exists(local) else read_weights(path)
    providers = _providers(runtime, gpu)
    try:
        return runtime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # the runtime raises its own classes, which it does not export
        raise SourceError(f"{path} is no ONNX file that ONNX Runtime can load: {error}") from error


def _image_input(path: str, inputs: Sequence[Any]) -> tuple[str, str, list[int | None]]:
    """Name, type and shape of the only input; None for an axis of any length. Raises RecipeError."""
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        raise RecipeError(f"{path} has {len(inputs)} inputs ({names}); an expert has one image input")
    image = inputs[0]
    if image.type not in DTYPES or len(image.shape) != 4:
        raise RecipeError(f"{path}: the input {image.name!r} is {image.type} {image.shape}, not a batch of images")
    return image.name, image.type, [n if isinstance(n, int) and n > 0 else None for n in image.shape]


def _providers(runtime: Any, gpu: bool) -> list[str]:
    if not gpu:
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        advice = "pip install onnxruntime-gpu, or gpus: 0"
        raise PluginError(f"this expert asks for a GPU, but ONNX Runtime here has no CUDA. Next: {advice}")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
