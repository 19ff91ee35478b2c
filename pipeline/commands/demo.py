"""`hyperloom demo`: the demo that is part of the package, run in the working folder; needs no checkout."""

from __future__ import annotations

import json
import os
from typing import Any

from hyperloom.pipeline.commands import run

COPY = "hyperloom-demo.yaml"
"""The recipe in the working folder, so that every other command has a short name for it."""
ROOT = "./hyperloom-demo"


def add(commands: Any) -> None:
    help_ = f"run the demo in the working folder: it writes {COPY} and works under {ROOT}"
    sub = commands.add_parser("demo", help=help_, description=help_)
    sub.add_argument("--root", help=f"use this root (a folder or an fsspec URL) instead of {ROOT}")
    run.add_options(sub)
    sub.set_defaults(command=_demo)


def _demo(given: Any) -> int:
    """Copy the recipe, unless a copy is there (it may have been changed), and run it."""
    given.recipe = COPY
    if os.path.lexists(COPY):
        print(f"{COPY} is there: going on with it", flush=True)
    else:
        _write(given.root or ROOT)
    return run.run(given)


def _write(root: str) -> None:
    from hyperloom.pipeline.errors import RecipeError
    from hyperloom.pipeline.recipes import packaged

    text = packaged.recipe("demo").replace("\nroot: ./runs\n", f"\nroot: {json.dumps(root)}\n", 1)
    try:
        with open(COPY, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise RecipeError(f"cannot write {os.path.abspath(COPY)}: {error}. Next: change to another folder") from error
    print(f"wrote {COPY}", flush=True)
