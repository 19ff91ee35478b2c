"""The curve of a training: its figures and what it has to say, as events of the run, from where the training is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.train.job import Job

if TYPE_CHECKING:
    from hyperloom.stages.train.clock import TrainingTime


class Curve:
    """Passes figures on, those that a died worker has passed on already left out.

    `member` names one of several trainings of the step: its figures are called `loss/seed3`.
    """

    def __init__(self, storage: Storage, run: str, step: str, member: str = ""):
        self.step = step
        self.suffix = f"/{member}" if member else ""
        self.events = Events(storage, run, f"train-{step}-{member}" if member else f"train-{step}")
        mine = [e for e in event_log.read(storage, run) if e["writer"] == self.events.writer]
        self.reported = {(key, e["at"]) for e in mine if e["kind"] == "metric" for key in e["values"]}
        self.noted = {e["text"] for e in mine if e["kind"] == "note"}
        self.updates = 0

    def __call__(self, at: int, values: dict[str, float]) -> None:
        named = {f"{k}{self.suffix}": v for k, v in values.items()}
        new = {k: v for k, v in named.items() if (k, at) not in self.reported}
        if new:
            self.events.metric(self.step, new, at, self.updates)

    def expect(self, updates: int) -> None:
        """So many updates the training will have made at its end, as far as it knows by now; 0 where it does not."""
        self.updates = updates

    def began(self, job: Job, workers: int, device: Any) -> None:
        """Say where the training runs."""
        from hyperloom.stages.network.compiling import why_not_compile

        self.note(f"{workers} worker{'' if workers == 1 else 's'} on {device.type} began")
        if job.rhythm.compile and (why := why_not_compile(device)):
            self.note(f"the network runs as it is, not compiled: {why}")

    def ended(self, took: TrainingTime) -> None:
        """Say how long it took. Figures of time are events alone: no record holds them. They are at 0, as what is said
        once: MLflow draws a bar with its number then, else a curve of one point."""
        self.events.emit("trained", self.step, **vars(took))
        minutes = {"minutes": took.seconds / 60, "cpu_minutes": took.cpu_seconds / 60}
        self.events.metric(self.step, {f"{name}{self.suffix}": value for name, value in minutes.items()})

    def once(self, text: str) -> None:
        """A line for the user, unless a died worker has said it already."""
        if f"{self.step}{self.suffix}: {text}" not in self.noted:
            self.note(text)

    def note(self, text: str) -> None:
        """A line for the user."""
        self.events.emit("note", self.step, text=f"{self.step}{self.suffix}: {text}")
        self.events.flush()
