"""Pairing: which file beside a picture holds its label, and the template by which a source finds it.

A label's name is a picture's with something before or after it (`IMG 7.jpg`, `IMG 7_mask.png`), in the same folder, in
another one, or in a tree of the same form. The most frequent such rule counts; files that it does not reach are said.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hyperloom.pipeline.root.filelist import normal
from hyperloom.stages.starter.survey import DataFile, common, key, spread

TRIED = 25
"""Label files whose names are compared with those of all pictures."""


@dataclass(frozen=True)
class Pairing:
    """`template` finds the label of a picture (`{stem}` or `{key}`); `pairs` has the label file by the picture's key;
    `lost` are label files of no picture."""

    template: str
    pairs: dict[str, DataFile]
    lost: list[DataFile]


def paired(pictures: Sequence[DataFile], root: str, labels: Sequence[DataFile]) -> Pairing | None:
    """How the labels belong to the pictures below `root`; None where no name fits."""
    if not pictures or not labels:
        return None
    suffix = Counter(f.suffix for f in labels).most_common(1)[0][0]
    mine = [f for f in labels if f.suffix == suffix]
    tries = [_by(style, pictures, root, mine, suffix) for style in ("key", "stem")]
    best = max((t for t in tries if t), key=lambda t: len(t.pairs), default=None)
    if best is None:
        return None
    used = {f.path for f in best.pairs.values()}
    return Pairing(best.template, best.pairs, [f for f in labels if f.path not in used])


def _by(style: str, pictures: Sequence[DataFile], root: str, labels: list[DataFile], suffix: str) -> Pairing | None:
    """By the relative name below the labels' own folder, or by the name alone."""
    base = common(labels)
    if style == "stem" and len({f.stem for f in pictures}) < len(pictures):
        return None  # one label for several pictures
    if style == "stem" and any(f.folder != base for f in labels):
        return None
    names = {normal(key(p, root) if style == "key" else p.stem): key(p, root) for p in pictures}
    owned = {normal(key(f, base) if style == "key" else f.stem): f for f in labels}
    affix = _affix(names, [normal(key(f, base) if style == "key" else f.stem) for f in spread(labels, TRIED)])
    if affix is None:
        return None
    before, after = affix
    pairs = {}
    for name, picture in names.items():
        folder, _, stem = name.rpartition("/")
        expected = f"{folder}/{before}{stem}{after}" if folder else f"{before}{stem}{after}"
        if expected in owned:
            pairs[picture] = owned[expected]
    if not pairs or (style == "key" and before and "/" in "".join(names)):
        return None  # `{key}` holds folders, so nothing can be written before the name
    template = f"{escaped(base)}/{escaped(before)}{{{style}}}{escaped(after)}{escaped(suffix)}"
    return Pairing(template, pairs, [])


def _affix(names: dict[str, str], labels: list[str]) -> tuple[str, str] | None:
    """What most labels have before and after a picture's name."""
    stems = sorted({name.rpartition("/")[2] for name in names}, key=len, reverse=True)
    votes: Counter[tuple[str, str]] = Counter()
    for label in labels:
        folder, _, stem = label.rpartition("/")
        if label in names:
            votes["", ""] += 1
            continue
        for own in stems:  # the longest name that fits
            if own and own in stem:
                before, _, after = stem.partition(own)
                if (f"{folder}/{own}" if folder else own) in names or not folder:
                    votes[before, after] += 1
                    break
    return votes.most_common(1)[0][0] if votes else None


def escaped(text: str) -> str:
    """A text as it stands in a template or a pattern of a recipe."""
    return text.replace("{", "{{").replace("}", "}}")


def shown(file: DataFile, folder: str) -> str:
    """A file's name for a person."""
    return os.path.relpath(file.path, folder)
