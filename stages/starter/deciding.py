"""Deciding: from a folder and what the user gave to the text of a recipe."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.spelling import near
from hyperloom.stages.modality import imagefile
from hyperloom.stages.starter import named, networks, picture_recipe, table_recipe
from hyperloom.stages.starter.command import TASKS, NothingToLearn, for_file
from hyperloom.stages.starter.deciding_tables import drafted, table_of
from hyperloom.stages.starter.draft import Draft, settle, slug
from hyperloom.stages.starter.fields import TableLook
from hyperloom.stages.starter.given_split import GivenPin, by_folder, folder_words, pinned
from hyperloom.stages.starter.grouping import Grouping, grouped, held
from hyperloom.stages.starter.labels import divided, truths_of
from hyperloom.stages.starter.listed import FOLDER, class_folders
from hyperloom.stages.starter.questions import Questions
from hyperloom.stages.starter.readable import filled, left_out, readable, shortened
from hyperloom.stages.starter.survey import (
    DataFile,
    Survey,
    common,
    is_note,
    is_table,
    key,
    noted,
    spread,
    survey,
)
from hyperloom.stages.starter.truth import NotUnderstood, Truth

SAMPLES = 3
SHOWN = 6
"""Names of classes that are said."""
ONE_FILM = (
    "one film is one group, and a group is never cut: nothing is held out, so figures are of what was trained on and "
    "prove nothing. Next: cut it into films of a minute (ffmpeg -i film.mp4 -c copy -f segment -segment_time 60 "
    "part%03d.mp4) in a folder of their own, and init that"
)
EVERY, SHORT_FILMS = 5, 1000
"""Each so-manyth frame of a film is kept, unless all films together have fewer frames than this."""
TRIED = 12
"""Pictures that are tried where the first ones cannot be read."""
KIND_OF = {"depth": "dense"}
"""What a task is to a network's outputs, where it has another word."""


@dataclass
class RecipeDraft:
    """The recipe's text, what it is in words, and what is to be said on the way."""

    text: str
    what: str
    remarks: list[str] = field(default_factory=list)


def decided(folder: str, given: argparse.Namespace) -> RecipeDraft:
    """Raises SourceError, RecipeError, NothingToLearn, NotUnderstood."""
    if "${" in folder:
        raise NotUnderstood(
            f"{folder}: a recipe takes ${{..}} for a variable of the environment. Next: rename the folder"
        )
    if lost := next((p for p in given.labels if not os.path.exists(os.path.expanduser(p))), None):
        raise NotUnderstood(f"--labels {lost}: nothing is there. Next: correct the path")
    seen = survey(folder)
    labels = [noted(path) if is_note(path) else survey(path) for path in given.labels if not is_table(path)]
    sentences = [f"{seen.folder}: {seen.counted()}", *seen.unread()]
    questions = Questions.of(given.yes)
    table = table_of(seen, given, labels)
    if table is not None and (not seen.of("pictures") or _by_table(seen, table, given, labels)):
        draft, what = drafted(seen, table, given, questions)
        return RecipeDraft(table_recipe.written(draft), what, [*sentences, *draft.remarks])
    if seen.of("pictures"):
        return _pictures(seen, labels, given, questions, sentences)
    if seen.of("videos"):
        return _videos(seen, given, questions, sentences)
    if files := seen.of("sounds") or [f for f in seen.of("notes") if f.suffix.lower() == ".txt"]:
        if not given.task and (kinds := class_folders(files)):
            return _by_folder(seen, kinds, given, questions, sentences)
        raise NothingToLearn(
            f"{seen.folder} holds {seen.counted()}, and nothing says what they are. Next: --labels TABLE with the "
            "fields file and label, --task folder (the class is the folder's name), or --task '(?P<label>..)', a "
            f"regular expression for names such as {files[0].name}"
        )
    raise SourceError(f"{seen.folder} holds {seen.counted()}: no data. Next: give the folder in which it lies")


def _by_table(seen: Survey, table: TableLook, given: argparse.Namespace, labels: Sequence[Survey]) -> bool:
    """Does the table say what the pictures are, and nothing else does?"""
    _, maps, _ = divided(seen, labels)
    return not given.expert and not maps and table.files() is not None


def _by_folder(seen: Survey, kinds: list[str], given: Any, questions: Questions, sentences: list[str]) -> RecipeDraft:
    """Files whose folders are taken as classes, since nothing else says what they are."""
    given = argparse.Namespace(**{**vars(given), "task": [FOLDER]})
    table = table_of(seen, given, [])
    assert table is not None, "the rule makes one"
    draft, what = drafted(seen, table, given, questions)
    shown = ", ".join(kinds[:SHOWN]) + (f" and {len(kinds) - SHOWN} more" if len(kinds) > SHOWN else "")
    taken = f"nothing else says what they are, so the names of their folders are the classes: {shown}"
    draft.remarks.append(f"{taken}. Where they are not: --labels, --expert, or --task (init --help)")
    return RecipeDraft(table_recipe.written(draft), what, [*sentences, *draft.remarks])


def _pictures(
    seen: Survey, labels: Sequence[Survey], given: Any, questions: Questions, sentences: list[str]
) -> RecipeDraft:
    pictures, maps, notes = divided(seen, labels)
    if not pictures:
        raise SourceError(
            f"{seen.folder}: all pictures there are labels. Next: give the folder of the pictures themselves"
        )
    if unknown := next((t for t in given.task if (t.partition("=")[2] or t) not in TASKS), None):
        known = f"{', '.join(TASKS)}{near(unknown, TASKS)}"
        raise NotUnderstood(f"--task {unknown}: no such task of pictures and networks. Next: one of {known}")
    task = for_file([t for t in given.task if t in ("segmentation", "depth")], "")
    classes = [c for c in for_file([c for c in given.classes if "=" not in c], "").split(",") if c]
    truths, remarks = truths_of(pictures, maps, notes, classes, task, seen.folder, bool(labels))
    root, every, (pictures, empty) = common(pictures), pictures, filled(pictures, "pictures")
    _of_these(truths, {key(p, root) for p in pictures})
    samples, torn = readable([*spread(pictures, SAMPLES), *spread(pictures, TRIED)], _pixels, SAMPLES, "pictures")
    looks, problems = _looks(given, samples, questions)
    if not (truths or maps or given.expert or given.labels or given.task) and (kinds := class_folders(pictures, True)):
        return _by_folder(seen, kinds, given, questions, [*sentences, *empty])
    if not (truths or maps or given.expert) and (looks := named.at_hand()):
        problems.append("nothing was given to learn from, so packages that are installed label the pictures")
    sentences += [*empty, *torn, *remarks, *problems]
    _ask_names(truths, questions)
    labelled = sorted({k for t in truths for k in t.keys})
    grouping, pin = _grouping(pictures, root, labelled, given.group)
    draft = Draft(
        folder=seen.folder,
        name=given.name or slug(os.path.basename(seen.folder)),
        source=_source(every, root, grouping, seen),
        count=len(pictures),
        frame=_frame(samples),
        grouping=grouping,
        held=pin["test"] if pin else held(grouping, labelled),
        pin=pin,
        truths=truths,
        looks=looks,
        remarks=problems,
    )
    return _decision(draft, sentences, f"{counted(len(pictures), 'picture')}, {len(labelled)} with labels")


def _videos(seen: Survey, given: Any, questions: Questions, sentences: list[str]) -> RecipeDraft:
    from hyperloom.stages.ingest.source import path_safe

    films = seen.of("videos")
    samples, _ = readable([*spread(films, SAMPLES), *films], _first_frame, SAMPLES, "videos")
    files, lengths, torn = _films(films)
    sentences += torn
    root, several = common(films), len(files) > 1
    path = root if several else files[0].path
    looks, problems = _looks(given, samples, questions)
    every = EVERY if sum(lengths) >= SHORT_FILMS or not all(lengths) else 1
    kept = [-(-length // every) for length in lengths]
    source = {"type": "video", "path": path, "every": every}
    groups = [path_safe(key(f, root)) for f in files]  # as the source names them
    draft = Draft(
        seen.folder, given.name or slug(os.path.basename(seen.folder)), source, sum(kept), _frame(samples), looks=looks
    )
    draft.remarks = [*problems, *(["`every: 5` keeps each fifth frame"] if every > 1 else [])]
    if not several:
        draft.single = True
        draft.remarks.append(ONE_FILM)
    shortest = min(range(len(files)), key=lambda i: kept[i])
    draft.held = [groups[shortest]] if several else []
    draft.count -= kept[shortest] if several else 0
    return _decision(
        draft, [*sentences, *problems, *([] if several else [ONE_FILM])], f"frames of {counted(len(files), 'video')}"
    )


def _decision(draft: Draft, sentences: list[str], what: str) -> RecipeDraft:
    if not draft.truths and not draft.looks:
        raise NothingToLearn(
            f"{draft.folder}: {what}, and nothing to learn from"
            + "".join(f"\n  {text}" for text in draft.remarks)
            + f"\nNext: hyperloom init {draft.folder} --labels DIR (label maps or boxes of a few of them, named like "
            "them), or --expert net.onnx, or --expert NAME (hyperloom experts); pip install "
            "'hyperloom[experts-small]' brings an expert of writing that needs neither"
        )
    settle(draft)
    tasks = ", ".join(f"{name} ({d['type']})" for name, d in draft.modalities.items())
    lines = [f"{t.column}: {len(t.keys)} samples; {'; '.join(t.remarks) or t.type}" for t in draft.truths]
    lines += [f"{one.column}: {'; '.join([*one.remarks, *one.guess.remarks]) or 'as it is'}" for one in draft.looks]
    if draft.grouping:
        lines.append(f"{len(draft.grouping.sizes)} groups ({draft.grouping.why}), {len(draft.held)} held out")
    return RecipeDraft(picture_recipe.written(draft), f"{what}; learns {tasks}", [*sentences, *lines])


def _looks(given: Any, samples: list[np.ndarray], questions: Questions) -> tuple[list[networks.NetworkLook], list[str]]:
    """The networks that are understood, and what is to be said of the others."""
    looks: list[networks.NetworkLook] = []
    problems: list[str] = []
    for path in given.expert:
        task = for_file(given.task, path)
        names = [n for n in for_file(given.classes, path).split(",") if n]
        try:
            if named.known(path):
                looks.append(named.named(path, names))
                continue
            one = networks.look(path, samples, KIND_OF.get(task, task), names)
            if one.guess.open and not task:
                now = "dense" if one.guess.definition["type"] == "dense" else "segmentation"
                if questions.choice(f"{one.source}: what does it tell?", [now, one.guess.open]) != now:
                    one = networks.look(path, samples, one.guess.open, names)
            if one.rivals:
                _ask_scale(one, questions)
            one.guess.sparse &= task != "depth"
            looks.append(one)
        except NotUnderstood as error:
            problems.append(str(error))
    return looks, problems


def _ask_scale(one: networks.NetworkLook, questions: Questions) -> None:
    now = next(name for name, scale in networks.SCALES.items() if scale.items() <= one.preprocess.items() or not scale)
    answer = questions.choice(f"{one.source}: which pixels does it want?", [now, *one.rivals])
    if answer in one.rivals:
        one.preprocess, one.rivals = one.rivals[answer], {}


def _of_these(truths: Sequence[Truth], keys: Collection[str]) -> None:
    """Leave the labels of other samples out."""
    for truth in truths:
        truth.keys = [k for k in truth.keys if k in keys]


def _ask_names(truths: Sequence[Truth], questions: Questions) -> None:
    for truth in truths:
        classes = truth.classes
        if classes and all(name == f"class{i}" for i, name in enumerate(classes)):
            answer = questions.line(f"Names of the {len(classes)} classes, with commas between?", ",".join(classes))
            names = [n.strip() for n in answer.split(",")]
            if len(names) == len(classes):
                truth.definition["classes"] = names


def _grouping(pictures: Sequence[DataFile], root: str, labelled: Sequence[str], rule: str) -> tuple[Grouping, GivenPin]:
    """The groups of the pictures, and what of them folders hold out by their names."""
    if not rule:
        words = folder_words(pictures, root)
        pin = pinned(words, labelled or list(words))
        return (by_folder(words) if pin else grouped(pictures, root, labelled)), pin
    import re

    try:
        matches = {key(f, root): re.search(rule, f"{key(f, root)}{f.suffix}") for f in pictures}
        groups = {k: m["group"] for k, m in matches.items() if m}
    except (re.error, IndexError) as error:
        raise NotUnderstood(f"--group {rule!r}: {error}. Next: a regular expression with (?P<group>...)") from error
    if lost := next((k for k, m in matches.items() if not m), None):
        raise NotUnderstood(f"--group {rule!r} does not match {lost}. Next: correct it")
    from hyperloom.stages.ingest.source import path_safe

    return Grouping(rule, {k: path_safe(g) for k, g in groups.items()}, "as --group says"), {}


def _source(pictures: Sequence[DataFile], root: str, grouping: Grouping, seen: Survey) -> dict[str, Any]:
    """The source without its columns: a folder where that holds nothing else, else a pattern, else names. Empty
    pictures are among them, for the run to put in quarantine."""
    source: dict[str, Any] = {"type": "files", "path": root}
    inside = [p for p in seen.of("pictures") if f"{p.path}".startswith(f"{root}{os.sep}")]
    if len(inside) > len(pictures):
        suffixes = {p.suffix for p in pictures}
        suffix = next(iter(suffixes))
        if len(suffixes) == 1 and sum(p.suffix == suffix for p in inside) == len(pictures):
            flat = all(p.folder == root for p in pictures)
            source["path"] = f"{root}/{'' if flat else '**/'}*{suffix}"
        else:
            source["only"] = [key(p, root) for p in pictures]
    if grouping.pattern:
        source["group"] = grouping.pattern
    return source


def _pixels(path: str) -> np.ndarray:
    with open(path, "rb") as file:
        return imagefile.colours(file.read(), path)


def _first_frame(path: str) -> np.ndarray:
    import cv2

    capture = cv2.VideoCapture(path)
    good, frame = capture.read()
    capture.release()
    if not good:
        raise ValueError("it has no frame")
    return np.ascontiguousarray(frame[..., ::-1])


def _films(files: Sequence[DataFile]) -> tuple[list[DataFile], list[int], list[str]]:
    """Those that can be read, their frames as the files say, 0 where one does not, and what is to be said of others."""
    lengths: dict[DataFile, int] = {}
    torn: list[str] = []
    for file in files:
        length = _length(file)
        try:
            if not length:
                _first_frame(file.path)
        except ValueError as error:
            torn.append(left_out(file.name, error))
        else:
            lengths[file] = length
    return list(lengths), list(lengths.values()), shortened(torn, "videos")


def _length(file: DataFile) -> int:
    """Frames of a film, as its file says; 0 where it does not."""
    import cv2

    capture = cv2.VideoCapture(file.path)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return max(0, count)


def _frame(samples: Sequence[np.ndarray]) -> tuple[int, int]:
    """The most frequent size of the samples."""
    sizes = Counter(s.shape[:2] for s in samples)
    height, width = sizes.most_common(1)[0][0]
    return height, width
