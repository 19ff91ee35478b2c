"""The commands about data: `hyperloom import`, `hyperloom export`, `hyperloom data show|head|stats|export|tag|diff`.

Each imports what it needs when it runs. Opening the recipe and its root is the command line's (`pipeline.commands`),
which hands in `load` and `steps`; nothing here knows Ray or MLflow.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import RecipeError, StepFailed
from hyperloom.stages.data import versions

LAYOUTS = (
    "vre",
    "dronescapes",
    "png",
    "parquet",
    "huggingface",
    "webdataset",
    "csv",
    "jsonl",
    "manifest",
    "coco",
    "coco-panoptic",
    "cvat",
    "label-studio",
    "yolo",
    "voc",
    "labelme",
    "colour-masks",
    "folders",
)
"""Layouts of an export: arrays, collections (`stages.data.collection_export`), and what annotation tools read."""
Load = Callable[[Any], tuple[Any, Any]]
"""Given the parsed arguments: the recipe and its storage."""
StepResolver = Callable[[Any, Any], list[Any]]
"""Given recipe and storage: the planned steps."""
Send = Callable[[Any, Any, Any, Any], int]
"""Given the parsed arguments, recipe, storage and planned steps: samples go out to people."""
TOOLS = ("label-studio", "cvat", "coco")
"""Whom `--to` sends samples to, instead of naming a folder."""


def add(
    command: Callable[..., argparse.ArgumentParser], commands: Any, load: Load, steps: StepResolver, send: Send
) -> None:
    """Add the commands to a parser; `send` exports to people. `command(parent, name, function, help)` makes one
    that takes a recipe."""
    data = commands.add_parser("data", help="look at a step's samples: show, head, stats, export, tag, diff")
    kinds = data.add_subparsers(metavar="KIND", required=True)

    def of_step(name: str, function: Callable[[Any, Any, Any], int], help_: str, parent: Any) -> Any:
        def run(given: Any) -> int:
            loaded, storage = load(given)
            return function(given, loaded, _reader(given, storage, steps(loaded, storage)))

        sub = command(parent, name, run, help_)
        sub.add_argument("step", help="an ingest, label, consensus or shard step of the recipe")
        sub.add_argument("--columns", nargs="+", metavar="COLUMN", default=(), help="only these (rgb@camera ...)")
        return sub

    def export(given: Any) -> int:
        loaded, storage = load(given)
        planned = steps(loaded, storage)
        if given.to in TOOLS:
            return send(given, loaded, storage, planned)
        return _export(given, loaded, _reader(given, storage, planned))

    def show(given: Any) -> int:
        loaded, storage = load(given)
        return _show(given, loaded, storage, steps(loaded, storage))

    sub = command(kinds, "show", show, "a picture: samples down; pictures, truth, labels and predictions across")
    sub.add_argument("step", help="an ingest, label, consensus or shard step of the recipe")
    sub.add_argument("--columns", nargs="+", metavar="COLUMN", default=(), help="only these, of whatever steps")
    sub.add_argument("--to", metavar="FILE", help="the PNG to write (one under the root)")
    _add_rows(sub)
    _add_rows(of_step("head", _head, "a table of the first samples", kinds))
    of_step("stats", _stats, "figures of each column: share missing, mean, deviation, range, classes", kinds)
    versions.add(command, kinds, load, steps)
    for parent in (kinds, commands):
        _add_export(command(parent, "export", export, "write a step's columns for other tools, or send them to people"))


def _add_rows(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--rows", type=int, default=8, help="samples (8)")
    sub.add_argument("--start", type=int, default=0, help="the first of them (0)")


def _add_export(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("step", help="an ingest, label, consensus or shard step of the recipe")
    sub.add_argument("--columns", nargs="+", metavar="COLUMN", default=(), help="only these (rgb@camera ...)")
    sub.add_argument(
        "--to", required=True, metavar="DIR", help=f"folder or fsspec URL to write below, or {', '.join(TOOLS)}"
    )
    sub.add_argument("--layout", choices=LAYOUTS, default="vre")
    people = sub.add_argument_group("to people (label-studio, cvat, coco), with what a column says as pre-annotations")
    people.add_argument("--out", metavar="DIR", default="", help="folder or URL (one under the root)")
    people.add_argument("--picture", metavar="COLUMN", default="", help="what they see (the first pictures of ingest)")
    people.add_argument("--order", metavar="COLUMN", default="", help="a number: samples with the highest go first")
    people.add_argument("--only", metavar="COLUMN", default="", help="a number: only samples where it is above 0")
    people.add_argument("--most", type=int, metavar="N", default=0, help="only the first N")
    people.add_argument("--again", action="store_true", help="also samples that people have answered")
    people.add_argument(
        "--folder", default="", help="where Label Studio serves the pictures from, below its document root"
    )


def import_(given: Any, run: Callable[[Any], int]) -> int:
    """Write the recipe of a VRE or Dronescapes directory, unless it is there already, and run it."""
    from hyperloom.stages.data import importer

    name = os.path.basename(os.path.abspath(given.directory))
    given.recipe = given.recipe or f"{name}.yaml"
    if os.path.exists(given.recipe):
        print(f"{given.recipe} is there: going on with it")
    else:
        pattern, representations = importer.representations(given.directory)
        text = importer.recipe(name, pattern, representations)
        try:
            with open(given.recipe, "x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise RecipeError(f"cannot write {given.recipe}: {error}. Next: give another with --recipe") from error
        print(f"wrote {given.recipe}: {', '.join(r.column for r in representations)}")
    return run(given)


def _reader(given: Any, storage: Any, planned: Sequence[Any]) -> tuple[Any, Any]:
    """The step's manifest and a reader of its samples. Raises RecipeError, StepFailed when it has not run."""
    read = reader(storage, planned, given.step, given.recipe, given.columns)
    return next(s.manifest for s in planned if s.name == given.step), read


def reader(storage: Any, planned: Sequence[Any], name: str, recipe: str, columns: Sequence[str]) -> Any:
    """A reader of the samples of the step `name`. Raises RecipeError, StepFailed when it has not run."""
    from hyperloom.stages.data.reader import SampleReader
    from hyperloom.stages.results import Ingested, Shards

    step, by_name = versions.named(name, planned, recipe), {s.name: s for s in planned}
    if step.manifest is None:
        raise _not_done(step, recipe)
    above = [by_name[n] for n in _above(name, by_name)]
    for source in (s for s in above if s.is_source and not Shards.of(step.manifest)):  # they have keys and groups
        if source.manifest is None:
            raise _not_done(source, recipe)
    ingests = [s.manifest for s in above if s.manifest and Ingested.of(s.manifest)]
    return SampleReader(storage, name, step.manifest, ingests, columns)


def _not_done(step: Any, recipe: str) -> StepFailed:
    why = "; ".join(step.why)
    return StepFailed(f"the step {step.name!r} is not done ({why}). Next: hyperloom run {recipe}")


def _above(name: str, by_name: dict[str, Any]) -> list[str]:
    """The step and all that it reads, directly or not."""
    names, queue = dict.fromkeys([name]), [name]
    while queue:
        for read in by_name[queue.pop()].reads:
            if read not in names:
                names[read] = None
                queue.append(read)
    return list(names)


def _show(given: Any, loaded: Any, storage: Any, planned: Sequence[Any]) -> int:
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.data.look import across, beside, picture
    from hyperloom.stages.data.shelf import Shelf
    from hyperloom.stages.data.students import StudentAnswers

    own = reader(storage, planned, given.step, given.recipe, ()).columns
    shelf = Shelf(storage, planned, loaded.recipe.modalities)
    students = StudentAnswers(shelf, planned)
    columns = list(given.columns) or beside(shelf, students, own)
    if {*columns, *(own if not given.columns else ())} <= {*shelf.columns, *students.columns}:
        data = across(shelf, students, columns, range(len(shelf))[given.start : given.start + given.rows])
    else:  # columns that only these shards know
        rows = reader(storage, planned, given.step, given.recipe, given.columns).head(given.rows, given.start)
        data = picture(rows, loaded.recipe.modalities)
    inside = f"shown/{loaded.recipe.name}/{given.step}.png"  # a source may read all of the working folder
    path = os.path.abspath(given.to) if given.to else storage.full(inside)
    if given.to:
        Storage(os.path.dirname(path)).write(os.path.basename(path), data)
    else:
        storage.write(inside, data)
    given.answer = {"path": path}
    print(f"wrote {path}")
    return 0


def _head(given: Any, loaded: Any, read: Any) -> int:
    from hyperloom.pipeline.output.tables import table
    from hyperloom.stages.data.look import head

    given.answer = head(read[1].head(given.rows, given.start), loaded.recipe.modalities)
    print(table(given.answer))
    return 0


def _stats(given: Any, loaded: Any, read: Any) -> int:
    from hyperloom.pipeline.output.tables import table
    from hyperloom.stages.data.look import statistics

    manifest, reader = read
    given.answer = statistics(manifest, reader, loaded.recipe.modalities)
    print(table(given.answer))
    return 0


def _export(given: Any, loaded: Any, read: Any) -> int:
    from hyperloom.stages.data.export import export
    from hyperloom.stages.data.target import ExportTarget
    from hyperloom.stages.remarks import collected

    target = ExportTarget(given.to)
    with collected() as counts:
        count = export(read[1], loaded.recipe.modalities, target, given.layout)
    others = target.others()
    given.answer = {"files": count, "to": given.to, "remarks": dict(counts), "others": len(others)}
    print(f"wrote {counted(count, 'file')} below {given.to}")
    for text, times in counts.items():
        print(f"{counted(times, 'time')}: {text}")
    if others:
        print(
            f"{counted(len(others), 'file')} beside them did not come from this export, such as {others[0]}: whoever "
            "reads the folder takes them for part of it. Next: remove them, or export into a folder of its own"
        )
    return 0
