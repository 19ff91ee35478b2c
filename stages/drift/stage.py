"""The drift stage: do newer samples differ from those that the champion learned from?

    drift: {stage: drift, data: shards, champion: hyperloom-aerial}
    drift: {stage: drift, data: shards, against: golden, thresholds: {js: 0.15}, chance: 0.01}

It compares the statistics that the shards were written with, those of the shards that are new against those of the
training split behind the champion (or of another shard step), and reads no data but the few samples that it shows. An
alarm is a line, a tag and figures, never a failure: what follows from it is for the schedule to say (`on: drift`).
The champion is a fact of the step: after a promotion it compares anew. Without a champion it says so and passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.config import StepName
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.spelling import near
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages import champion as champions
from hyperloom.stages.base import modality_of
from hyperloom.stages.drift.reference import Side, newer, of_champion, reordered, training
from hyperloom.stages.results import Drifted, Shards
from hyperloom.stages.schema import ShardsSchema, recheck

PICTURE = "moved.png"
MEASURES = ("agreement", "js", "ks", "missing", "psi", "quarantine", "shift")


class Drift(Stage):
    """`data`: a shard step. Either `champion`, the name of a registered model, or `against`, another shard step."""

    revision: ClassVar[int] = 2
    data: StepName
    champion: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")
    against: StepName | None = None
    columns: tuple[str, ...] = ()
    """What to compare; by default all columns that both sides have."""
    thresholds: dict[str, float] = {}
    """By measure what is allowed, see docs/drift.md: psi .25, ks .2, js .1, shift .5, missing .1, agreement .1,
    quarantine .05."""
    chance: float = Field(0.05, gt=0, le=1)
    """How often unchanged data may give an alarm, where there are groups enough to tell."""
    least: int = Field(50, ge=1)
    """With fewer newer samples nothing is compared."""
    pictures: int = Field(6, ge=0)
    """How many of the samples that moved most are shown."""

    @field_validator("thresholds")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        for name, threshold in value.items():
            if name not in MEASURES:
                raise ValueError(f"no measure {name!r}{near(name, MEASURES) or '; known: ' + ', '.join(MEASURES)}")
            if threshold <= 0:
                raise ValueError(f"{name}: {threshold:g} would always be reached; give a number above 0")
        return value

    @model_validator(mode="after")
    def _one_reference(self) -> Drift:
        if bool(self.champion) == bool(self.against):
            raise ValueError("give either champion: the name of a release, or against: another shard step")
        return self

    def uses(self) -> set[str]:
        return {modality_of(column) for column in self.columns}

    def facts(self, digests: Digests) -> dict[str, Any]:
        champion = champions.current(digests.storage, self.champion) if self.champion else None
        return {"champion": champion.release} if champion else {}

    def figures(self, manifest: Manifest) -> dict[str, float]:
        return _alarm(Drifted.from_manifest(manifest).alarm)

    def check(self, step: StepCheck) -> None:
        sides = [("data", self.data), *([("against", self.against)] if self.against else [])]
        for where, name in sides:
            shards = step.read((where,), name, ShardsSchema)
            for i, column in enumerate(self.columns):
                if shards is not None and shards.complete and column not in shards.columns:
                    step.unknown(("columns", i), column, f"{name!r} has no column", shards.columns)

    def run(self, step: StepRun) -> Drifted:
        recheck(step)
        release = self._release(step)
        if self.champion and release is None:
            return _passed(step, f"there is no champion of {self.champion} yet: nothing to compare with", first=True)
        manifest = step.inputs[self.data]
        reference = self._reference(step, manifest, release)
        if reference is None:
            return _passed(step, f"the shards behind the champion of {self.champion} are gone: nothing to compare with")
        before = training(reference)
        columns, other, places = self._columns(Shards.from_manifest(manifest), before.shards)
        new = newer(manifest, reference, columns, places)
        known: dict[str, Any] = {"reference": reference.fingerprint, "champion": release, "rows": new.rows}
        if new.rows < self.least:
            what = f"{new.rows} samples are new" if new.rows else "no sample is new"
            return _passed(step, f"{what}: nothing is compared with fewer than {self.least}", **known)
        if self.columns and other:
            what = "not the same in the shards that they would be compared with"
            raise RecipeError(f"step {step.name!r}: {what}: {'; '.join(other)}")
        before = before.reordered(places) if places else before
        return self._compared(step, before, new, columns, other, known)

    def _release(self, step: StepRun) -> str | None:
        """The release of the champion that the plan saw."""
        if facts := step.meaning.get("facts"):
            return str(facts["champion"])
        champion = champions.current(step.storage, self.champion) if self.champion and not step.meaning else None
        return champion.release if champion else None

    def _reference(self, step: StepRun, manifest: Manifest, release: str | None) -> Manifest | None:
        if self.against:
            return step.inputs[self.against]
        columns = self.columns or tuple(Shards.from_manifest(manifest).schema)
        return of_champion(step.storage, str(release), columns)

    def _columns(self, now: Shards, before: Shards) -> tuple[list[str], list[str], dict[str, Sequence[int]]]:
        """Columns that both sides have alike; in words, those that they do not; and of those whose classes had another
        order before where each of these is now."""
        mine, theirs = now.schema, before.schema
        compared_columns = self.columns or tuple(sorted({*mine, *theirs}))
        alike, other = [], []
        places: dict[str, Sequence[int]] = {}
        for column in compared_columns:
            if column in mine and mine[column] == theirs.get(column):
                alike.append(column)
            elif isinstance(how := reordered(mine.get(column), theirs.get(column)), str):
                other.append(f"{column} ({how})" if how else column)
            else:
                alike.append(column)
                places[column] = how
        return alike, other, places

    def _compared(
        self, step: StepRun, before: Side, new: Side, columns: list[str], other: list[str], known: dict[str, Any]
    ) -> Drifted:
        from hyperloom.stages.drift.compare import compared

        missing = [m for c in columns if (m := modality_of(c)) not in step.modalities]
        if missing:
            raise RecipeError(f"step {step.name!r}: the recipe defines no modality {missing[0]!r}")
        settings = (columns, step.modalities, self.thresholds, self.chance)
        findings = compared(step.storage, before, new, *settings)
        alarms = [f for f in findings if f.alarm]
        reasons = [str(f) for f in alarms] or [f"{len(findings)} figures of {new.rows} newer samples are as before"]
        if other:
            reasons.append(f"not compared, as only one side has them so: {'; '.join(other)}")
        if findings and findings[0].chance is None:
            reasons.append(
                f"{len(new.records)} newer groups and {len(before.records)} before are too few to tell chance"
            )
        self._show(step, before, new, findings, columns)
        figures: dict[str, dict[str, Any]] = {}
        for f in findings:
            row = {"value": f.value, "threshold": f.threshold, "chance": f.chance, "alarm": f.alarm}
            figures.setdefault(f.subject, {})[f.measure] = row
        _tell(step, bool(alarms), reasons)
        return Drifted(bool(alarms), True, False, reasons, figures, groups=sorted(new.records), **known)

    def _show(self, step: StepRun, before: Side, new: Side, findings: Sequence[Any], columns: list[str]) -> None:
        """Table, figures, and a picture of the samples that moved most."""
        from hyperloom.stages.drift import moved

        rows = [
            {"subject": f.subject, "measure": f.measure, "value": f.value, "allowed": f.threshold, "chance": f.chance,
             "alarm": f.alarm}
            for f in findings
        ]  # fmt: skip
        step.events.emit("table", step.name, name="drift", rows=rows)
        step.events.metric(step.name, {f"{f.measure}/{f.subject}": f.value for f in findings})
        columns = [c for c in columns if c not in before.turned]  # their files are read in the order of the recipe
        by_column = list(dict.fromkeys(f.subject for f in findings if f.subject in columns))
        rows_moved = moved.moved(before, new, by_column[: moved.SHOWN], step.modalities, self.pictures)
        if rows_moved:
            shown = moved.shown(findings, columns, step.modalities)
            drawn = moved.picture(step.storage, rows_moved, moved.middle(before), shown, step.modalities)
            step.events.emit("artifact", step.name, path=step.write(PICTURE, drawn).path, to="pictures")


def _passed(step: StepRun, reason: str, first: bool = False, **known: Any) -> Drifted:
    _tell(step, False, [reason])
    return Drifted(False, False, first, [reason], **known)


def _tell(step: StepRun, alarm: bool, reasons: Sequence[str]) -> None:
    """One line, a tag of the step and of the run, and a figure of both."""
    line = f"{'DRIFT' if alarm else 'no drift'}: {'; '.join(reasons)}"
    step.events.emit("note", step.name, text=line)
    for where in (step.name, ""):
        step.events.emit("tag", where, values={"drift": line})
        step.events.metric(where, _alarm(alarm), by=step.name)
    step.events.flush()


def _alarm(alarm: bool) -> dict[str, float]:
    return {"drift.alarm": float(alarm)}
