"""Code of a person's own that a recipe names as `module:name`: where it lies, and what it is.

The file is found without importing anything, so that a plan can tell whether code has changed. What the module imports
itself is not looked at.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import traceback
from importlib.machinery import BuiltinImporter, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from hyperloom.pipeline import spelling
from hyperloom.pipeline.errors import HyperloomError, PluginError
from hyperloom.pipeline.host import project

_imported: dict[str, tuple[str, str]] = {}
"""Module -> its file, and the sha256 of what that held when it was last looked at."""


def dotted(call: str) -> str:
    """`call` as it is. Raises ValueError unless it reads `module:name`; both may be dotted."""
    module, colon, name = call.partition(":")
    if not (colon and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))):
        raise ValueError(f"expected 'module:callable', got {call!r}")
    return call


def source_file(module: str) -> str:
    """The file that holds a module, found without importing it or its packages; "" for one without a file.

    Raises PluginError when there is no such module.
    """
    places: Any = None
    for i, part in enumerate(module.split(".")):
        # By its last name: a folder without `__init__` in another would ask for its parent, which nobody has imported.
        spec = PathFinder.find_spec(part, places) if i else project.find(module)
        if spec is None:
            if BuiltinImporter.find_spec(module) is not None:
                return ""
            raise PluginError(f"no module {module!r}. Next: put it beside the recipe, or install it on every node")
        places = list(spec.submodule_search_locations or ())
    return (spec.origin or "") if spec is not None and spec.has_location else ""


def imported(call: str) -> Any:
    """What `call` names. Raises PluginError where the module cannot be imported or has no such name."""
    module, _, name = call.partition(":")
    try:
        loaded = _loaded(module)
    except (HyperloomError, MemoryError):
        raise
    except Exception as error:  # a person's module may raise anything
        where = "" if isinstance(error, SyntaxError) else line(source_file(module), error)  # which says so itself
        text = f"{type(error).__name__}: {error}"
        raise PluginError(f"{call}: the module cannot be imported here: {text}{where}") from error
    try:
        return functools.reduce(getattr, name.split("."), loaded)
    except AttributeError as error:
        near = spelling.near(name.partition(".")[0], [n for n in vars(loaded) if not n.startswith("_")])
        raise PluginError(f"{call}: {error}{near}") from error


def _loaded(module: str) -> ModuleType:
    """The module as its file is now: a notebook's process may have imported it before a person changed it. (Python's
    own `reload` goes by the file's size and second.) Raises what the module raises."""
    file, known = source_file(module), sys.modules.get(module)
    source = Path(file).read_bytes() if file.endswith(".py") else b""
    digest = hashlib.sha256(source).hexdigest()
    loaded = project.load(module)
    if known is loaded and _imported.get(module, (file, digest)) != (file, digest) and module not in project.KEPT:
        exec(compile(source, file, "exec"), vars(loaded))
    _imported[module] = file, digest
    return loaded


def line(file: str, error: BaseException) -> str:
    """` (mine.py, line 3)`: where in a file an error came about; empty where it did not, or that is not known."""
    lines = [step for step in traceback.extract_tb(error.__traceback__) if step.filename == file]
    return f" ({os.path.basename(file)}, line {lines[-1].lineno})" if lines else ""
