"""What the steps behind the shards say of single partitions: samples left out, and how far experts agree.

Both stand in the records of those steps. A record counts on a side where its group does; on the newer side only if the
reference's step does not have the same record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.drift.measured import Measured, share
from hyperloom.stages.drift.reference import Side
from hyperloom.stages.results import Consensus, Samples

Draw = tuple[bool, str]
"""A group on one side: is it of the newer samples, and its name."""
GroupShares = dict[tuple[str, str], dict[Draw, tuple[float, float]]]
"""(subject, measure) -> group -> whole and part."""

PERPENDICULAR = 90.0


def makers(storage: Storage, reference: Side, new: Side, draws: Sequence[Draw]) -> list[Measured]:
    """Agreement by source, and quarantine by maker, over the groups `draws`."""
    old = [m for stage, fingerprint in reference.sources if (m := manifests.load(storage, stage, fingerprint))]
    current = [m for stage, fingerprint in new.sources if (m := manifests.load(storage, stage, fingerprint))]
    known = {(r.space, r.id) for m in old for r in m.records}
    known_draws, sums = set(draws), GroupShares()
    for newer, manifests_ in ((False, old), (True, current)):
        for manifest in manifests_:
            for subject, measure, group, whole, part in _parts(manifest, known if newer else set()):
                draw = (newer, group)
                if draw in known_draws:
                    before = sums.setdefault((subject, measure), {}).get(draw, (0.0, 0.0))
                    sums[subject, measure][draw] = (before[0] + whole, before[1] + part)
    return [_measured(subject, measure, counted, draws) for (subject, measure), counted in sorted(sums.items())]


def _measured(subject: str, measure: str, counted: dict[Draw, tuple[float, float]], draws: Sequence[Draw]) -> Measured:
    whole, part = np.array([counted.get(draw, (0.0, 0.0)) for draw in draws]).T
    return share(subject, measure, whole, part)


def _parts(manifest: Manifest, known: set[tuple[str, str]]) -> Iterator[tuple[str, str, str, float, float]]:
    """(subject, measure, group, whole, part) of each record that is not `known`."""
    samples = Samples.of(manifest)
    if samples is None:
        return
    groups = {p.pid: p.group for p in samples.partitions}
    names: dict[str, list[str]] = {}
    for column, producer in samples.columns.items():
        names.setdefault(producer.space, []).append(column)
    consensus = Consensus.of(manifest)
    for record in manifest.records:
        group = record.meta.get("group") or groups.get(str(record.meta.get("pid", record.id)))
        if group is None or (record.space, record.id) in known or record.space not in names:
            continue
        first, *more = sorted(names[record.space])
        subject = f"{first} and {len(more)} more" if more else first
        yield subject, "quarantine", group, record.rows + record.quarantined, record.quarantined
        if consensus is not None:
            for column, whole, part in _agreement(record, [c for c in names[record.space] if c in consensus.agreement]):
                yield column, "agreement", group, whole, part


def _agreement(record: Record, outcomes: Iterable[str]) -> Iterator[tuple[str, float, float]]:
    """Each source against what was made of the sources: column, samples, their figures summed (1: all alike)."""
    for out in outcomes:
        pairs = {}
        for name, (total, count) in sorted(record.meta.get("figures", {}).items()):
            measure, _, columns = name.partition(":")
            sources = [c for c in columns.split("|") if c != out]
            if len(sources) == 1 and measure != "mae":
                part = count - total / PERPENDICULAR if measure == "angle" else total
                pairs[sources[0]] = (count, part)
        if len(pairs) > 1:  # one source and what was made of it agree by definition
            yield from ((column, whole, part) for column, (whole, part) in pairs.items())
