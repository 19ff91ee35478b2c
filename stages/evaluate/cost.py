"""What a model takes: parameters, operations and time for one sample.

Operations are counted by torch (a multiplication and an addition are two), over all members of an ensemble; they and
the parameters are in the record. Times depend on the machine, so they go out as events and never into a record: the
median of single samples on one thread, in torch and, where the model's step made an ONNX file, in ONNX Runtime.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperloom.pipeline import manifest as manifests
from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.events import Events
from hyperloom.pipeline.units import Output, Resources, Unit
from hyperloom.stages.base import modality_of
from hyperloom.stages.evaluate.worker import Evaluation

REPEATS = 9


@dataclass
class CostWorker:
    """Asks one model about one sample; see `ModelJudge` for the fields."""

    task: Evaluation
    name: str
    step: tuple[str, str]
    inputs: tuple[str, ...]
    ensemble: Any
    run_id: str
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        import torch

        from hyperloom.stages.network.ensemble import predictor

        made = manifests.load(self.task.storage, *self.step)
        if made is None:
            where = "/".join(self.step)
            raise IntegrityError(f"the model's step {where} has no manifest. Next: run the same command again")
        torch.set_num_threads(1)
        ask, batch = predictor(self.task.storage, made, self.ensemble), self._sample()
        out.rows = 1
        out.meta = {
            "parameters": ask.parameters,
            "members": len(ask.members),
            "flops": operations(lambda: ask(batch)),
        }
        times = {"torch": milliseconds(lambda: ask(batch))}
        network = next((f.path for f in made.files if f.path.endswith(".onnx")), None)
        if network is not None:
            times["onnx"] = onnx_milliseconds(self.task.storage.read(network), batch)
        with Events(self.task.storage, self.run_id, f"cost-{self.name}") as events:
            values = {f"latency ms/{self.name}/{runtime}": value for runtime, value in times.items()}
            events.metric(unit.payload["step"], values)

    def _sample(self) -> dict[str, np.ndarray]:
        """One sample of every input, of values that mean nothing: time and operations do not depend on them."""
        shapes = {c: self.task.modalities[modality_of(c)] for c in self.inputs}
        return {c: np.zeros((1, *m.shape), m.dtype) for c, m in shapes.items()}


def operations(call: Callable[[], Any]) -> int:
    """Floating-point operations of one call, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def milliseconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The median time of a call, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def onnx_milliseconds(network: bytes, batch: dict[str, np.ndarray], repeats: int = REPEATS) -> float:
    """The median time of ONNX Runtime on one thread for `batch`: column, as the network names its inputs -> array."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    given = {i.name: batch[i.name] for i in session.get_inputs()}
    return milliseconds(lambda: session.run(None, given), repeats)
