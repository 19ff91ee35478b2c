"""Looking at samples: a table of the first rows, figures of each column, a picture with one row a sample.

Numbers here are for people; what training uses are the statistics that sharding counted (`stages.shard.statistics`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.counting import figure, share
from hyperloom.stages.base import KEY, TRUTH, modality_of, source_of
from hyperloom.stages.data.reader import SampleReader, SampleRows, modality, values
from hyperloom.stages.data.shelf import Shelf
from hyperloom.stages.data.students import StudentAnswers
from hyperloom.stages.results import Shards
from hyperloom.stages.shard.statistics import class_shares

LONGEST = 40
"""Characters of a text shown in a cell."""


def head(rows: Iterable[SampleRows], modalities: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a sample: key, group, index, and for each column its value, or what it is like when it is an array."""
    samples = []
    for part in rows:
        cells = {c: [_cell(v) for v in _plain(a, modality(c, modalities))] for c, a in part.columns.items()}
        for i, key in enumerate(part.keys):
            names = {"key": key, "group": part.groups[i], "index": part.index[i]}
            samples.append({**names, **{c: cells[c][i] for c in part.columns}})
    return samples


def statistics(manifest: Manifest, reader: SampleReader, modalities: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a column: type, rows, share missing, mean, standard deviation, least, largest, most frequent classes.

    Of a shard step they are those of its training split; of other steps they are counted now, which reads all of it.
    """
    shards = Shards.of(manifest)
    counted = shards.statistics if shards else _counted(reader, modalities)
    rows = []
    for column in reader.columns:
        figures = counted.get(column, {})
        row = {"column": column, "type": modality(column, modalities).type, "rows": figures.get("rows", 0)}
        row["missing"] = share(figures.get("missing", 0.0))
        for name in ("mean", "std", "min", "max"):
            row[name] = _numbers(figures.get(name))
        row["classes"] = _shares(class_shares(modality(column, modalities), figures))
        rows.append(row)
    return rows


def picture(rows: Iterable[SampleRows], modalities: dict[str, Any]) -> bytes:
    """PNG bytes: a row for each sample, a column for each modality@source."""
    from hyperloom.stages.evaluate.collage import collage

    shown: list[tuple[str, dict[str, Any]]] = []
    columns: tuple[str, ...] = ()
    for part in rows:
        columns = tuple(part.columns)
        decoded = {c: values(a, modality(c, modalities)) for c, a in part.columns.items()}
        shown += [(key, {c: decoded[c][i] for c in columns}) for i, key in enumerate(part.keys)]
    return collage(shown, columns, modalities)


def across(shelf: Shelf, students: StudentAnswers, columns: Sequence[str], rows: range) -> bytes:
    """PNG bytes: a row for each sample of the shelf, with columns of whatever steps."""
    from hyperloom.stages.evaluate.collage import collage

    shown = []
    for row in rows:
        number, place = shelf.place(row)
        keys = shelf.names(number)[KEY]
        if place < len(keys):
            mine = {c: students.value(c, row) if c in students.columns else shelf.value(c, row) for c in columns}
            shown.append((keys[place], mine))
    return collage(shown, columns, shelf.modalities)


def beside(shelf: Shelf, students: StudentAnswers, own: Sequence[str]) -> list[str]:
    """The columns `own` of a step with what belongs beside them: the pictures before, and of the same modalities what
    other steps say: truth, experts, models."""
    every = [*shelf.columns, *students.columns]
    pictures = [c for c in every if shelf.modalities[modality_of(c)].rgb]
    kinds = dict.fromkeys(modality_of(c) for c in own if c not in pictures)
    rest = [c for name in kinds for c in every if modality_of(c) == name]
    return [*pictures, *sorted(rest, key=lambda c: (list(kinds).index(modality_of(c)), source_of(c) != TRUTH))]


def _counted(reader: SampleReader, modalities: dict[str, Any]) -> dict[str, Any]:
    from hyperloom.stages.shard.statistics import ColumnCounter, merged

    kinds = {c: modality(c, modalities) for c in reader.columns}
    tallies = {c: ColumnCounter(kind) for c, kind in kinds.items()}
    for part in reader:
        for column, array in part.columns.items():
            if array.null_count == len(array):
                tallies[column].rows += len(array)
                tallies[column].missing += len(array)
            else:
                tallies[column].add(*kinds[column].unpack(array))
    return {c: merged(kind, [tallies[c].figures()]) for c, kind in kinds.items()}


def _plain(array: Any, kind: Any) -> list[Any]:
    """Values that a cell can show: Arrow's own where they are text or numbers, else decoded arrays."""
    import pyarrow as pa

    binary = pa.types.is_fixed_size_binary(array.type) or pa.types.is_binary(array.type)
    return values(array, kind) if binary else array.to_pylist()


def _cell(value: Any) -> Any:
    import numpy as np

    if value is None:
        return "-"
    if isinstance(value, float):
        return value
    if not isinstance(value, np.ndarray):
        text = str(value)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    if value.size <= 4:
        return " ".join(map(figure, value.reshape(-1).tolist()))
    shape = "x".join(map(str, value.shape))
    known = value[np.isfinite(value)]
    return f"{shape} {value.dtype} {figure(known.min())}..{figure(known.max())}" if known.size else f"{shape} unknown"


def _numbers(counts: Any) -> str:
    listed = counts if isinstance(counts, list) else [] if counts is None else [counts]
    shown = " ".join(map(figure, listed[:4]))
    return shown + (" …" if len(listed) > 4 else "")


def _shares(shares: dict[str, float]) -> str:
    """The most frequent classes with their shares."""
    ordered = sorted(((name, one) for name, one in shares.items() if one), key=lambda item: -item[1])
    return " ".join(f"{name} {share(one)}" for name, one in ordered[:4]) + (" …" if len(ordered) > 4 else "")
