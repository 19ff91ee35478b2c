"""Pictures of the worst samples of a finding, each with its labels beside it and, of a copy, what it is a copy of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.audit.finding import AuditFinding
from hyperloom.stages.audit.parts import AuditedData, AuditPart
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.table import read_table

COLUMNS = 4
"""Beside each other."""


def worst(
    storage: Storage, data: AuditedData, findings: Sequence[AuditFinding], modalities: Mapping[str, Any], count: int
) -> dict[str, bytes]:
    """PNG by kind and number of the finding; none of findings that name no samples."""
    from hyperloom.stages.evaluate.collage import collage

    sought = {key for f in findings for key in (*f.worst[:count], *f.beside[:count])}
    if not sought:
        return {}
    columns = _columns(data, findings, modalities)
    places = _places(storage, data.parts, sought)
    drawn: dict[str, bytes] = {}
    for i, finding in enumerate(findings):
        named = [
            (f"{key} = {beside}" if beside else key, key, beside)
            for key, beside in zip(finding.worst[:count], [*finding.beside[:count], *[""] * count], strict=False)
        ]
        rows = []
        for words, key, beside in named:
            rows.append((words, _values(storage, data.parts, places[key], columns, modalities)))
            if beside:
                rows.append((beside, _values(storage, data.parts, places[beside], columns, modalities)))
        if rows and columns:
            drawn[f"{i}-{finding.kind}"] = collage(rows, columns, modalities)
    return drawn


def _columns(data: AuditedData, findings: Sequence[AuditFinding], modalities: Mapping[str, Any]) -> list[str]:
    """Pictures first, then what findings are of, then labels."""
    present = [c for c in data.producers if modality_of(c) in modalities]
    images = [c for c in present if modalities[modality_of(c)].rgb]
    named = [f.subject for f in findings if f.subject in present]
    others = [c for c in present if modalities[modality_of(c)].categorical]
    return list(dict.fromkeys([*images, *named, *others]))[:COLUMNS]


def _places(storage: Storage, parts: Sequence[AuditPart], sought: set[str]) -> dict[str, tuple[int, int]]:
    places: dict[str, tuple[int, int]] = {}
    for i, part in enumerate(parts):
        if sought <= places.keys():
            break
        for row, key in enumerate(read_table(storage, part.keys, [KEY])[KEY].to_pylist()):
            if key in sought:
                places[key] = (i, row)
    return places


def _values(
    storage: Storage,
    parts: Sequence[AuditPart],
    place: tuple[int, int],
    columns: Sequence[str],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    part, row = parts[place[0]], place[1]
    values: dict[str, Any] = {}
    for column in columns:
        if column in part.columns:
            array = read_table(storage, part.columns[column], [column])[column].slice(row, 1)
            decoded, valid = known[modality_of(column)].decode(array.combine_chunks())
            values[column] = decoded[0] if len(valid) and valid[0] else None
    return values
