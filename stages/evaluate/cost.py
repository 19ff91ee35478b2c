"""The unit of evaluation that counts what a model costs: parameters, operations and time for one sample.

Operations, over all members of an ensemble, and parameters are in the unit's record. Times depend on the machine, so
they go out as events and never into a record: single samples on one thread, in torch and, where the model's step
exported an ONNX file and is asked once, in ONNX Runtime. How each is measured: `stages.measure.cost`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hyperloom.pipeline.commits.units import Output, Unit
from hyperloom.pipeline.root.events import Events
from hyperloom.stages.base import modality_of
from hyperloom.stages.evaluate.worker import AskedModel
from hyperloom.stages.measure.cost import milliseconds, onnx_milliseconds, operations
from hyperloom.stages.results import Trained

COST = "-cost"
"""How the space of these units ends; before it that of the model's others."""
LATENCY = "latency ms/"
"""How the figure of a model's time for one sample begins; its name and the runtime follow."""


@dataclass
class CostWorker(AskedModel):
    """Asks one model about one sample."""

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        import torch

        from hyperloom.stages.network.predictor import device_of

        torch.set_num_threads(1)
        ask, batch = self.load(), self._sample(self.inputs)
        out.rows = 1
        out.meta = {
            "parameters": ask.parameters,
            "members": len(ask.members),
            "flops": operations(lambda: ask(batch)),
        }
        times = {"torch": milliseconds(lambda: ask(batch))}
        device = device_of(self.resources.gpus, self.given)
        if device.type != "cpu":
            ask.to(device)
            times["cuda"] = milliseconds(lambda: ask(batch).whole())
        folder = Trained.from_manifest(self.manifest).folders(self.manifest, self.member)[0]
        files = (f.path for f in self.manifest.all_files() if f.path.startswith(f"{folder}/"))
        network = next((path for path in files if path.endswith(".onnx")), None)
        if network is not None and len(ask.members) == 1:  # the file asks one network once
            whole = self._sample([part.column for part in ask.model.architecture.parts])
            times["onnx"] = onnx_milliseconds(self.task.storage.read(network), whole)
        with Events(self.task.storage, self.run_id, f"cost-{self.name}") as events:
            values = {f"{LATENCY}{self.name}/{runtime}": value for runtime, value in times.items()}
            events.metric(unit.payload["step"], values, space=unit.space)

    def _sample(self, columns: Iterable[str]) -> dict[str, np.ndarray]:
        """One sample of these inputs, of values that mean nothing: time and operations do not depend on them."""
        shapes = {c: self.task.modalities[modality_of(c)] for c in columns}
        return {c: np.zeros((1, *m.shape), m.dtype) for c, m in shapes.items()}
