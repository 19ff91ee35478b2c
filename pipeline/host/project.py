"""The project: the folders of a recipe and of the command, and where they stand among all that Python can import.

What lies there comes last on `sys.path`, whatever put it first (`python -m`, PYTHONPATH, Ray): a user's `queue.py`,
`torch.py` or `mlflow/` never takes the place of Python's, a library's or Hyperloom's own. A module that the recipe
itself names (`module:Class`) is the other way round: it is the project's where the project has it, also where some
installed package has that name, unless Hyperloom needs that package.

Each process of a run enters the same project, so that what one pickles another finds. This module is the first thing
that such a process imports, and itself imports nothing that could be shadowed.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from types import MappingProxyType, ModuleType
from typing import Any

from hyperloom.pipeline.errors import PluginError

KEPT = ("hyperloom", "__main__", "__mp_main__")
"""Modules that no project takes with it, wherever they lie."""


class Project:
    """`folders`, the first of which counts first, and `modules`: the top-level names that the recipe has taken from
    them. `place` is the working folder of the process that pickled it (a Ray job's lies elsewhere on another node),
    `hidden` the secrets that it knew, `variables` the environment that it carried."""

    def __init__(
        self,
        folders: tuple[str, ...] = (),
        modules: frozenset[str] = frozenset(),
        place: str = "",
        hidden: Mapping[str, str] = MappingProxyType({}),
        variables: Mapping[str, str] = MappingProxyType({}),
    ):
        self.folders, self.modules, self.place = folders, modules, place
        self.hidden, self.variables = hidden, variables

    def __reduce__(self) -> tuple[Any, ...]:
        from hyperloom.pipeline import secrets

        return Project, (self.folders, self.modules, _working_folder(), secrets.known(), _carried)

    def enter(self) -> None:
        """Make this process import as the run does, and know what it must not say."""
        global _current
        _current = Project(tuple(self._here(f) for f in self.folders), self.modules)
        on_path = _on_path()
        _added.update(f for f in _current.folders if f not in on_path and f != _working_folder())
        step_back()
        _last(_current.folders)
        if self.place or self.hidden:  # it has come from another process
            from hyperloom.pipeline import secrets
            from hyperloom.pipeline.host import terminal

            secrets.adopt(self.hidden)
            terminal.cover()
        if self.variables:
            carry(self.variables)
            os.environ.update(self.variables)
        if _Named not in sys.meta_path:
            sys.meta_path.insert(0, _Named)

    def _here(self, folder: str) -> str:
        if not os.path.isdir(folder) and f"{folder}/".startswith(f"{self.place}/"):
            return os.path.join(_working_folder(), folder[len(self.place) + 1 :]).rstrip("/")
        return folder


_current = Project()
_added: set[str] = set()
"""Folders that are on `sys.path` since a project was entered, and were not before; the working folder is none."""
_carried: dict[str, str] = {}


class _Named:
    """Finds the modules that the recipe has named, before anybody else."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, list(_current.folders)) if name in _current.modules else None


class Parcel:
    """A value on its way to a process that has not entered the project yet: its classes may lie there."""

    def __init__(self, value: Any):
        from ray import cloudpickle

        self._project, self._data = _current, cloudpickle.dumps(value)

    def open(self) -> Any:
        """The value, in the project."""
        import pickle

        self._project.enter()
        return pickle.loads(self._data)


def enter(*folders: str) -> None:
    """Begin with the project of these folders, in place of another one."""
    Project(tuple(dict.fromkeys(os.path.realpath(f) for f in folders))).enter()


def carry(variables: Mapping[str, str]) -> None:
    """Give every process that enters this one's project these variables."""
    global _carried
    _carried = {**_carried, **variables}


def current() -> Project:
    """The project that this process is in."""
    return _current


def leave() -> None:
    """Forget what was imported from beside the recipe, and what that imported from there: the next one may have other
    modules of those names. What lies in the working folder stays, or where this process imported from before."""
    global _current
    here, added = _working_folder(), tuple(f"{folder}/" for folder in _added)
    named = tuple(f"{folder}/" for folder in _current.folders if folder != here)
    # modules of a folder that is a link go by either name
    known = {*_on_path(), *(os.path.abspath(p) for p in sys.path if p), here}
    others = tuple(f"{p}/" for p in known if p not in _added and p.startswith(added))
    gone = set()
    for name, module in list(sys.modules.items()):
        if "." not in name and name not in KEPT:
            places = _places(module)
            if any(p.startswith(added) and not p.startswith(others) for p in places) or (
                name in _current.modules and any(os.path.realpath(p).startswith(named) for p in places)
            ):
                gone.add(name)
    for name in [known for known in sys.modules if known.partition(".")[0] in gone]:
        del sys.modules[name]
    sys.path[:] = [p for p in sys.path if p not in _added]
    _added.clear()
    _current = Project()


def step_back() -> None:
    """Where the working folder is on `sys.path` it is searched last. Ray calls this as a job's workers start."""
    _last([p for p in sys.path if not p or _same(p, os.curdir)])


def environment() -> dict[str, str]:
    """This process's environment for a child that needs nothing of the project: there it is not importable."""
    gone = {os.path.realpath(f) for f in (_working_folder(), *_current.folders)}
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and os.path.realpath(p) not in gone]
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)}


def find(module: str) -> ModuleSpec | None:
    """Where the top-level package of a module that a recipe names lies; None where there is none. Imports nothing.

    One of the project is from here on what every import of that name gets, in all processes of the run. Raises
    PluginError where that would take the place of what Python or Hyperloom needs.
    """
    global _current
    name = module.partition(".")[0]
    elsewhere = PathFinder.find_spec(name, [p for p in sys.path if p not in _current.folders])
    spec = PathFinder.find_spec(name, list(_current.folders))
    if spec is None or name == "hyperloom" or (elsewhere is not None and not _holds(spec, module)):
        return elsewhere
    if name not in _current.modules:
        if _needed(name, spec, elsewhere):
            raise PluginError(
                f"{spec.origin or name} has the name of a module that Python or Hyperloom needs, and cannot take its "
                "place. Next: rename it, there and in the recipe"
            )
        _current = Project(_current.folders, _current.modules | {name})
    return spec


def load(module: str) -> ModuleType:
    """Import a module that a recipe names, dotted or not. Raises ImportError as Python does, PluginError as `find`."""
    find(module)
    return importlib.import_module(module)


def _holds(spec: ModuleSpec, module: str) -> bool:
    """Is this a module or package, or a bare folder that has the module in it?"""
    inside = module.split(".")[:2][-1]  # without its parent, which nobody has imported
    return spec.origin is not None or PathFinder.find_spec(inside, spec.submodule_search_locations) is not None


def _on_path() -> set[str]:
    return {os.path.realpath(p or _working_folder()) for p in sys.path}


def _places(module: Any) -> list[str]:
    """The file of a module, or the folders of a package that has none; nothing for what is no module."""
    if not isinstance(module, ModuleType):
        return []
    file = vars(module).get("__file__")
    return [file] if file else [str(folder) for folder in vars(module).get("__path__") or ()]


def _same(folder: str, other: str) -> bool:
    """Are these one folder, by whatever links? Asked of the disk once for each: following links to compare names looks
    at every folder above, which for all of `sys.path` was a seventh of a short command."""
    try:
        return os.path.samefile(folder, other)
    except OSError:  # one of them is none
        return False


def _last(folders: Iterable[str]) -> None:
    """Put these at the end of `sys.path`."""
    last = list(folders)
    sys.path[:] = [p for p in sys.path if p not in last] + last


def _working_folder() -> str:
    try:
        return os.path.realpath(os.getcwd())
    except FileNotFoundError:  # somebody has removed it
        return ""


def _needed(name: str, spec: ModuleSpec, elsewhere: ModuleSpec | None) -> bool:
    loaded = sys.modules.get(name)
    if name in sys.stdlib_module_names:
        return True
    if loaded is not None and getattr(loaded, "__file__", None) != spec.origin:
        return getattr(loaded, "__file__", None) is not None
    if elsewhere is None or elsewhere.origin is None:
        return False
    from importlib.metadata import PackageNotFoundError, packages_distributions, requires

    try:
        required = {_plain(line) for line in requires("hyperloom") or []}
    except PackageNotFoundError:  # a copy that travelled to a cluster: better one name too many
        return True
    return any(_plain(distribution) in required for distribution in packages_distributions().get(name, []))


def _plain(requirement: str) -> str:
    """The name in a requirement or of a distribution, in its canonical form."""
    name = requirement.strip()
    for i, character in enumerate(name):
        if not (character.isalnum() or character in "-_."):
            name = name[:i]
            break
    return name.lower().replace("_", "-").replace(".", "-")
