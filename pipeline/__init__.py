"""The engine: recipes, identity, storage, units of work and their commits. It knows nothing of labels or models.

`run` is the one public entry for Python users; everything else is reached through the `hyperloom` command.
"""

from typing import Any

__all__ = ["run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`hyperloom.pipeline.run` without paying for its imports when only a submodule is wanted."""
    if name == "run":
        from hyperloom.pipeline.runner import run

        return run
    raise AttributeError(f"module 'hyperloom.pipeline' has no attribute {name!r}")
