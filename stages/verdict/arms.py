"""Arms: what reports hold of a subject, figure by figure, with the draws of its samples.

A report is a fold. Its statistics of single samples lie in sheets (stages.measure.sheet), so draws are made from them
here, with the weights that the report itself used: two reports over the same samples meet the same draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.measure.intervals import Intervals, Sheets
from hyperloom.stages.measure.measure import directions, measure_of
from hyperloom.stages.results import Judged
from hyperloom.stages.verdict.bootstrap import Arm


class Reports:
    """The reports of all folds. `modalities`: by name, of the figures that are asked for."""

    def __init__(self, storage: Storage, reports: Mapping[str, Manifest], modalities: Mapping[str, Any]):
        self.storage, self.modalities = storage, modalities
        self.remarks: list[str] = []
        """Where only a part of the samples was compared."""
        self.folds = {name: _Fold(name, manifest) for name, manifest in reports.items()}
        settings = {name: fold.intervals for name, fold in self.folds.items()}
        if len({(i.draws, i.level, i.over, i.block, i.seed) for i in settings.values()}) > 1:
            raise RecipeError(
                f"the reports {', '.join(settings)} have different `intervals:`. Next: give them the same"
            )

    @property
    def samples(self) -> int:
        return sum(fold.judged.samples for fold in self.folds.values())

    def sign(self, figure: str) -> int:
        """1 where a higher figure is better, -1 where a lower one is."""
        modality, _, measure = figure.rpartition(".")
        return 1 if directions(self.modalities[modality])[measure] else -1

    def arms(self, subjects: Sequence[str], figure: str) -> list[Arm]:
        """The subjects in all folds; by a figure that only counts answers, on the samples that all of them answered.
        Raises RecipeError where a report does not know one, or not by that figure, or they have none in common."""
        values: dict[str, list[list[float]]] = {subject: [] for subject in subjects}
        draws: dict[str, list[list[np.ndarray]]] = {subject: [] for subject in subjects}
        for fold in self.folds.values():
            members = {subject: fold.members(subject) for subject in subjects}
            common = self._common(fold, [m for each in members.values() for m in each], figure)
            for subject, each in members.items():
                measured = [self._measured(fold, member, figure, common) for member in each]
                values[subject].append([value for value, _ in measured])
                draws[subject].append([drawn for _, drawn in measured])
        for subject in subjects:
            if len({len(seeds) for seeds in values[subject]}) > 1:
                raise RecipeError(f"{subject!r} has not as many seeds in one report as in another. Next: train as many")
        return [Arm(subject, np.array(values[subject]), np.array(draws[subject])) for subject in subjects]

    def _common(self, fold: _Fold, members: Sequence[str], figure: str) -> set[str] | None:
        """Keys of the samples that count; None for all of them."""
        modality, _, measure = figure.rpartition(".")
        figures = [fold.judged.figures[member] for member in members]
        whole = all(one.get(f"{modality}.coverage") == 1 for one in figures)
        kind = self.modalities[modality]
        if whole or measure not in measure_of(kind).of_answers:
            return None
        sheets = [fold.sheets(member, modality) for member in members]
        answered = [Sheets(fold.intervals, self.storage, records).answered(label, kind) for label, records in sheets]
        common = set.intersection(*answered)
        if all(each == common for each in answered):
            return None
        if not common:
            raise RecipeError(f"the report {fold.name!r} has no sample that all of {', '.join(members)} answer")
        who, count = " and ".join(dict.fromkeys(members)), f"{len(common)} of {fold.judged.samples}"
        self.remarks.append(f"{fold.name}: {figure} of {who} on the {count} samples that all of them answer")
        return common

    def _measured(self, fold: _Fold, member: str, figure: str, common: set[str] | None) -> tuple[float, np.ndarray]:
        """The figure of a member, and its draws."""
        modality, _, measure = figure.rpartition(".")
        value = fold.value(member, figure)
        label, records = fold.sheets(member, modality)
        sheets, names = Sheets(fold.intervals, self.storage, records), {label: (modality, self.modalities[modality])}
        if common is not None:
            figures = sheets.figures(names, common)
            if figure not in figures:
                raise RecipeError(
                    f"the report {fold.name!r} has no {figure} of {member!r} on the samples that all answer"
                )
            value = figures[figure]
        drawn = sheets.draws(names, common)
        return value, drawn.get(f"{modality}.{measure}", np.full(fold.intervals.draws, np.nan))


class _Fold:
    """One report."""

    def __init__(self, name: str, manifest: Manifest):
        self.name, self.manifest, self.judged = name, manifest, Judged.from_manifest(manifest)
        self.config = manifest.payload.get("config", {})
        self.intervals = Intervals.model_validate(self.config.get("intervals", {}))

    def members(self, subject: str) -> list[str]:
        """The subjects that a name means: itself, or the members of a family, in order."""
        judged = self.judged
        if subject in judged.figures:
            return [subject]
        named = self.config.get("seeds", {}).get(subject, [subject])
        members = [m for name in named for m in self._of(name)]
        if not members:
            known = ", ".join(sorted({*judged.figures, *self.config.get("seeds", {})}))
            raise RecipeError(f"the report {self.name!r} knows no {subject!r}; it knows {known}")
        return members

    def _of(self, name: str) -> list[str]:
        own = [who for who, member in (self.judged.members or {}).items() if who == f"{name} {member}"]
        return own or [name] * (name in self.judged.figures)

    def value(self, member: str, figure: str) -> float:
        figures = self.judged.figures[member]
        if figure not in figures:
            raise RecipeError(f"the report {self.name!r} has no {figure} of {member!r}; it has {', '.join(figures)}")
        return figures[figure]

    def sheets(self, member: str, modality: str) -> tuple[str, Sequence[Any]]:
        """What a subject's sheets call a modality, and the records that have them."""
        model = self.judged.kinds[member] == "model" and member in self.judged.sheets
        space = self.judged.sheets[member if model else "columns"]
        label = modality if model else f"{modality}@{member.removesuffix(' labels')}"
        return label, [record for record in self.manifest.records if record.space == space]
