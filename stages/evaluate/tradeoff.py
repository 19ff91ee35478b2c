"""What a model's size buys: a training repeated at several sizes, and its quality against what it costs.

`resized` turns a recipe into the one that trains a step at each size and judges all of them in the report that judges
the step; steps that do not depend on the size are shared, by identity, with the recipe as it stands. `tradeoff` reads
the finished report. A size that is a family of seeds is the mean of its members, with the interval of that mean.
Parameters are exact. Milliseconds (one sample, one thread; ONNX Runtime where the model is exported) and minutes of one
training (CPU minutes where it ran on CPUs, which neighbours change little) were taken on the machines that did the
work, so they come from the events of the root's runs and lie in no manifest.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hyperloom.pipeline.counting import placed, rounded
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.recipes import variants
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root import events
from hyperloom.stages.evaluate.cost import COST, LATENCY
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.evaluate.subject import Model
from hyperloom.stages.measure.cost import RUNTIMES
from hyperloom.stages.measure.measure import directions
from hyperloom.stages.results import Judged, Trained
from hyperloom.stages.train.stage import Train

if TYPE_CHECKING:
    from hyperloom.pipeline.commits.manifest import Manifest
    from hyperloom.pipeline.output.replies import CurvePoint, CurveReply
    from hyperloom.pipeline.planning.plan import PlannedStep
    from hyperloom.pipeline.root.storage import Storage

SIZES = ("40k", "80k", "160k", "320k", "640k", "960k")
"""Parameters of the students, where nobody names others."""


@dataclass(frozen=True)
class Point:
    """One size: its name in the report, its figure with bounds (None without intervals), over how many trainings of
    one each it is the mean, and what one of them costs. `None` for times that the runs of this root did not note."""

    name: str
    figure: float
    bounds: tuple[float, float] | None
    parameters: int
    milliseconds: float | None = None
    minutes: float | None = None
    seeds: int = 1
    runtime: str = ""
    """What the milliseconds are those of."""


@dataclass(frozen=True)
class Tradeoff:
    """Points in order of their parameters; `rivals`: what they are held against, name -> value of the same figure: the
    experts, their consensus, and the teacher of a student; of a training that has none, the other models."""

    step: str
    report: str
    figure: str
    higher: bool
    split: str
    samples: int
    points: Sequence[Point]
    rivals: Mapping[str, float]

    def rows(self) -> list[dict[str, Any]]:
        """A row a point, then a row a rival, for tables."""
        rows = [
            {"who": p.name, self.figure: rounded(p.figure, 4), "low": p.bounds and rounded(p.bounds[0], 4)}
            | {"high": p.bounds and rounded(p.bounds[1], 4), "parameters": p.parameters}
            | {
                "milliseconds": p.milliseconds and round(p.milliseconds, 2),
                "timed in": p.runtime or None,
                "minutes": p.minutes and round(p.minutes, 1),
                "seeds": p.seeds,
            }
            for p in self.points
        ]
        return rows + [{"who": name, self.figure: rounded(value, 4)} for name, value in self.rivals.items()]

    def reply(self, picture: str, table: str) -> CurveReply:
        """For programs; `picture` and `table` are where these were written."""
        points: list[CurvePoint] = [
            {
                "name": p.name,
                "figure": p.figure,
                "low": p.bounds and p.bounds[0],
                "high": p.bounds and p.bounds[1],
                "parameters": p.parameters,
                "milliseconds": p.milliseconds,
                "minutes": p.minutes,
                "seeds": p.seeds,
                "runtime": p.runtime,
            }
            for p in self.points
        ]
        return {
            "step": self.step,
            "report": self.report,
            "figure": self.figure,
            "higher_is_better": self.higher,
            "split": self.split,
            "samples": self.samples,
            "points": points,
            "rivals": self.rivals,
            "sentence": self.sentence(),
            "picture": picture,
            "table": table,
        }

    def sentence(self) -> str:
        """What the curve says, plainly: where more parameters stop to be worth anything that could be shown."""
        best = (max if self.higher else min)(self.points, key=lambda p: p.figure)
        enough = next(p for p in self.points if p is best or _within(p, best, self.higher))
        seeds = f" (mean of {best.seeds} seeds)" if best.seeds > 1 else ""
        most, least = (placed(p.figure, 3) for p in (best, enough))
        text = f"{self.figure}: {best.name} is the best of {len(self.points)} sizes with {most}{seeds}"
        if enough is not best:
            text += f"; {enough.name} ({least}, {enough.parameters:,} parameters) lies within its interval"
        for one, other in itertools.pairwise(self.points):
            if one.parameters == other.parameters:
                text += f"; {one.name} and {other.name} are networks of the same size: widths come in steps"
        return text


def _within(point: Point, best: Point, higher: bool) -> bool:
    """Does the figure of `point` reach into the interval of the best?"""
    if best.bounds is None:
        return False
    return point.figure >= best.bounds[0] if higher else point.figure <= best.bounds[1]


# -- the recipe ----------------------------------------------------------------------------------------------------
def resized(loaded: RecipeFile, step: str, sizes: Sequence[str]) -> tuple[RecipeFile, str]:
    """The recipe that trains `step` with each of `sizes` parameters ("40k", "1m") and judges them beside all that its
    report judges; and the name of the step that does.
    Raises RecipeError where the step is no training or nobody judges it."""
    steps = loaded.recipe.steps
    training = steps.get(step)
    if not isinstance(training, Train):
        known = ", ".join(n for n, s in steps.items() if isinstance(s, Train)) or "none"
        raise loaded.error(("steps", step), f"{step!r} is no training of this recipe; its trainings: {known}")
    report = next((n for n, s in steps.items() if isinstance(s, Evaluate) and _judges(s, step)), None)
    if report is None:
        raise loaded.error(
            ("steps", step), f"no report judges {step!r}. Next: add one, {{stage: evaluate, data: ..., models: {step}}}"
        )
    trainings = {f"{step}-{variants.ending(size)}": _sized(loaded, step, training, size) for size in sizes}
    for name in trainings:
        variants.StepLines(loaded.lines).borrow(step, name)
    kept = {n: s for n, s in steps.items() if n in _needed(loaded, report) and n not in (report, step)}
    if step in set().union(*(loaded.recipe.reads(n) for n in kept)):
        kept[step] = training
    curve = f"{step}-curve"
    variants.StepLines(loaded.lines).borrow(report, curve)
    judging = _judging(steps[report], step, list(trainings))
    recipe = loaded.recipe.model_copy(update={"steps": {**kept, **trainings, curve: judging}})
    return replace(loaded, recipe=recipe), curve


def _judges(report: Evaluate, step: str) -> bool:
    return any(model.model == step for model in report.models.values())


def _sized(loaded: RecipeFile, step: str, training: Train, size: str) -> Train:
    """The training with so many parameters, in place of what else said how large it is."""
    given = {name: getattr(training.model, name) for name in training.model.model_fields_set - {"latency_ms"}}
    given["trunk"] = training.model.trunk.model_copy(update={"width": None})
    try:
        return training.model_copy(update={"model": type(training.model).model_validate({**given, "parameters": size})})
    except ValidationError as error:
        first = error.errors()[0]
        wrong = f"{size!r} is no number of parameters, such as 80k"
        message = wrong if first["loc"][:1] == ("parameters",) else first["msg"].removeprefix("Value error, ")
        raise loaded.error(("steps", step, "model"), message) from error


def _needed(loaded: RecipeFile, step: str) -> set[str]:
    """A step and all that it needs."""
    needed, queue = set[str](), [step]
    while queue:
        name = queue.pop()
        if name not in needed:
            needed.add(name)
            queue += loaded.recipe.reads(name)
    return needed


def _judging(report: Evaluate, step: str, trainings: Iterable[str]) -> Evaluate:
    """The report with each size in the place of the step, asked in the same way. The champion is left out: it moves."""
    as_before = next(model for model in report.models.values() if model.model == step)
    models = {name: model for name, model in report.models.items() if model.model != step}
    models |= {name: Model(model=name, ensemble=as_before.ensemble) for name in trainings}
    replaced = {name for name in report.models if name not in models}
    seeds = {family: names for family, names in report.seeds.items() if not replaced & set(names)}
    lost = {*replaced, "champion", *(set(report.seeds) - set(seeds))}
    against = tuple(name for name in report.against if name not in lost)
    return report.model_copy(update={"models": models, "seeds": seeds, "against": against, "champion": ""})


# -- the result ----------------------------------------------------------------------------------------------------
def tradeoff(
    storage: Storage, steps: Sequence[PlannedStep], step: str, report: str, figure: str, modalities: Mapping[str, Any]
) -> Tradeoff:
    """What the finished steps amount to. `figure` is such as `semantic.miou`; empty for the main one of the
    first task that has a truth. Raises RecipeError where the report has no such figure."""
    done = {one.name: one for one in steps}
    judged = Judged.from_manifest(_manifest(done[report]))
    names = [n for n in done if n.startswith(f"{step}-") and n != report]
    sized = {n: [n] if n in judged.models else _members(n, _manifest(done[n])) for n in names}
    sized = {n: members for n, members in sized.items() if members and members[0] in judged.models}
    first = next(iter(sized))
    figure = figure or _main(judged, sized[first][0], getattr(done[first].stage, "targets", ()), modalities)
    if missing := [members[0] for members in sized.values() if figure not in judged.figures[members[0]]]:
        known = ", ".join(sorted(judged.figures[missing[0]]))
        raise RecipeError(f"the report {report!r} has no figure {figure!r} of {missing[0]}; it has {known}")
    modality, _, measure = figure.partition(".")
    noted, spaces = _Noted(storage), {who: f"{space}{COST}" for who, space in judged.sheets.items()}
    points = [
        Point(
            name,
            mean(judged.figures[member][figure] for member in members),
            _bounds(judged, name, figure),
            judged.costs[members[0]]["parameters"],
            took,
            noted.minutes(_manifest(done[name])),
            len(members),
            runtime,
        )
        for name, members in sized.items()
        for took, runtime in [noted.milliseconds([(member, spaces[member]) for member in members])]
    ]
    teacher = getattr(done[first].stage, "teacher", "")
    taught = {m for members in sized.values() for m in members}
    rivals = rivals_of(judged, figure, taught, _manifest(done[teacher]).fingerprint if teacher in done else "")
    rises = directions(modalities[modality])[measure]
    ordered = sorted(points, key=lambda point: point.parameters)
    return Tradeoff(step, report, figure, rises, judged.split, judged.samples, ordered, rivals)


def _manifest(step: PlannedStep) -> Manifest:
    """Of a step that is done."""
    if step.manifest is None:
        raise RecipeError(f"the step {step.name!r} has not finished yet")
    return step.manifest


def _members(name: str, manifest: Manifest) -> list[str]:
    """What the members of a family are called in a report."""
    model = Trained.of(manifest)
    return [f"{name} {member}" for member in model.names] if model else []


def rivals_of(judged: Judged, figure: str, taught: Collection[str], teacher: str) -> dict[str, float]:
    """What the sizes are held against. `teacher`: its fingerprint; empty where there is none. Of a family the mean."""
    values: dict[str, list[float]] = {}
    for who, figures in judged.figures.items():
        model = judged.models.get(who)
        if who in taught or figure not in figures or (model is not None and teacher and model != teacher):
            continue
        family = who.removesuffix(f" {judged.members[who]}") if judged.members and who in judged.members else who
        values.setdefault(family, []).append(figures[figure])
    return {who: mean(mine) for who, mine in values.items()}


def _main(judged: Judged, name: str, tasks: Iterable[str], modalities: Mapping[str, Any]) -> str:
    """The main figure of the first task that has a truth."""
    tasks_judged = [m for m in tasks if m in modalities and f"{m}.{modalities[m].metric}" in judged.figures[name]]
    if not tasks_judged:
        raise RecipeError(f"the report says nothing of {name!r}. Next: name a truth of what it predicts")
    return f"{tasks_judged[0]}.{modalities[tasks_judged[0]].metric}"


def _bounds(judged: Judged, name: str, figure: str) -> tuple[float, float] | None:
    """Of a single training those over samples, of a family those of its mean over seeds."""
    family = ((judged.seeds or {}).get(name) or {}).get(figure)
    bounds = family["interval"] if family else (judged.bounds or {}).get(name, {}).get(figure)
    return (float(bounds[0]), float(bounds[1])) if bounds else None


class _Noted:
    """Times that the runs of a root noted, the latest first: milliseconds of one sample, by the space of the unit that
    took them and by the name of a model and the runtime (another recipe may have a model of that name), and seconds
    that a training took, by its folder."""

    def __init__(self, storage: Storage):
        self.latency: dict[tuple[str, str], float] = {}
        self.seconds: dict[str, float] = {}
        for run in reversed(storage.names("events")):
            for event in events.read(storage, run):
                if event["kind"] == "metric":
                    for name, value in event["values"].items():
                        if name.startswith(LATENCY):
                            self.latency.setdefault((event.get("space", ""), name), value)
                elif event["kind"] == "trained":
                    on_cpus = event["device"] == "cpu"
                    self.seconds.setdefault(event["folder"], event["cpu_seconds" if on_cpus else "seconds"])

    def milliseconds(self, members: Sequence[tuple[str, str]]) -> tuple[float | None, str]:
        """Of members, each with its space, and the runtime: ONNX Runtime where the model was exported, else torch; of a
        family, whose members cost the same, the least, since what else the machine did only adds."""
        for runtime in ("onnx", "torch"):
            places = ((space, f"{LATENCY}{member}/{runtime}") for member, space in members)
            if times := [self.latency[place] for place in places if place in self.latency]:
                return min(times), RUNTIMES[runtime]
        return None, ""

    def minutes(self, manifest: Manifest) -> float | None:
        """Of one training: the mean over the members of a family."""
        folders = Trained.from_manifest(manifest).folders(manifest)
        seconds = [self.seconds[one] for one in folders if one in self.seconds]
        return mean(seconds) / 60 if seconds else None
