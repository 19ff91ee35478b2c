"""The evaluate stage: every expert, consensus and model against the truth, on a split that training did not see.

    report:
      stage: evaluate
      data: shards
      models: {teacher: {model: teacher, ensemble: {type: masks, members: 8}}, student: student}
      truth: {semantic: semantic@truth, depth: depth@truth}
      temporal: {gap: 1}
      seeds: {joint: [joint0, joint1, joint2], alone: [alone0, alone1, alone2]}   # or `seeds: 3` in a training
      against: [best_expert, alone]

The figures are exact: counts and sums by shard, added in the shards' order (see `stages.measure.scores`). The body
holds the table, the verdict (does a model beat every single expert?) and the figures that a release is decided by. It
trains nothing and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Record, Resources, Unit, Worker
from hyperloom.pipeline.config import StepName, as_tuple, placement
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fields import step_refs
from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages.base import GROUP, defined, modality_of
from hyperloom.stages.evaluate.check import checked, truth_of
from hyperloom.stages.evaluate.compare import BEST_EXPERT
from hyperloom.stages.evaluate.family import Candidate, candidates
from hyperloom.stages.evaluate.motion import Temporal
from hyperloom.stages.evaluate.slices import UNKNOWN, Slice
from hyperloom.stages.evaluate.subject import Model, Subject, judged, subjects
from hyperloom.stages.evaluate.unanswered import JudgedInputs, marked
from hyperloom.stages.evaluate.verdict import decisive
from hyperloom.stages.measure.intervals import Intervals
from hyperloom.stages.measure.measure import measure_of
from hyperloom.stages.results import Judged, Shards, Trained
from hyperloom.stages.schema import ReportSchema, made_by, recheck

if TYPE_CHECKING:
    from hyperloom.stages.evaluate.rival import Rival


class Evaluate(Stage):
    """`data`: a shard step. `models`: names to models, or a list of the steps that trained them."""

    revision: ClassVar[int] = 4
    data: StepName
    models: dict[str, Model] = {}
    split: Literal["train", "val", "test"] = "test"
    truth: dict[str, str] = {}
    """Modality -> column of the shards; by default every column with the source `truth`."""
    columns: tuple[str, ...] = ()
    """Label columns to judge; by default all that tell a modality of the truth."""
    pictures: int = Field(4, ge=0)
    """Rows of the collage: samples spread evenly over the split."""
    temporal: Temporal | None = None
    """How steady what is told stays from frame to frame, see stages.evaluate.motion; left out, it is not measured."""
    intervals: Intervals | None = Intervals()
    """Bounds of all figures and differences, see stages.measure.intervals; null for none."""
    seeds: dict[str, tuple[str, ...]] = {}
    """Models that differ in nothing but chance, by the name of their mean: `{joint: [joint0, joint1, joint2]}`. Two
    such families are compared seed by seed, in the order given. A step that trained several is one by itself."""
    slices: tuple[Slice, ...] = ()
    """Parts of the samples of which there are figures too, and whose weakest is said: `[weather@truth, group, {column:
    speed@telemetry, bins: 4}]`, see stages.evaluate.slices."""
    against: tuple[str, ...] = (BEST_EXPERT,)
    """Whom every model, consensus and family of seeds is compared with: subjects, families, or `best_expert`."""
    champion: str = ""
    """The name of a registered model, whose present champion is judged too, as the subject `champion`."""
    batch: int = placement(16, gt=0)
    cpus: float = placement(1.0, gt=0)
    gpus: float = placement(0.0, ge=0)
    """The share of a GPU that a process which asks a model takes; left out, big models get one where there is one
    (`stages.label.share`). Label columns are judged without one."""

    @field_validator("data", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value

    @field_validator("models", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list | tuple):
            value = {name: name for name in value}
        return (
            {k: {"model": v} if isinstance(v, str) else v for k, v in value.items()}
            if isinstance(value, dict)
            else value
        )

    _names = field_validator("against", mode="before")(as_tuple)

    @field_validator("slices", mode="before")
    @classmethod
    def _by_column(cls, value: Any) -> Any:
        return [{"column": one} if isinstance(one, str) else one for one in as_tuple(value)]

    @model_validator(mode="after")
    def _families(self) -> Evaluate:
        if "champion" in self.models:
            raise ValueError("models: `champion` is the name of the registered champion; call it something else")
        for family, members in self.seeds.items():
            unknown = [m for m in members if m not in self.models]
            if unknown or not members or family in self.models:
                what = f"{', '.join(unknown)} is no model" if unknown else "give it models, and a name of its own"
                raise ValueError(f"seeds: {family}: {what}; the models are {', '.join(self.models) or 'none'}")
        return self

    @model_validator(mode="after")
    def _columns(self) -> Evaluate:
        try:
            for modality, column in self.truth.items():
                if modality_of(column) != modality:
                    raise ValueError(f"truth: {column!r} is no column of the modality {modality!r}")
            for column in self.columns:
                if self.truth and modality_of(column) not in self.truth:
                    raise ValueError(f"columns: {column!r} has no truth to be judged by")
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return self

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        edges = any(one.rounded for one in self.slices)  # they were compared in more digits than numbers are stored in
        pooled = self.pooled_boxes(modalities) if any(one.several for one in self.models.values()) else {}
        judged = [kind for name, kind in modalities.items() if name in self.truth or not self.truth]
        # whoever left samples out was compared by easier ones
        of_answers = any(kind.metric in measure_of(kind).of_answers for kind in judged)
        exact = _overlaps(judged)
        # samples without a value were among those of a class that is called unknown
        sliced = defined(modalities, (one.column for one in self.slices if one.column != GROUP))
        unknown = any(UNKNOWN in kind.counted for kind in sliced)
        # equal numbers at the edge of bins were all above it, the smallest in the third of four bins
        binned = defined(modalities, (one.column for one in self.slices if one.column != GROUP and not one.edges))
        ties = any(kind.plain_numbers for kind in binned)
        changed = {"edges": edges, "in common": of_answers, "no value": unknown, "ties": ties}
        return {**pooled, **exact, **{name: 2 for name, concerned in changed.items() if concerned}}

    def pooled_boxes(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """Rows of boxes of several networks were averaged row by row, other objects' with each other."""
        judged = [kind for name, kind in modalities.items() if name in self.truth or not self.truth]
        boxes = any(kind.markup == "boxes" for kind in judged)
        return {"pooled boxes": 2} if boxes else {}

    def figures(self, manifest: Manifest) -> dict[str, float]:
        return decisive(Judged.from_manifest(manifest).verdict)

    def uses(self) -> set[str]:
        return {*self.truth, *(modality_of(c) for c in self.columns)}

    def check(self, step: StepCheck) -> ReportSchema:
        return checked(self, step)

    def units(self, step: StepRun, rival: Rival | None = None) -> tuple[list[Unit], dict[str, Worker]]:
        """`rival`: the champion, read once a run, since it may change meanwhile."""
        from hyperloom.stages.evaluate.cost import COST, CostWorker
        from hyperloom.stages.evaluate.rival import CHAMPION, RivalJudge
        from hyperloom.stages.evaluate.worker import Evaluation, Judge, ModelJudge
        from hyperloom.stages.network.stored import weight_bytes

        recheck(step)
        shards, truth = step.inputs[self.data], self._truth(step)
        columns, shown, inputs = self._judged(step, truth), self._raw(step, truth), JudgedInputs(shards, self.split)
        spaces = {"columns": self._space(step, truth, {"columns": list(columns), "shown": list(shown)})}
        resources = Resources(self.cpus)
        task = Evaluation(step.storage, step.modalities, truth, self._temporal(step), self.batch)
        workers: dict[str, Worker] = {"columns": Judge(task, columns, shown, resources)}
        models = self.candidates(step)
        for name, one in models.items():
            manifest, ensemble = step.inputs[one.model.model], one.model.ensemble
            how = payload(one.model, lambda n: step.inputs[n].fingerprint)
            apart = self._apart(step, one.model, inputs)
            bound = ensemble.bind(step.inputs) if ensemble else None
            spaces[name] = self._space(step, truth, {"model": how, "name": name, **apart})
            asking = self._asking(step, weight_bytes(manifest, one.member))
            asks = (manifest.stage, manifest.fingerprint), self._inputs(step, manifest), bound
            given = (task, name, *asks, step.events.run, asking, one.member, self._unasked)
            workers |= {f"model {name}": ModelJudge(*given), f"cost {name}": CostWorker(*given)}
        units = [Unit(f"{spaces[name]}{COST}", "cost", f"cost {name}", {"step": step.name}) for name in models]
        if rival is not None and rival.meanings:
            brought = {m: [list(how.places), how.factor] for m, how in rival.meanings.items() if how}
            who = {"release": rival.release, **({"brought": brought} if brought else {})}
            spaces[CHAMPION] = self._space(step, truth, who | marked(inputs.lacking([rival.column])))
            asks = ("release", rival.release), (rival.column,), None
            judge = RivalJudge(task, CHAMPION, *asks, step.events.run, resources, folder=rival.folder, rival=rival)
            workers[f"model {CHAMPION}"] = judge
        for subject, space in spaces.items():
            for path, digest, chosen, before in self._shards(shards):
                inside = {"path": path, "pictures": chosen, "step": step.name, "before": before}
                worker = subject if subject == "columns" else f"model {subject}"
                identity = [digest, chosen, *([before] if before else [])]
                units.append(Unit(space, fingerprint(identity)[:16], worker, inside))
        return units, workers

    def _apart(self, step: StepRun, model: Model, inputs: JudgedInputs) -> dict[str, Any]:
        """What tells a model's figures from those of before."""
        pooled = self.pooled_boxes(step.modalities) if model.several else {}
        return pooled | inputs.marked([step.inputs[name] for name in step_refs(model)], model.ensemble)

    @property
    def _unasked(self) -> bool:
        """Does the recipe say nothing of GPUs?"""
        return "gpus" not in self.model_fields_set

    def _asking(self, step: StepRun, weights: int) -> Resources:
        """What a process takes that asks a model with weights of so many bytes."""
        from hyperloom.stages.label.share import share

        if not self._unasked:
            return Resources(self.cpus, self.gpus)
        return Resources(self.cpus, share(weights, step.gpus))

    def run(self, step: StepRun) -> Judged:
        from hyperloom.stages.evaluate.report import Report
        from hyperloom.stages.evaluate.rival import CHAMPION

        rival = self._rival(step)
        units, workers = self.units(step, rival)
        step.records = step.run_units(units, workers)
        met = [CHAMPION] if rival and rival.meanings else []
        judged = results(units, step.records, [*self.candidates(step), *met])
        report = Report(step, self, self._truth(step), self._subjects(step, rival), judged, costs(units, step.records))
        report.pictures(self._raw(step, self._truth(step)))
        spaces = {u.worker.removeprefix("model "): u.space for u in units if not u.worker.startswith("cost ")}
        return report.judged(rival, spaces)

    def candidates(self, step: StepRun) -> dict[str, Candidate]:
        """The models that are judged, by name; each member of a family by itself."""
        return candidates(self.models, lambda name: Trained.from_manifest(step.inputs[name]).names)

    # -- what is judged --------------------------------------------------------------------------------------------
    def _truth(self, step: StepRun) -> dict[str, str]:
        """Modality -> truth column."""
        return truth_of(self, _schema(step.inputs[self.data]))

    def _judged(self, step: StepRun, truth: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(self.columns or judged(_schema(step.inputs[self.data]), truth))

    def _inputs(self, step: StepRun, manifest: Manifest) -> tuple[str, ...]:
        """Which of a model's inputs the shards have."""
        offered = _schema(step.inputs[self.data])
        return tuple(c for c in Trained.from_manifest(manifest).columns_in if c in offered)

    def _raw(self, step: StepRun, truth: Mapping[str, str]) -> tuple[str, ...]:
        """What the pictures begin with: the images of the shards."""
        offered = sorted(_schema(step.inputs[self.data]))
        return tuple(c for c in offered if step.modalities[modality_of(c)].rgb)

    def _temporal(self, step: StepRun) -> Temporal | None:
        """With its image column filled in."""
        if self.temporal is None:
            return None
        column = self.temporal.image or self._raw(step, self._truth(step))[0]
        return self.temporal.model_copy(update={"image": column})

    def _subjects(self, step: StepRun, rival: Rival | None) -> list[Subject]:
        makers = Shards.from_manifest(step.inputs[self.data]).columns
        columns = self._judged(step, self._truth(step))
        labels = subjects({c: made_by(makers[c].about if c in makers else {}) for c in columns}, self.models)
        from hyperloom.stages.evaluate.rival import CHAMPION

        names = [*self.candidates(step), *([CHAMPION] if rival and rival.meanings else [])]
        return [*labels, *(Subject(name, "model") for name in names)]

    def _rival(self, step: StepRun) -> Rival | None:
        """The champion to judge, with what it can be judged on; None where none is named or stored."""
        from hyperloom.stages.evaluate.rival import rival

        champion = rival(step.storage, self.champion) if self.champion else None
        return champion and champion.beside(step.modalities, self._truth(step), _schema(step.inputs[self.data]))

    def _shards(self, shards: Manifest) -> list[tuple[str, str, list[int], str]]:
        """Path, digest and chosen rows of each shard of the split; and where motion is looked at and the shard goes on
        with a group, the path of the one before, which is named by its content."""
        mine = [s for s in Shards.from_manifest(shards).shards if s.split == self.split and s.rows]
        total = sum(s.rows for s in mine)
        digests = {f.path: f.sha256 for f in shards.all_files()}
        chosen = {int((i + 0.5) * total / self.pictures) for i in range(self.pictures)}
        parts, first, last = [], 0, dict[str, str]()
        for shard in mine:
            rows = [r - first for r in sorted(chosen) if first <= r < first + shard.rows]
            before = last.get(shard.group, "") if self.temporal else ""
            parts.append((shard.path, digests[shard.path], rows, before))
            first, last[shard.group] = first + shard.rows, shard.path
        return parts

    def _space(self, step: StepRun, truth: Mapping[str, str], what: dict[str, Any]) -> str:
        definitions = {m: payload(step.modalities[m]) for m in truth}
        temporal = self._temporal(step)
        seen = {"temporal": payload(temporal)} if temporal else {}
        exact = _overlaps(step.modalities[m] for m in truth)  # units count overlaps, not the step alone
        meaning = {"revision": self.revision, "truth": dict(truth), "modalities": definitions, **exact, **what, **seen}
        return f"score/{fingerprint(meaning)[:SHORT]}"


def _overlaps(judged: Iterable[Any]) -> dict[str, int]:
    """Overlaps of exactly a half (and so on) were taken for less where float32 rounds them so."""
    return {"exact overlaps": 2} if any(kind.measure == "boxes" for kind in judged) else {}


def costs(units: list[Unit], records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """What each model takes, by name: parameters, members, flops (see stages.evaluate.cost)."""
    pairs = zip(units, records, strict=True)
    return {u.worker.removeprefix("cost "): dict(r.meta) for u, r in pairs if u.worker.startswith("cost ")}


def results(units: list[Unit], records: Sequence[Record], models: Iterable[str]) -> dict[str, list[Record]]:
    """Records by what was judged: `columns`, or a model's name; shards in order."""
    grouped: dict[str, list[Record]] = {"columns": [], **{name: [] for name in models}}
    for unit, record in zip(units, records, strict=True):
        if not unit.worker.startswith("cost "):
            grouped[unit.worker.removeprefix("model ")].append(record)
    return grouped


def _schema(shards: Manifest) -> Mapping[str, Any]:
    return Shards.from_manifest(shards).schema
