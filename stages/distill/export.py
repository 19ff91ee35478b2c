"""Export: a trained model as one ONNX file that needs neither torch nor Hyperloom.

The graph is the whole way from raw columns to predictions: it takes each input column as it lies in memory (an image is
(N, H, W, 3) uint8 RGB, a text (N, length) int64), standardises it, and gives each task's predictions as
`MultiTask.predict` does. N is free, all other lengths are those of training. Before the bytes leave, ONNX Runtime's
answers are compared with torch's, for another N than the graph was made with. The same weights give the same bytes:
names of source files and code are taken out of the graph.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hyperloom.pipeline.errors import StepFailed
from hyperloom.stages.distill.examples import examples
from hyperloom.stages.network.architecture import Task
from hyperloom.stages.network.model import MultiTask

STUDENT_ONNX = "student.onnx"
OPSET = 17
TRACED, COMPARED = 2, 3
"""Samples that the graph is made from, and with which it is compared: a number that sticks shows."""
TOLERANCE = 1e-3
"""Largest difference allowed, as a share of a task's range of values."""


@dataclass(frozen=True)
class Exported:
    """ONNX bytes, and what a reader must know: {"opset", "flops" (for one sample), "inputs": [...], "outputs": [...]}.

    An input is {"name", "shape", "dtype", "type"}, an output {"name", "shape", "dtype", "type", "head", "classes",
    "unit"}. Shapes are without N; `type` is the modality's and says what the numbers mean (docs/modalities.md), `head`
    what predicts it: probabilities of `classes` along the last axis (of bytes, for a text), or values in `unit`.
    """

    data: bytes
    about: dict[str, Any]


class _Positional(nn.Module):
    """A model that takes the columns it may see, `parts`, one by one and returns `tasks` one by one."""

    def __init__(self, model: MultiTask, tasks: Sequence[Task], hidden: Collection[str] = ()):
        super().__init__()
        self.model, self.names = model.eval(), [t.name for t in tasks]
        self.seen = [i.column not in hidden for i in model.architecture.inputs]
        inputs = zip(model.architecture.inputs, self.seen, strict=True)
        self.parts = tuple(part for one, seen in inputs if seen for part in one.parts)

    def forward(self, *columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = {p.column: values for p, values in zip(self.parts, columns, strict=True)}
        visible = None
        if not all(self.seen):
            count = columns[0].shape[0]  # len() would be a constant in the graph
            visible = torch.tensor(self.seen).expand(count, -1)
            for part in self.model.architecture.parts:
                nothing = torch.from_numpy(np.zeros((1, *part.modality.shape), part.modality.dtype))
                given.setdefault(part.column, nothing.expand(count, *part.modality.shape))
        finished = self.model.finish(self.model(given, visible, self.names).predictions)
        return tuple(finished[name] for name in self.names)


def to_onnx(model: MultiTask, hidden: Collection[str] = ()) -> Exported:
    """Export `model`, which is trained no further, and compare; it takes no input that is `hidden` from it ever. Raises
    StepFailed, naming the tasks, when one cannot be written as ONNX or ONNX Runtime does not give what torch gives."""
    for part in _Positional(model, (), hidden).parts:
        if why := part.processor.not_in_graph:
            raise StepFailed(f"{STUDENT_ONNX} cannot take {part.column}: {why}")
    tasks = model.requires_grad_(False).architecture.tasks  # counting operations follows whatever needs a gradient
    try:
        data = _written(_Positional(model, tasks, hidden))
        _compared(_Positional(model, tasks, hidden), data, COMPARED)
    except StepFailed:
        raise
    except Exception as error:  # tracing runs any code of heads and encoders, so whatever comes of it is the answer
        raise StepFailed(_refused(model, error, hidden)) from error
    return Exported(data, _about(_Positional(model, tasks, hidden)))


def written(model: MultiTask, hidden: Collection[str] = ()) -> bytes:
    """The ONNX bytes of a model, not compared with it. Raises StepFailed."""
    try:
        return _written(_Positional(model, model.architecture.tasks, hidden))
    except Exception as error:
        raise StepFailed(_refused(model, error, hidden)) from error


def compare(model: MultiTask, data: bytes, samples: int = COMPARED) -> float:
    """The largest difference between ONNX Runtime and torch, as a share of each task's range. Raises StepFailed."""
    return _compared(_Positional(model, model.architecture.tasks), data, samples)


def _written(network: _Positional) -> bytes:
    """The ONNX bytes of some of a model's tasks. Raises whatever torch does."""
    import onnx

    inputs, outputs = [p.column for p in network.parts], network.names
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # Tracing takes a seventh of the time of torch.export here (1 s against 7), and `compare` checks what it gives.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            tuple(_tensors(network, TRACED)),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "N"} for name in (*inputs, *outputs)},
        )
    return _without_traces(onnx.load_from_string(buffer.getvalue()))


def _compared(network: _Positional, data: bytes, samples: int) -> float:
    """`compare` for the bytes of some tasks. Raises StepFailed, and whatever ONNX Runtime does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised too
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    given = _tensors(network, samples)
    with torch.inference_mode():
        expected = network(*given)
    # An input that no answer depends on is not in the graph.
    named = {p.column: e.numpy() for p, e in zip(network.parts, given, strict=True)}
    tasks = [t for t in network.model.architecture.tasks if t.name in network.names]
    got = session.run(None, {i.name: named[i.name] for i in session.get_inputs()})
    worst = 0.0
    for task, ours, theirs in zip(tasks, expected, got, strict=True):
        worst = max(worst, _difference(task, ours.numpy(), theirs))
        if not worst <= TOLERANCE:
            raise StepFailed(
                f"{STUDENT_ONNX} differs from its model by {worst:.2g} of the range of {task.name!r}, more "
                f"than {TOLERANCE}. Next: report it with the recipe; the model itself is stored and usable"
            )
    return worst


def _difference(task: Task, ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference as a share of the range; infinite where the shapes or the NaN differ."""
    if ours.shape != theirs.shape or (np.isnan(ours) != np.isnan(theirs)).any():
        return np.inf
    known = np.abs(ours[~np.isnan(ours)])
    if not known.size:
        return 0.0
    # Answers that hardly differ from each other still have a scale: that of the training data, and of float32.
    reach = max(1e-6, float(np.ptp(ours[~np.isnan(ours)])), 0.1 * float(known.max()), *task.scale.std)
    return task.modality.apart(ours, theirs) / reach


def _refused(model: MultiTask, error: Exception, hidden: Collection[str]) -> str:
    """What to say when the tasks together cannot be written: each is tried alone to find those at fault."""
    tasks, guilty = model.architecture.tasks, {}
    for task in tasks:
        try:
            alone = _Positional(model, [task], hidden)
            _compared(alone, _written(alone), COMPARED)
        except Exception as problem:
            guilty[task.name] = problem
    error = next(iter(guilty.values()), error)
    names = ", ".join(f"{t.name!r} (head {t.head.type})" for t in tasks if t.name in guilty or not guilty)
    shared = "" if 0 < len(guilty) < len(tasks) else ", or what they share: its inputs and trunk"
    message = (str(error).strip().splitlines() or [""])[0][:300]
    return (
        f"{STUDENT_ONNX} cannot hold the task {names}{shared}. ONNX opset {OPSET} says: {type(error).__name__}: "
        f"{message}. Next: leave it out of the student, mend its module if it is your own, or train with `stage: "
        "train`, which needs no ONNX; the model itself is stored and usable"
    )


def operations_of(model: MultiTask) -> int:
    """Floating-point operations of one sample."""
    from hyperloom.stages.measure.cost import operations

    positional = _Positional(model, model.architecture.tasks)
    given = _tensors(positional, 1)
    with torch.no_grad():
        return operations(lambda: positional(*given))


def _about(network: _Positional) -> dict[str, Any]:
    """See `Exported`; shapes are those of a prediction."""
    from hyperloom.stages.measure.cost import operations

    given = _tensors(network, 1)
    outputs: list[torch.Tensor] = []
    with torch.no_grad():
        flops = operations(lambda: outputs.extend(network(*given)))
    return {
        "opset": OPSET,
        "flops": flops,
        "inputs": [
            {
                "name": i.column,
                "shape": list(i.modality.shape),
                "dtype": i.modality.dtype.name,
                "type": i.modality.to_recipe()["type"],
            }
            for i in network.parts
        ],
        "outputs": [_output(t, m.numpy()) for t, m in zip(network.model.architecture.tasks, outputs, strict=True)],
    }


def _output(task: Task, array: np.ndarray) -> dict[str, Any]:
    modality = task.modality
    return {
        "name": task.name,
        "shape": list(array.shape[1:]),
        "dtype": array.dtype.name,
        "type": modality.to_recipe()["type"],
        "head": task.head.type,
        "classes": list(modality.output_names),
        "unit": getattr(modality, "unit", ""),
    }


def milliseconds(model: MultiTask, data: bytes, hidden: Collection[str] = ()) -> dict[str, float]:
    """How long one sample takes on one thread, the least of several, in `onnx` Runtime and in `torch`."""
    from hyperloom.stages.measure.cost import milliseconds, onnx_milliseconds

    positional, threads = _Positional(model, model.architecture.tasks, hidden), torch.get_num_threads()
    given = _tensors(positional, 1)
    batch = {p.column: e.numpy() for p, e in zip(positional.parts, given, strict=True)}
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return {"onnx": onnx_milliseconds(data, batch), "torch": milliseconds(lambda: positional(*given))}
    finally:
        torch.set_num_threads(threads)


def _tensors(network: _Positional, samples: int) -> list[torch.Tensor]:
    return [torch.from_numpy(e) for e in examples(network.parts, samples)]


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
