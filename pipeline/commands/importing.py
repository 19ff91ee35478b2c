"""`hyperloom import`: the directory of another tool becomes a recipe, and the recipe runs; or what people changed in
Label Studio, CVAT or a COCO file comes back as a column of theirs."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import run


def add(commands: Any) -> None:
    sub = commands.add_parser("import", help="read a directory of VRE or Dronescapes, or what people changed")
    sub.add_argument("directory", help="with a folder for each representation; a file of Label Studio, CVAT, COCO")
    sub.add_argument("--from", dest="source", choices=("vre", "label-studio", "cvat", "coco"), default="vre")
    sub.add_argument("--recipe", help="the recipe to write and run (DIRECTORY's name.yaml); that people answered for")
    sub.add_argument("--root", help="use this root instead of the recipe's ./runs")
    sub.add_argument("--no-mlflow", action="store_true", help="leave MLflow for a later run to catch up with")
    people = sub.add_argument_group("what people changed")
    people.add_argument("--column", default="", help="of people (semantic@human); the one that went out")
    people.add_argument("--confirmed", action="store_true", help="what they looked at and left is an answer too")
    people.add_argument("--who", default="", help="where the file does not say who answered")
    people.add_argument("--max-quarantine", type=float, default=0.2, help="share of pictures not understood (0.2)")
    sub.set_defaults(command=_import, step=None, wait=60.0, long=True)


def _import(given: Any) -> int:
    if given.source != "vre":
        return _people(given)
    from hyperloom.stages.data.command import import_

    return import_(given, run.run)


def _people(given: Any) -> int:
    from hyperloom.pipeline.commands import opening
    from hyperloom.pipeline.errors import RecipeError
    from hyperloom.stages.people.command import bring_back

    if not given.recipe:
        raise RecipeError("what people changed belongs to a recipe. Next: --recipe with the one that was exported")
    loaded, storage = opening.load(given, begins=True)
    return bring_back(given, loaded, storage)
