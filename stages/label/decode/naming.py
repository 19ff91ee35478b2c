"""The answer of a network whose classes have names: the decoder follows from the modality that is made of it.

An entry of the catalogue knows what the network calls its classes and not what a recipe calls its own. So classes go by
name (`labels` renames them, null leaves one out), and the same line makes a segmentation, soft labels, a category,
several labels or boxes, as the column's modality is.
"""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plugins import parse
from hyperloom.stages.label.decode.choices import CLASSES, SEVERAL
from hyperloom.stages.label.decode.decoders import Decoder
from hyperloom.stages.label.hub.maps import class_map


def decoder_of(modality: Any) -> str | None:
    """The decoder of scores of classes that makes values of `modality`; None where there is none."""
    if modality.soft:
        return "probabilities"
    if modality.categorical and len(modality.shape) == 2:
        return "classes"
    return "choice" if modality.measure in (*CLASSES, *SEVERAL) and len(modality.shape) < 2 else None


class NamedDecoder(Decoder):
    """`{type: named, names: [road, tree, sky], labels: {tree: vegetation}}`."""

    names: tuple[str | None, ...]
    """The network's classes in their order; null for channels that mean nothing."""
    labels: dict[str, str | None] = {}
    """The network's class -> the modality's, null for none; what is not listed keeps its name, whatever its case."""
    scores: str | int | None = None
    """The tensor of scores, where `tensor` holds ids."""
    boxes: dict[str, JsonValue] = {}
    """The decoder that makes boxes of it, where there is one."""
    settings: dict[str, JsonValue] = {}
    """More fields of the decoder that is chosen."""

    def revised(self) -> int:
        named = [self.labels.get(name, name) for name in self.names if name is not None]
        alike = [name.casefold() for name in named if name is not None]
        several = not self.boxes and len(set(alike)) < len(alike)  # as of `choice`, which it may stand for
        return super().revised() + several

    def meant(self, modality: Any, column: str) -> Decoder:
        kind = decoder_of(modality)
        fields: dict[str, Any] = {"tensor": self.tensor, "layout": self.layout}
        if self.boxes:
            kind = str(self.boxes["type"]) if modality.measure == "boxes" else None
            fields = dict(self.boxes)
        if kind is None:
            raise RecipeError(f"{column}: the classes of this network make no {modality.type}")
        if modality.soft and self.scores is not None:
            fields["tensor"] = self.scores
        known = modality.counted if kind == "choice" else modality.classes
        named = {i: name for i, name in enumerate(self.names) if name is not None}
        table = class_map(named, known, self.labels) or {i: known[i] for i in named}
        listed = tuple(table.get(i) for i in range(len(self.names)))
        return parse("decoder", {"type": kind, **fields, **self.settings, "map": listed})
