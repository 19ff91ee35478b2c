"""The results of the stages: what each one's manifest says, for the steps that read it.

    Ingested, Labels, Consensus      columns over partitions (all three are `Samples`)
    Shards                           joined columns, splits, statistics
    Trained                          a model, or a family of them
    Judged                           the report of an evaluation
    Released                         a registered model
    Drifted                          whether newer data differ from those of the champion

A stage of one's own returns one of these and is read like the stage that ships with Hyperloom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.result import Result, form
from hyperloom.stages.base import Partition, Producer
from hyperloom.stages.lesson import Lesson, lessons

Producers = Mapping[str, Producer]


def _read_producers(value: Mapping[str, Any]) -> dict[str, Producer]:
    return {c: Producer(c, v["space"], v["fingerprint"], v.get("about", {})) for c, v in value.items()}


def _write_producers(value: Producers) -> dict[str, Any]:
    return {c: {"space": p.space, "fingerprint": p.fingerprint, "about": p.about} for c, p in value.items()}


class _Partitions(Sequence[Partition]):
    """The partitions of a manifest that was read, each made when somebody looks at it: there may be many thousands."""

    def __init__(self, rows: Sequence[Sequence[Any]]):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Partition]:
        return (Partition(*row) for row in self._rows)

    def __getitem__(self, place: Any) -> Any:
        rows = self._rows[place]
        return [Partition(*row) for row in rows] if isinstance(place, slice) else Partition(*rows)


def _read_partitions(value: Sequence[Any]) -> Sequence[Partition]:
    return value if value and isinstance(value[0], Partition) else _Partitions(value)


@dataclass(frozen=True)
class Samples(Result):
    """Columns over partitions: by column who made it, and the partitions it was made over."""

    noun: ClassVar[str] = "samples"

    columns: Producers = field(metadata=form(_read_producers, _write_producers))
    partitions: Sequence[Partition] = field(metadata=form(_read_partitions, list))


@dataclass(frozen=True)
class Ingested(Samples):
    """Raw samples. `group` is the name of the grouping; `quarantined` counts samples that could not be read; `remarks`
    say what was left out of files and what looks suspicious. A unit's record has its partition's id and `meta =
    {"group", "first"}`, with `look` and `remarks` where there is something to say (stages.ingest.look)."""

    noun: ClassVar[str] = "raw samples"

    group: str
    quarantined: int = 0
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Labels(Samples):
    """Columns that experts made. `quarantined`: samples by column; `coverage`: column -> {"rows", "missing"};
    `remarks`: what looks suspicious, and how outputs are read where that is not sure. A unit's record has the id of its
    partition, or says the partition's id in its meta as `pid`."""

    noun: ClassVar[str] = "labels"

    quarantined: Mapping[str, int] = field(default_factory=dict)
    coverage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Consensus(Labels):
    """Columns of consensus methods; by column `agreement` (stages.consensus.agreement), each source's `reliability`."""

    noun: ClassVar[str] = "consensus"

    agreement: Mapping[str, Mapping[str, Any]] = field(kw_only=True)
    reliability: Mapping[str, Mapping[str, float]] | None = None


@dataclass(frozen=True)
class ShardFile:
    """A shard, its rows and those of a row group; `part` where it is one of a file: its first row, the file's rows."""

    path: str
    split: str
    rows: int
    row_group: int
    bytes: int = 0
    group: str = ""
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class SplitSize:
    """How much a split holds."""

    rows: int
    shards: int = 0
    groups: Sequence[str] = ()


def _read_files(value: Sequence[Mapping[str, Any]]) -> list[ShardFile]:
    return [ShardFile(**shard) for shard in value]


def _write_files(value: Sequence[ShardFile]) -> list[dict[str, Any]]:
    return [{k: v for k, v in vars(shard).items() if k != "part"} for shard in value]


def _read_sizes(value: Mapping[str, Mapping[str, Any]]) -> dict[str, SplitSize]:
    return {name: SplitSize(**size) for name, size in value.items()}


def _write_sizes(value: Mapping[str, SplitSize]) -> dict[str, dict[str, Any]]:
    return {name: vars(size) for name, size in value.items()}


@dataclass(frozen=True)
class Shards(Result):
    """Samples joined with their labels. `schema`: column -> its modality as a recipe writes it; `statistics`: by
    column, of the training split; `gaps`: by column, partitions that lack it; `sources`: the steps whose columns were
    joined, each as stage/fingerprint; `telling`: columns whose bytes say what a sample is (stages.shard.content);
    `remarks`: what looks suspicious here and in the steps behind."""

    noun: ClassVar[str] = "shards"

    schema: Mapping[str, Mapping[str, Any]]
    shards: Sequence[ShardFile] = field(metadata=form(_read_files, _write_files))
    splits: Mapping[str, SplitSize] = field(metadata=form(_read_sizes, _write_sizes), default_factory=dict)
    columns: Producers = field(metadata=form(_read_producers, _write_producers), default_factory=dict)
    statistics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gaps: Mapping[str, int] = field(default_factory=dict)
    sources: Sequence[str] = ()
    telling: Sequence[str] = ()
    remarks: Sequence[str] = ()

    def rows(self, split: str) -> int:
        """Rows of a split; 0 when there is no such split."""
        return self.splits[split].rows if split in self.splits else 0


@dataclass(frozen=True)
class Seeded:
    """One training of a family: what it is called in it, its seed, the folder of its files, and how it ended."""

    name: str
    seed: int
    folder: str
    updates: int
    final: Mapping[str, float]
    kept: int | None = None


def _write_lessons(value: Sequence[Lesson]) -> list[list[str]]:
    return [list(lesson) for lesson in value]


def _read_seeded(value: Sequence[Any]) -> list[Seeded]:
    return [Seeded(**member) for member in value]


def _write_seeded(value: Sequence[Seeded]) -> list[dict[str, Any]]:
    return [{k: v for k, v in vars(member).items() if v is not None} for member in value]


@dataclass(frozen=True)
class Trained(Result):
    """A model: `columns_in` are its inputs (those in `hidden` only trained it), `tasks` what it predicts, `targets`
    task -> column -> weight. `kept` and `final` say how the training ended, `remarks` what that tells of it
    (stages.train.diagnosis), `onnx` what its export is like, `taught` who made each target of a student, in words.

    `needs`: inputs without which it has no answer, as no training sample lacked or hid them (None of older ones).
    `learned`: all that taught or chose it (None where its stage does not say); `shows`: the truth that an input goes
    back to; `folder`: where its files lie, if that is another step's; `rehearsal`: how far a pilot trained it.

    With `members` it is a family of seeds; `best` is whose figures these are, by the figure `best_by` if not empty."""

    noun: ClassVar[str] = "model"

    columns_in: Sequence[str]
    tasks: Sequence[str] = ()
    targets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hidden: Sequence[str] = ()
    needs: Sequence[str] | None = None
    parameters: int | None = None
    updates: int | None = None
    kept: Any = None
    final: Any = None
    onnx: Mapping[str, Any] | None = None
    taught: Mapping[str, str] | None = None
    members: Sequence[Seeded] | None = field(metadata=form(_read_seeded, _write_seeded), default=None)
    best: str | None = None
    best_by: str | None = None
    learned: Sequence[Lesson] | None = field(metadata=form(lessons, _write_lessons), default=None)
    shows: Mapping[str, Sequence[str]] | None = None
    remarks: Sequence[str] = ()
    folder: str | None = None
    rehearsal: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of a family's members; none of a single model."""
        return tuple(member.name for member in self.members or ())

    def folders(self, manifest: Manifest, member: str = "") -> tuple[str, ...]:
        """Where the files of the models lie, below the root: of the one `member`, else of all. `manifest` holds this
        result."""
        if not self.members:
            return (self.folder or manifest.folder,)
        return tuple(m.folder for m in self.members if member in ("", m.name))

    @property
    def visible(self) -> tuple[str, ...]:
        """Inputs that it may be asked with."""
        return tuple(c for c in self.columns_in if c not in self.hidden)


def lessons_of(manifest: Manifest) -> list[Lesson]:
    """What a model goes back to; nothing where the step holds none."""
    model = Trained.of(manifest)
    if model is None:
        return []
    if model.learned is None:
        return [Lesson("", "", "unknown", f"the {manifest.stage} step {manifest.fingerprint[:12]} does not say it")]
    return list(model.learned)


@dataclass(frozen=True)
class Lineage:
    """What was judged on what: the fingerprint of the shards and the stage that made them, and by column what its maker
    says of itself."""

    shards: str
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stage: str = "shard"


def _write_lineage(value: Lineage) -> dict[str, Any]:
    return {k: v for k, v in vars(value).items() if (k, v) != ("stage", "shard")}


@dataclass(frozen=True)
class Judged(Result):
    """The report of an evaluation over `samples` of one split. By subject: `kinds`: expert, consensus or model;
    `models`: fingerprint of its step; `members`: which of its step's family it is; `figures`: figure -> value, what a
    release is decided by; `ensembles`: modality -> how its members differ (stages.evaluate.members). `best_expert`:
    modality -> subject; `champion`: the release judged under that name, `apart`: modality -> why it was not;
    `remarks`: what looks suspicious; `rehearsals`: whom pilots trained how far; `sheets`: model, or `columns` -> the
    space of its statistics; `slices`: figures of parts. None was not asked for. What keeps figures from proving (see
    stages.evaluate.grounds): `leaks`, subject -> what taught it; `untrue`, modality -> why its truth is none;
    `lacking`, subject -> input -> samples without it; `seen`, subject -> judged samples it knows; `unseen`."""

    noun: ClassVar[str] = "report"

    split: str
    lineage: Lineage = field(metadata=form(lambda value: Lineage(**value), _write_lineage))
    figures: Mapping[str, Mapping[str, float]]
    samples: int = 0
    truth: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    table: Sequence[Mapping[str, Any]] = ()
    classes: Sequence[Mapping[str, Any]] = ()
    best_expert: Mapping[str, str | None] = field(default_factory=dict)
    verdict: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    said: Sequence[str] = ()
    intervals: Mapping[str, Any] | None = None
    bounds: Mapping[str, Mapping[str, Sequence[float] | None]] | None = None
    seeds: Mapping[str, Mapping[str, Any]] | None = None
    differences: Sequence[Mapping[str, Any]] | None = None
    temporal: Mapping[str, Any] | None = None
    champion: str | None = None
    members: Mapping[str, str] | None = None
    leaks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    untrue: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    seen: Mapping[str, int] = field(default_factory=dict)
    unseen: Sequence[str] = ()
    rehearsals: Mapping[str, str] = field(default_factory=dict)
    apart: Mapping[str, str] | None = None
    remarks: Sequence[str] = ()
    sheets: Mapping[str, str] = field(default_factory=dict)
    slices: Sequence[Mapping[str, Any]] | None = None
    ensembles: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None


@dataclass(frozen=True)
class Released(Result):
    """A registered version, of a family that of `member`: `gate` are the decisions in words, `files` name -> path of
    what is handed out, `signature` what goes in and out, `made_of` the fingerprints of all steps that led to it,
    `learned` what its model goes back to."""

    noun: ClassVar[str] = "release"

    name: str
    subject: str
    passed: bool
    gate: Sequence[str]
    figures: Mapping[str, float]
    files: Mapping[str, str]
    loader: str
    example: str
    card: str
    signature: Mapping[str, Any]
    member: str | None = None
    made_of: Sequence[str] | None = None
    learned: Sequence[Lesson] | None = field(metadata=form(lessons, _write_lessons), default=None)


@dataclass(frozen=True)
class Drifted(Result):
    """Newer samples against those of the champion's training. `alarm`: do they differ by more than is allowed?
    `compared`: was there something to compare; `first`: is there no champion yet? `reasons` are sentences; `figures`:
    subject (a column, say) -> measure -> {"value", "threshold", "chance", "alarm"}; `rows` and `groups` are of the
    newer samples, `reference` is the fingerprint of the shards that they are compared with."""

    noun: ClassVar[str] = "drift report"

    alarm: bool
    compared: bool
    first: bool
    reasons: Sequence[str]
    figures: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    rows: int = 0
    groups: Sequence[str] = ()
    reference: str | None = None
    champion: str | None = None
