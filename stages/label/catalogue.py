"""The catalogue: named experts, pinned and licensed, that a recipe asks for by name.

    - {type: catalogue, name: depth-anything-v2-small, in: rgb@camera, out: depth@da}

An entry (`catalogue.yaml`) says where the weights are had and pinned, how pictures are prepared and answers read, which
classes there are, the licence and the size. The line above *is* the expert that the entry writes out (`hyperloom
experts show NAME`), with the same identity; whatever else the line says overrules the entry's field: `gpus`, `labels`,
`threshold`, `batch`. The file is read when a recipe or a command asks for it, and never before.

A `revision` in an entry is a commit that is publicly known. Where there is none, the branch is resolved when the model
is first planned, and pinned in the root from then on (`stages.label.hub.pins`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from hyperloom.pipeline.errors import PluginError
from hyperloom.pipeline.spelling import near
from hyperloom.stages.label.expert import Expert

FILE = Path(__file__).with_name("catalogue.yaml")
TASKS = (
    "depth", "semantic", "instances", "open-vocabulary", "detection", "faces", "edges", "normals", "flow", "colour",
    "classification", "caption", "image-embedding", "text-embedding", "text", "speech", "sound",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """`expert` is what a recipe would write; `modalities` an example of those that it reads and makes, by the name that
    `columns` use; `size_mb` of the weights, 0 for none; `install` the extra that it needs; `commands` what else."""

    name: str
    task: str
    about: str
    licence: str
    expert: Mapping[str, Any]
    modalities: Mapping[str, Mapping[str, Any]]
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    size_mb: float = 0
    classes: tuple[str, ...] = ()
    named: str = ""
    """Which classes these are, in words; those of the recipe for an open vocabulary."""
    speed: str = ""
    install: str = ""
    commands: str = ""
    also: tuple[str, ...] = field(default=())
    """Under which names other collections of experts have it."""

    @property
    def pin(self) -> str:
        """What fixes the weights."""
        expert = self.expert
        if expert.get("sha256"):
            return f"sha256 {expert['sha256'][:12]}"
        if expert.get("model"):
            revision = expert.get("revision", "")
            return f"commit {revision[:12]}" if revision else "at its first plan, in your root"
        return "with its package" if expert["type"] == "packaged" else "no weights"

    @property
    def line(self) -> dict[str, Any]:
        """As a recipe writes it."""
        reads, makes = ((v[0] if len(v) == 1 else list(v)) for v in (self.reads, self.makes))
        return {"type": "catalogue", "name": self.name, "in": reads, "out": makes}

    def written(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The expert that a recipe's line stands for; what the line says comes before what the entry does."""
        line = {key: value for key, value in given.items() if key not in ("type", "name")}
        expert: dict[str, Any] = {**self.expert, **({"licence": self.licence} if self.licence else {})}
        decode = expert.get("decode")
        if decode and "decode" not in line:
            out = line.get("out", ())
            one = {
                **decode,
                **({"labels": line.pop("labels")} if decode["type"] == "named" and "labels" in line else {}),
            }
            expert["decode"] = one if isinstance(out, str) else [one for _ in out]
        return {**expert, **line}


class CatalogueExpert(Expert):
    """`{type: catalogue, name: ..., in: ..., out: ...}`, and any field of the expert that it stands for."""

    model_config = ConfigDict(extra="allow")
    name: str = Field(json_schema_extra=lambda schema: _list_names(schema))

    @classmethod
    def written_out(cls, value: dict[str, Any]) -> dict[str, Any]:
        name = value.get("name")
        return entry(name).written(value) if isinstance(name, str) else value


def _list_names(schema: dict[str, Any]) -> None:
    schema["enum"] = sorted(entries())


def entry(name: str) -> Entry:
    """Raises PluginError for a name that nobody knows."""
    known = entries()
    if name not in known:
        hint = near(name, list(known)) or ". Next: hyperloom experts lists them"
        raise PluginError(f"the catalogue has no expert {name!r}{hint}")
    return known[name]


def usual_classes(count: int) -> tuple[str, tuple[str, ...]] | None:
    """The set that networks of so many classes are trained on most: its name, its classes; None for other counts."""
    for name, classes in _written(FILE)["classes"].items():
        named = tuple(c for c in classes if c is not None)
        if len(named) == len(classes) == count and len(set(named)) == count:
            return name, named
    return None


@cache
def entries() -> dict[str, Entry]:
    """All entries by name, in the order of their tasks."""
    written = _written(FILE)
    read = [_entry(name, dict(about), written["classes"]) for name, about in written["experts"].items()]
    return {one.name: one for one in sorted(read, key=lambda one: TASKS.index(one.task))}


@cache
def _written(file: Path) -> dict[str, Any]:
    import yaml

    loaded: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


def _entry(name: str, about: dict[str, Any], sets: Mapping[str, list[str | None]]) -> Entry:
    expert, named = dict(about.pop("expert")), str(about.get("named", ""))
    classes = sets.get(named, ())
    if expert.get("decode", {}).get("type") == "named":
        expert["decode"] = {**expert["decode"], "names": list(classes)}
    several: dict[str, Any] = {key: tuple(_each(about.pop(key, ()))) for key in ("reads", "makes", "also")}
    return Entry(name=name, expert=expert, classes=tuple(c for c in classes if c is not None), **several, **about)


def _each(value: Any) -> Iterator[str]:
    yield from ([value] if isinstance(value, str) else value)
