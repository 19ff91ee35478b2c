"""What the data are like and what was left out of them: splits, statistics of columns, remarks, quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from hyperloom.pipeline.commits.units import left_out
from hyperloom.pipeline.counting import counted as times
from hyperloom.pipeline.counting import share
from hyperloom.pipeline.output import remarking
from hyperloom.stages.base import modality_of
from hyperloom.stages.report.page import Bars, PageTable, Section, Words
from hyperloom.stages.report.root import ReportedRoot
from hyperloom.stages.results import Ingested, Labels, Shards
from hyperloom.stages.shard.statistics import class_shares

LOOKED_AT = 300
"""Units with samples in quarantine whose lists are read."""
MOST_ERRORS, EXAMPLES = 20, 3
MOST_BARS, MOST_CHARTS = 12, 24
MOST_CHANNELS = 8
"""Channels with names of which each has a line; of columns with more, or without names, one line has the first."""
UNNAMED = 3


def data(root: ReportedRoot) -> Section | None:
    """Splits, and of each column of the shards what is missing, its numbers or its classes."""
    blocks: list[Any] = []
    remarks: dict[str, None] = {}
    for step, shards in root.results(Shards):
        sizes: list[list[Any]] = [
            [name, s.rows, len(s.groups), s.shards] for name, s in shards.splits.items() if s.rows
        ]
        blocks.append(PageTable(["split", "samples", "groups", "shards"], sizes, f"{step.name}: splits"))
        blocks.append(_columns(step.name, shards, root.modalities))
        remarks |= dict.fromkeys(shards.remarks)
    charts = {
        column: chart
        for _, shards in root.results(Shards)
        for column in shards.statistics
        if (chart := _chart(column, shards, root.modalities.get(modality_of(column))))
    }
    blocks += list(charts.values())[:MOST_CHARTS]
    named = [(step.name, result.remarks) for step, result in root.results(Ingested)]
    named += [(step.name, result.remarks) for step, result in root.results(Labels)]
    remarks |= dict.fromkeys(
        remarking.lines((name, text) for name, texts in named for text in texts if text not in remarks)
    )
    if remarks:
        blocks.insert(0, Words(list(remarks), "bad"))
    if not blocks:
        blocks = _raw(root)
    return Section("data", "Data", blocks) if blocks else None


def quarantine(root: ReportedRoot) -> Section | None:
    """Samples left out, by step and error, with examples."""
    errors: dict[tuple[str, str], list[str]] = {}
    counted: Counter[tuple[str, str]] = Counter()
    total = 0
    for number, (step, unit, count, known) in enumerate(_left_out(root)):
        total += count
        if number >= LOOKED_AT:
            continue
        space, _, id_ = unit.rpartition("/")
        gone = known and not root.storage.exists(f"{space}/quarantine/{id_}.json")  # it was taken back
        for sample in known if gone else left_out(root.storage, space, id_):
            where = step, str(sample.get("error", ""))[:300]
            counted[where] += 1
            errors.setdefault(where, []).append(str(sample.get("key", "?")))
    if not counted:
        return None
    rows: list[list[Any]] = [
        [step, error, count, ", ".join(errors[step, error][:EXAMPLES])]
        for (step, error), count in counted.most_common(MOST_ERRORS)
    ]
    more = "" if len(counted) <= MOST_ERRORS else f", the {MOST_ERRORS} most frequent of {len(counted)} errors"
    some = f"; these are the errors of {counted.total():,} of them" if counted.total() < total else ""
    note = f"{times(total, 'sample')} {'was' if total == 1 else 'were'} left out{more}{some}. "
    note += "hyperloom failed --replay tries them again."
    return Section("quarantine", "Quarantine", [PageTable(["step", "error", "samples", "such as"], rows)], note)


def _left_out(root: ReportedRoot) -> Iterator[tuple[str, str, int, list[dict[str, Any]]]]:
    """Step, unit and number of samples of each unit with quarantine, and those of the samples that events name; of a
    step that is not done, and may have failed for them, by its events."""
    for step in root.steps:
        if step.manifest is not None:
            for record in step.manifest.with_quarantine:
                yield step.name, f"{record.space}/{record.id}", record.quarantined, []
        else:
            for unit, (count, samples) in root.history(step).left_out.items():
                yield step.name, unit, count, samples


def _columns(name: str, shards: Shards, modalities: Mapping[str, Any]) -> PageTable:
    rows: list[list[Any]] = []
    for column, figures in shards.statistics.items():
        kind = modalities.get(modality_of(column))
        about = [column, str(shards.schema.get(column, {}).get("type", "")), figures.get("rows")]
        about += [share(figures.get("missing", 0))]
        channels = _channels(figures)
        names = kind.channel_names if kind is not None else ()
        if 1 < len(channels) == len(names) <= MOST_CHANNELS:
            lines = zip(names, channels, strict=True)
            rows += [[*([None] * 4 if i else about), called, *line] for i, (called, line) in enumerate(lines)]
        else:
            more = " …" if len(channels) > UNNAMED else ""
            shown = zip(*channels[:UNNAMED], strict=True) if channels else ([""],) * 3
            rows.append([*about, None, *(", ".join(texts) + more for texts in shown)])
    columns = ["column", "type", "rows", "missing", "channel", "mean", "deviation", "range"]
    kept = [i for i, column in enumerate(columns) if column != "channel" or any(row[i] for row in rows)]
    rows = [[row[i] for i in kept] for row in rows]
    return PageTable([columns[i] for i in kept], rows, f"{name}: columns, in the training split")


def _channels(figures: Mapping[str, Any]) -> list[list[str]]:
    """Of each channel its mean, deviation and range; none where a column has no numbers."""
    mean, deviation, low, high = (_listed(figures.get(k)) for k in ("mean", "std", "min", "max"))
    lines = zip_longest(mean, deviation, low, high)
    return [[_number(m), _number(d), " to ".join(filter(None, (_number(a), _number(b))))] for m, d, a, b in lines]


def _chart(column: str, shards: Shards, kind: Any) -> Bars | None:
    """The classes of a column, or how its numbers are spread."""
    figures: Mapping[str, Any] = shards.statistics[column]
    shares = class_shares(kind, figures)
    if any(shares.values()):
        most = sorted(shares.items(), key=lambda item: (-item[1], item[0]))[:MOST_BARS]
        more = f", {MOST_BARS} of {len(shares)}" if len(shares) > MOST_BARS else ""
        return Bars(f"{column}: classes{more}", [(n, part, f"{part:.1%}") for n, part in most])
    counts, edges = ((figures.get("histogram") or {}).get(k) or [] for k in ("counts", "edges"))
    if not sum(counts) or len(edges) != len(counts) + 1:
        return None
    return Bars(f"{column}: numbers", _binned(counts, edges))


def _binned(counts: Sequence[int], edges: Sequence[float]) -> list[tuple[str, float, str]]:
    """Neighbouring bins together, so that few bars stay, without the empty ones at both ends."""
    filled = [i for i, c in enumerate(counts) if c]
    first, last = filled[0], filled[-1] + 1
    each = max(1, -(-(last - first) // MOST_BARS))
    total = sum(counts)
    bars = []
    for i in range(first, last, each):
        share = sum(counts[i : min(i + each, last)]) / total
        bars.append((f"{edges[i]:.3g} to {edges[min(i + each, last)]:.3g}", share, f"{share:.1%}"))
    return bars


def _raw(root: ReportedRoot) -> list[Any]:
    """Of a recipe without shards: how many samples in which groups."""
    blocks: list[Any] = []
    for step, ingested in root.results(Ingested):
        groups = Counter[str]()
        for partition in ingested.partitions:
            groups[partition.group] += partition.rows
        most = groups.most_common(MOST_BARS)
        more = f", the {MOST_BARS} largest of {len(groups):,}" if len(groups) > MOST_BARS else ""
        title = f"{step.name}: samples by {ingested.group or 'group'}{more}"
        blocks.append(Bars(title, [(n, float(c), f"{c:,}") for n, c in most]))
    return blocks


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"
