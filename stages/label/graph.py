"""The graph of experts of one step: who reads whom, each one's identity, and the units they make.

An expert reads columns of the step's inputs or of another expert of the same step. Its fingerprint covers its payload,
its weights' digests, the definitions of its modalities and the fingerprints of whoever makes its inputs, and nothing
else: two steps or recipes that have the same expert over the same raw columns share its units. A unit is one expert
over one partition; it waits only for the units it reads (`after`), so no expert waits for a whole other one.

A unit's id is the partition's pid. Where more than this partition is read (frames before or after it, or a column
whose unit did that), the id is a fingerprint of all that is read and the record says the pid in its meta; so a changed
neighbour redoes what depended on it. Consensus is made of the same parts (see stages/consensus/stage.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pipeline.digests import Digests
from pipeline.errors import RecipeError
from pipeline.fingerprint import SHORT, fingerprint, payload
from pipeline.manifest import Manifest
from pipeline.stage import StepRun
from pipeline.units import Record, Unit, Worker
from stages.base import INDEX, Catalogue, Partition, Producer, catalogue, modality_of
from stages.label.expert import Expert
from stages.label.worker import LabelWorker

UnitKey = tuple[str, str]


@dataclass(frozen=True)
class Node:
    """An expert with its identity. `about` is what a manifest says of the columns it makes."""

    expert: Expert
    fingerprint: str
    about: dict[str, Any]

    @property
    def space(self) -> str:
        return f"expert/{self.fingerprint[:SHORT]}"

    @property
    def worker(self) -> str:
        return f"{self.expert.type}-{self.fingerprint[:SHORT]}"


@dataclass
class Graph:
    """Experts in an order in which each follows those it reads, over the columns of a catalogue."""

    catalogue: Catalogue
    nodes: list[Node]
    modalities: dict[str, Any]
    made: dict[tuple[str, str], UnitKey] = field(default_factory=dict)
    """(column, pid) -> the unit of this step that makes it; filled by `units`."""

    def __post_init__(self) -> None:
        self._ingested = {r.id: (r.space, r.id) for r in self.catalogue.records.values() if "first" in r.meta}
        self._spaces = {n.space for n in self.nodes}

    def units(self) -> list[Unit]:
        """All units, expert by expert; partitions in order. A partition that lacks a needed column has no unit."""
        groups: dict[str, list[Partition]] = {}
        for partition in self.catalogue.partitions:
            groups.setdefault(partition.group, []).append(partition)
        found: list[Unit] = []
        for node in self.nodes:
            for group in groups.values():
                for at in range(len(group)):
                    unit = self._unit(node, group, at)
                    if unit is not None:
                        found.append(unit)
                        self.made.update({(column, group[at].pid): unit.key for column in node.expert.out})
        return found

    def workers(self, storage: Any) -> dict[str, Worker]:
        """One worker for each expert, by the name that its units carry."""
        return {n.worker: LabelWorker(n.expert, _own(n.expert, self.modalities), storage) for n in self.nodes}

    def body(self, records: Iterable[Record]) -> dict[str, Any]:
        """What the step's manifest says: columns, partitions, and how many samples each column lacks and why."""
        counts: dict[str, dict[str, Any]] = {}
        for record in records:
            count = counts.setdefault(record.space, {"rows": 0, "quarantined": 0, "missing": {}})
            count["rows"] += record.rows + record.quarantined
            count["quarantined"] += record.quarantined
            for column, missing in record.meta.get("missing", {}).items():
                count["missing"][column] = count["missing"].get(column, 0) + missing
        columns, quarantined, missing = {}, {}, {}
        for node in self.nodes:
            count = counts.get(node.space, {"rows": 0, "quarantined": 0, "missing": {}})
            for column in node.expert.out:
                columns[column] = {"space": node.space, "fingerprint": node.fingerprint, "about": node.about}
                quarantined[column] = count["quarantined"]
                missing[column] = {"rows": count["rows"], "missing": count["missing"].get(column, 0)}
        partitions = [[p.pid, p.group, p.first, p.rows] for p in self.catalogue.partitions]
        return {"columns": columns, "partitions": partitions, "quarantined": quarantined, "coverage": missing}

    def _unit(self, node: Node, group: list[Partition], at: int) -> Unit | None:
        own = self._reads(node.expert, node.expert.in_, group[at].pid)
        if not own:
            return None
        offsets = node.expert.offsets()
        reads: dict[str, Any] = {"pid": group[at].pid, "columns": own}
        if offsets:
            steps = [o for wanted in offsets.values() for o in wanted]
            before = _neighbours(group, range(at - 1, -1, -1), -min(0, *steps))
            after = _neighbours(group, range(at + 1, len(group)), max(0, *steps))
            wanted = (*offsets, INDEX)
            reads["before"] = [self._context(node.expert, wanted, p) for p in reversed(before)]
            reads["after"] = [self._context(node.expert, wanted, p) for p in after]
            reads["columns"] = {**own, INDEX: self._index(node.expert, group[at].pid)}
        used = _unit_keys(reads)
        same = all(id_ == group[at].pid for _, id_ in used)
        id_ = group[at].pid if same else fingerprint([list(u) for u in used])[:16]
        return Unit(node.space, id_, node.worker, reads, tuple(u for u in used if u[0] in self._spaces))

    def _reads(self, expert: Expert, columns: Iterable[str], pid: str) -> dict[str, list[str]]:
        """Unit keys by column; empty when one that the expert needs is not there for this partition."""
        found: dict[str, list[str]] = {}
        for column in columns:
            key = self.made.get((column, pid))
            if key is None and column in self.catalogue.producers:
                record = self.catalogue.record(column, pid)
                key = (record.space, record.id) if record else None
            if key is not None:
                found[column] = list(key)
            elif not expert.accepts_missing:
                return {}
        return found

    def _context(self, expert: Expert, wanted: Iterable[str], partition: Partition) -> dict[str, list[str]]:
        found = self._reads(expert, (c for c in wanted if c != INDEX), partition.pid)
        return {**found, INDEX: self._index(expert, partition.pid)} if found else {}

    def _index(self, expert: Expert, pid: str) -> list[str]:
        if pid not in self._ingested:
            raise RecipeError(
                f"the expert {expert.type!r} reads neighbouring frames, whose order only an ingest step knows: "
                "add that step to this step's `data`"
            )
        return list(self._ingested[pid])


def graph(step: StepRun, experts: Iterable[Expert], inputs: Iterable[str], kind: str) -> Graph:
    """The graph of `experts` over the columns of the steps `inputs`. `kind` (expert, consensus) is kept in `about`.

    Raises RecipeError for a column nobody offers, one that two offer, a cycle, or an undefined modality.
    """
    offered = catalogue([step.inputs[name] for name in inputs])
    digests = Digests(step.storage)
    known = dict(offered.producers)
    nodes = []
    for expert in ordered([e.bind(step.inputs) for e in experts], known):
        node = _node(expert, known, step.inputs, step.modalities, digests, kind)
        nodes.append(node)
        known.update({c: Producer(c, node.space, node.fingerprint, node.about) for c in expert.out})
    digests.save()
    return Graph(offered, nodes, step.modalities)


def ordered(experts: Iterable[Expert], offered: Mapping[str, Any] | None = None) -> list[Expert]:
    """Experts, each after those it reads, otherwise as the recipe lists them.

    With `offered`, the columns from outside are known and all others must be made here. Raises RecipeError.
    """
    experts = list(experts)
    makers: dict[str, int] = {}
    for i, expert in enumerate(experts):
        for column in expert.out:
            if column in makers or column in (offered or {}):
                raise RecipeError(
                    f"two experts make the column {column!r}: give one of them another source name after the @"
                )
            makers[column] = i
    for expert in experts if offered is not None else ():
        for column in expert.in_:
            if column not in makers and column not in (offered or {}):
                names = ", ".join(sorted({*makers, *(offered or {})}))
                raise RecipeError(
                    f"the expert {expert.type!r} reads {column!r}, which nobody offers; there are: {names}"
                )
    reads = {i: {makers[c] for c in e.in_ if c in makers} for i, e in enumerate(experts)}
    try:
        return [experts[i] for i in _stable(reads)]
    except CycleError as error:
        ring = " -> ".join("+".join(experts[i].out) for i in reversed(error.args[1]))
        raise RecipeError(f"experts read each other in a circle: {ring}") from error


def modalities_of(experts: Iterable[Expert]) -> set[str]:
    """Names of the modalities that experts read or make."""
    return {modality_of(c) for e in experts for c in (*e.in_, *e.out)}


def weights_of(experts: Iterable[Expert], digests: Digests) -> dict[str, Any]:
    """Digests of all weights, by what their expert makes. Raises SourceError for a file that is not there."""
    return {"+".join(e.out): [digests.file(w).sha256 for w in e.weights()] for e in experts if e.weights()}


def _node(
    expert: Expert,
    known: Mapping[str, Producer],
    inputs: Mapping[str, Manifest],
    modalities: Mapping[str, Any],
    digests: Digests,
    kind: str,
) -> Node:
    weights = [digests.file(w).sha256 for w in expert.weights()]  # where they lie is no part of a manifest either
    config = payload(expert, lambda name: inputs[name].fingerprint)
    identity: dict[str, Any] = {
        "expert": config,
        "modalities": {m: payload(d) for m, d in sorted(_own(expert, modalities).items())},
        "inputs": {c: known[c].fingerprint for c in sorted(expert.in_)},
    }
    if weights:
        identity["weights"] = weights
    about = {
        "kind": kind,
        "expert": config,
        "revision": type(expert).revision,
        "weights": weights,
        "inputs": list(expert.in_),
    }
    return Node(expert, fingerprint(identity), about)


def _own(expert: Expert, modalities: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions of the expert's own modalities: all it gets to see, so that no other can matter."""
    for name in sorted(modalities_of([expert])):
        if name not in modalities:
            known = ", ".join(modalities)
            raise RecipeError(
                f"the expert {expert.type!r} needs the modality {name!r}, which the recipe does not define ({known})"
            )
    return {name: modalities[name] for name in sorted(modalities_of([expert]))}


def _neighbours(group: list[Partition], places: Iterable[int], rows: int) -> list[Partition]:
    """The nearest partitions that together hold `rows` rows."""
    found: list[Partition] = []
    for place in places:
        if rows <= 0:
            break
        found.append(group[place])
        rows -= group[place].rows
    return found


def _unit_keys(reads: Mapping[str, Any]) -> list[UnitKey]:
    parts = [*reads.get("before", []), reads["columns"], *reads.get("after", [])]
    return list(dict.fromkeys((space, id_) for part in parts for space, id_ in part.values()))


def _stable(reads: Mapping[int, set[int]]) -> list[int]:
    """A topological order that keeps the given order where it can. Raises CycleError."""
    sorter = TopologicalSorter(reads)
    sorter.prepare()
    done: list[int] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        done += ready
        sorter.done(*ready)
    return done
