"""The recipes that are part of the package: `recipes/` beside `pipeline/`, in a checkout as in a wheel.

There is one copy of each. Studies of papers (`recipes/papers`) need a checkout and are in no wheel.
"""

from __future__ import annotations

import os

from hyperloom.pipeline.errors import RecipeError

HERE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def recipe(name: str) -> str:
    """The text of a recipe. Raises RecipeError for an installation without it."""
    path = os.path.join(HERE, "recipes", f"{name}.yaml")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise RecipeError(
            f"this installation lacks the recipe {name!r}: {error}. Next: pip install --force-reinstall hyperloom"
        ) from error
