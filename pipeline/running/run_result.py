"""What a run is called, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.planning.plan import PlannedStep


@dataclass(frozen=True)
class NamedRun:
    """A run whose id comes from outside, such as a slot of a schedule: what was started under that id and died goes on
    under it. `start` counts the starts, `tags` are said of the run in MLflow."""

    id: str
    start: int = 1
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def writer(self) -> str:
        """Of its events. A driver that was given up for dead and was not has files of its own."""
        return "driver" if self.start == 1 else f"driver-{self.start}"


@dataclass
class RunResult:
    """How a run ended: step name -> fresh, done, failed or blocked, and what to say of the ones that failed."""

    run: str
    states: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """What is not there, in a few words for each step that did not end: "3 of 120 units", "not run"."""
    quarantined: int = 0
    errors: dict[str, HyperloomError] = field(default_factory=dict)
    unshown: str = ""
    """What MLflow lacks of the run, in a sentence; empty when it has everything."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """What steps say of how they ended (the `outcome` of their tags): that there is a new champion, or why not."""
    remarks: dict[str, str] = field(default_factory=dict)
    """What looks suspicious, in words, and the steps that said so."""
    page: str = ""
    """Where the report of the run lies; empty where none was written."""
    sources: dict[str, str] = field(default_factory=dict)
    """The identities of the data that this run read: step -> fingerprint, of those that read only what lies outside."""

    @property
    def error(self) -> HyperloomError | None:
        """Of the first step that failed, in the recipe's order."""
        return next(iter(self.errors.values()), None)

    def order(self, names: list[str]) -> None:
        """Bring all that is said into the recipe's order: steps end in any."""
        for table in (self.states, self.problems, self.missing, self.errors):
            entries = {n: table[n] for n in names if n in table}
            table.clear()
            table.update(entries)  # type: ignore[arg-type]

    @property
    def ok(self) -> bool:
        return not self.problems


def reused(step: PlannedStep) -> dict[str, Any]:
    """What the event of a finished step says that a run takes as it is."""
    assert step.manifest is not None
    about = {"stage": step.stage.stage, "fingerprint": step.fingerprint, "rows": step.manifest.rows}
    figures = step.stage.figures(step.manifest)
    return {**about, **({"figures": figures} if figures else {})}


def nothing_to_do(steps: list[PlannedStep], page: str) -> RunResult:
    """Of a recipe whose steps are all fresh."""
    states = {step.name: "fresh" for step in steps}
    return RunResult("", states, quarantined=left_out(steps), page=page, sources=sources(steps))


def sources(steps: list[PlannedStep]) -> dict[str, str]:
    """The identities of the data that are read."""
    return {s.name: s.fingerprint for s in steps if s.is_source}


def origins(remark: str, steps: list[PlannedStep]) -> list[str]:
    """Of which steps' own data a remark is: those that hold it without one that they read holding it too."""
    holding = {s.name: s.reads for s in steps if s.manifest and remark in s.manifest.body.get("remarks", ())}
    return [name for name, reads in holding.items() if not holding.keys() & set(reads)]


def left_out(steps: list[PlannedStep]) -> int:
    """Samples in quarantine."""
    return sum(s.manifest.quarantined for s in steps if s.manifest)
