"""The worker of distillation: one trained student written as ONNX, on a slot, so that the driver imports no torch.

The file lies beside the model, `{folder}/student.onnx`; the unit's record has its digest and, as `meta`, what a reader
must know of it (`stages.distill.export.Exported`). Times go out as events, since a record holds none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hyperloom.pipeline.commits.units import File, Output, Resources, Unit, Worker
from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import sha256
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.distill.int8 import Int8
from hyperloom.stages.network.masks import hidden_of
from hyperloom.stages.train.job import Job, Member

if TYPE_CHECKING:
    from hyperloom.stages.network.model import MultiTask

EXPORT = "export"


@dataclass
class Exporter:
    """Writes the model in the folder that is the unit's space, for the step `step` of the run `run_id`. A unit's
    payload is {"name"}: what the model is called among several of one step."""

    step: str
    run_id: str
    job: Job
    int8: Int8 | None = None
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        import hyperloom.stages  # noqa: F401  registers the plug-ins

    def run(self, unit: Unit, out: Output) -> None:
        from hyperloom.stages.distill import export
        from hyperloom.stages.network.model import load_model

        model = load_model(out.storage, unit.space)
        exported = export.to_onnx(model, hidden := hidden_of(self.job.mask, model.architecture))
        file = File(f"{unit.space}/{export.STUDENT_ONNX}", len(exported.data), sha256(exported.data))
        out.storage.write(file.path, exported.data, durable=False)
        out.adopt(file)
        out.meta = exported.about
        times, name = export.milliseconds(model, exported.data, hidden), unit.payload["name"]
        times |= self._in_bytes(model, exported.data, hidden, out)
        suffix = f"/{name}" if name else ""
        with Events(out.storage, self.run_id, f"export-{self.step}{suffix.replace('/', '-')}") as events:
            events.metric(self.step, {f"latency ms/{runtime}{suffix}": value for runtime, value in times.items()})

    def _in_bytes(self, model: MultiTask, network: bytes, hidden: Sequence[str], out: Output) -> dict[str, float]:
        """Write the student in 8 bits, where that is wanted and costs no more than it may; its milliseconds."""
        from hyperloom.stages.distill import export, int8

        if self.int8 is None:
            return {}
        small, about = int8.brought(self.job, model.architecture, network, self.int8)
        kept = about["worst"] is not None and about["worst"] <= self.int8.margin
        out.meta = {**out.meta, "int8": {**about, "margin": self.int8.margin, "kept": kept}}
        if kept:
            out.write(int8.SUFFIX, small)
        return {"int8": export.milliseconds(model, small, hidden)["onnx"]}


def exports(
    step: StepRun, job: Job, members: Sequence[Member], int8: Int8 | None, padded: bool = False
) -> tuple[list[Unit], dict[str, Worker]]:
    """The units that export the members' models, and their worker. `padded`: is it of those whose bytes have changed
    with the code?"""
    how = {**payload(int8), **({"revised": 2} if padded else {})} if int8 else {}
    name = f"{EXPORT}-{fingerprint(how)[:SHORT]}" if int8 else EXPORT
    units = [Unit(m.folder, name, EXPORT, {"name": m.name}) for m in members]
    return units, {EXPORT: Exporter(step.name, step.events.run, job, int8)}
