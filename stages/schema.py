"""Schemas: what steps give, known before they ran, from recipes alone; and the same of steps that did run.

    SamplesSchema      columns over groups of samples (ingest, label, consensus)
    ShardsSchema       joined columns and their splits
    ModelSchema        inputs and tasks of a model
    ReportSchema       who was judged, by what

A stage's `check` takes its inputs' schemas and gives its own. The same check runs once more when a step starts, over
the schemas that its inputs' manifests say (`recheck`), so that a rule has one home and holds for a stage of one's own,
whose schema nobody knew before. Values, statistics and counts of rows are no part of a schema.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fields import step_refs
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.pipeline.planning.check import Listed, Schema, StepCheck
from hyperloom.pipeline.recipes.recipe import Where
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import Partition, Producer, modality_of
from hyperloom.stages.meaning import MeaningsDiffer, translation
from hyperloom.stages.results import Ingested, Judged, Samples, Shards, Trained

MadeBy = Literal["raw", "expert", "consensus", "model", "people"]


@dataclass(frozen=True)
class Column:
    """A column that a step gives: what makes it, and a digest of how, alike where two steps make the same values.
    `models`: identities of the models whose answers it is made of, directly or through other columns."""

    name: str
    made_by: MadeBy
    identity: Callable[[], str]
    models: frozenset[str] = frozenset()
    stored: Mapping[str, Any] = field(default_factory=dict)
    """Its modality as shards that are done say it."""


class Listing(Protocol):
    """The groups of an ingest step's samples, as far as names and containers tell."""

    def groups(self, listed: Listed) -> Sequence[str] | None:
        """Names of the groups; None where only a run can tell."""

    def rows(self, listed: Listed, group: str) -> Iterator[int]:
        """Counts that add up to the samples promised by a group."""

    def unread(self, listed: Listed) -> Collection[str]:
        """Names of groups of which not one sample could be read, as far as a run has told."""


@dataclass(frozen=True)
class SamplesSchema(Schema):
    """`listings`: of each ingest step behind it. `group`: name of the grouping of an ingest step, None otherwise."""

    noun: ClassVar[str] = "samples (ingest, label, consensus)"

    columns: Mapping[str, Column]
    listings: tuple[Listing, ...] = ()
    group: str | None = None
    complete: ClassVar[bool] = True

    @property
    def raw(self) -> bool:
        """Is it of an ingest step, whose samples have an order and become rows?"""
        return self.group is not None


@dataclass(frozen=True)
class ShardsSchema(Schema):
    """`splits`: the splits that may hold rows, None where nobody knows. `most`: the most rows that a split can have,
    counted until they are enough; None where only a run can tell. `complete`: are these all of the columns?"""

    noun: ClassVar[str] = "shards (shard)"

    columns: Mapping[str, Column]
    splits: frozenset[str] | None = None
    most: Callable[[Listed, str, int], int | None] = lambda listed, split, enough: None
    complete: bool = True


@dataclass(frozen=True)
class ModelSchema(Schema):
    """`exported`: does it end in an ONNX file? `identity` tells two models apart. `members`: names of a family's."""

    noun: ClassVar[str] = "a model (train, distill)"

    identity: str
    inputs: tuple[str, ...]
    tasks: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    exported: bool = False
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportSchema(Schema):
    """`models`: name -> identity of the model; `members`: name -> which of a family it is; `judged`: modalities of the
    truth; `subjects`: everybody's name; `experts`: modalities that an expert tells. None where nobody knows it.
    `slices`: by column the values that parts of the samples have, None where only the data tell. `several`: models of
    which several answers were asked and pooled."""

    noun: ClassVar[str] = "a report (evaluate)"

    models: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    judged: frozenset[str] | None = None
    subjects: frozenset[str] | None = None
    experts: frozenset[str] | None = None
    slices: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    several: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Offer:
    """The columns that several inputs offer together. `complete` is False where the schema of one is not known, so that
    a column that is not here may be there."""

    columns: Mapping[str, Column]
    steps: tuple[str, ...]
    complete: bool

    def want(self, step: StepCheck, where: Where, column: str, what: str = "", more: Iterable[str] = ()) -> bool:
        """Is the column offered, here or among `more`? What is certainly not is noted as a mistake."""
        known = {*self.columns, *more}
        if column in self.columns:
            return _as_stored(step, where, self.columns[column])
        if column in known or not self.complete:
            return True
        step.unknown(where, column, f"{what + ': ' if what else ''}{self.named} has no column", known)
        return False

    @property
    def named(self) -> str:
        """The steps, as messages call them."""
        return " + ".join(map(repr, self.steps))


def _as_stored(step: StepCheck, where: Where, column: Column) -> bool:
    """Do shards that are done say the same of a column as the recipe? What they say otherwise is noted."""
    modality = step.modalities.get(modality_of(column.name))
    if modality is None or "type" not in column.stored:
        return True
    stored = plugins.parse("modality", {k: v for k, v in column.stored.items() if k != "modality"})
    try:
        same = not translation(stored.meaning, modality.meaning, ("the shards", "the recipe"))
        why = "its classes or its unit are others in the shards than in the recipe"
    except MeaningsDiffer as error:
        same, why = False, str(error)
    if not same:
        step.mistake(where, f"{column.name}: {why}. Next: let a shard step of this recipe write it")
    return same


def offer(schemas: Mapping[str, SamplesSchema | ShardsSchema | None]) -> Offer:
    """What the steps offer together; None stands for one whose schema is not known."""
    columns = {c: column for schema in schemas.values() if schema for c, column in schema.columns.items()}
    return Offer(columns, tuple(schemas), all(schema is not None and schema.complete for schema in schemas.values()))


def inputs_of(data: tuple[str, ...], step: StepCheck) -> tuple[Offer, dict[str, SamplesSchema | None]]:
    """What the steps under `data` offer, and each one's schema."""
    wrong = len(step.mistakes)
    schemas = {name: step.read(("data", i), name, SamplesSchema) for i, name in enumerate(data)}
    offered = offer(schemas)
    if len(step.mistakes) > wrong:  # what a step of another kind should have offered is not missed once more
        offered = Offer(offered.columns, offered.steps, False)
    return offered, schemas


def defined(column: str, step: StepCheck, where: Where) -> bool:
    """Does the recipe define the column's modality?"""
    name = modality_of(column)
    if name not in step.modalities:
        step.unknown(where, name, f"{column}: the recipe defines no modality", step.modalities)
    return name in step.modalities


def choosing(column: str, step: StepCheck, where: Where, field: str) -> None:
    """Note what is wrong with a column that says which samples count."""
    if defined(column, step, where) and step.modalities[modality_of(column)].shape != (1,):
        what = f"{field}: {column} is not one number a sample"
        step.mistake(where, f"{what}. Next: a scalar, such as the `out` of a select step")


def made_by(about: Mapping[str, Any]) -> MadeBy:
    """Who made a column, from what its maker says; labels of a model that this pipeline trained are the model's."""
    if about.get("kind") == "consensus":
        return "consensus"
    if about.get("kind") == "people":
        return "people"
    expert = about.get("expert")
    return "raw" if not expert else "model" if expert.get("type") == "model" else "expert"


def models_behind(step: StepCheck, config: Any, reads: Iterable[Column | None] = ()) -> frozenset[str]:
    """Identities of the models that `config` asks, and of those behind the columns it reads."""
    named = (step.inputs.get(name) for name in step_refs(config))
    direct = frozenset(schema.identity for schema in named if isinstance(schema, ModelSchema))
    return direct.union(*(column.models for column in reads if column))


def identity(config: Any, modality: Any, reads: Iterable[Column | None] = ()) -> Callable[[], str]:
    """The identity of a column that `config` makes out of `reads`; worked out only when somebody asks."""
    reads = list(reads)

    def worked_out() -> str:
        inputs = [column.identity() if column else "" for column in reads]
        return fingerprint([payload(config, str), payload(modality) if modality else "", inputs])

    return worked_out


# -- of steps that ran -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Counted:
    """The listing of an ingest step that is done."""

    partitions: Sequence[Partition]
    manifest: Manifest

    def groups(self, listed: Listed) -> Sequence[str]:
        return list(dict.fromkeys(p.group for p in self.partitions))

    def rows(self, listed: Listed, group: str) -> Iterator[int]:
        return (p.rows for p in self.partitions if p.group == group)

    def unread(self, listed: Listed) -> Collection[str]:
        return unread(self.manifest)


def unread(manifest: Manifest) -> set[str]:
    """Groups of an ingest step's samples that are in quarantine as a whole."""
    without = {r.meta["group"] for r in manifest.with_quarantine if not r.rows}
    return without - {p.group for p in Ingested.from_manifest(manifest).partitions} if without else without


def schema_of(manifest: Manifest) -> Schema | None:
    """What a step that ran gives; None when its result is none of Hyperloom's kinds."""
    if shards := Shards.of(manifest):
        columns = {c: replace(_column(c, shards.columns.get(c)), stored=m) for c, m in shards.schema.items()}
        return ShardsSchema(columns, frozenset(n for n, size in shards.splits.items() if size.rows))
    if samples := Samples.of(manifest):
        raw = Ingested.of(manifest)
        columns = {c: _column(c, producer) for c, producer in samples.columns.items()}
        counted = (Counted(samples.partitions, manifest),) if raw else ()
        return SamplesSchema(columns, counted, raw.group if raw else None)
    if model := Trained.of(manifest):
        exported = model.onnx is not None
        return ModelSchema(
            manifest.fingerprint,
            tuple(model.columns_in),
            tuple(model.tasks),
            tuple(model.hidden),
            exported,
            model.names,
        )
    if report := Judged.of(manifest):
        judged, subjects = frozenset(report.truth) or None, frozenset([*report.figures, *(report.seeds or {})]) or None
        experts = frozenset(m for m, best in report.best_expert.items() if best) if report.best_expert else None
        several = frozenset(name for name, cost in report.costs.items() if cost.get("members", 1) > 1)
        return ReportSchema(report.models, report.members or {}, judged, subjects, experts, several=several)
    return None


def recheck(step: StepRun) -> None:
    """Check a step over what its inputs' manifests hold, before it does anything. Raises RecipeError."""
    inputs = {name: schema_of(manifest) for name, manifest in step.inputs.items()}
    check = StepCheck(step.name, step.stage, step.modalities, inputs)
    step.stage.check(check)
    listed = Listed(Digests(step.storage), step.inputs)
    for function in check.delayed if not check.mistakes else ():
        function(listed)
    if check.mistakes:
        raise RecipeError("\n".join(f"step {step.name!r}: {message}" for _, message in check.mistakes))


def _column(name: str, producer: Producer | None) -> Column:
    about = producer.about if producer else {}
    models = frozenset(about.get("models", ()))
    return Column(name, made_by(about), lambda: producer.fingerprint if producer else "", models)
