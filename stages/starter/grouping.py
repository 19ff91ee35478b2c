"""Grouping: what belongs together, so that a held-out sample has no twin in training; and which groups are held out.

Samples of one drive, patient or burst look alike, and a split that cuts such a run flatters every figure. A folder is a
group where there are several; else what a name says before its number; else runs of consecutive numbers; else each
file is its own. The rule is a regular expression, as the source `files` takes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hyperloom.pipeline.counting import counted
from hyperloom.stages.ingest.source import path_safe
from hyperloom.stages.starter.survey import DataFile, key

FEWEST, MOST = 3, 400
"""Groups: as many must there be for a split to mean something; and not so many that each is a unit of nothing."""
LARGEST = 0.7
"""No group may hold a larger share."""
HELD = 0.2
ALONE = r"(?P<group>[^/]+)\.[^./]+$"
NUMBERED = r"(?P<group>[^/]*?[^/\d])[ _.-]*(?P<index>\d+)\.[^./]+$"
BRACKETED = r"(?P<group>[^/]+?)[ _.-]*[(\[](?P<index>\d+)[)\]]\.[^./]+$"
"""As file managers number what they copy: `beach (12).jpg`."""
FOLDER_RULE = ""
"""A source without a pattern groups by folder."""


@dataclass(frozen=True)
class Grouping:
    """`pattern` of the source, empty for folders; the group of each sample by key; why, in words."""

    pattern: str
    groups: dict[str, str]
    why: str

    @property
    def sizes(self) -> Counter[str]:
        return Counter(self.groups.values())


def grouped(files: Sequence[DataFile], root: str, labelled: Sequence[str] = ()) -> Grouping:
    """The first rule that makes enough groups, none of which holds nearly all; also of the labelled samples, where
    there are some."""
    for pattern, why in _rules(files, root):
        groups = _applied(pattern, files, root)
        if groups is None:
            continue
        for among in (list(groups), [k for k in labelled if k in groups]):
            if among and not _even(Counter(groups[k] for k in among)):
                break
        else:
            return Grouping(pattern, groups, why)
    alone = {key(f, root): path_safe(f.stem) for f in files}
    return Grouping(
        ALONE, alone, "each file is a group of its own; where several show one scene, --group keeps them in one split"
    )


def held(grouping: Grouping, labelled: Sequence[str] = ()) -> list[str]:
    """Groups to hold out: about a fifth of the samples (of the labelled ones, where there are some), spread over all,
    never all but one."""
    among = [k for k in labelled if k in grouping.groups] or list(grouping.groups)
    sizes = Counter(grouping.groups[k] for k in among)
    target, order = max(1, round(HELD * len(among))), sorted(sizes)
    chosen: list[str] = []
    count = 0
    step = max(1, len(order) // max(1, round(HELD * len(order))))
    for group in [*order[step // 2 :: step], *order]:
        if count >= target or len(chosen) >= len(order) - 1:
            break
        if group not in chosen and count + sizes[group] <= 2 * target + 1:
            chosen.append(group)
            count += sizes[group]
    return sorted(chosen or [min(order, key=lambda g: (sizes[g], g))] if len(order) > 1 else [])


def _rules(files: Sequence[DataFile], root: str) -> Iterator[tuple[str, str]]:
    if any("/" in key(f, root) for f in files):
        yield FOLDER_RULE, "each folder is a group"
        yield r"^(?P<group>[^/]+)/", "each of the upper folders is a group"
    yield NUMBERED, "a group is what stands before the last number of a name"
    yield BRACKETED, "a group is what stands before the number in brackets"
    for digits in (1, 2, 3):
        tail = rf"\d{{{digits}}}\.[^./]+$"
        yield (
            rf"(?P<group>[^/]*\d){tail}",
            f"names that differ only in their last {'digit' if digits == 1 else f'{digits} digits'} are one group",
        )
    if len(files) <= MOST:
        return
    for letters in (2, 1):
        yield (
            rf"(?P<group>[^/]{{{letters}}})[^/]*$",
            f"names that begin alike are a group, by {counted(letters, 'letter')}",
        )


def _applied(pattern: str, files: Sequence[DataFile], root: str) -> dict[str, str] | None:
    """Key -> group; None where the pattern does not fit every name, or two files of a group get one index."""
    groups, places = {}, set()
    for file in files:
        name = f"{key(file, root)}{file.suffix}"
        if not pattern:
            group = key(file, root).rpartition("/")[0] or "all"
        elif (match := re.search(pattern, name)) is None:
            return None
        else:
            group = match["group"]
            if "index" in match.re.groupindex:
                if (group, int(match["index"])) in places:
                    return None
                places.add((group, int(match["index"])))
        groups[key(file, root)] = path_safe(group)
    return groups


def _even(sizes: Counter[str]) -> bool:
    return FEWEST <= len(sizes) <= MOST and max(sizes.values()) <= LARGEST * sum(sizes.values())
