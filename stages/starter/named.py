"""Experts of the catalogue as a recipe is drafted from them: by name (`--expert deeplab-cityscapes`), or, where there
are pictures and nothing else to learn from, those whose weights came with an installed package.

Nothing is fetched and nothing is tried here: what an entry tells stands in the catalogue. Classes are the network's,
where the entry lists them, else those of `--classes`, else the entry's example, which is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyperloom.pipeline.errors import PluginError
from hyperloom.stages.label.catalogue import Entry, entries
from hyperloom.stages.label.packages.packaged import PACKAGES
from hyperloom.stages.starter.networks import NetworkLook, source_of
from hyperloom.stages.starter.outputs import Guess
from hyperloom.stages.starter.truth import NotUnderstood

AT_HAND = {"rapidocr-boxes": "writing", "blazeface": "faces"}
"""Entries for pictures whose package brings the weights -> what their boxes are called."""
PICTURE = ("rgb@camera",)


@dataclass
class NamedLook(NetworkLook):
    """An entry, as the recipe will write it."""

    def expert(self, column: str) -> dict[str, Any]:
        return {"type": "catalogue", "name": self.path, "in": column, "out": self.column}


def known(name: str) -> bool:
    """Is it an entry's name, rather than a file?"""
    return name in entries()


def named(name: str, classes: Sequence[str] = (), modality: str = "") -> NetworkLook:
    """The look of an entry. Raises NotUnderstood for one that reads something else than a picture."""
    one = entries()[name]
    if one.reads != PICTURE:
        raise NotUnderstood(
            f"{name} reads {' and '.join(one.reads)}, not pictures alone. Next: write it into the recipe: "
            f"hyperloom experts show {name}"
        )
    own = one.makes[0].partition("@")[0]
    definition = {key: value for key, value in one.modalities[own].items() if key != "size"}
    remarks = []
    if "classes" in definition:
        definition["classes"], remark = _classes(one, definition["classes"], classes)
        remarks += [remark] if remark else []
    guess = Guess(modality or own, definition, {}, remarks)
    return NamedLook(name, source_of(name), guess, "catalogue", {}, [f"{one.about}; licence {one.licence or 'free'}"])


def _classes(one: Entry, example: Sequence[str], given: Sequence[str]) -> tuple[list[str], str]:
    if given or one.classes:
        return list(given or one.classes), ""
    return list(example), f"classes: an example; it has {one.named}"


def at_hand() -> list[NetworkLook]:
    """Those whose package is installed."""
    looks: list[NetworkLook] = []
    for name, modality in AT_HAND.items():
        try:
            PACKAGES[entries()[name].expert["tool"]].files()
        except PluginError:
            continue
        looks.append(named(name, modality=modality))
    return looks
