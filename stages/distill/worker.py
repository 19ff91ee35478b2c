"""The worker of distillation: one trained student written as ONNX, on a slot, so that the driver imports no torch.

The file lies beside the model, `{folder}/student.onnx`; the unit's record has its digest and, as `meta`, what a reader
must know of it (`stages.distill.export.Exported`). Times go out as events, since a record holds none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hyperloom.pipeline.events import Events
from hyperloom.pipeline.stage import StepRun
from hyperloom.pipeline.storage import sha256
from hyperloom.pipeline.units import File, Output, Resources, Unit, Worker

EXPORT = "export"


@dataclass
class Exporter:
    """Writes the model in the folder `unit.payload["folder"]` for the step `step` of the run `run_id`."""

    step: str
    run_id: str
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        from hyperloom.stages.distill import export
        from hyperloom.stages.network.model import load_model

        folder = unit.payload["folder"]
        model = load_model(out.storage, folder)
        exported = export.to_onnx(model)
        file = File(f"{folder}/{export.STUDENT_ONNX}", len(exported.data), sha256(exported.data))
        out.storage.write(file.path, exported.data, durable=False)
        out.adopt(file)
        out.meta = exported.about
        times = export.milliseconds(model, exported.data)
        with Events(out.storage, self.run_id, f"export-{self.step}") as events:
            events.metric(self.step, {f"latency ms/{runtime}": value for runtime, value in times.items()})


def export_of(step: StepRun, folder: str) -> tuple[list[Unit], dict[str, Worker]]:
    """The unit that exports the model in `folder`, and its worker."""
    unit = Unit(step.folder, EXPORT, EXPORT, {"folder": folder})
    return [unit], {EXPORT: Exporter(step.name, step.events.run)}
