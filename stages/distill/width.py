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

import platform
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.events import Events
from hyperloom.pipeline.manifest import folder
from hyperloom.pipeline.stage import StepRun
from hyperloom.pipeline.units import Output, Record, Resources, Unit
from hyperloom.stages.network.architecture import Architecture

if TYPE_CHECKING:
    from hyperloom.stages.train.stage import Train

WIDTH = "width"
WIDEST, STRIDE, LOOKS = 256, 8, 3


@dataclass
class Stopwatch:
    """The worker that looks for the width of `architecture`, for the step `step` of the run `run_id`."""

    architecture: Architecture
    limit: float
    step: str
    run_id: str
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        import hyperloom.stages  # noqa: F401  registers the plug-ins

    def run(self, unit: Unit, out: Output) -> None:
        times: dict[int, tuple[float, int]] = {}

        def quick(width: int) -> bool:
            out.beat()
            times[width] = times.get(width) or timed(self.architecture, width)
            return times[width][0] <= self.limit

        width = widest(quick)
        if not width:
            raise StepFailed(
                f"step {self.step!r}: latency_ms: {self.limit:g} is less than the {times[1][0]:.2g} ms that the "
                f"narrowest {self.architecture.trunk.type} takes on one core of {processor()}. Next: allow more, take "
                "another trunk or smaller pictures"
            )
        took, parameters = times[width]
        out.meta = {"width": width, "parameters": parameters}
        with Events(out.storage, self.run_id, f"{WIDTH}-{self.step}") as events:
            text = (
                f"{self.step}: width {width} ({parameters:,} parameters) takes {took:.2f} of {self.limit:g} ms on one "
                f"core of {processor()}, looked at widths {', '.join(map(str, sorted(times)))}"
            )
            events.emit("note", self.step, text=text)
            events.metric(self.step, {"latency ms/untrained": took})


def measured(step: StepRun, stage: Train, architecture: Architecture, limit: float) -> tuple[Architecture, Record]:
    """`architecture` with the width that this step has, and the record that says so."""
    alone = stage.training.model_copy(update={"seed": 0, "seeds": 1})
    unit = Unit(folder(stage.stage, step.identity(alone)), WIDTH, WIDTH)
    worker = Stopwatch(architecture, limit, step.name, step.events.run)
    (record,) = step.run_units([unit], {WIDTH: worker})
    return architecture.with_trunk(architecture.trunk.of_width(record.meta["width"])), record


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


def timed(architecture: Architecture, width: int) -> tuple[float, int]:
    """Milliseconds of one sample in ONNX Runtime on one core, and parameters, of a network of this width."""
    from hyperloom.stages.distill import export
    from hyperloom.stages.distill.examples import examples
    from hyperloom.stages.measure.cost import onnx_milliseconds
    from hyperloom.stages.network.model import MultiTask

    model = MultiTask(replace(architecture, trunk=architecture.trunk.of_width(width))).requires_grad_(False).eval()
    network = export.written(model)
    batch = {p.column: e for p, e in zip(architecture.parts, examples(architecture.parts, 1), strict=True)}
    # what else the machine does makes some looks slow and none quick
    return min(onnx_milliseconds(network, batch) for _ in range(LOOKS)), model.parameter_count


def processor() -> str:
    """What this machine calls its processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            if match := re.search(r"model name\s*:\s*(.+)", file.read()):
                return match[1]
    except OSError:
        pass
    return platform.processor() or platform.machine()
