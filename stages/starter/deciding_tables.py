"""Deciding about tables: rows, and sounds, pictures or texts that a table names, or whose names say what they are."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.starter.draft import slug, small
from hyperloom.stages.starter.fields import FILED, TableField, TableLook, look, target
from hyperloom.stages.starter.listed import is_rule, listed
from hyperloom.stages.starter.questions import Questions
from hyperloom.stages.starter.readable import readable
from hyperloom.stages.starter.survey import DataFile, Survey, is_table, spread
from hyperloom.stages.starter.table_recipe import TableDraft
from hyperloom.stages.starter.truth import NotUnderstood

NAMED = 3
"""Tables that are named."""
HEADERS = 1000
"""Sounds whose length is looked at."""


def table_of(seen: Survey, given: Any, labels: Sequence[Survey]) -> TableLook | None:
    """The table that says what is to be learned: a list by rule, the one that the user named, else the largest in the
    folder that names files, or the largest of all where there are no files. None where there is none."""
    rule = next((t for t in given.task if is_rule(t)), "")
    if rule:
        files = seen.of("pictures") or seen.of("sounds") or [f for f in seen.of("notes") if f.suffix.lower() == ".txt"]
        if not files:
            raise SourceError(f"--task {rule}: {seen.folder} holds no pictures, sounds or texts. Next: another folder")
        return look(listed(files, rule, seen.folder), [seen.folder])
    paths = [os.path.abspath(os.path.expanduser(p)) for p in given.labels if is_table(p)]
    paths += [f.path for s in (*labels, seen) for f in s.of("tables")]
    paths.sort(key=lambda p: -os.path.getsize(p))
    places = [seen.folder, *dict.fromkeys(f.folder for f in (*seen.of("pictures"), *seen.of("sounds")))]
    looks = [look(path, places) for path in paths[:5]]
    naming = next((one for one in looks if one.files()), None)
    files_there = seen.of("pictures") or seen.of("sounds") or seen.of("videos")
    return naming or (None if files_there or not looks else looks[0])


def drafted(seen: Survey, table: TableLook, given: Any, questions: Questions) -> tuple[TableDraft, str]:
    """The draft, and what it is in words. Raises NotUnderstood."""
    tasks = [t for t in given.task if not is_rule(t) and "=" not in t]
    learned = target(table, tasks[-1] if tasks else "")
    if not tasks and len(table.fields) > 2:
        others = [f.name for f in table.fields if f.kind in ("category", "scalar") and f is not learned]
        answer = questions.choice(
            f"Which field of {os.path.basename(table.path)} is to be learned?", [learned.name, *others]
        )
        learned = target(table, answer)
    _apart(table, learned)
    if given.group:
        _group(table, given.group, learned)
    draft = TableDraft(seen.folder, given.name or slug(os.path.basename(seen.folder)), table, learned)
    if table.split and not given.group and table.split != learned.name:
        draft.take_given_split()
    draft.twins = _twins(draft)
    draft.remarks += [*_unused(draft), *_taken(table, learned, given), *_further(seen, table)]
    if not draft.features:
        raise NotUnderstood(
            f"{table.path}: nothing is left to tell {learned.name} from. Next: a table with more fields"
        )
    paths = _paths(table)
    if paths and draft.pictures:
        sides, torn = readable(paths, _sides, 1, "pictures")
        draft.sides = small(sides[0])
        draft.remarks += torn
    elif paths:
        headers, torn = readable(paths, _header, len(paths), "sounds")
        draft.sound = _sound(headers)
        draft.remarks += torn
    draft.hold_out()
    what = f"{len(table.content)} rows of {os.path.basename(table.path)}, {draft.labelled} with {learned.name}"
    return draft, f"{what}; learns {learned.name} ({learned.kind}) from {', '.join(f.name for f in draft.features)}"


def _unused(draft: TableDraft) -> list[str]:
    """Fields from which nothing is learned, and why."""
    table, remarks = draft.table, list[str]()
    unused = [f.name for f in table.fields if not f.kind and f.name not in (table.key, table.group)]
    if unused:
        remarks.append(f"not used, as they are neither numbers, classes, texts nor files: {', '.join(unused)}")
    dates = [f.name for f in table.fields if f.kind == "time" and f.name not in (table.key, table.group, table.time)]
    if dates:
        remarks.append(f"not used, as nothing is learned from dates: {', '.join(dates)}")
    if (key := table.named(table.key)) is not None and key.kind == "scalar":
        remarks.append(f"{key.name} numbers the rows: it names them, and nothing is learned from it")
    if draft.twins:
        names = ", ".join(draft.twins)
        remarks.append(f"nothing is learned from {names}, which is {draft.target.name} by other names")
    return remarks


def _twins(draft: TableDraft) -> list[str]:
    """Fields with as many values as the classes to learn, each of them beside one class and it beside no other: what is
    learned from them is their spelling."""
    return [one.name for one in draft.features if _same(draft.table, one, draft.target)]


def _same(table: TableLook, one: TableField, learned: TableField) -> bool:
    if one.kind in FILED or learned.kind != "category":
        return False
    rows = [row for row in table.content.values() if learned.among(row) and one.among(row)]
    pairs = {(str(row[one.name]), str(row[learned.name])) for row in rows}
    values, classes = ({pair[side] for pair in pairs} for side in (0, 1))
    return len(values) == len(classes) == len(pairs) > 1


def _apart(table: TableLook, learned: TableField) -> None:
    """Let neither what rows belong to nor their names be the field to learn, also by another name: a class that is
    held out whole is never learned."""
    others = [f for f in table.owners() if f.name not in (learned.name, table.split)]
    table.group = next((f.name for f in others if not _same(table, f, learned)), "")
    table.key = "" if table.key == learned.name else table.key


def _further(seen: Survey, table: TableLook) -> list[str]:
    """What is to be said of tables that are not used, and of letters."""
    others = [f.name for f in seen.of("tables") if f.path != table.path]
    named = ", ".join(others[:NAMED]) + (", .." if len(others) > NAMED else "")
    remarks = [f"not used: {named} (--labels TABLE takes another one)"] if others else []
    if encoding := table.dialect.get("encoding"):
        remarks.append(f"its text is no UTF-8 and read as {encoding}: where letters are wrong, correct `encoding`")
    return remarks


def _taken(table: TableLook, learned: TableField, given: Any) -> list[str]:
    """What cells and a field are taken for, where that is a guess."""
    remarks = []
    if nothing := table.dialect.get("missing"):
        blank = ", ".join(word or "blanks" for word in nothing)
        remarks.append(f"{blank} in its cells: no value (`missing` of the source; take out what is a class)")
    for name, words in table.worded.items():
        listed = ", ".join(words)
        remarks.append(
            f"{listed} in {name}: no value (`missing` of that column); of another field it seems to be a class"
        )
    if thousands := table.dialect.get("thousands"):
        decimal = table.dialect.get("decimal", ".")
        remarks.append(
            f"{thousands!r} in its numbers marks thousands, and {decimal!r} fractions (fields of the source)"
        )
    if learned.unknown:
        remarks.append(f"{counted(learned.unknown, 'row')} with {learned.name} -1 are taken for rows without one")
    if table.group and not given.group and table.group != table.split:
        remarks.append(
            f"{table.group} says what belongs together: all of one is held out or none, and nothing is learned from "
            "it; --group with another field changes that"
        )
    return remarks


def _group(table: TableLook, name: str, learned: TableField) -> None:
    """Group rows by the field `name`, or by its times, into which periods TableDraft.hold_out chooses."""
    field = table.named(name)
    if field is None:
        raise NotUnderstood(f"{table.path} has no field {name!r}. Next: --group with one of its fields")
    if field.name == learned.name:
        raise NotUnderstood(
            f"--group {name}: {learned.name} is the field to learn, and what is held out whole is never learned. "
            "Next: --group with another field, or --task with another one"
        )
    table.by_time = field.kind == "time"
    if table.by_time:
        table.group, table.time = "", field.name
    else:
        table.group = field.name


def _paths(table: TableLook) -> list[DataFile]:
    """The pictures or sounds that the table names, a few."""
    named = table.files()
    if named is None:
        return []
    cells = spread([DataFile(cell, cell) for cell in named.cells], HEADERS)
    return [DataFile(p, c.name) for c in cells if os.path.isfile(p := os.path.join(named.folder, c.path))]


def _sides(path: str) -> tuple[int, int]:
    from hyperloom.stages.modality import imagefile

    with open(path, "rb") as file:
        height, width = imagefile.colours(file.read(), path).shape[:2]
    return height, width


def _sound(headers: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """Rate and length of sounds: the most frequent rate, 16 kHz at most, and a length that none or few exceed."""
    rates, lengths = [rate for rate, _ in headers], [seconds for _, seconds in headers]
    rate = min(16000, max(set(rates), key=rates.count))
    usual, longest = sorted(lengths)[int(0.95 * (len(lengths) - 1))], max(lengths)
    seconds = longest if longest <= 2 * usual else usual  # a few that are far longer make all of them mostly silence
    return rate, math.ceil(100 * min(10.0, max(0.1, seconds))) / 100


def _header(path: str) -> tuple[int, float]:
    """Rate and seconds of a sound. Raises ValueError for a torn one, SourceError where nothing here can read it."""
    try:
        import soundfile

        about = soundfile.info(path)
        return int(about.samplerate), float(about.frames / about.samplerate)
    except ImportError:
        import wave

        if not path.lower().endswith(".wav"):
            raise SourceError(f"{path}: reading it needs pip install 'hyperloom[audio]'") from None
        try:
            with wave.open(path) as file:
                return file.getframerate(), file.getnframes() / file.getframerate()
        except (wave.Error, EOFError) as error:
            raise ValueError(str(error)) from error
    except RuntimeError as error:
        raise ValueError(str(error)) from error
