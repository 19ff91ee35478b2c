"""Export: a trained model as one ONNX file that needs neither torch nor Hyperloom.

The graph is the whole way from raw columns to predictions: it takes each input column as it is stored (an image is
(N, H, W, 3) uint8 RGB), standardises it, and gives for each task (N, H, W, K) class probabilities or (N, H, W, C)
values in units. N is free, H and W are the training size. Before the bytes leave, ONNX Runtime's answers are compared
with torch's. The same weights give the same bytes: names of source files and code are taken out of the graph.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.errors import StepFailed
from stages.modality import Image, Segmentation
from stages.train.model import MultiTask

STUDENT_ONNX = "student.onnx"
OPSET = 17
TOLERANCE = 1e-3
"""Largest difference allowed, as a share of a task's range of values."""


@dataclass(frozen=True)
class Exported:
    """ONNX bytes, and what a reader must know: {"opset", "inputs": [...], "outputs": [...]}."""

    data: bytes
    about: dict[str, Any]


class _Positional(nn.Module):
    """A model that takes its columns one by one and returns its tasks one by one."""

    def __init__(self, model: MultiTask):
        super().__init__()
        self.model = model

    def forward(self, *columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = self.model.predict(dict(zip(self.model.architecture.columns, columns, strict=True)))
        return tuple(made[t.name] for t in self.model.architecture.tasks)


def to_onnx(model: MultiTask) -> Exported:
    """Export `model` and compare. Raises StepFailed when ONNX Runtime does not give what torch gives."""
    import onnx

    architecture = model.architecture
    examples = _examples(model, 2)
    inputs, outputs = list(architecture.columns), [t.name for t in architecture.tasks]
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing takes a seventh of the time of torch.export here (1 s against 7), and `compare` checks what it gives.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Positional(model.eval()),
            tuple(examples),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "N"} for name in (*inputs, *outputs)},
        )
    data = _without_traces(onnx.load_from_string(buffer.getvalue()))
    compare(model, data)
    about = {
        "opset": OPSET,
        "flops": _flops(model),
        "inputs": [
            {"name": i.column, "shape": list(i.modality.shape), "dtype": i.modality.dtype.name}
            for i in architecture.inputs
        ],
        "outputs": [
            {
                "name": t.name,
                "shape": [*architecture.size, t.modality.channels],
                "classes": list(t.modality.classes) if isinstance(t.modality, Segmentation) else [],
                "unit": getattr(t.modality, "unit", ""),
            }
            for t in architecture.tasks
        ],
    }
    return Exported(data, about)


def compare(model: MultiTask, data: bytes, samples: int = 3) -> float:
    """The largest difference between ONNX Runtime and torch, as a share of each task's range. Raises StepFailed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    examples = _examples(model, samples)
    with torch.inference_mode():
        expected = _Positional(model.eval())(*examples)
    got = session.run(None, {i.name: e.numpy() for i, e in zip(session.get_inputs(), examples, strict=True)})
    worst = 0.0
    for task, ours, theirs in zip(model.architecture.tasks, expected, got, strict=True):
        reach = max(1e-6, float(ours.max() - ours.min()))
        worst = max(worst, float(np.abs(ours.numpy() - theirs).max()) / reach)
        if not worst <= TOLERANCE:
            raise StepFailed(
                f"{STUDENT_ONNX} differs from its model by {worst:.2g} of the range of {task.name!r}, more "
                f"than {TOLERANCE}. Next: report it with the recipe; the model itself is stored and usable"
            )
    return worst


def milliseconds(model: MultiTask, data: bytes) -> dict[str, float]:
    """How long one sample takes on one thread, the median of several, in `onnx` Runtime and in `torch`."""
    from stages.evaluate.cost import milliseconds, onnx_milliseconds

    examples, threads = _examples(model, 1), torch.get_num_threads()
    batch = {c: e.numpy() for c, e in zip(model.architecture.columns, examples, strict=True)}
    positional = _Positional(model.eval())
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return {"onnx": onnx_milliseconds(data, batch), "torch": milliseconds(lambda: positional(*examples))}
    finally:
        torch.set_num_threads(threads)


def _flops(model: MultiTask) -> int:
    """Floating-point operations for one sample."""
    from stages.evaluate.cost import operations

    positional, examples = _Positional(model.eval()), _examples(model, 1)
    with torch.no_grad():
        return operations(lambda: positional(*examples))


def _examples(model: MultiTask, samples: int) -> list[torch.Tensor]:
    """Inputs with the statistics of the training data, the same each time."""
    random = np.random.default_rng(0)
    made = []
    for item in model.architecture.inputs:
        shape = (samples, *item.modality.shape)
        values: np.ndarray
        if isinstance(item.modality, Segmentation):
            values = random.integers(0, item.modality.channels, shape)
        elif isinstance(item.modality, Image):
            values = random.integers(0, 256, shape)
        else:
            values = random.normal(item.scale.mean or 0.0, item.scale.std or 1.0, shape)
        made.append(torch.from_numpy(values.astype(item.modality.dtype)))
    return made


def _without_traces(graph: Any) -> bytes:
    """The model's bytes without the exporter's notes on files, code and versions."""
    del graph.metadata_props[:]
    graph.producer_name, graph.producer_version, graph.doc_string = "hyperloom", "", ""
    graph.graph.doc_string = ""
    del graph.graph.metadata_props[:]
    for item in (
        *graph.graph.node,
        *graph.graph.input,
        *graph.graph.output,
        *graph.graph.value_info,
        *graph.graph.initializer,
    ):
        item.doc_string = ""
        del item.metadata_props[:]
    return graph.SerializeToString(deterministic=True)
