"""Import: looks at a directory of VRE or Dronescapes and writes the recipe that reads it.

The recipe is the only thing made here: its ingest step (source `arrays`) then reads the frames like any other data, so
an import can be interrupted, repeated, extended by new frames and continued with further steps. What a representation
is follows from a few of its frames: uint8 of three channels is an image, integers are classes, floats are maps;
`normals` are directions, two channels of `flow` are displacements; one axis is a vector of numbers or the yes and no of
several labels. Guesses stand in the recipe, to be corrected there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.ingest.arrays import ARRAYS, BELOW, FRAME
from hyperloom.stages.ingest.sidefile import fetch
from hyperloom.stages.modality.formats import decode_array

if TYPE_CHECKING:
    import numpy as np

LOOKED_AT = 16
"""Frames of each representation that are opened."""
CAMERA = "rgb"


@dataclass(frozen=True)
class Representation:
    """A folder of frames: what it seems to hold, as a recipe's modality without a size, its column, and height and
    width of what are maps."""

    folder: str
    modality: dict[str, Any]
    size: tuple[int, ...] = ()

    @property
    def column(self) -> str:
        """`depth@marigold` of `depth_marigold`; without a source of its own it is `vre`, and the picture `camera`."""
        name, _, source = re.sub(r"[^a-z0-9_]+", "_", self.folder.lower()).strip("_").partition("_")
        return f"{name}@{source or ('camera' if name == CAMERA else 'vre')}"


def representations(path: str) -> tuple[str, list[Representation]]:
    """The pattern that a source needs for `path`, and what lies there. Raises SourceError when there are no frames."""
    for pattern in (path.rstrip("/"), f"{path.rstrip('/')}/*"):
        folders: dict[str, list[str]] = {}
        for folder in sorted(p for p in glob(f"{pattern}/*") if os.path.isdir(p)):
            if frames := _frames(folder):
                folders.setdefault(os.path.basename(folder), []).extend(frames)
        if folders:
            return pattern, [_look(name, files) for name, files in folders.items()]
    raise SourceError(
        f"{path} holds no representations. Next: name a directory with a folder for each, such as {path}/rgb/npz/0.npz "
        f"(VRE) or {path}/rgb/scene_000000.npz (Dronescapes)"
    )


def recipe(name: str, pattern: str, representations: list[Representation], group: str = "scene") -> str:
    """The text of a recipe that reads `representations`."""
    import yaml

    maps = [r for r in representations if r.size]
    picture = next((r for r in maps if r.modality["type"] == "image"), (maps or representations)[0])
    modalities: dict[str, dict[str, Any]] = {}
    columns: dict[str, str] = {}
    for item in sorted(representations, key=lambda r: (r.modality["type"] != "image", r.folder)):
        modality, column = item.modality, item.column
        known = modalities.get(column.partition("@")[0])
        if known is not None and {k: v for k, v in known.items() if k != "size"} != modality:
            column = f"{re.sub(r'[^a-z0-9]+', '-', item.folder.lower())}@vre"  # same name, another meaning
        size = {"size": list(picture.size)} if item.size and picture.size else {}
        modalities.setdefault(column.partition("@")[0], {**modality, **size})
        columns[column] = item.folder
    source = {"type": "arrays", "path": pattern, "columns": columns}
    body = {
        "name": re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "imported",
        "root": "./runs",
        "modalities": modalities,
        "steps": {"frames": {"stage": "ingest", "source": source, "group": group}},
    }
    head = (
        f"# Read from {pattern}. What each representation is was guessed from {LOOKED_AT} of its frames: give classes\n"
        "# their names, maps their unit and range, then go on with further steps (see recipes/ for examples).\n"
    )
    return head + yaml.safe_dump(body, sort_keys=False, width=110, default_flow_style=None)


def _frames(folder: str) -> list[str]:
    for below in BELOW:
        frames = [p for s in ARRAYS for p in glob(f"{folder}/{below}/*{s}") if re.search(FRAME, _stem(p))]
        if frames:
            return sorted(frames)
    return []


def _stem(path: str) -> str:
    return os.path.basename(path).rpartition(".")[0]


def _look(folder: str, files: list[str]) -> Representation:
    """Open a few frames, spread over all. Raises SourceError when none of them can be read."""
    arrays: list[np.ndarray] = []
    error = ""
    for path in files[:: max(1, len(files) // LOOKED_AT)][:LOOKED_AT]:
        try:
            arrays.append(decode_array(fetch(path), "", path))
        except (ValueError, OSError) as problem:
            error = str(problem)
    if usable := [a for a in arrays if a.ndim in (2, 3)]:
        return Representation(folder, _modality(folder, usable), usable[0].shape[:2])
    if modality := _row(arrays):
        return Representation(folder, modality)
    shapes = ", ".join(sorted({f"{a.dtype} {list(a.shape)}" for a in arrays}))
    raise SourceError(
        f"no frame of {folder} can be read as a map or a vector: {error or f'they hold {shapes}'}. Next: remove it"
    )


def _row(arrays: list[np.ndarray]) -> dict[str, Any]:
    """Arrays of one axis and one length: numbers, or yes, no and unknown of some labels; nothing for others."""
    if {a.ndim for a in arrays} != {1} or len({len(a) for a in arrays}) != 1 or not len(arrays[0]):
        return {}
    if all(a.dtype.kind == "f" for a in arrays):
        return {"type": "vector", "length": len(arrays[0])}
    if all(a.dtype == "uint8" and set(a.tolist()) <= {0, 1, 255} for a in arrays):
        return {"type": "multilabel", "classes": [f"class{i}" for i in range(len(arrays[0]))]}
    return {}


def _modality(folder: str, arrays: Iterable[np.ndarray]) -> dict[str, Any]:
    arrays = list(arrays)
    first, name = arrays[0], folder.lower()
    channels = 1 if first.ndim == 2 else first.shape[-1]
    if first.dtype.kind in "ui":
        if channels == 3:
            return {"type": "image"}
        highest = max(int(a[a != 255].max(initial=0)) if a.dtype == "uint8" else int(a.max()) for a in arrays)
        return {"type": "segmentation", "classes": [f"class{i}" for i in range(min(highest, 253) + 1)]}
    if first.dtype.kind == "b":
        return {"type": "segmentation", "classes": ["no", "yes"]}
    if "semantic" in name and channels > 1:
        return {"type": "soft", "classes": [f"class{i}" for i in range(channels)]}
    if "normals" in name and channels == 3:
        return {"type": "dense", "channels": 3, "direction": True}
    extra = {"unit": "px"} if "flow" in name and channels == 2 else {}
    return {"type": "dense", "channels": channels, **extra, "storage": "float32"}
