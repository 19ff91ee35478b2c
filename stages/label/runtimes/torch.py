"""Experts from PyTorch files: a state dict with the network's class, a TorchScript archive, or a torch.export archive.

On a GPU (`gpus`) frames travel as bytes and are scaled there, maps are decoded there (`stages.label.runtimes.device`),
kernels are chosen by trial, and a compiled network (`compile`) is one of fewer and larger kernels. `precision` is that
of its matrix products and convolutions (torch's autocast); scores are float32 when they are decoded.

State dicts load as data only (`weights_only`, or safetensors); the network's class is found by `net:`, a known name or
`module:Class`, and built with `arguments`. A decoder reads the network's output, or one entry of it by name or number
where the network gives a mapping or a tuple.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import field_validator, model_validator

from hyperloom.pipeline import plugins, registry
from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import PluginError, RecipeError, SourceError
from hyperloom.stages.label.decode.activation import ScoreKind
from hyperloom.stages.label.expert import CPU_BATCH
from hyperloom.stages.label.runtimes import torchfile
from hyperloom.stages.label.runtimes.network import Network, library, read_weights
from hyperloom.stages.label.runtimes.preprocess import TileGrid
from hyperloom.stages.label.steps import Steps
from hyperloom.stages.modality import Size

FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Torch(Network):
    """`{type: torch, path: espnet.pth, net: espnet, in: rgb@camera, out: semantic@espnet, decode: classes}`."""

    net: str | None = None
    """For a state dict: the network's class."""
    arguments: dict[str, bool | int | float | str] = {}
    """What its constructor gets."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool | Literal["graphs"] = placement(False)
    """By torch.compile; a TorchScript file is compiled already. graphs: on a GPU, calls of one shape are one CUDA graph
    besides, which helps small networks."""
    format: Literal["state", "script", "export"] | None = None
    """By default `state` with a `net`, else `export` for *.pt2 and `script` for the rest."""

    @field_validator("net")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and ":" not in value and value not in registry.known("net"):
            raise ValueError(f"no network {value!r}; known: {', '.join(registry.known('net'))}; or give 'module:Class'")
        return value

    @model_validator(mode="after")
    def _state_has_class(self) -> Torch:
        if (self.format == "state") != (self.net is not None) and self.format is not None:
            raise ValueError("net: a state dict needs the network's class, and only a state dict does")
        if self.arguments and self.net is None:
            raise ValueError("arguments: they are for the constructor of net, which is not given")
        return self

    @property
    def usual_batch(self) -> int | None:
        return None if self.gpus else CPU_BATCH

    @property
    def form(self) -> torchfile.TorchForm:
        """What the file is read as."""
        return self.format or ("state" if self.net else "export" if self.path.endswith(".pt2") else "script")

    def examine(self, path: str, source: Any | None) -> None:
        if why := torchfile.fault(path, self.form):
            raise SourceError(f"{self.path} {why}")

    def session(self) -> TorchSession:
        torch = library("torch", "train")
        from hyperloom.stages.network.subnormal import flush

        torch.set_num_threads(max(1, int(self.cpus)))
        device = "cuda" if self.gpus > 0 else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise PluginError("this expert asks for a GPU, but torch sees none. Next: gpus: 0, or a node that has one")
        kind = self.form
        module = self._loaded(torch, kind, device)
        flush(module)
        if kind != "export":  # an exported program has its mode built in
            module.eval()
        module = module.to(device)
        if device == "cuda":
            torch.backends.cudnn.benchmark = True
            if kind != "export":
                module = module.to(memory_format=torch.channels_last)
        if self.compile and kind != "script":
            module = _compiled(torch, module, device)
        graphs = self.compile == "graphs" and device == "cuda"
        if graphs:
            from hyperloom.stages.label.runtimes.graphed import Graphed

            module = Graphed(module)
        return TorchSession(torch, module, device, self.precision, graphs)

    def _loaded(self, torch: Any, kind: str, device: str) -> Any:
        content = read_weights(self.path)
        if os.path.isfile(local := os.path.expanduser(self.path)):
            self.examine(local, None)
        try:
            if kind == "state":
                return _from_state(self.net or "", self.arguments, self.path, content)
            if kind == "export":
                return _from_export(torch, self.path, content)
            return torch.jit.load(io.BytesIO(content), map_location=device)
        except (PluginError, RecipeError, SourceError):
            raise
        except Exception as error:  # unpickling, missing keys, foreign archives: torch raises whatever fits
            raise SourceError(f"{self.path} does not load as a {kind} file of PyTorch: {error}") from error

    def steps(self, session: TorchSession, grid: TileGrid, targets: Sequence[Any]) -> Steps:
        if not isinstance(session, TorchSession) or session.device == "cpu":
            return super().steps(session, grid, targets)
        from hyperloom.stages.label.runtimes.device import OnDevice

        return OnDevice(self, session, grid, targets)


class TorchSession:
    """A loaded module that takes (n, 3, h, w) float32 of any n, h and w that the network can."""

    layout: str = "nchw"
    dtype: np.dtype[Any] = np.dtype(np.float32)
    batch: int | None = None
    size: Size | None = None
    channels: int | None = None

    def __init__(self, torch: Any, module: Any, device: str, precision: str = "fp32", graphs: bool = False):
        self._torch, self._module, self.device, self._graphs = torch, module, device, graphs
        self._half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)

    def ending(self, tensor: str | int) -> ScoreKind | None:
        return None

    def __call__(self, images: np.ndarray, tensors: Sequence[str | int]) -> list[np.ndarray]:
        return [t.cpu().numpy() for t in self.tensors(self._torch.from_numpy(images).to(self.device), tensors)]

    def tensors(self, images: Any, tensors: Sequence[str | int]) -> list[Any]:
        """The same on the device; numbers that are no integers are float32."""
        from hyperloom.stages.network.subnormal import as_zeros

        torch = self._torch
        half, cached = self._half or torch.bfloat16, not self._graphs
        autocast = torch.autocast(self.device, half, enabled=self._half is not None, cache_enabled=cached)
        with torch.inference_mode(), autocast, as_zeros():
            output = self._module(images)
        picked = [self._pick(output, t) for t in tensors]
        return [p.float() if p.is_floating_point() else p for p in picked]

    def _pick(self, output: Any, tensor: str | int) -> Any:
        if isinstance(output, self._torch.Tensor) and tensor == 0:
            return output
        try:
            if isinstance(output, Mapping):
                return output[tensor] if tensor in output else list(output.values())[int(tensor)]
            return output[int(tensor)]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            names = ", ".join(map(str, output)) if isinstance(output, Mapping) else type(output).__name__
            raise RecipeError(f"the network has no output {tensor!r}; it gave: {names}") from error


def _compiled(torch: Any, module: Any, device: str) -> Any:
    """The module compiled, where this machine can."""
    from hyperloom.stages.network import compiling

    how = compiling.how(True, torch.device(device), say=True)
    return module if how is None else torch.compile(module, **how)


def _from_export(torch: Any, path: str, content: bytes) -> Any:
    """The module of a torch.export archive. Such an archive may hold pickles, which torch would run: with this
    environment torch.load takes tensors only, and objects that it would unpickle past that are refused."""
    from torch.export.pt2_archive.constants import OPAQUE_OBJ_FILENAME_PREFIX

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        listed = [archive.read(n).decode() for n in archive.namelist() if n.endswith("constants_config.json")]
    if any(OPAQUE_OBJ_FILENAME_PREFIX in text for text in listed):
        raise SourceError(f"{path} holds Python objects, which would run code. Next: export the network without them")
    before = os.environ.get(FORCED)
    os.environ[FORCED] = "1"
    try:
        return torch.export.load(io.BytesIO(content)).module()
    finally:
        if before is None:
            del os.environ[FORCED]
        else:
            os.environ[FORCED] = before


def _from_state(net: str, arguments: dict[str, Any], path: str, content: bytes) -> Any:
    from hyperloom.stages.network.statefile import read_state

    module = plugins.load("net", net)(**arguments)
    module.load_state_dict(read_state(content, path))
    return module
