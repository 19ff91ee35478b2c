"""Experts from ONNX files, run by ONNX Runtime.

Any network that takes frames works from a recipe alone: `decode` says what its outputs mean, `constants` gives inputs
that are no frames. A tensor is an output's name or number. A file that keeps its weights in others, under any names,
needs a local path; they count like the file. A local file is looked at when the recipe is planned: its versions, its
inputs and its outputs' names.

On a GPU (`gpus`) frames and maps stay there where torch sees it too (`stages.label.runtimes.onnxdevice`), and maps are
decoded there; a network that takes integers gets them from the host.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import PluginError, RecipeError, SourceError
from hyperloom.stages.label.decode.activation import ScoreKind
from hyperloom.stages.label.decode.decoders import tensors_of
from hyperloom.stages.label.runtimes import onnxfile
from hyperloom.stages.label.runtimes.network import Network, library, read_weights
from hyperloom.stages.label.runtimes.preprocess import TileGrid
from hyperloom.stages.label.steps import Steps
from hyperloom.stages.modality import Size

Constants = dict[str, float | tuple[float, ...]]


class Onnx(Network):
    """`{type: onnx, path: midas.onnx, in: rgb@camera, out: depth@midas, decode: dense}`."""

    constants: Constants = {}
    """What inputs get that are no frames, the same for each frame: `{im_shape: [480, 640]}`."""

    def weights(self) -> tuple[str, ...]:
        return (self.path, *onnxfile.beside(os.path.expanduser(self.path)))

    def session(self) -> OnnxSession:
        tensors = tensors_of(self.decode)
        threads, layout = max(1, int(self.cpus)), self.preprocess.layout
        return OnnxSession(self.path, tensors, threads, self.gpus > 0, self.constants, layout)

    def steps(self, session: Any, grid: TileGrid, targets: Sequence[Any]) -> Steps:
        if self.gpus and isinstance(session, OnnxSession) and session.dtype.kind == "f" and _torch_sees_a_gpu():
            from hyperloom.stages.label.runtimes.device import OnDevice
            from hyperloom.stages.label.runtimes.onnxdevice import BoundSession

            return OnDevice(self, BoundSession(session, "cuda"), grid, targets)
        return super().steps(session, grid, targets)

    def examine(self, path: str, source: Any | None) -> None:
        header = onnxfile.header(path)
        if header.ir > onnxfile.OLD_IR or header.opset > onnxfile.OLD_OPSET:
            _loaded(self.path, 1, False)
        image = onnxfile.image_input(self.path, header.inputs, self.constants, self.preprocess.layout)
        for tensor in tensors_of(self.decode):
            output(header.outputs, tensor)
        if source is not None:
            self.check_input(image.dtype, image.channels, source)
            self.grid(image.size, source)


class OnnxSession:
    """An ONNX graph, of whose inputs one takes frames."""

    batch: int | None
    size: Size | None
    outputs: list[str]

    def __init__(
        self, path: str, tensors: Sequence[str | int] = (), threads: int = 1, gpu: bool = False,
        constants: Mapping[str, Any] | None = None, layout: str | None = None,
    ):  # fmt: skip
        self._path, self.runtime = path, _loaded(path, threads, gpu)
        self.outputs = [o.name for o in self.runtime.get_outputs()]
        ports = [onnxfile.port(i.name, i.type, i.shape) for i in self.runtime.get_inputs()]
        image = onnxfile.image_input(path, ports, constants or {}, layout)
        self.image, self.dtype, self.layout = image.port.name, image.dtype, image.layout
        self.channels = image.channels
        self.batch, self.size = image.port.shape[0], image.size
        self._constants = [_Constant(path, port, (constants or {})[port.name]) for port in image.others]
        for tensor in tensors:
            output(self.outputs, tensor)

    def noted(self, key: str) -> str:
        """What the file's metadata say under `key`; empty where nothing."""
        return str(self.runtime.get_modelmeta().custom_metadata_map.get(key, ""))

    def ending(self, tensor: str | int) -> ScoreKind | None:
        local = os.path.expanduser(self._path)
        return onnxfile.ending(local, output(self.outputs, tensor)) if os.path.isfile(local) else None

    def choices(self, tensor: str | int) -> int | None:
        """Of how many classes an output of class ids is the highest, where the file shows it."""
        local = os.path.expanduser(self._path)
        return onnxfile.choices(local, output(self.outputs, tensor)) if os.path.isfile(local) else None

    def __call__(self, images: np.ndarray, tensors: Sequence[str | int]) -> list[np.ndarray]:
        inputs = {self.image: images, **self.constants(len(images))}
        return self.runtime.run([self.output(t) for t in tensors], inputs)

    def constants(self, count: int) -> dict[str, np.ndarray]:
        """What the inputs that take no frames get in a call of so many."""
        return {c.name: c(count) for c in self._constants}

    def output(self, tensor: str | int) -> str:
        """The name of an output."""
        return output(self.outputs, tensor)


class _Constant:
    """The values of an input that takes no frames: as they are, or once for each frame where it has an axis more."""

    def __init__(self, path: str, port: onnxfile.Port, values: Any):
        self.name = port.name
        kind = np.bool_ if port.kind == "tensor(bool)" else onnxfile.DTYPES.get(port.kind)
        if kind is None:
            raise RecipeError(f"{path}: the input {port} takes no numbers")
        self._values, axes = np.asarray(values, kind), len(port.shape)
        if axes - self._values.ndim not in (0, 1):
            raise RecipeError(f"{path}: constants: {port} takes other axes than {self._values.shape}")
        self._each = axes - self._values.ndim == 1

    def __call__(self, count: int) -> np.ndarray:
        return np.stack([self._values] * count) if self._each else self._values


def output(names: Sequence[str], tensor: str | int) -> str:
    """The name of an output. Raises RecipeError."""
    if isinstance(tensor, int) and 0 <= tensor < len(names):
        return names[tensor]
    if str(tensor) in names:
        return str(tensor)
    raise RecipeError(f"the network has no output {tensor!r}; there are: {', '.join(names)}")


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
        return runtime.InferenceSession(onnxfile.without_subnormals(model), options, providers=providers)
    except Exception as error:  # the runtime raises its own classes, which it does not export
        if (newer := onnxfile.too_new(path, str(error))) is not None:
            raise newer from error
        raise SourceError(f"{path} is no ONNX file that ONNX Runtime can load: {error}") from error


def _torch_sees_a_gpu() -> bool:
    """Can frames and maps stay on the GPU? Without torch, or with one for CPUs, they go through the host."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _providers(runtime: Any, gpu: bool) -> list[str]:
    if not gpu:
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        advice = "pip install onnxruntime-gpu, or gpus: 0"
        raise PluginError(f"this expert asks for a GPU, but ONNX Runtime here has no CUDA. Next: {advice}")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
