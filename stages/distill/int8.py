"""A student in bytes: its ONNX file with weights and activations of 8 bits, and what that costs in quality.

    student:
      stage: distill
      int8: {margin: 0.02}          # or int8: true

Scales are found from samples that the student was trained on, never from what it will be judged on, and the loss is
measured on the split `val`, or where there is none on other training samples. A file that loses more than the margin is
left out, and that is said; student.onnx stays what it is. Weights have a scale a channel, activations one a tensor
(Jacob et al. 2018; Krishnamoorthi 2018), in ONNX's form of pairs QuantizeLinear, DequantizeLinear, which ONNX Runtime
and converters for devices read. Whether it is quicker depends on the device; its milliseconds here are said. Imports no
torch.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import File
from hyperloom.pipeline.config import Config
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import VALID
from hyperloom.stages.measure.measure import directions
from hyperloom.stages.network.architecture import Architecture
from hyperloom.stages.network.masks import hidden_of
from hyperloom.stages.train.job import Job

if TYPE_CHECKING:
    import numpy as np
    import torch

INT8_ONNX = "student.int8.onnx"
SUFFIX = "int8.onnx"
"""Of its file in the root, which is named by its content: several steps may bring one training to bytes."""


class Int8(Config):
    """How a student is brought to 8 bits."""

    samples: int = Field(64, gt=0)
    """Training samples from which the scales of activations are found."""
    judged: int = Field(512, gt=0)
    """Samples of `val`, at most, on which the loss is measured."""
    margin: float = Field(0.02, ge=0)
    """Share of a task's figure that may be lost."""


def quantised(network: bytes, batches: Sequence[Mapping[str, np.ndarray]]) -> bytes:
    """`network` in 8 bits, with the scales that inputs `batches` give; the same for the same inputs. What handles NaN
    (no box, the end of a series) or infinities stays as it is: they have no scale. Raises RecipeError without any."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = onnx.load_from_string(network)
    names = [i.name for i in graph.graph.input]  # an input that no answer depends on is none of them
    given = [{name: batch[name] for name in names} for batch in batches]
    if not given:
        raise RecipeError(
            f"int8: none of the training samples that were looked at has all of {', '.join(names)}, and scales are "
            "from samples that lack nothing. Next: int8: {samples: 1024} looks at more, or leave int8 out"
        )

    class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(given)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as local, _quiet():
        folded, out = Path(local) / "folded.onnx", Path(local) / "out.onnx"
        quant_pre_process(graph, str(folded), skip_symbolic_shape=True)
        kept = unscaled(onnx.load(folded), given)
        quantization.quantize_static(folded, out, Calibration(), per_channel=True, nodes_to_exclude=kept)
        graph = onnx.load(out)
    graph.producer_name, graph.producer_version = "hyperloom", ""
    written: bytes = graph.SerializeToString(deterministic=True)
    return written


def unscaled(graph: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    """The nodes of an ONNX graph that see or give numbers that are not finite, by their names, for inputs `batches`."""
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    numbers = {i.name: numpy_helper.to_array(i) for i in graph.graph.initializer if i.data_type == TensorProto.FLOAT}
    wild = {name for name, values in numbers.items() if not np.isfinite(values).all()}
    watched = onnx.shape_inference.infer_shapes(graph)
    known = (*watched.graph.value_info, *watched.graph.input, *watched.graph.output)
    floats = sorted({v.name for v in known if v.type.tensor_type.elem_type == TensorProto.FLOAT})
    del watched.graph.output[:]
    for name in floats:  # of a number that is not finite less itself there is no zero
        watched.graph.node.extend(
            [
                helper.make_node("Sub", [name, name], [f"{name}/none"]),
                helper.make_node("ReduceSum", [f"{name}/none"], [f"{name}/sum"], keepdims=0),
            ]
        )
        watched.graph.output.append(helper.make_tensor_value_info(f"{name}/sum", TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch in batches:
        wild |= {name for name, total in zip(floats, session.run(None, dict(batch)), strict=True) if total != 0}
    return sorted(node.name for node in graph.graph.node if wild & {*node.input, *node.output})


class OnnxNetwork:
    """An ONNX file that answers as a model does."""

    def __init__(self, architecture: Architecture, network: bytes):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.architecture = architecture
        self.session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.names = [o.name for o in self.session.get_outputs()]

    def eval(self) -> OnnxNetwork:
        return self

    def predict(self, columns: Mapping[str, torch.Tensor], visible: torch.Tensor) -> dict[str, torch.Tensor]:
        """As `MultiTask.predict`, with all inputs visible."""
        import torch

        given = fed(self.architecture, columns)
        taken = {i.name: given[i.name] for i in self.session.get_inputs()}
        values = self.session.run(None, taken)
        return {name: torch.from_numpy(value) for name, value in zip(self.names, values, strict=True)}


def fed(architecture: Architecture, columns: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """A batch of the loader as an ONNX file takes it, which may not see all inputs."""
    parts = (part for part in architecture.parts if part.column in columns)
    return {p.column: p.modality.to_memory(columns[p.column].numpy()) for p in parts}


def brought(job: Job, architecture: Architecture, network: bytes, config: Int8) -> tuple[bytes, dict[str, Any]]:
    """The network of `job` in 8 bits and what to say of it: {"bytes" of both, "split", "samples", "figures":
    task.figure -> [of floats, of bytes], "gone": figures that bytes do not have any more, which counts as all of them,
    "unmeasured": those that floats have not either, "worst": the largest share that is lost, None where nothing was
    measured}."""
    from hyperloom.stages.train.batches import loader
    from hyperloom.stages.train.validation import validate
    from hyperloom.stages.world import World

    hidden = hidden_of(job.mask, architecture)
    inputs = [part.column for one in architecture.inputs if one.column not in hidden for part in one.parts]
    few, many = (-(-n // job.batch) for n in (config.samples, config.judged))
    seen = list(islice(loader(job, inputs, World(), "train", shuffle=True), few))
    whole_samples = (_whole(architecture, inputs, batch) for batch in seen)
    small = quantised(network, [batch for batch in whole_samples if len(batch[inputs[0]])])
    split, against = ("val", job.judged) if job.judged else ("train", job.fitted)
    columns = tuple(dict.fromkeys([*(p.column for p in architecture.parts), *against.values()]))
    first = 0 if split == "val" else few
    figures, count = [], 0
    for data in (network, small):
        some = islice(loader(job, columns, World(), split, shuffle=split == "train"), first, first + many)
        batches = [batch for one in some if len((batch := _complete(inputs, one))[inputs[0]])]
        count = sum(len(batch[inputs[0]]) for batch in batches)
        answering: Any = OnnxNetwork(architecture, data)
        figures.append(validate(job, answering, batches, against, World()) if batches else {})
    names = {f"{t.name}.{t.modality.metric}": t.modality for t in architecture.tasks}
    whole, less = ({n: f[n] for n in names if math.isfinite(f.get(n, math.nan))} for f in figures)
    pairs = {n: [float(f"{f[n]:.6g}") for f in (whole, less)] for n in whole if n in less}
    lost = [_lost(names[n], *pair) for n, pair in pairs.items()] + [1.0 for n in whole if n not in less]
    about = {"bytes": [len(network), len(small)], "split": split, "samples": count, "figures": pairs}
    about |= {"gone": [n for n in whole if n not in less], "unmeasured": [n for n in names if n not in whole]}
    return small, {**about, "worst": float(f"{max(lost):.6g}") if lost else None}


def sentence(about: Mapping[str, Any]) -> str:
    """What log, report and card say of a student in bytes."""
    pairs = ", ".join(f"{name} {small:.3g} against {whole:.3g}" for name, (whole, small) in about["figures"].items())
    before, after = (f"{n / 1000:,.0f} kB" for n in about["bytes"])
    pairs = ", ".join([pairs] * bool(pairs) + [f"{name} is no number any more" for name in about.get("gone", ())])
    measured = f"{pairs} on {about['samples']} samples of {about['split']}, {after} against {before}"
    if about.get("unmeasured"):
        measured += f"; not measured: {', '.join(about['unmeasured'])}"
    if about["kept"]:
        return f"int8: {measured}"
    if about["worst"] is None:
        return (
            f"int8: what it costs could not be measured, as no task can be compared with a column, so {INT8_ONNX} is "
            "left out. Next: validate: {task: column} and a split val"
        )
    return (
        f"int8: {measured}: {about['worst']:.1%} is lost, more than the margin of {about['margin']:.1%}, so "
        f"{INT8_ONNX} is left out. Next: int8: {{samples: 256}}, a wider student, or another margin"
    )


def in_bytes(model: Manifest, network: str) -> dict[str, File]:
    """The student in 8 bits that the step `model` made beside the file `network`, as a release calls it; none where it
    made none, or left it out."""
    folder = network.rpartition("/")[0]
    files = [f for f in model.all_files() if f.path.startswith(f"{folder}/") and f.path.endswith(f".{SUFFIX}")]
    return {INT8_ONNX: files[0]} if files else {}


def _whole(architecture: Architecture, inputs: Sequence[str], batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The samples of a batch that lack none of `inputs`, as a file takes them."""
    complete = _complete(inputs, batch)
    return fed(architecture, {column: complete[column] for column in inputs})


def _complete(inputs: Sequence[str], batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The samples of a batch that lack none of `inputs`: a file knows of no missing ones."""
    import torch

    complete = torch.stack([batch[column + VALID] for column in inputs]).all(0)
    return {column: values[complete] for column, values in batch.items()}


def _lost(modality: Any, whole: float, small: float) -> float:
    """The share of a figure that is lost; below 0 where it became better."""
    worse = whole - small if directions(modality)[modality.metric] else small - whole
    return worse / abs(whole) if whole else float(worse > 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice to whoever calls it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
