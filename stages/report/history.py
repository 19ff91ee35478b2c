"""The history of a root: what the events of its runs say of steps, by fingerprint.

A step that a run reused was made by an earlier one: its time and its curves stand there. One that was killed and gone
on with was made by several: it took what all of them took, and its curves are of all. Runs are read from the newest
back until every step that is asked about was met at its making and one more run of the recipe had no part in it, and no
more than `RUNS` of them, so a root with years of nights costs as much as one with a few. What cannot be read is left
out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.storage import Storage

RUNS = 40
OTHERS = 5
"""Runs of other recipes that are passed over in the search for earlier attempts at what is done."""
POINTS = 400
"""The most points of a curve; of more, evenly spread ones stay."""


@dataclass
class StepHistory:
    """How a step was made: when (seconds since 1970), for how long, its curves (figure -> (update, value)), figures
    said once (figure -> values), and what failed."""

    run: str = ""
    status: str = ""
    began: float = 0.0
    seconds: float | None = None
    units: tuple[int, int, int] = (0, 0, 0)
    """Units in all, reused, failed."""
    error: str = ""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    figures: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    left_out: dict[str, tuple[int, list[dict[str, Any]]]] = field(default_factory=dict)
    """By unit: how many samples are in quarantine, and the first of them, each with `key` and `error`."""
    heard: float = 0.0
    """When something was last heard of it, in seconds since 1970."""

    @property
    def worked(self) -> float | None:
        """Seconds; of an attempt that ended without a word, until the last that was heard of it."""
        return self.heard - self.began if self.seconds is None and self.began and self.heard else self.seconds

    def after(self, earlier: StepHistory) -> None:
        """Take over what an earlier attempt did that this one went on with."""
        worked = [s for s in (self.worked, earlier.worked) if s is not None]
        self.seconds = sum(worked) if worked else None
        self.began = earlier.began or self.began
        for name, points in earlier.curves.items():
            mine = self.curves.get(name, [])
            first = mine[0][0] if mine else float("inf")
            self.curves[name] = thinned([*(point for point in points if point[0] < first), *mine])


@dataclass
class RunHistory:
    """One run: its recipe's name and text, how it ended, and which step had which fingerprint."""

    run: str
    name: str = ""
    recipe: str = ""
    path: str = ""
    began: float = 0.0
    seconds: float | None = None
    status: str = "not finished"
    steps: dict[str, str] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    """By step, what its fingerprint is of."""
    reused: set[str] = field(default_factory=set)
    work: dict[str, StepHistory] = field(default_factory=dict)
    """By step, those that this run worked on."""


def runs(storage: Storage) -> list[str]:
    """The runs of a root, the newest first."""
    return sorted(storage.names("events"), reverse=True)


def run_history(storage: Storage, run: str) -> RunHistory:
    """What the events of one run say."""
    history = RunHistory(run)
    for event in event_log.in_time(event_log.read(storage, run)):
        handle = _HANDLERS.get(event["kind"])
        if handle is not None:
            handle(history, event)
        if step := history.work.get(event.get("step", "")):
            step.heard = event["t"] / 1000
    for step in history.work.values():
        step.curves = {name: thinned(sorted(points)) for name, points in step.curves.items()}
    return history


def histories(
    storage: Storage, fingerprints: Collection[str], name: str = ""
) -> tuple[dict[str, StepHistory], RunHistory]:
    """How each of the steps with the `fingerprints` was made, as far as it is known; and the newest run of the
    recipe `name` that has one of them (an empty one where there is none)."""
    best: dict[str, StepHistory] = {}
    whole: set[str] = set()
    newest: RunHistory | None = None
    others = 0
    for run in runs(storage)[:RUNS]:
        settled = newest and all(f in best and best[f].status == "done" for f in fingerprints)
        history = run_history(storage, run)
        known = {f: history.work[s] for s, f in history.steps.items() if f in fingerprints and s in history.work}
        if newest is None and history.name == name and not set(history.steps.values()).isdisjoint(fingerprints):
            newest = history
        for fingerprint, step in known.items():
            _join(best, whole, fingerprint, step)
        if settled and not known.keys() - whole:
            others += 1
            if history.name == name or others > OTHERS:
                break
    return best, newest or RunHistory("", name)


def _join(best: dict[str, StepHistory], whole: set[str], fingerprint: str, step: StepHistory) -> None:
    """Enter an attempt at a step beside the later ones in `best`; `whole` are those before whose attempts none counts:
    an earlier one had done it already."""
    later = best.get(fingerprint)
    if later is None or (later.status != "done" and step.status == "done"):
        best[fingerprint] = step
    elif step.status == "done":
        whole.add(fingerprint)
    elif fingerprint not in whole:
        later.after(step)


def thinned(points: list[tuple[float, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """At most `most` of the points, evenly spread, the last one among them."""
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def _run_started(history: RunHistory, event: dict[str, Any]) -> None:
    history.name, history.recipe = str(event.get("name", "")), str(event.get("recipe", ""))
    history.path, history.began = str(event.get("path") or ""), event["t"] / 1000


def _run_finished(history: RunHistory, event: dict[str, Any]) -> None:
    history.status, history.seconds = str(event.get("status", "")), event.get("seconds")


def _step_started(history: RunHistory, event: dict[str, Any]) -> None:
    step = event["step"]
    history.steps[step] = str(event.get("fingerprint", ""))
    history.stages[step] = str(event.get("stage", ""))
    history.params[step] = event.get("params", {})
    history.work.setdefault(step, StepHistory(history.run, "running", event["t"] / 1000))


def _step_reused(history: RunHistory, event: dict[str, Any]) -> None:
    history.steps[event["step"]] = str(event.get("fingerprint", ""))
    history.stages[event["step"]] = str(event.get("stage", ""))
    history.reused.add(event["step"])


def _step_finished(history: RunHistory, event: dict[str, Any]) -> None:
    step = history.work.setdefault(event["step"], StepHistory(history.run))
    step.status, step.seconds = str(event.get("status", "")), event.get("seconds")
    step.error = str(event.get("error", ""))


def _progress(history: RunHistory, event: dict[str, Any]) -> None:
    if step := history.work.get(event["step"]):
        step.units = (event.get("total", 0), event.get("reused", 0), event.get("failed", 0))


def _metric(history: RunHistory, event: dict[str, Any]) -> None:
    step = history.work.setdefault(event["step"], StepHistory(history.run)) if event["step"] else None
    for name, value in event.get("values", {}).items() if step else ():
        if event.get("at"):
            step.curves.setdefault(name, []).append((float(event["at"]), float(value)))  # type: ignore[union-attr]
        else:
            step.figures.setdefault(name, []).append(float(value))  # type: ignore[union-attr]


def _note(history: RunHistory, event: dict[str, Any]) -> None:
    if (step := history.work.get(event["step"])) and event.get("text") not in step.notes:
        step.notes.append(str(event.get("text", "")))


def _failure(history: RunHistory, event: dict[str, Any]) -> None:
    if step := history.work.get(event["step"]):
        step.failures.append(f"{event.get('unit', '')}: {event.get('error', '')}")


def _quarantine(history: RunHistory, event: dict[str, Any]) -> None:
    if step := history.work.get(event["step"]):
        samples = list(event.get("samples", ()))
        step.left_out[str(event.get("unit", ""))] = (int(event.get("count", len(samples))), samples)


_HANDLERS = {
    "run_started": _run_started,
    "run_finished": _run_finished,
    "step_started": _step_started,
    "step_reused": _step_reused,
    "step_finished": _step_finished,
    "progress": _progress,
    "metric": _metric,
    "note": _note,
    "failure": _failure,
    "quarantine": _quarantine,
}


def latencies(figures: dict[str, list[float]]) -> Iterator[tuple[str, str, float]]:
    """Who, in which runtime (empty: as it was judged), milliseconds a frame, of what an evaluation measured."""
    for name, values in figures.items():
        kind, _, rest = name.partition("/")
        who, _, runtime = rest.partition("/")
        if kind in ("latency ms", "milliseconds a frame") and values:
            yield who, runtime, sum(values) / len(values)
