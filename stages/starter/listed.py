"""Lists: files whose folder or name says what they are, written down as a table that a source reads.

`--task folder` takes the folder's name as the class (`cat/1.jpg`), `--task '(?P<label>\\d)_(?P<group>[^_]+)'` what a
regular expression finds in the relative name.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence

from hyperloom.stages.starter.given_split import WORDS, folder_words
from hyperloom.stages.starter.survey import LIST, DataFile, key
from hyperloom.stages.starter.truth import NotUnderstood

FOLDER = "folder"
FEWEST, MOST, FEW = 2, 200, 3
"""Folders that may be classes: how many there are, and files in each at least."""
NO_CLASS = {
    *(word for words in WORDS.values() for word in words), "images", "image", "img", "imgs", "pictures", "photos",
    "frames", "rgb", "raw", "data", "left", "right", "audio", "sounds", "wav", "text", "texts",
}  # fmt: skip


def class_folders(files: Sequence[DataFile], named: bool = False) -> list[str]:
    """Names of the folders that files lie in, where these may well be classes: each file in one, a few files in each,
    none called like a split or a kind of data. With `named` most must be words without a number, as folders of
    pictures are often days or drives. Empty where they may not."""
    counts = Counter(os.path.basename(os.path.dirname(file.name)) for file in files)
    names = sorted(counts)
    fitting = (
        FEWEST <= len(names) <= MOST and min(counts.values()) >= FEW and not NO_CLASS & {n.casefold() for n in names}
    )
    words = sum(not re.search(r"\d", name) for name in names) > len(names) / 2
    return names if fitting and "" not in counts and (words or not named) else []


def is_rule(task: str) -> bool:
    return task == FOLDER or "(?P<label>" in task


def listed(files: Sequence[DataFile], task: str, folder: str) -> str:
    """Write the table into `folder`; its path. Raises NotUnderstood where the rule does not fit."""
    words = folder_words(files, folder)
    rows = [_row(file, task, words.get(key(file, folder), "")) for file in files]
    if len({row[1] for row in rows if row[1]}) < 2:
        raise NotUnderstood(f"--task {task}: all files would be of one class ({rows[0][1]!r}). Next: another rule")
    grouped = any(row[2] for row in rows)
    path = os.path.join(folder, LIST)
    with open(path, "w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["file", "label", *(["group"] if grouped else [])])
        table.writerows(row if grouped else row[:2] for row in rows)
    return path


def _row(file: DataFile, task: str, split: str) -> tuple[str, str, str]:
    """Name, class, and the group, which is that of the rule or else the `split` that a folder names."""
    if task == FOLDER:
        return file.name, os.path.basename(os.path.dirname(file.name)), split
    try:
        match = re.search(task, file.name)
    except re.error as error:
        raise NotUnderstood(f"--task {task!r} is no regular expression: {error}") from error
    if match is None:
        return file.name, "", split
    return file.name, match["label"], match["group"] if "group" in match.re.groupindex else split
