"""What of a recipe reaches other machines: the working folder, and of paths only those from file to file below it."""

from __future__ import annotations

import os
from pathlib import Path

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.recipes.recipe import RecipeFile


def refuse_bases_elsewhere(loaded: RecipeFile) -> None:
    """Raise RecipeError, with the line, for a base that other machines would not find: it lies outside of the
    working folder, or its path is absolute."""
    here = Path.cwd()
    for base in loaded.bases:
        real = Path(os.path.realpath(base.path))
        if not real.is_relative_to(here):
            what = f"{real} is not below {here}, the folder that the machines get"
            raise RecipeError(f"{base.place}: base: {what}. Next: cd to the folder that holds both, or copy it below")
        if os.path.isabs(os.path.expanduser(base.written)):
            path = os.path.relpath(real, os.path.dirname(os.path.realpath(base.place.path)))
            what = f"{base.written} is an absolute path, and elsewhere on the machines"
            raise RecipeError(f"{base.place}: base: {what}. Next: base: {path}")
