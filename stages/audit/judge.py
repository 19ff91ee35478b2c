"""The judgement: all surveys together, to a score for each sample and the findings.

The table has a row a sample: key, group, split, and in 0..1, where 1 is as it should be, `label` (the lowest over label
columns), `outlier`, `agreement`, `copy` (0 for all copies but the first), `fault`, and `quality`, the lowest of them;
beside them `label:{column}` of each, `like` (what it is a copy of) and `why` (in words).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.stages.audit import copies, labels, spread
from hyperloom.stages.audit.cells import grid
from hyperloom.stages.audit.compared import Compared
from hyperloom.stages.audit.features import SIDE, counts_units, features, ids_dtype
from hyperloom.stages.audit.finding import AuditFinding, far
from hyperloom.stages.audit.labels import Doubt
from hyperloom.stages.audit.survey import AuditQuestions
from hyperloom.stages.audit.surveyed import Surveyed
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.modality import Modality
from hyperloom.stages.table import write_table

SCORES = ("quality", "label", "outlier", "agreement", "copy", "fault")
ACT = "`order: {quality@audit: lowest}, n: 100` in a select step gives the worst to people (`out: quality@audit` here)"


@dataclass
class AuditJudge:
    """A unit's payload: {"surveys": [path], "splits": [split of each]}."""

    questions: AuditQuestions
    modalities: dict[str, Modality]
    rate: float
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        """Nothing is kept."""

    def run(self, unit: Unit, out: Output) -> None:
        import pyarrow as pa

        data = Surveyed(out.storage, unit.payload["surveys"], unit.payload["splits"])
        judged = Judgement(self, data)
        columns: dict[str, Any] = {KEY: pa.array(data.keys, pa.string()), "group": pa.array(data.groups, pa.string())}
        columns["split"] = pa.array(data.splits, pa.string())
        for name, values in judged.scores().items():
            columns[name] = pa.array(values.astype(np.float32))
        columns["like"] = pa.array([data.keys[f] if f != i else "" for i, f in enumerate(judged.first)], pa.string())
        columns["why"] = pa.array(judged.why(), pa.string())
        out.rows = len(data)
        out.meta = {"findings": [f.row() for f in judged.findings()], "balance": judged.table()}
        out.write("parquet", write_table(columns, [pa.field(n, a.type) for n, a in columns.items()]))


class Judgement:
    """All that is said of the samples."""

    def __init__(self, judge: AuditJudge, data: Surveyed):
        self.judge, self.data = judge, data
        none = np.zeros((len(data), 0))
        self.apart, self.place, rows = none, none.astype(np.int64), none.astype(np.float32)
        compared = Compared(rows, np.ones(len(data), bool), False)
        if "feature" in data.names:
            rows = data.whole("feature", np.float32)
            compared = Compared.of(rows, self._widths(), judge.questions.features, data.faults)
            self.apart, self.place = self._nearest(compared)
        signed = data.whole("likeness", np.int8) if "likeness" in data.names else None
        drawn = judge.questions.features[:1] == (judge.questions.picture,)
        thumbs = rows[:, : SIDE * SIDE] if drawn and rows.shape[1] else None
        self.first = copies.sets(data.content, signed, self.apart, self.place, rows.shape[1], thumbs)
        self.alone = spread.loneliness(self.apart) if self.apart.shape[1] else np.full(len(data), np.nan)
        self.differ = {name: data.numbers(f"differ:{name}").astype(np.float64) for name in data.about("differ")}
        self.doubts = [d for c in judge.questions.labels if (d := self._doubt(c, compared)) is not None]

    def _names(self, column: str) -> tuple[str, ...]:
        return tuple(self.judge.modalities[modality_of(column)].counted)

    def _widths(self) -> list[int]:
        """How many numbers the features of each column are."""
        kinds = [self.judge.modalities[modality_of(c)] for c in self.judge.questions.features]
        return [features(k, np.zeros((1, *k.shape), k.dtype), np.ones(1, bool)).shape[1] for k in kinds]

    def _nearest(self, compared: Compared) -> tuple[np.ndarray, np.ndarray]:
        """(N, k) distances and places of the nearest; infinity and -1 of samples without features."""
        from hyperloom.stages.shard.nearest import nearest

        apart, place = nearest(compared.apart, spread.TOGETHER, int(max(1, self.judge.resources.cpus)))
        if compared.present.all():
            return apart, place
        known = np.flatnonzero(compared.present)
        far = np.full((len(compared.rows), apart.shape[1]), np.inf, apart.dtype)
        nobody = np.full(far.shape, -1, np.int64)
        far[known], nobody[known] = apart, np.where(place >= 0, known[np.maximum(place, 0)], -1)
        return far, nobody

    def _doubt(self, column: str, compared: Compared) -> Doubt | None:
        data, names = self.data, self._names(column)
        if f"label:{column}" in data.names and compared.rows.shape[1]:
            return labels.of_classes(data, column, names, compared, self.place)
        if f"marks:{column}" in data.names and compared.rows.shape[1]:
            return labels.of_marks(data, column, names, compared)
        if f"shares:{column}" in data.names:
            size = grid(self.judge.modalities[modality_of(column)].height_width)
            return labels.of_masks(data, column, names, size)
        if f"ids:{column}" in data.names:
            return labels.of_boxes(data, column, names)
        return None

    def scores(self) -> dict[str, np.ndarray]:
        """(N,) each, in 0..1."""
        count = len(self.data)
        ones = np.ones(count)
        own = {f"label:{d.column}": np.round(d.score, 4) for d in self.doubts}
        output = {
            "label": np.fmin.reduce([ones, *own.values()]),
            "outlier": np.where(np.isfinite(self.alone), _fallen(self.alone, self._odd()), 1),
            "agreement": np.fmin.reduce([ones, *(1 - np.clip(self._scaled(n), 0, 1) for n in self.differ)]),
            "copy": (self.first == np.arange(count)).astype(np.float64),
            "fault": np.array([not words for words in self.data.faults], np.float64),
        }
        quality = np.minimum.reduce(list(output.values())) if count else ones
        return {"quality": np.round(quality, 4), **{n: np.round(v, 4) for n, v in output.items()}, **own}

    def _scaled(self, name: str) -> np.ndarray:
        """(N,) differences between sources of a modality: shares as they are, numbers as shares of the largest,
        whatever their unit."""
        differ, kind = self.differ[name], self.judge.modalities[name]
        known = differ[np.isfinite(differ)]
        top = float(known.max()) if len(known) else 0.0
        return np.asarray(np.nan_to_num(differ) / (top or 1.0 if counts_units(kind) else max(top, 1.0)))

    def _odd(self) -> np.ndarray:
        return far(self.alone, float(np.log(spread.ALONE)))

    def why(self) -> list[str]:
        """In words, of what is suspicious."""
        odd = self._odd()
        stated = [[fault] if fault else [] for fault in self.data.faults]
        for doubt in self.doubts:
            for i in np.flatnonzero(doubt.wrong):
                stated[i].append(f"{doubt.column} says {doubt.explain(int(i))}")
        for i in np.flatnonzero(self.first != np.arange(len(self.data))):
            stated[i].append(f"a copy of {self.data.keys[self.first[i]]}")
        for i in np.flatnonzero(odd):
            stated[i].append("like no other")
        return ["; ".join(words) for words in stated]

    def findings(self) -> list[AuditFinding]:
        data, rate, keys = self.data, self.judge.rate, self.data.keys
        stated = [labels.finding(doubt, keys, rate, ACT) for doubt in self.doubts]
        beside = self.judge.questions.beside
        for name, differ in self.differ.items():
            least = 0.0 if counts_units(self.judge.modalities[name]) else spread.DIFFER
            stated.append(spread.disagreement(name, differ, beside[name], keys, least))
        stated += copies.findings(self.first, data.splits, keys)
        stated.append(spread.outliers(self.alone, keys, rate))
        stated += spread.faults(data.faults, keys)
        for column, weights in self._weights().items():
            stated += spread.balance(column, self._names(column), weights, data.splits)[1]
        slices = self._slices()
        stated += [spread.weak(doubt, slices, len(data)) for doubt in self.doubts]
        return [finding for finding in stated if finding is not None]

    def table(self) -> list[dict[str, Any]]:
        """Classes by split."""
        splits = self.data.splits
        return [
            row
            for column, weights in self._weights().items()
            for row in spread.balance(column, self._names(column), weights, splits)[0]
        ]

    def _weights(self) -> dict[str, np.ndarray]:
        """(N, classes) how much of each class a sample has."""
        data, output = self.data, {}
        for column in self.judge.questions.labels:
            classes = len(self._names(column))
            if f"label:{column}" in data.names:
                output[column] = np.eye(classes + 1)[data.numbers(f"label:{column}").astype(np.int64)][:, :classes]
            elif f"marks:{column}" in data.names:
                output[column] = (data.whole(f"marks:{column}", np.uint8) == 1).astype(np.float64)
            elif f"shares:{column}" in data.names:
                parts = [
                    c.reshape(len(c), -1, classes).mean(1) / 255 for c in data.chunks(f"shares:{column}", np.uint8)
                ]
                output[column] = np.concatenate(parts)
            elif f"ids:{column}" in data.names:
                ids = [np.frombuffer(b, ids_dtype(classes)) for b in data.lists(f"ids:{column}")]
                output[column] = np.stack([np.bincount(i, minlength=classes)[:classes] for i in ids]).astype(np.float64)
        return output

    def _slices(self) -> Mapping[str, list[str]]:
        slices: dict[str, list[str]] = {"group": self.data.groups}
        if any(self.data.splits):
            slices["split"] = list(self.data.splits)
        for column in self.judge.questions.labels:
            if f"label:{column}" in self.data.names:
                names = (*self._names(column), "")
                slices[column] = [names[int(i)] for i in self.data.numbers(f"label:{column}")]
        return slices


def _fallen(alone: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """1 in the middle and nearer, below one half for outliers."""
    score = np.exp(-np.maximum(np.nan_to_num(alone), 0))
    return np.where(odd, np.minimum(score, 0.49), np.maximum(score, 0.51))
