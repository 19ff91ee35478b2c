"""Samples in a report: the pictures that an evaluation kept, truth, experts and models beside each other.

Where nothing was judged, the first samples of the shards, or of the labels. Only the rows that are shown are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.stages.base import KEY, modality_of, source_of
from hyperloom.stages.data.layer import Layer, layer, scale
from hyperloom.stages.data.reader import SampleReader, values
from hyperloom.stages.legend import legends
from hyperloom.stages.report.page import Gallery, Section, ShownSample, Tile
from hyperloom.stages.report.root import ReportedRoot
from hyperloom.stages.results import Ingested, Judged, Labels, Shards
from hyperloom.stages.table import read_table

MOST = 8
"""Samples of a report."""
WIDEST = 320
"""Pixels."""
FEWEST = 4
"""Samples where nothing was judged."""

SampleValues = dict[str, Any]
"""Column -> value, None where it is missing."""


def samples(root: ReportedRoot) -> Section | None:
    """The section, if there is a sample to show."""
    judged = root.judged()
    rows, truth = ({}, {}) if judged is None else (_judged(root, *judged), judged[1].truth)
    note = "Samples that were judged, chosen evenly over the split."
    if not rows:
        rows, note = _unjudged(root), "The first samples."
    kinds = judged[1].kinds if judged else {}
    shown = [sample(key, row, root.modalities, truth, kinds) for key, row in list(rows.items())[:MOST]]
    if not shown:
        return None
    meant = legends(root.modalities, list(rows.values())[:MOST])
    return Section("samples", "Samples", [Gallery(shown, list(meant.items()))], note)


def sample(
    key: str,
    row: SampleValues,
    modalities: Mapping[str, Any],
    truth: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
    widest: int = WIDEST,
) -> ShownSample:
    """One sample with a tile for each column; numbers of one modality on one scale, that of the truth."""
    columns = ordered(row, modalities, truth or {}, kinds or {})
    base = next((c for c in columns if modalities[modality_of(c)].rgb and row[c] is not None), "")
    picture = layer(row[base], modalities[modality_of(base)], widest=widest) if base else Layer()
    spans: dict[str, tuple[float, float] | None] = {}
    tiles = []
    for column in columns:
        kind, value = modalities[modality_of(column)], row[column]
        if column == base:
            continue
        if value is None:
            tiles.append(Tile(column, words="missing"))
            continue
        name = modality_of(column)
        spans.setdefault(name, scale(value, kind))
        drawn = layer(value, kind, spans[name], widest)
        tiles.append(Tile(column, drawn.mime, drawn.data, drawn.words, drawn.over and bool(base)))
    height, width = np.shape(row[base])[:2] if base else (0, 0)
    return ShownSample(key, tiles, base, picture.mime, picture.data, width, height)


def ordered(
    row: SampleValues, modalities: Mapping[str, Any], truth: Mapping[str, str], kinds: Mapping[str, str]
) -> list[str]:
    """Pictures first, then modality by modality: truth, experts, consensus, models."""
    order = ("expert", "consensus", "model")
    place = {m: i for i, m in enumerate([*truth, *dict.fromkeys(modality_of(c) for c in row)])}

    def rank(column: str) -> tuple[Any, ...]:
        name, source = modality_of(column), source_of(column)
        kind = kinds.get(source, "")
        first = column != truth.get(name, f"{name}@truth")
        return not modalities[name].rgb, place[name], first, order.index(kind) if kind in order else 0

    return sorted((c for c in row if modality_of(c) in modalities), key=rank)


def _judged(root: ReportedRoot, step: PlannedStep, report: Judged) -> dict[str, SampleValues]:
    """What the evaluation kept of its samples, its models' answers among it."""
    rows: dict[str, SampleValues] = {}
    for record in step.manifest.records if step.manifest else ():
        if record.id != "cost" and record.files:
            try:
                _read(root, record, rows)
            except (HyperloomError, OSError, ValueError):
                continue  # one that is gone takes its samples along, no more
    return {key: row for key, row in rows.items() if any(c in row for c in report.truth.values())}


def _read(root: ReportedRoot, record: Record, rows: dict[str, SampleValues]) -> None:
    table = read_table(root.storage, record.file.path if len(record.files) == 1 else record.files[0].path)
    for column in table.column_names:
        if column != KEY and modality_of(column) in root.modalities:
            decoded = values(_joined(table[column]), root.modalities[modality_of(column)])
            for key, value in zip(table[KEY].to_pylist(), decoded, strict=True):
                rows.setdefault(key, {})[column] = value


def _unjudged(root: ReportedRoot) -> dict[str, SampleValues]:
    """The first samples of shards, else of labels or raw data, spread over the groups."""
    for kind in (Shards, Labels, Ingested):
        for step, _ in root.results(kind):
            ingests = [s.manifest for s, _ in root.results(Ingested) if s.manifest]
            try:
                assert step.manifest is not None
                reader = SampleReader(root.storage, step.name, step.manifest, ingests)
                return dict(_first(reader, root.modalities))
            except (HyperloomError, OSError, ValueError):
                continue
    return {}


def _first(reader: SampleReader, modalities: Mapping[str, Any]) -> Iterator[tuple[str, SampleValues]]:
    columns = [c for c in reader.columns if modality_of(c) in modalities]
    for part in reader.head(FEWEST):
        decoded = {c: values(part.columns[c], modalities[modality_of(c)]) for c in columns}
        yield from ((key, {c: decoded[c][i] for c in columns}) for i, key in enumerate(part.keys))


def _joined(chunked: Any) -> Any:
    import pyarrow as pa

    return chunked.chunk(0) if chunked.num_chunks == 1 else pa.concat_arrays(chunked.chunks)


def lightest(shown: Sequence[ShownSample], most: int) -> list[ShownSample]:
    """As many of the samples, from the first on, as `most` bytes hold."""
    kept, total = [], 0
    for one in shown:
        total += one.bytes
        if total > most:
            break
        kept.append(one)
    return kept
