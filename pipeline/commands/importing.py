"""`hyperloom import`: the directory of another tool becomes a recipe, and the recipe runs."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.commands import run


def add(commands: Any) -> None:
    sub = commands.add_parser("import", help="read a directory of Video Representations Extractor or Dronescapes")
    sub.add_argument("directory", help="with a folder for each representation")
    sub.add_argument("--recipe", help="the recipe to write and run (DIRECTORY's name.yaml)")
    sub.add_argument("--root", help="use this root instead of the recipe's ./runs")
    sub.add_argument("--no-mlflow", action="store_true", help="leave MLflow for a later run to catch up with")
    sub.set_defaults(command=_import, step=None, wait=60.0, long=True)


def _import(given: Any) -> int:
    from hyperloom.stages.data.command import import_

    return import_(given, run.run)
