"""What is audited: the parts of a step's samples, each a partition or a shard, with the files of their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.stages.base import Partition, Producer
from hyperloom.stages.catalogue import Catalogue, catalogue
from hyperloom.stages.results import Samples, Shards


@dataclass(frozen=True)
class AuditPart:
    """Consecutive samples of one group. `keys`: the file that says key, group and index; `columns`: column -> file;
    `pids`: the partitions in it, each with its rows; `content`: digests of all that is read."""

    group: str
    split: str
    keys: str
    columns: Mapping[str, str]
    pids: Sequence[tuple[str, int]]
    content: Sequence[str]


@dataclass(frozen=True)
class AuditedData:
    """Parts in order, who made the columns, and the partitions that columns of an audit are over."""

    parts: list[AuditPart]
    producers: Mapping[str, Producer]
    split: bool

    def partitions(self) -> list[Partition]:
        """All partitions, by their place in the group."""
        first: dict[str, int] = {}
        out = []
        for part in self.parts:
            for pid, rows in part.pids:
                out.append(Partition(pid, part.group, first.get(part.group, 0), rows))
                first[part.group] = first.get(part.group, 0) + rows
        return out


def audited(manifests: Sequence[Manifest]) -> AuditedData:
    """The samples of steps: of one shard step, or of an ingest step and what was made over it; there a shard step says
    no more than the split of each group."""
    known = [shards for m in manifests if (shards := Shards.of(m)) is not None]
    if len(manifests) == 1 and known:
        return AuditedData(list(_of_shards(manifests[0], known[0])), known[0].columns, True)
    offered = catalogue(m for m in manifests if Samples.of(m) is not None)
    splits = {group: name for shards in known for name, size in shards.splits.items() for group in size.groups}
    return AuditedData(list(_of_samples(offered, splits)), offered.producers, bool(known))


def _of_shards(manifest: Manifest, shards: Shards) -> Iterator[AuditPart]:
    splits = {shard.path: shard.split for shard in shards.shards}
    for record in manifest.records:
        file = record.file
        if file.path in splits:
            pids = [(str(pid), int(rows)) for pid, rows in record.meta["pids"]]
            columns = dict.fromkeys(shards.schema, file.path)
            yield AuditPart(record.meta["group"], splits[file.path], file.path, columns, pids, [file.sha256])


def _of_samples(offered: Catalogue, splits: Mapping[str, str]) -> Iterator[AuditPart]:
    for partition in offered.partitions:
        ingested = offered.ingested(partition.pid)
        if ingested is None or not ingested.files:
            continue
        records = {c: r for c in offered.producers if (r := offered.record(c, partition.pid)) and r.files}
        files = {c: record.file.path for c, record in sorted(records.items())}
        content = sorted({ingested.file.sha256, *(r.file.sha256 for r in records.values())})
        pids = [(partition.pid, ingested.rows)]
        yield AuditPart(partition.group, splits.get(partition.group, ""), ingested.file.path, files, pids, content)
