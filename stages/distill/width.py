"""Width by time: the widest network of a kind whose ONNX file takes at most so many milliseconds on this machine.

    model: {trunk: inverted, latency_ms: 3}

Networks of several widths, with weights as they begin, are exported and timed by ONNX Runtime on one core, one sample a
call. What is asked for bears meaning, what the machine answers does not: the width that was found is committed as a
unit of the step before the training begins, so a training that goes on, members of a family and a rerun have the same
one, wherever they run, and equal steps under one root equal bytes. Another root asks its own machine. To have the same
width everywhere write the one that is said: `trunk: {type: inverted, width: 12}`.

Times grow with the width, but not evenly: multiples of 8 are quicker than what lies before them. So the widest that is
quick enough is looked for by halving, and then among the next multiples of 8.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits.manifest import folder
from hyperloom.pipeline.commits.units import Output, Record, Resources, Unit
from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.network.architecture import Architecture
from hyperloom.stages.network.masks import hidden_of
from hyperloom.stages.network.trunks import Trunk

if TYPE_CHECKING:
    from hyperloom.stages.train.stage import Train

WIDTH = "width"
WIDEST, STRIDE, LOOKS = 256, 8, 3


@dataclass(frozen=True)
class TimedForm:
    """A network of a trunk of some width: milliseconds of one sample in ONNX Runtime on one core, parameters, and
    floating-point operations of a sample."""

    trunk: Trunk
    width: int
    took: float
    parameters: int
    operations: int


@dataclass
class Stopwatch:
    """The worker that looks for the width of `architecture`, for the step `step` of the run `run_id`. Inputs that are
    `hidden` are no part of its ONNX file."""

    architecture: Architecture
    limit: float
    step: str
    run_id: str
    hidden: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        import hyperloom.stages  # noqa: F401  registers the plug-ins

    def run(self, unit: Unit, out: Output) -> None:
        forms = [self._widest(trunk, out) for trunk in self.architecture.trunk.variants]
        if not any(form.width for form in forms):
            raise StepFailed(
                f"step {self.step!r}: latency_ms: {self.limit:g} is less than the {min(f.took for f in forms):.2g} ms "
                f"that the narrowest {self.architecture.trunk.type} takes on one core of {processor()}. Next: allow "
                "more, take another trunk or smaller pictures"
            )
        best = max((form for form in forms if form.width), key=lambda form: form.operations)
        out.meta = {"trunk": written(best.trunk), "width": best.width, "parameters": best.parameters}
        with Events(out.storage, self.run_id, f"{WIDTH}-{self.step}") as events:
            many = f", of {len(forms)} forms that which does most in the time" if len(forms) > 1 else ""
            text = (
                f"{self.step}: width {best.width} ({best.parameters:,} parameters) takes {best.took:.2f} of "
                f"{self.limit:g} ms on one core of {processor()}{many}: {json.dumps(written(best.trunk))}"
            )
            events.emit("note", self.step, text=text)
            events.metric(self.step, {"latency ms/untrained": best.took})

    def _widest(self, trunk: Trunk, out: Output) -> TimedForm:
        """The widest network of a trunk that is quick enough; the narrowest, of width 0, where none is."""
        architecture, times = self.architecture.with_trunk(trunk), dict[int, TimedForm]()

        def quick(width: int) -> bool:
            out.beat()
            times[width] = times.get(width) or timed(architecture, width, self.hidden)
            return times[width].took <= self.limit

        width = widest(quick)
        return times[width] if width else replace(times[1], width=0)


def measured(step: StepRun, stage: Train, architecture: Architecture, limit: float) -> tuple[Architecture, Record]:
    """`architecture` with the width that this step has, and the record that says so."""
    alone = stage.training.model_copy(update={"seed": 0, "seeds": 1})
    unit = Unit(folder(stage.stage, step.identity(alone)), WIDTH, WIDTH)
    worker = Stopwatch(architecture, limit, step.name, step.events.run, hidden_of(stage.mask, architecture))
    (record,) = step.run_units([unit], {WIDTH: worker})
    return architecture.with_trunk(plugins.parse("trunk", record.meta["trunk"])), record


def widest(quick: Callable[[int], bool], most: int = WIDEST) -> int:
    """The widest of 1 to `most` that is quick, as far as halving and a look at multiples of 8 can tell; 0 for none."""
    low, high = 0, 1
    while high <= most and quick(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while low and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if quick(middle) else (low, middle)
    above = low // STRIDE * STRIDE + STRIDE
    while low and above <= most and quick(above):
        low, above = above, above + STRIDE
    return low


def written(trunk: Trunk) -> dict[str, Any]:
    """A trunk as a recipe writes it."""
    return {k: v for k, v in payload(trunk).items() if k != "revision"}


def timed(architecture: Architecture, width: int, hidden: Collection[str] = ()) -> TimedForm:
    """A network of this width, exported and timed."""
    from hyperloom.stages.distill import export
    from hyperloom.stages.distill.examples import examples
    from hyperloom.stages.measure.cost import onnx_milliseconds
    from hyperloom.stages.network.model import MultiTask

    model = MultiTask(replace(architecture, trunk=architecture.trunk.of_width(width))).requires_grad_(False).eval()
    data = export.written(model, hidden)
    batch = {p.column: e for p, e in zip(architecture.parts, examples(architecture.parts, 1), strict=True)}
    # what else the machine does makes some looks slow and none quick
    took = min(onnx_milliseconds(data, batch) for _ in range(LOOKS))
    return TimedForm(model.architecture.trunk, width, took, model.parameter_count, export.operations_of(model))


def processor() -> str:
    """What this machine calls its processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            if match := re.search(r"model name\s*:\s*(.+)", file.read()):
                return match[1]
    except OSError:
        pass
    return platform.processor() or platform.machine()
