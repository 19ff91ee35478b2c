"""Deferred imports: a library that many modules import and few commands use is loaded when it is first used.

A plan and a rerun with nothing to do read the modules of all modalities, which import numpy at their top, and compute
nothing: numpy is a fifth of their time. (`importlib.util.LazyLoader` would load it at the second `import`, which asks
a module for its `__spec__`.) Threads that use it at once wait for the one that loads it.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import types
from typing import Any

DEFERRED = ("numpy",)


class _Deferred(types.ModuleType):
    """A package that is loaded when it is asked for what it does not have: any of its names, or a submodule."""

    def __getattr__(self, name: str) -> Any:
        with _LOCK:
            if name not in self.__dict__ and not self.__dict__.get("_begun"):
                self._begun = True
                spec = self.__spec__
                assert spec is not None and spec.loader is not None
                self.__path__ = list(spec.submodule_search_locations or ())
                spec.loader.exec_module(self)
                self.__class__ = types.ModuleType  # type: ignore[assignment]
        if name in self.__dict__:
            return self.__dict__[name]
        if own := self.__dict__.get("__getattr__"):  # a package that loads parts of itself when they are used
            return own(name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


_LOCK = threading.RLock()


def defer() -> None:
    """Load the packages of `DEFERRED` when they are first used, unless they are loaded already."""
    for name in DEFERRED:
        spec = None if name in sys.modules else importlib.util.find_spec(name)
        if spec is None:
            continue
        module = _Deferred(name)
        module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
        sys.modules[name] = module
