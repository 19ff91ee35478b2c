"""A split that the data bring along: folders such as `train/` and `test/`, or a field of a table with such words.

Whoever dealt the samples knew what belongs together, and figures of others are of what he held out. So it is taken as
it is: his test, or where nobody may see its labels his validation, is what the recipe judges on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from hyperloom.stages.ingest.source import path_safe
from hyperloom.stages.shard.splits import SplitName
from hyperloom.stages.starter.grouping import Grouping
from hyperloom.stages.starter.survey import DataFile, key

WORDS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_PLACES: dict[str, SplitName] = {word: place for place, words in WORDS.items() for word in words}
GivenPin = dict[SplitName, list[str]]


def place(word: str) -> SplitName | None:
    """The split of a word, which may have a year (`val2017`); None for another word."""
    return _PLACES.get(re.sub(r"[ _-]?\d{4}$", "", word.strip().casefold()))


def is_split(words: Collection[str]) -> bool:
    """Do the words deal samples to training and to something else?"""
    places = {place(word) for word in words}
    return None not in places and "train" in places and len(places) > 1


def folder_words(files: Sequence[DataFile], root: str) -> dict[str, str]:
    """By key of each file the first of its folders that names a split; empty unless all files have one, of several."""
    words: dict[str, str] = {}
    for file in files:
        folders = key(file, root).split("/")[:-1]
        word = next((folder for folder in folders if place(folder)), None)
        if word is None:
            return {}
        words[key(file, root)] = word
    return words if is_split(set(words.values())) else {}


def by_folder(words: Mapping[str, str]) -> Grouping:
    """The groups of files by such folders."""
    names = "|".join(re.escape(word) for word in sorted(set(words.values())))
    why = "the folders say which pictures are for training and which are held out; --group deals them anew"
    return Grouping(rf"(?:^|/)(?P<group>{names})/", {name: path_safe(word) for name, word in words.items()}, why)


def pinned(words: Mapping[str, str], labelled: Collection[str]) -> GivenPin:
    """What of a split is pinned, by the groups that the words make: `test` is judged, `val` looked at by trainings.
    `words` are those of all samples, `labelled` the samples with something to learn. Empty where training or what is
    held out has none of them."""
    known = {words[name] for name in labelled if name in words}
    groups: GivenPin = {}
    for word in sorted(set(words.values())):
        where = place(word)
        if where is not None and (word in known or where == "train"):
            groups.setdefault(where, []).append(path_safe(word))
    if not any(place(word) == "train" for word in known):
        return {}
    train, held = groups.pop("train", []), groups
    if "test" not in held and "val" in held:
        held = {"test": held["val"]}
    return held if train else {}
