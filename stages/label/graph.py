"""The graph of experts of one step: who reads whom, each one's identity, and the units they make.

An expert reads columns of the step's inputs or of another expert of the same step. Its fingerprint covers its payload,
its weights' digests, the definitions of its modalities and the fingerprints of whoever makes its inputs, and nothing
else: two steps or recipes that have the same expert over the same raw columns share its units. A unit is one expert
over one partition; it waits only for the units it reads (`after`), so no expert waits for a whole other one.

A unit's id is the partition's pid. Where more than this partition is read (frames before or after it, or a column
whose unit did that), the id is a fingerprint of all that is read and the record says the pid in its meta; so a changed
neighbour redoes what depended on it. Units follow from (expert, partition) alone, so they are
made as they are asked for and never kept. Consensus is made of the same parts (see stages/consensus/stage.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from typing import Any

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.records import Records
from hyperloom.pipeline.commits.units import Record, Unit, Worker
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fields import step_refs
from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.stage import Forecast, StepRun
from hyperloom.stages import licence
from hyperloom.stages.base import INDEX, TIME, Partition, Producer, modality_of
from hyperloom.stages.catalogue import Catalogue, catalogue
from hyperloom.stages.label.expert import Expert
from hyperloom.stages.label.share import share
from hyperloom.stages.label.worker import LabelWorker
from hyperloom.stages.lesson import Lesson, inherited, maker, rehearsed
from hyperloom.stages.results import Labels, Trained, lessons_of

UnitKey = tuple[str, str]


class Group(tuple[Partition, ...]):
    """All partitions of one group, in order. Hashed as the object it is: there may be thousands in it."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@dataclass(frozen=True, eq=False)
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


class ExpertGraph:
    """Experts in an order in which each follows those it reads, over the columns of a catalogue."""

    def __init__(self, offered: Catalogue, nodes: list[Node], modalities: dict[str, Any]):
        self.catalogue, self.nodes, self.modalities = offered, nodes, modalities
        self._spaces = {n.space for n in nodes}
        self._makers = {column: node for node in nodes for column in node.expert.out}
        self._known = lru_cache(1024)(self._reads)

    def units(self) -> Units:
        """All units, group by group and partition by partition, each after those it reads."""
        return Units(self)

    def unit(self, node: Node, group: Group, at: int) -> Unit | None:
        """The unit of an expert about one partition; None where a column that it needs is not there."""
        reads = self._known(node, group, at)
        if reads is None:
            return None
        used, rows = _unit_keys(reads), group[at].rows
        after = tuple(key for key in used if key[0] in self._spaces)
        return Unit(node.space, _id(group[at].pid, used), node.worker, reads, after, node.expert.calls(rows), rows)

    def forecast(self, step: StepRun) -> Forecast:
        """What the step would do, and what its manifest would say of it."""
        step.records = Records(Record(u.space, u.id, 0, (), 0, {"pid": u.payload["pid"]}) for u in self.units())
        return Forecast(self.units(), step.manifest(self.labels(()), {}))

    def workers(self, storage: Any, gpus: Callable[[], float]) -> dict[str, Worker]:
        """One worker for each expert, by the name that its units carry; `gpus` says how many the cluster has."""
        own = {n: _own(n.expert, self.modalities) for n in self.nodes}
        written = {n: "gpus" in n.expert.model_fields_set for n in self.nodes}
        shares = {n: 0.0 if written[n] else share(n.expert.heft(storage), gpus) for n in self.nodes}
        return {n.worker: LabelWorker(n.expert, own[n], storage, maker(n.about), shares[n]) for n in self.nodes}

    def labels(self, records: Iterable[Record]) -> Labels:
        """What the step's manifest says: columns, partitions, and how many samples each column lacks and why."""
        counts: dict[str, dict[str, Any]] = {}
        remarks, looks = Counter[str](), list[dict[str, Any]]()
        for record in records:
            remarks.update(record.meta.get("remarks", {}))
            looks += [look] if (look := record.meta.get("look")) else []
            count = counts.setdefault(record.space, {"rows": 0, "quarantined": 0, "missing": {}})
            count["rows"] += record.rows + record.quarantined
            count["quarantined"] += record.quarantined
            for column, missing in record.meta.get("missing", {}).items():
                count["missing"][column] = count["missing"].get(column, 0) + missing
        columns, quarantined, missing = {}, {}, {}
        for node in self.nodes:
            count = counts.get(node.space, {"rows": 0, "quarantined": 0, "missing": {}})
            for column in node.expert.out:
                columns[column] = Producer(column, node.space, node.fingerprint, node.about)
                quarantined[column] = count["quarantined"]
                missing[column] = {"rows": count["rows"], "missing": count["missing"].get(column, 0)}
        sentences = [f"{counted(count, 'sample')}: {text}" if count else text for text, count in remarks.items()]
        return Labels(columns, self.catalogue.partitions, quarantined, missing, [*sentences, *self._suspicions(looks)])

    def _suspicions(self, looks: list[dict[str, Any]]) -> list[str]:
        if not looks:
            return []
        from hyperloom.stages.ingest.look import suspicions  # NumPy, which a plan does without

        return suspicions(looks, self.modalities, "experts")

    def _reads(self, node: Node, group: Group, at: int) -> dict[str, Any] | None:
        """The payload of a unit: what it reads, as [space, id] by column; None where there is no unit."""
        expert = node.expert
        own = self._columns(expert, expert.all_in, group, at)
        if not own:
            return None
        reads: dict[str, Any] = {"pid": group[at].pid, "columns": own}
        if expert.offsets():
            needed = tuple(expert.offsets())
            before, after = around(expert, group, at)
            reads["before"] = [self._context(expert, needed, group, place) for place in before]
            reads["after"] = [self._context(expert, needed, group, place) for place in after]
            reads["columns"] = {**own, **self._heads(expert, group[at].pid)}
        return reads

    def _columns(self, expert: Expert, columns: Iterable[str], group: Group, at: int) -> dict[str, list[str]]:
        """Unit keys by column; empty when one that the expert needs is not there for this partition."""
        keys: dict[str, list[str]] = {}
        for column in columns:
            key = self._maker(column, group, at)
            if key is not None:
                keys[column] = key
            elif not expert.accepts_missing or column == expert.only:
                return {}
        return keys

    def _maker(self, column: str, group: Group, at: int) -> list[str] | None:
        """The unit that makes a column of a partition: of this step, or of an input."""
        if column in self._makers:
            node = self._makers[column]
            reads = self._known(node, group, at)
            return None if reads is None else [node.space, _id(group[at].pid, _unit_keys(reads))]
        key = self.catalogue.key(column, group[at].pid) if column in self.catalogue.producers else None
        return list(key) if key else None

    def _context(self, expert: Expert, needed: Iterable[str], group: Group, at: int) -> dict[str, list[str]]:
        columns = self._columns(expert, needed, group, at)
        return {**columns, **self._heads(expert, group[at].pid)} if columns else {}

    def _heads(self, expert: Expert, pid: str) -> dict[str, list[str]]:
        """Where the frames' numbers are, and for who goes by it their time."""
        record = self.catalogue.ingested(pid)
        if record is None:
            raise RecipeError(
                f"the expert {expert.type!r} reads neighbouring frames, whose order only an ingest step knows: "
                "add that step to this step's `data`"
            )
        heads = (INDEX, TIME) if expert.timed else (INDEX,)
        return {head: [record.space, record.id] for head in heads}


class Units:
    """The units of a graph, made as they are asked for; `len` counts them without keeping any."""

    def __init__(self, drawn: ExpertGraph):
        self._graph = drawn

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Unit]:
        partitions = self._graph.catalogue.partitions
        for _, group in groupby(partitions, key=lambda p: p.group):
            yield from self._of(Group(group))

    def _of(self, group: Group) -> Iterator[Unit]:
        """One group's units. Each expert goes on to partition `at` when it is that one's turn or when another reads
        so far ahead; so each unit follows those it reads, and none comes earlier than it must."""
        done = dict.fromkeys(self._graph.nodes, 0)
        makers = {column: node for node in self._graph.nodes for column in node.expert.out}

        def advance(node: Node, to: int) -> Iterator[Unit]:
            while done[node] <= to:
                at = done[node]
                for column in node.expert.all_in:
                    if column in makers:
                        _, after = around(node.expert, group, at)
                        yield from advance(makers[column], after[-1] if after else at)
                done[node] += 1
                unit = self._graph.unit(node, group, at)
                if unit is not None:
                    yield unit

        for at in range(len(group)):
            for node in self._graph.nodes:
                yield from advance(node, at)


def around(expert: Expert, group: Group, at: int) -> tuple[list[int], list[int]]:
    """Places of the partitions before and after `at` that hold the neighbouring rows an expert asks for, in order."""
    steps = [offset for offsets in expert.offsets().values() for offset in offsets]
    before = _neighbours(group, range(at - 1, -1, -1), -min(0, *steps, 0))
    after = _neighbours(group, range(at + 1, len(group)), max(0, *steps, 0))
    return before[::-1], after


def graph(step: StepRun, experts: Iterable[Expert], inputs: Iterable[str], kind: str) -> ExpertGraph:
    """The graph of `experts` over the columns of the steps `inputs`. `kind` (expert, consensus) is kept in `about`."""
    offered = catalogue([step.inputs[name] for name in inputs])
    digests = Digests(step.storage)
    known = dict(offered.producers)
    nodes = []
    for expert in ordered(e.bind(step.inputs) for e in experts):
        node = _node(expert, known, step, digests, kind)
        nodes.append(node)
        known.update({c: Producer(c, node.space, node.fingerprint, node.about) for c in expert.out})
    digests.save()
    return ExpertGraph(offered, nodes, step.modalities)


def ordered(experts: Iterable[Expert]) -> list[Expert]:
    """Experts, each after those it reads, otherwise as the recipe lists them. Raises RecipeError for a circle, and for
    a column that two make."""
    experts = list(experts)
    makers: dict[str, int] = {}
    for i, expert in enumerate(experts):
        for column in expert.out:
            if column in makers:
                raise RecipeError(
                    f"two experts make the column {column!r}: give one of them another source name after the @"
                )
            makers[column] = i
    reads = {i: {makers[c] for c in e.all_in if c in makers} for i, e in enumerate(experts)}
    try:
        return [experts[i] for i in _stable(reads)]
    except CycleError as error:
        ring = " -> ".join("+".join(experts[i].out) for i in reversed(error.args[1]))
        raise RecipeError(f"experts read each other in a circle: {ring}") from error


def producers(manifest: Manifest) -> dict[str, str]:
    """Each expert behind a manifest of this kind, by the space of its units: its type and the columns it makes."""
    columns: dict[str, list[str]] = {}
    types: dict[str, str] = {}
    for column, columns_ in Labels.from_manifest(manifest).columns.items():
        columns.setdefault(columns_.space, []).append(column)
        types[columns_.space] = columns_.about.get("expert", {}).get("type", "")
    return {space: f"{types[space]} {'+'.join(own)}" for space, own in columns.items()}


def modalities_of(experts: Iterable[Expert]) -> set[str]:
    """Names of the modalities that experts read or make."""
    return {modality_of(c) for e in experts for c in (*e.all_in, *e.out)}


def weights_of(experts: Iterable[Expert], digests: Digests) -> dict[str, Any]:
    """Digests of all weights, by what their expert makes. Raises SourceError for a file that is not there."""
    content = {"+".join(expert.out): expert.content(digests) for expert in experts}
    return {columns: listed for columns, listed in content.items() if listed}


def _node(expert: Expert, known: Mapping[str, Producer], step: StepRun, digests: Digests, kind: str) -> Node:
    inputs, modalities = step.inputs, step.modalities
    weights = expert.content(digests)
    config = payload(expert, lambda name: inputs[name].fingerprint)
    identity: dict[str, Any] = {
        "expert": config,
        "modalities": {m: payload(d) for m, d in sorted(_own(expert, modalities).items())},
        "inputs": {c: known[c].fingerprint for c in sorted(expert.all_in)},
    }
    further = {"weights": weights, "revised": expert.revised_for(modalities)}
    identity |= {name: value for name, value in further.items() if value}
    lessons = [lesson for name in step_refs(expert) for lesson in lessons_of(inputs[name])]
    lessons += [Lesson(digest, "", "weights") for digest in weights] + licence.lessons(expert.terms(step.storage))
    compared = getattr(expert, "truth", "")  # what a consensus is only compared with decides nothing
    reads = {c: known[c].about for c in expert.all_in if c != compared}
    about = {
        "kind": kind,
        "expert": config,
        "revision": expert.revised(),
        "weights": weights,
        "inputs": list(expert.all_in),
        **inherited(expert.out[0], reads, lessons, bool(getattr(expert, "learns", False))),
        **rehearsed((t.rehearsal for name in step_refs(expert) if (t := Trained.of(inputs[name]))), reads.values()),
    }
    models = {inputs[name].fingerprint for name in step_refs(expert) if Trained.of(inputs[name])}
    models = models.union(*(known[c].about.get("models", ()) for c in expert.all_in))
    if models:  # whose answers these are, directly or through the columns that are read
        about["models"] = sorted(models)
    return Node(expert, fingerprint(identity), about)


def _own(expert: Expert, modalities: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions of the expert's own modalities: all it gets to see, so that no other can matter."""
    return {name: modalities[name] for name in sorted(modalities_of([expert]))}


def _neighbours(group: Group, places: Iterable[int], rows: int) -> list[int]:
    """The nearest of these places whose partitions together hold `rows` rows."""
    nearest: list[int] = []
    for place in places:
        if rows <= 0:
            break
        nearest.append(place)
        rows -= group[place].rows
    return nearest


def _id(pid: str, used: Iterable[UnitKey]) -> str:
    """A unit's id: the partition's where it reads nothing else, otherwise a fingerprint of what it reads."""
    same = all(id_ == pid for _, id_ in used)
    return pid if same else fingerprint([list(u) for u in used])[:16]


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
