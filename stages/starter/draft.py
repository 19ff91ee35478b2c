"""The draft: all that `init` has found out and decided, before it is written as a recipe."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from hyperloom.stages.modality import Size
from hyperloom.stages.starter.given_split import GivenPin
from hyperloom.stages.starter.grouping import Grouping
from hyperloom.stages.starter.networks import NetworkLook
from hyperloom.stages.starter.truth import Truth

FEW = 0.5
"""Where less than this share of the samples has a label, the teacher learns from those alone."""
SHORT, MULTIPLE = 96, 16
"""Pixels of the shorter side of what is learned, and what both sides are a multiple of."""
AUGMENT = ["flip", {"type": "colour", "brightness": 0, "exposure": 0.4}]
"""Of pictures: a factor of the light, since a shift turns dark pictures black."""
LARGEST = 1024
"""Pixels of the longer side of what networks see."""


@dataclass
class Draft:
    """A recipe over pictures, or over frames of videos. `source` is that of the ingest step, without `columns`."""

    folder: str
    name: str
    source: dict[str, Any]
    count: int
    """Samples that are not held out, as far as names and films tell; 0 where they do not."""
    frame: Size
    """Height and width of the pictures."""
    grouping: Grouping | None = None
    held: list[str] = field(default_factory=list)
    pin: GivenPin = field(default_factory=dict)
    """What the folders themselves hold out."""
    truths: list[Truth] = field(default_factory=list)
    looks: list[NetworkLook] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """Of the whole; they stand at the recipe's head."""

    single: bool = False
    """All samples are one group, so that none can be held out."""

    @property
    def small(self) -> Size:
        """The size of what is learned."""
        return small(self.frame)

    @property
    def photo(self) -> Size:
        """The size of what networks see: the pictures' own, within bounds."""
        scale = min(1.0, LARGEST / max(self.frame))
        return round(self.frame[0] * scale), round(self.frame[1] * scale)

    @property
    def few(self) -> list[str]:
        """Keys of the labelled samples, where the teacher has only them to learn from and they are few."""
        keys = sorted({k for t in self.truths for k in t.keys})
        return keys if keys and not self.looks and len(keys) < FEW * self.count else []

    def learnable(self, few: bool) -> int:
        """Samples that are not held out; `few`: of those that the teacher learns from. At least 1."""
        if self.grouping is None:
            return self.count
        keys = self.few if few and self.few else list(self.grouping.groups)
        out = {group for groups in self.pin.values() for group in groups} | set(self.held)
        return max(1, sum(self.grouping.groups[k] not in out for k in keys))

    @property
    def sources(self) -> dict[str, list[NetworkLook]]:
        """The networks by the modality that they tell."""
        table: dict[str, list[NetworkLook]] = {}
        for one in self.looks:
            table.setdefault(one.guess.modality, []).append(one)
        return table

    @property
    def modalities(self) -> dict[str, dict[str, Any]]:
        """What is told, by truth or by networks, without sizes."""
        definitions = {t.modality: t.definition for t in self.truths}
        return definitions | {m: looks[0].guess.definition for m, looks in self.sources.items() if m not in definitions}

    def truth(self, modality: str) -> Truth | None:
        return next((t for t in self.truths if t.modality == modality), None)

    def pseudo(self, modality: str) -> str:
        """The column that stands for the networks of a modality: their consensus, or the only one."""
        looks = self.sources.get(modality, [])
        return f"{modality}@consensus" if len(looks) > 1 else looks[0].column if looks else ""

    @property
    def teaches(self) -> bool:
        """Is there a teacher? With one network and no truth the student learns from that network."""
        return bool(self.truths) or len(self.looks) > 1


def small(frame: Size) -> Size:
    """The size in which pictures of a size are learned from."""
    scale = SHORT / min(frame)
    return _multiple(frame[0] * scale), _multiple(frame[1] * scale)


def slug(text: str) -> str:
    """A recipe's name from any text, letters without their marks: `Straßen & Möwen` is `strassen-mowen`."""
    letters = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_-]+", "-", letters).strip("-_")[:40] or "mine"


def settle(draft: Draft) -> None:
    """Give networks that say different things modalities of their own, and map classes of one name onto the truth's."""
    for one in draft.looks:
        truth = draft.truth(one.guess.modality)
        if truth is not None and not _mapped(one, truth):
            one.guess.modality += f"_{one.source}"
    sources: dict[str, int] = {}
    for one in draft.looks:
        others = [o for o in draft.looks if o is not one and o.guess.modality == one.guess.modality]
        if any(o.guess.definition != one.guess.definition for o in others):
            one.guess.modality += f"_{one.source}"
        sources[one.column] = sources.get(one.column, 0) + 1
        if sources[one.column] > 1:
            one.source += str(sources[one.column])


def _mapped(one: NetworkLook, truth: Truth) -> bool:
    """Does the network tell what the truth tells? Then its classes are mapped by name where they differ."""
    definition = one.guess.definition
    if definition["type"] != truth.type:
        return False
    own, target = definition.get("classes", []), truth.classes
    if own == target and own:
        return True
    if definition["type"] != "segmentation":  # numbers of another unit, boxes of other classes: another modality
        return definition == truth.definition
    lower = {name.casefold(): name for name in target}
    mapped = [lower.get(name.casefold()) for name in own]
    if one.guess.unnamed or len({m for m in mapped if m}) < 2:
        return False
    one.guess.decode["map"] = mapped
    one.guess.definition = dict(truth.definition)
    alone = [n for n in target if n not in mapped]
    lost = (
        f"; nothing of it means {', '.join(alone[:8])}: where another name does, write that into map" if alone else ""
    )
    one.remarks.append(f"map: its classes by the names of the labels, null where there is none of that name{lost}")
    return True


def _multiple(side: float) -> int:
    return max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE)
