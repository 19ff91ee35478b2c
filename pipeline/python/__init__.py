"""Hyperloom for Python: recipes, their steps, samples and models, by the names that recipes use.

    import hyperloom

    recipe = hyperloom.load("recipe.yaml")        # or a mapping of the same form
    recipe.plan()                                  # what would run, and why; a table in a notebook
    recipe.run()                                   # with progress; the same as `hyperloom run`
    depth = recipe["labels"].read("depth@midas")   # .values (N, H, W, 1), .keys, .groups, .index, .valid
    model = recipe["student"].model()
    model.predict(images)                          # task -> array
    hyperloom.schema()                             # the JSON Schema of recipes

This folder is installed as the package `hyperloom` itself. Each name is imported when it is first used, since every
command and every worker imports this file; what they do is in `hyperloom.pipeline.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperloom.pipeline import __version__
    from hyperloom.pipeline.api.column import ColumnArray
    from hyperloom.pipeline.api.model import Model
    from hyperloom.pipeline.api.pipeline import Pipeline, PipelineRun, Plan, load, schema
    from hyperloom.pipeline.api.step import PipelineStep
    from hyperloom.pipeline.errors import HyperloomError

__all__ = [
    "ColumnArray",
    "HyperloomError",
    "Model",
    "Pipeline",
    "PipelineRun",
    "PipelineStep",
    "Plan",
    "__version__",
    "load",
    "schema",
]

_MODULES = {
    "ColumnArray": "pipeline.api.column",
    "HyperloomError": "pipeline.errors",
    "Model": "pipeline.api.model",
    "Plan": "pipeline.api.pipeline",
    "Pipeline": "pipeline.api.pipeline",
    "PipelineRun": "pipeline.api.pipeline",
    "PipelineStep": "pipeline.api.step",
    "__version__": "pipeline",
    "load": "pipeline.api.pipeline",
    "schema": "pipeline.api.pipeline",
}


if not TYPE_CHECKING:  # so that a name that is none is a mistake to a type checker too

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'hyperloom' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"hyperloom.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
