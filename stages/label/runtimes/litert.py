"""Experts from LiteRT (TFLite) files, quantised or not, run by ai-edge-litert.

A tensor is an output's number (0 is the first), its name, or the index of a tensor inside the graph (as visualisers
show it), which is how a network that ends in argmax still gives soft labels. Quantised tensors come back as real
numbers, `scale * (q - zero point)`; integer class maps stay integers. An input of 8 bits gets pixels as they are; one
of 16 bits (16x8) gets the numbers that `preprocess` makes of them, in the steps of its own scale and zero point.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.decode.activation import ScoreKind
from hyperloom.stages.label.decode.decoders import tensors_of
from hyperloom.stages.label.runtimes import litertfile
from hyperloom.stages.label.runtimes.network import Network, library, read_weights
from hyperloom.stages.modality import Size

BEYOND = 0.25
"""Share of its reach by which numbers may lie beyond an input: it was measured on pictures that were not the brightest.
What lies there is the end of the reach, as LiteRT itself has it."""


class LiteRT(Network):
    """`{type: litert, path: deeplab.tflite, in: rgb@camera, out: semantic@deeplab, decode: classes}`."""

    def heft(self, storage: Storage) -> int:
        return 0  # it runs on CPUs alone

    def session(self) -> LiteRTSession:
        threads, layout = max(1, int(self.cpus)), self.preprocess.layout
        return LiteRTSession(self.path, tensors_of(self.decode), threads, layout)

    def examine(self, path: str, source: Any | None) -> None:
        header = litertfile.header(path)
        shapes, kinds = [t.shape for t in header.inputs], [t.kind for t in header.inputs]
        image = litertfile.image_input(self.path, shapes, kinds, self.preprocess.layout)
        for tensor in tensors_of(self.decode):
            litertfile.check_tensor(header, tensor)
        if source is not None:
            seen = litertfile.numbers(image.dtype, header.inputs[0].scale)
            self.check_input(seen, image.channels, source)
            self.grid(image.size, source)


class LiteRTSession:
    """A LiteRT graph with one image input of fixed shape; converters of PyTorch keep channels first."""

    batch: int | None
    size: Size | None
    channels: int | None

    def __init__(self, path: str, tensors: Sequence[str | int] = (0,), threads: int = 1, layout: str | None = None):
        interpreter = library("ai_edge_litert.interpreter", "litert").Interpreter
        content = read_weights(path)
        self._path = os.path.expanduser(path)
        try:
            self._net = interpreter(model_content=content, num_threads=threads)
            self._outputs = self._net.get_output_details()
            if any(self._output(t) is None for t in tensors):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # it calls reading inner tensors a matter for debugging only
                    self._net = interpreter(
                        model_content=content, num_threads=threads, experimental_preserve_all_tensors=True
                    )
            self._net.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise SourceError(f"{path} is no file that LiteRT can load: {error}") from error
        inputs = self._net.get_input_details()
        image = litertfile.image_input(path, [i["shape"] for i in inputs], [i["dtype"] for i in inputs], layout)
        self._input = inputs[0]
        self._details = {d["index"]: d for d in [*self._net.get_tensor_details(), *self._outputs]}
        self.dtype = litertfile.numbers(image.dtype, self._input["quantization"][0])
        self.layout, self.batch = image.layout, image.batch
        self.size, self.channels = image.size, image.channels
        for tensor in tensors:
            self._found(tensor)

    @property
    def outputs(self) -> list[int]:
        """The numbers of its outputs."""
        return list(range(len(self._outputs)))

    def ending(self, tensor: str | int) -> ScoreKind | None:
        return None

    def choices(self, tensor: str | int) -> int | None:
        """Of how many classes an output of class ids is the highest, where the file shows it."""
        return litertfile.choices(self._path, tensor) if isinstance(tensor, int) and tensor in self.outputs else None

    def __call__(self, images: np.ndarray, tensors: Sequence[str | int]) -> list[np.ndarray]:
        steps = self._steps(images) if self.dtype != self._input["dtype"] else images
        self._net.set_tensor(self._input["index"], steps)
        self._net.invoke()
        return [self._value(t) for t in tensors]

    def _steps(self, numbers: np.ndarray) -> np.ndarray:
        """Real numbers in the steps of the input. Raises RecipeError for numbers that it does not reach."""
        (scale, zero), ends = self._input["quantization"], np.iinfo(self._input["dtype"])
        steps = numbers / np.float32(scale) + np.float32(zero)
        least, most = float(steps.min(initial=ends.max)), float(steps.max(initial=ends.min))
        beyond = BEYOND * (float(ends.max) - ends.min)
        if least < ends.min - beyond or most > ends.max + beyond:
            low, high = ((end - zero) * scale for end in (ends.min, ends.max))
            raise RecipeError(
                f"{self._path} takes numbers of {low:.4g} to {high:.4g}, and pixels come to "
                f"{(least - zero) * scale:.4g} to {(most - zero) * scale:.4g}. Next: in preprocess, divide, or mean "
                "and std, as the network was trained with"
            )
        return np.clip(np.rint(steps), ends.min, ends.max).astype(self._input["dtype"])

    def _value(self, tensor: str | int) -> np.ndarray:
        detail = self._found(tensor)
        value = self._net.get_tensor(detail["index"])
        scale, zero = detail["quantization"]
        return value if not scale else (value.astype(np.float32) - zero) * np.float32(scale)

    def _output(self, tensor: str | int) -> dict[str, Any] | None:
        if isinstance(tensor, int):
            return self._outputs[tensor] if 0 <= tensor < len(self._outputs) else None
        return next((o for o in self._outputs if o["name"] == tensor), None)

    def _found(self, tensor: str | int) -> dict[str, Any]:
        output = self._output(tensor)
        if output is not None:
            return output
        for detail in self._details.values():
            if tensor in (detail["index"], detail["name"]):
                return detail
        names = ", ".join(o["name"] for o in self._outputs)
        raise RecipeError(f"the network has no tensor {tensor!r}; its outputs are: {names}")
