"""Truth: what a person has said of some samples, as a modality of a recipe and the side files that hold it.

Maps are looked at by their numbers: whole ones up to 255 are classes, more bits are depths or other measurements. What
follows from a guess is a remark, which stands in the recipe beside the line that it made.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.exits import Exit
from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.modality import imagefile
from hyperloom.stages.modality.formats import decode_array
from hyperloom.stages.starter.survey import ARRAYS, DataFile, spread

OPENED = 200
"""Label files of which the numbers are looked at."""
UNNAMED = "the names of the classes are not known: write them into `classes`, in this order, or give --classes a,b,.."
NAMES = (
    "classes",
    "labels",
    "names",
    "label_names",
    "class_names",
    "categories",
    "label_map",
    "labelmap",
    "data",
    "obj",
)
MILLIMETRES = 256
"""Whole numbers beyond this are no classes but a measurement, most often millimetres."""


@dataclass
class Truth:
    """A column `modality@truth`: its definition, its side files as a recipe writes them, the keys of the samples that
    have one, and what is to be said beside it."""

    modality: str
    definition: dict[str, Any]
    side: dict[str, Any]
    keys: list[str]
    remarks: list[str] = field(default_factory=list)

    @property
    def column(self) -> str:
        return f"{self.modality}@truth"

    @property
    def type(self) -> str:
        return str(self.definition["type"])

    @property
    def classes(self) -> list[str]:
        return list(self.definition.get("classes", ()))


class NotUnderstood(HyperloomError):
    """Labels or a network that `init` cannot put into a recipe: says which, and the line that mends it."""

    exit_code = Exit.WRONG


def map_truth(
    template: str, pairs: dict[str, DataFile], near: NamesFile | None, task: str = "", given: Sequence[str] = ()
) -> Truth:
    """Of label maps: classes or a measurement. `near` is the file of names beside them, `given` are the user's. Raises
    NotUnderstood, naming a file."""
    files = spread(list(pairs.values()), OPENED)
    maps = [(f, _numbers(f)) for f in files]
    coloured = next((f for f, a in maps if a.ndim == 3 and a.shape[-1] in (3, 4)), None)
    if coloured is not None:
        raise NotUnderstood(
            f"{coloured.path} holds colours, not class numbers. Next: write each class as its number (0, 1, ...) into "
            "a grey PNG, 255 where nobody knows; with NumPy: ids[(rgb == (128, 64, 128)).all(-1)] = 3"
        )
    known = [a[np.isfinite(a)] for _, a in maps]
    known = [a for a in known if a.size]
    if not known:
        raise NotUnderstood(f"{files[0].path} and {len(files) - 1} more hold no number. Next: mend or remove them")
    whole = all((a == np.rint(a)).all() for a in known if a.dtype.kind == "f") and task != "depth"
    low, high = min(float(a.min()) for a in known), max(float(a.max()) for a in known)
    if whole and low >= -1 and high < MILLIMETRES and task in ("", "segmentation"):
        return _classes(template, list(pairs), known, near, given)
    return _measured(template, list(pairs), [a for _, a in maps], (low, high), whole)


def _classes(template: str, keys: list[str], maps: Any, near: NamesFile | None, given: Sequence[str]) -> Truth:
    numbers = sorted({int(i) for a in maps for i in np.unique(a)})
    ids = [i for i in numbers if i >= 0]
    known, nothing = [i for i in ids if i != UNKNOWN], [i for i in numbers if i < 0]
    side: dict[str, Any] = {"path": template}
    remarks = []
    names = list(given) or (near.names if near else [])
    counted_from_one = not given and near is not None and near.first == 1
    named = bool(known) and known[-1] < len(names) + counted_from_one  # of many classes two may be all that is seen
    binary = (known == [0] and UNKNOWN in ids) or (len(ids) == 2 and ids[1] > 2 * len(ids) and not named)
    if binary:
        side["remap"] = {ids[1]: 1}
        names = from_one(names) if counted_from_one and len(names) == 1 else names
        names = names if len(names) == 2 else ["background", "object"]
        known = [0, 1]
        remarks.append(f"{ids[1]} in the files is taken as class 1")
    elif known and known[-1] > 2 * len(known) + 2 and not names:
        side["remap"] = {i: at for at, i in enumerate(known) if i != at}
        remarks.append(f"the files hold the numbers {known}, which are counted from 0 here")
        known = list(range(len(known)))
    elif counted_from_one:
        names = from_one(names)
        remarks.append(f"names are numbered from 1 in {near.path if near else ''}, so 0 is called {names[0]}")
    count = known[-1] + 1 if known else 0
    extra = [i for i in known if i >= len(names)] if names else []
    if extra:
        remarks.append(f"{extra} in the files has no name and is taken as unknown")
    if nothing:
        remarks.append(f"{nothing} in the files is no class and is taken as unknown")
    side |= {"void": [*nothing, *extra]} if nothing or extra else {}
    classes = names or [f"class{i}" for i in range(max(2, count))]
    if not names:
        remarks.append(UNNAMED)
    elif not given:
        remarks.append("names as in the file beside the labels" if "remap" not in side else UNNAMED)
    return Truth("semantic", {"type": "segmentation", "classes": classes}, side, keys, remarks)


def from_one(names: Sequence[str]) -> list[str]:
    """Names that are numbered from 1, by their numbers: with one before them."""
    return ["nothing" if "background" in names else "background", *names]


def _measured(
    template: str, keys: list[str], arrays: list[np.ndarray], span: tuple[float, float], whole: bool
) -> Truth:
    low, high = span
    side: dict[str, Any] = {"path": template}
    channels = arrays[0].shape[-1] if arrays[0].ndim == 3 else 1
    definition: dict[str, Any] = {"type": "dense"}
    if channels > 1:
        definition["channels"] = channels
    holes = any(not np.isfinite(a).all() for a in arrays)
    nothing = f"NaN and infinity mean unknown, as {-_rounded(2 * max(-low, high)):g} would"
    if channels > 1 or low < 0:
        definition |= {"unknown": -_rounded(2 * max(-low, high))} if holes else {}
        what = ["is it a direction, flow, ...? See docs/modalities.md"] if channels > 1 else []
        return Truth("map", definition, side, keys, [*what, *([nothing] if holes else [])])
    remarks = []
    if whole and high >= MILLIMETRES:
        side["scale"], definition["unit"], high = 0.001, "m", high / 1000
        remarks.append("whole numbers, taken as millimetres: another unit has another scale")
    if holes or any((a == 0).any() for a in arrays):
        definition["unknown"] = 0
        remarks.append("0 means unknown" + (", and so do NaN and infinity" if holes else ""))
    definition["range"] = [0, _rounded(high)]
    return Truth("depth", definition, side, keys, remarks)


def _rounded(high: float) -> float | int:
    """A number a little above `high`, with one digit that counts."""
    if high <= 0:
        return 1
    scale = 10.0 ** np.floor(np.log10(high))
    top = float(np.ceil(high * 1.05 / scale) * scale)
    return int(top) if top >= 1 else top


def _numbers(file: DataFile) -> np.ndarray:
    """The numbers of a label file as they are stored. Raises NotUnderstood."""
    try:
        with open(file.path, "rb") as opened:
            data = opened.read()
        if file.suffix.lower() in ARRAYS:
            return decode_array(data, "", file.path)
        return imagefile.numbers(data, file.path)
    except (OSError, ValueError) as error:
        raise NotUnderstood(f"{file.path} cannot be read as a label: {error}. Next: mend or remove it") from error


class NamesFile(NamedTuple):
    """Names of classes in their order, the file that has them, and the number of the first, 0 where they have none."""

    names: list[str]
    path: str
    first: int


def names_of(folders: Sequence[str]) -> NamesFile | None:
    """Names of classes in a file beside labels or a network."""
    for folder in dict.fromkeys(folders):
        for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            base, suffix = os.path.splitext(entry.lower())
            if base not in NAMES or suffix not in (".txt", ".names", ".json", ".yaml", ".yml"):
                continue
            first, names = _named(os.path.join(folder, entry))
            if names:
                return NamesFile(names, os.path.join(folder, entry), first)
    return None


def read_names(path: str) -> list[str]:
    """Names of a file: one a line; a list; or names under `names`, `classes` or `labels`; perhaps by number, and then
    in that order, `class{i}` where a number has none. Empty where it holds none, or numbers of lines have a hole."""
    return _named(path)[1]


def _named(path: str) -> tuple[int, list[str]]:
    """The number of the first, and the names."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
        if path.lower().endswith((".txt", ".names")):
            return _lines(text.strip().splitlines())
        value = _loaded(path, text)
    except (OSError, ValueError):
        return 0, []
    while isinstance(value, dict):
        inner = next((value[k] for k in ("names", "classes", "labels", "id2label", "categories") if k in value), None)
        if inner is None:
            break
        value = inner
    if isinstance(value, dict) and value and all(str(k).isdecimal() for k in value):
        return _in_order(_filled({int(k): v for k, v in value.items()}))
    if isinstance(value, list) and value and all(isinstance(v, dict) and "name" in v for v in value):
        ids = [v.get("id") for v in value]
        if all(isinstance(i, int) and i >= 0 for i in ids) and len(set(ids)) == len(ids):
            return _in_order(_filled({v["id"]: str(v["name"]) for v in value}))
        value = [v["name"] for v in value]
    strings = isinstance(value, list) and all(isinstance(v, str) for v in value)
    return 0, [str(v) for v in value] if strings else []


def _lines(lines: Sequence[str]) -> tuple[int, list[str]]:
    """Names a line. Where each line begins with a number of its own, that says which class it is."""
    if not all(line.strip() for line in lines):
        return 0, []  # which line is which class is not known
    numbered = [re.fullmatch(r"(\d+)[\s:,]+(\S.*)", line.strip()) for line in lines]
    table = {int(match[1]): match[2] for match in numbered if match}
    first, names = _in_order(table) if len(table) == len(lines) else (0, [line.strip() for line in lines])
    return first, names if len(set(names)) == len(names) and all(len(name) < 60 for name in names) else []


def _filled(table: dict[int, Any]) -> dict[int, Any]:
    """With `class{i}` for each number that has no name, so that every name stays that of its number."""
    if not table or max(table) >= MILLIMETRES:
        return table
    return {i: table.get(i, f"class{i}") for i in range(min(table) if min(table) <= 1 else 0, max(table) + 1)}


def _in_order(table: dict[int, Any]) -> tuple[int, list[str]]:
    """Names by number; none where there is a hole, which would move the names behind it."""
    numbers = sorted(table)
    if not numbers or numbers[-1] - numbers[0] != len(numbers) - 1 or numbers[0] > 1:
        return 0, []
    names = [table[number] for number in numbers]
    return numbers[0], names if all(isinstance(name, str) for name in names) else []


def _loaded(path: str, text: str) -> Any:
    if path.lower().endswith(".json"):
        return json.loads(text)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
