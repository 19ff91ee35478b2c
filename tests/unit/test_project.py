"""The user's folders: last on Python's path, first for what a recipe names, the same in every process of a run."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import PluginError
from hyperloom.pipeline.host import project
from hyperloom.stages import usercode

CLASS = "from hyperloom.pipeline.plugins import Plugin\nWHERE = '{}'\nclass Vote(Plugin):\n    pass\n"


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has Python's path and modules to itself."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(project, "_current", project.Project())
    monkeypatch.setattr(project, "_added", set())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe's folder, entered from another one; `installed` beside it stands for what pip installs."""
    for name in ("recipe", "work", "installed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    sys.path.insert(0, str(tmp_path / "installed"))
    return tmp_path / "recipe"


def enter(folder: Path) -> None:
    project.enter(str(folder), os.getcwd())


def test_what_lies_beside_a_recipe_comes_last(folder: Path) -> None:
    sys.path[:0] = ["", str(folder), os.getcwd()]
    before = [p for p in sys.path if p not in ("", str(folder), os.getcwd())]
    enter(folder)
    assert sys.path == [*before, "", str(folder), os.getcwd()]
    (folder / "queue.py").write_text("raise RuntimeError")
    (folder / "beside_a_recipe.py").write_text("import queue, its_sibling")
    (folder / "its_sibling.py").touch()
    __import__("beside_a_recipe")


def test_what_a_recipe_names_is_the_project_s_own(folder: Path) -> None:
    """Beside the recipe before the working folder, and both before an installed module of that name; in the process of
    a worker too, whatever it imports first."""
    for place in (folder, folder.parent / "work", folder.parent / "installed"):
        (place / "a_common_name.py").write_text(CLASS.format(place.name))
    (folder.parent / "work" / "another_name.py").write_text(CLASS.format("work"))
    enter(folder)
    vote = plugins.parse("vote", "a_common_name:Vote")
    assert sys.modules[type(vote).__module__].WHERE == "recipe"
    assert plugins.load("vote", "another_name:Vote").__module__ == "another_name"
    sent = pickle.dumps((project.current(), pickle.dumps(vote)))
    code = (
        "import pickle, sys; of, vote = pickle.loads(sys.stdin.buffer.read()); of.enter(); pickle.loads(vote);"
        "import a_common_name; print(a_common_name.WHERE)"
    )
    env = os.environ | {"PYTHONPATH": str(folder.parent / "installed")}
    done = subprocess.run([sys.executable, "-c", code], input=sent, env=env, capture_output=True, cwd="/")
    assert done.stdout.decode().strip() == "recipe", done.stderr.decode()


@pytest.mark.parametrize("linked", [False, True], ids=["below", "a link below"])
def test_a_project_that_is_left_takes_with_it_what_it_brought(folder: Path, linked: bool) -> None:
    """Modules that were named and those that they import; none of the working folder, nor of what could be imported
    before, though it lies below the recipe."""
    work, before = Path.cwd(), folder / ".venv"
    if linked:
        (folder.parent / "environment").mkdir()
        before.symlink_to(folder.parent / "environment")
    else:
        before.mkdir()
    sys.path.insert(0, str(before))
    for place, name in ((folder, "its_helper"), (folder, "unnamed"), (work, "everybody_s"), (before, "from_before")):
        (place / f"{name}.py").touch()
    (folder / "a_package").mkdir()
    (folder / "a_package" / "part.py").touch()
    (folder / "named_one.py").write_text("import its_helper, a_package.part, everybody_s, from_before")
    path = list(sys.path)
    enter(folder)
    project.load("named_one")
    project.leave()
    assert not {"named_one", "its_helper", "a_package", "a_package.part"} & set(sys.modules)
    assert {"everybody_s", "from_before"} <= set(sys.modules)
    assert sys.path == [*path, str(work)] and project.current().folders == ()
    with pytest.raises(ImportError):
        __import__("unnamed")


@pytest.mark.parametrize("name", ["queue", "torch", "pyarrow"])
def test_no_plug_in_takes_the_place_of_what_is_needed(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text(CLASS.format("recipe"))
    enter(folder)
    with pytest.raises(PluginError, match="cannot take its place. Next: rename it"):
        plugins.load("vote", f"{name}:Vote")


def test_a_bare_folder_is_no_match_for_a_library(folder: Path) -> None:
    """`mlflow/` of a checkout holds no Python; a folder that holds the module named is meant."""
    (folder.parent / "installed" / "a_library").mkdir()
    (folder.parent / "installed" / "a_library" / "__init__.py").touch()
    (folder / "a_library").mkdir()
    enter(folder)
    assert plugins.project.load("a_library").__file__ == f"{folder.parent}/installed/a_library/__init__.py"
    del sys.modules["a_library"]
    (folder / "a_library" / "votes.py").write_text(CLASS.format("recipe"))
    assert plugins.load("vote", "a_library.votes:Vote").__name__ == "Vote"


def test_a_module_in_bare_folders_three_deep(folder: Path) -> None:
    """Whether or not the folder is on Python's path as well, as it is in a notebook; and its file is found."""
    deep = folder / "studies_of_ours" / "papers" / "first"
    deep.mkdir(parents=True)
    (deep / "votes.py").write_text(CLASS.format("recipe"))
    sys.path.insert(0, str(folder))
    (folder.parent / "installed" / "studies_of_ours").mkdir()
    enter(folder)
    assert usercode.source_file("studies_of_ours.papers.first.votes") == str(deep / "votes.py")
    assert plugins.load("vote", "studies_of_ours.papers.first.votes:Vote").__name__ == "Vote"


def test_a_project_that_lies_elsewhere_on_another_node(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray job's folder: what lies below it is looked for below the worker's own."""
    sub = folder / "recipes"
    sub.mkdir()
    monkeypatch.chdir(folder)
    enter(sub)
    sent = pickle.dumps(project.current())
    folder.rename(folder.with_name("moved"))
    monkeypatch.chdir(folder.with_name("moved"))
    pickle.loads(sent).enter()
    assert project.current().folders == (f"{folder.parent}/moved/recipes", f"{folder.parent}/moved")


def test_a_child_process_finds_nothing_of_the_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), "/elsewhere", "."]))
    assert project.environment()["PYTHONPATH"] == "/elsewhere"
