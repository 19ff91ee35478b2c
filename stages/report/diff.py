"""What changed between two sides, and what it did: fields of recipes, revisions of code, samples, labels, figures.

Labels are compared where both sides have the same samples, over about `MOST_ROWS` rows of each column, whole partitions
spread evenly; columns that share their space of units are the same and are not read. How far labels lie apart is a mean
over the samples of which both sides say something. The interval of a difference of figures is
paired, since a resampled unit counts as often on both sides (`stages.measure.intervals`): so it is given where both
judged the same samples, and not otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.counting import share
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.planning.plan import changes
from hyperloom.stages.base import KEY, modality_of, source_of
from hyperloom.stages.catalogue import catalogue
from hyperloom.stages.consensus.agreement import agreement
from hyperloom.stages.measure.intervals import Intervals, resampled
from hyperloom.stages.measure.sheet import read_names
from hyperloom.stages.report.figures import owners
from hyperloom.stages.report.page import Estimate, Page, PageTable, Section, Words
from hyperloom.stages.report.side import ComparedSide
from hyperloom.stages.results import Ingested, Judged, Samples
from hyperloom.stages.shard.content import digests
from hyperloom.stages.table import read_table

MOST_ROWS = 2000
MOST_KEYS = 1_000_000
"""Samples of a side, in partitions that changed, whose keys are compared."""
MOST_VALUES = 20_000
"""Samples that both sides have whose raw values are compared."""
EXAMPLES = 5


def diff(one: ComparedSide, other: ComparedSide) -> Page:
    """The comparison, as a page: `one` before, `other` after."""
    missing: list[str] = []
    sections = [
        _recipe(one, other),
        _data(one, other, missing),
        _labels(one, other, missing),
        _figures(one, other, missing),
    ]
    kept = [s for s in sections if s is not None]
    same = one.fingerprints == other.fingerprints
    for side in (one, other):
        if undone := [name for name in side.fingerprints if side.manifests.get(name) is None]:
            missing.append(f"not done, of {side.title}: {', '.join(undone)}")
    missing = list(dict.fromkeys(missing))  # both sides may be one and the same
    text = f"They differ in: {', '.join(s.title.lower() for s in kept)}." if kept else "No difference is known."
    text = "Both sides are the same steps." if same else text
    facts = (("before", one.title), ("after", other.title))
    return Page("What changed", "", text, "plain", facts, kept, missing=missing)


def _recipe(one: ComparedSide, other: ComparedSide) -> Section | None:
    """Steps that came and went, and what differs in those of one name: the recipe, the code, the files outside."""
    rows: list[list[Any]] = []
    for name in dict.fromkeys([*one.fingerprints, *other.fingerprints]):
        before, after = one.payloads.get(name), other.payloads.get(name)
        if name not in one.fingerprints or name not in other.fingerprints:
            rows.append([name, "step", "came" if name in other.fingerprints else "went"])
        elif one.fingerprints[name] != other.fingerprints[name]:
            lines = list(changes(before, after)) if before is not None and after is not None else []
            rows += [[name, _kind(line), line] for line in lines or ["it was made from something else"]]
    cause = [row for row in rows if row[1] != "input"]
    follows = [row[0] for row in rows if row[1] == "input" and row[0] not in {c[0] for c in cause}]
    blocks: list[Any] = [PageTable(["step", "of", "what"], cause)] if cause else []
    if follows:
        blocks.append(Words([f"so these are others too: {', '.join(dict.fromkeys(follows))}"]))
    return Section("recipe", "What was changed", blocks) if blocks else None


def _kind(line: str) -> str:
    place = line.partition(":")[0].partition(" ")[0]
    if place.endswith("revision"):
        return "code"
    if place.startswith("facts"):
        return "files"
    return (
        "input"
        if line.endswith("the step it reads changed")
        else "modality"
        if place.startswith("modalities")
        else "recipe"
    )


def _data(one: ComparedSide, other: ComparedSide, missing: list[str]) -> Section | None:
    """Samples that came and went, and those whose raw values are others under the same key."""
    rows: list[list[Any]] = []
    before = {name: (m, r) for name, m, r in one.results(Ingested)}
    after = {name: (m, r) for name, m, r in other.results(Ingested)}
    for name in dict.fromkeys([*before, *after]):
        if name not in before or name not in after:
            continue  # a step that came or went is said above
        pids = [{p.pid for p in r.partitions} for _, r in (before[name], after[name])]
        if pids[0] == pids[1]:
            continue
        changed = pids[0] - pids[1], pids[1] - pids[0]
        sides = (one, *before[name]), (other, *after[name])
        counts = [sum(p.rows for p in r.partitions if p.pid in ids) for (_, _, r), ids in zip(sides, changed)]
        if max(counts) > MOST_KEYS:
            missing.append(f"{name}: {counts[0]:,} samples became {counts[1]:,}, too many to compare one by one")
            continue
        try:
            was, now = (_keys(side, manifest, ids) for (side, manifest, _), ids in zip(sides, changed))
            columns = sorted(set(before[name][1].columns) & set(after[name][1].columns))
            shared = sorted(was.keys() & now.keys())[:MOST_VALUES]
            values = [_values(s, {k: m[k] for k in shared}, columns) for s, m in ((one, was), (other, now))]
        except HyperloomError as error:
            missing.append(f"the samples of {name} cannot be compared: {error}")
            continue
        if len(was.keys() & now.keys()) > len(shared):
            missing.append(f"{name}: the content of the first {MOST_VALUES:,} samples is compared, not of the others")
        came, went = now.keys() - was.keys(), was.keys() - now.keys()
        others = sum(values[0][key] != values[1][key] for key in shared)
        if came or went or others:
            rows.append([name, len(came), len(went), others, _some(came), _some(went)])
    names = ["step", "came", "went", "of another content", "such as", "such as"]
    return Section("data", "Samples", [PageTable(names, rows)]) if rows else None


def _keys(side: ComparedSide, manifest: Any, pids: set[str]) -> dict[str, str]:
    """The keys of the samples of these partitions, and in which file each lies."""
    keys: dict[str, str] = {}
    for record in manifest.records:
        if record.id in pids and record.files:
            path = record.file.path
            keys |= dict.fromkeys(read_table(side.storage, path, [KEY])[KEY].to_pylist(), path)
    return keys


def _values(side: ComparedSide, keys: Mapping[str, str], columns: Sequence[str]) -> dict[str, int]:
    """A digest of what `columns` say of each of these samples. A partition is another one as soon as one sample of it
    is, so its identity says nothing of the others."""
    values: dict[str, int] = {}
    for path in dict.fromkeys(keys.values()):
        table = read_table(side.storage, path, [KEY, *columns])
        each = digests([table[column].combine_chunks() for column in columns]).tolist() if columns else []
        values |= dict(zip(table[KEY].to_pylist(), each or [0] * len(table)))
    return values


def _labels(one: ComparedSide, other: ComparedSide, missing: list[str]) -> Section | None:
    """By column: the share of labels that flipped, or how far numbers moved."""
    ready = [{name for name, m in s.manifests.items() if m} for s in (one, other)]
    waiting = (set(one.fingerprints) ^ ready[0]) | (set(other.fingerprints) ^ ready[1])
    sides = [catalogue([m for n, m, _ in s.results(Samples) if n not in waiting]) for s in (one, other)]
    shared = sorted(set(sides[0].producers) & set(sides[1].producers))
    known, rows = {**one.modalities(), **other.modalities()}, []
    for column in shared:
        if sides[0].producers[column].space == sides[1].producers[column].space:
            continue
        try:
            row = _moved(column, (one, sides[0]), (other, sides[1]), known[modality_of(column)])
        except (HyperloomError, ValueError, TypeError, KeyError) as error:
            missing.append(f"{column} cannot be compared: {error}")
            continue
        if row is not None:
            rows.append([column, *row])
    came = sorted(set(sides[1].producers) - set(sides[0].producers))
    went = sorted(set(sides[0].producers) - set(sides[1].producers))
    lines = [f"came: {', '.join(came)}"] * bool(came) + [f"went: {', '.join(went)}"] * bool(went)
    blocks: list[Any] = [Words(lines)] if lines else []
    if rows:
        names = ["column", "samples compared", "samples that differ", "how far", ""]
        note = f"Over about {MOST_ROWS:,} samples of each column; how far: of those that have a label on both sides."
        blocks.append(PageTable(names, rows, note=note))
    return Section("labels", "Labels", blocks) if blocks else None


def _moved(column: str, before: Any, after: Any, modality: Any) -> list[Any] | None:
    """Samples compared, the share that differs, the mean of what `agreement` measures over those of which both sides
    say something; None without any in common."""
    (one, left), (other, right) = before, after
    common = [p for p in left.partitions if right.record(column, p.pid) is not None and left.record(column, p.pid)]
    step = max(1, -(-sum(p.rows for p in common) // MOST_ROWS))
    rows = differing = 0
    figures: dict[str, list[np.ndarray]] = {}
    for partition in common[::step]:
        records = left.record(column, partition.pid), right.record(column, partition.pid)
        if not all(r.files for r in records):
            continue
        rows += partition.rows
        tables = [read_table(s.storage, r.file.path, [column])[column] for s, r in zip((one, other), records)]
        (a, in_a), (b, in_b) = (modality.decode(t) for t in tables)
        if records[0].file.sha256 != records[1].file.sha256:
            differing += sum(map(_differs, tables[0].to_pylist(), tables[1].to_pylist()))
        for name, values in agreement({"a": (a, in_a), "b": (b, in_b)}, modality).items():
            figures.setdefault(name.partition(":")[0], []).append(values)
    if not rows:
        return None
    every = {name: np.concatenate(values) for name, values in figures.items()}
    mean = {name: float(np.nanmean(v)) for name, v in every.items() if np.isfinite(v).any()}
    if "equal" in mean:
        return [rows, share(differing / rows), 1 - mean["equal"], "share of labels flipped"]
    unit = getattr(modality, "unit", "")
    how = {"mae": f"mean difference{f', {unit}' if unit else ''}", "angle": "mean angle, degrees"}
    name = next((n for n in how if n in mean), "")
    return [rows, share(differing / rows), mean.get(name), how.get(name, "")]


def _differs(one: Any, other: Any) -> bool:
    """Are two values of a column not the same? What is unknown on both sides is."""
    if isinstance(one, bytes) or isinstance(other, bytes):
        return bool(one != other)
    return one != other and repr(one) != repr(other)


def _figures(one: ComparedSide, other: ComparedSide, missing: list[str]) -> Section | None:
    """Figures of those who were judged on both sides, with the paired interval of each difference."""
    blocks: list[Any] = []
    before = {name: (m, r) for name, m, r in one.results(Judged)}
    for name, manifest, report in other.results(Judged):
        if name not in before:
            continue
        old_manifest, old = before[name]
        rows: list[list[Any]] = []
        draws = _paired((one, old_manifest, old), (other, manifest, report), missing)
        for who in [w for w in report.figures if w in old.figures]:
            for figure in (f for f in report.figures[who] if f in old.figures[who]):
                change = report.figures[who][figure] - old.figures[who][figure]
                interval = draws.get((who, figure)) or (None, None)
                rows.append(
                    [who, figure, old.figures[who][figure], report.figures[who][figure], Estimate(change, *interval)]
                )
        changed = [row for row in rows if row[4].value]
        if changed:
            title = f"{name}: {old.samples:,} samples before, {report.samples:,} after"
            blocks.append(PageTable(["who", "figure", "before", "after", "difference"], changed, title))
        lines = [line for line in vars(report)["said"] if line not in vars(old)["said"]]
        blocks += [Words(lines, folded="What the report says now and did not before")] if lines else []
        came = [w for w in report.figures if w not in old.figures]
        went = [w for w in old.figures if w not in report.figures]
        blocks += [Words([f"judged now: {', '.join(came)}"])] * bool(came)
        blocks += [Words([f"judged no more: {', '.join(went)}"])] * bool(went)
    return Section("figures", "Figures", blocks) if blocks else None


JudgedSide = tuple[ComparedSide, Any, Judged]


def _paired(before: JudgedSide, after: JudgedSide, missing: list[str]) -> dict[tuple[str, str], Sequence[float] | None]:
    """(subject, figure) -> the interval of the difference, where both judged the same samples."""
    if _judged_keys(before) != _judged_keys(after) or not _judged_keys(after):
        missing.append("both judged other samples: differences of figures have no interval")
        return {}
    config = Intervals(**(after[1].payload.get("config", {}).get("intervals") or {}))
    intervals: dict[tuple[str, str], Sequence[float] | None] = {}
    for who in [w for w in after[2].figures if w in before[2].figures]:
        one, two = (_draws(config, s, who) for s in (before, after))
        for figure in set(one) & set(two):
            intervals[who, figure] = config.bounds(two[figure] - one[figure])
    return intervals


def _judged_keys(side: JudgedSide) -> frozenset[str]:
    records = [r for r in side[1].records if len(r.files) > 1 and _names(r)]
    spaces = {r.space for r in records}
    first = next(iter(sorted(spaces)), "")
    rows = [row for r in records if r.space == first for row in read_names(side[0].storage, r.files[1].path)]
    return frozenset(key for _, _, key in rows)


def _draws(config: Intervals, side: JudgedSide, who: str) -> Mapping[str, np.ndarray]:
    where, manifest, report = side
    known = where.modalities()
    spaces = [space for space, o in owners(manifest, report, known).items() if o["who"] == who]
    records = [
        r for r in manifest.records if len(r.files) > 1 and (r.space in spaces if spaces else "@" in "".join(_names(r)))
    ]
    names = {
        name: (modality_of(name) if "@" in name else name, known[modality_of(name) if "@" in name else name])
        for name in dict.fromkeys(n for r in records for n in _names(r))
        if ("@" not in name or source_of(name) == who.removesuffix(" labels")) and name.partition("@")[0] in known
    }
    return resampled(config, where.storage, records, names)[0] if names else {}


def _names(record: Any) -> list[str]:
    return list(record.meta.get("sums", {}))


def _some(keys: Collection[str]) -> str:
    return ", ".join(sorted(keys)[:EXAMPLES]) + (" …" if len(keys) > EXAMPLES else "")
