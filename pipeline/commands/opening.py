"""What a command opens: its recipe, the root, the plan, the cluster.

Commands call these through the module (`opening.load(given)`), so that a test can take one's place.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

Command = Callable[[Any], int]
"""Given the parsed arguments: the exit code."""


def add(commands: Any, name: str, function: Command, help_: str) -> argparse.ArgumentParser:
    """Add a command that takes a recipe and `--root`."""
    sub = commands.add_parser(name, help=help_, description=help_)
    sub.add_argument("recipe", help="path of a recipe, such as recipes/demo.yaml")
    sub.add_argument("--root", help="use this root (a folder or an fsspec URL) instead of the recipe's")
    sub.set_defaults(command=function)
    return sub


def add_wait(sub: argparse.ArgumentParser, default: float = 3600.0) -> None:
    """Add `--wait`, for a command that may meet another driver on the root."""
    help_ = f"how long to wait for another driver that has what this one needs ({default:.0f})"
    sub.add_argument("--wait", type=float, default=default, metavar="SECONDS", help=help_)


def load(given: Any, begins: bool = False) -> tuple[Any, Any]:
    """The recipe (a RecipeFile) and its Storage; `given.root` is from here on the root that counts. Where nothing has
    run there it is said, since a relative root counts from the working folder; for a command that `begins` a root only
    where another one lies beside the recipe."""
    import hyperloom.stages  # noqa: F401  (registers the plug-ins)
    from hyperloom.clusters import environment
    from hyperloom.pipeline.recipes import recipe

    environment.receive()
    loaded, storage = _rooted(recipe.load(given.recipe), given)
    notes = vars(given).setdefault("notes", set())  # a command that opens several shares them, and says each once
    if (note := _unused(loaded, storage, given.root, begins)) and note not in notes:
        notes.add(note)
        print(f"note: {note}", file=sys.stderr)
    return loaded, storage


def _unused(loaded: Any, storage: Any, root: str, begins: bool) -> str:
    """What to say of a local root that holds nothing; empty where it holds something."""
    import shlex

    if not storage.is_local or _is_used(storage.base):
        return ""
    relative = root == loaded.recipe.root and "://" not in root and not os.path.isabs(root)
    folder = os.path.dirname(os.path.abspath(loaded.path))
    beside = os.path.normpath(os.path.join(folder, root))
    why = f", as {root!r} in the recipe counts from the working folder" if relative else ""
    if relative and _is_used(beside):
        return (
            f"nothing has run in the root {storage}{why}; there is one at {beside}. "
            f"Next: cd {shlex.quote(folder)}, or add --root {shlex.quote(beside)}"
        )
    return "" if begins else f"nothing has run in the root {storage}{why}"


def _is_used(folder: str) -> bool:
    """Has anything run in a root?"""
    return os.path.isdir(os.path.join(folder, "events"))


def parsed(text: str, root: str | None) -> tuple[Any, Any]:
    """The same of a recipe's text, which no file has: what it names lies in the working folder."""
    import hyperloom.stages  # noqa: F401
    from hyperloom.pipeline.host import project
    from hyperloom.pipeline.recipes import recipe

    project.enter(os.getcwd())
    return _rooted(recipe.parse(text), argparse.Namespace(root=root))


def _rooted(loaded: Any, given: Any) -> tuple[Any, Any]:
    from hyperloom.clusters import environment
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.pipeline.workers import ray_internals

    root = given.root or os.environ.get(environment.ROOT) or loaded.recipe.root
    if "://" not in root and not os.path.isabs(root) and ray_internals.in_job():
        raise loaded.error(
            ("root",),
            f"inside a Ray job the root {root!r} would lie in the job's temporary folder and be lost. "
            "Next: add --root with a path or URL that all nodes see",
        )
    given.root = root
    return loaded, Storage(root)


def scheduled(given: Any) -> tuple[Any, Any]:
    """`load` for a command that needs the recipe to have a schedule."""
    loaded, storage = load(given, begins=True)
    if loaded.recipe.schedule is None:
        raise loaded.error((), "this recipe has no `schedule`. Next: add one, such as schedule: {cron: '0 3 * * *'}")
    return loaded, storage


def steps(loaded: Any, storage: Any, rehash: bool = False) -> list[Any]:
    """The recipe's steps, planned; `rehash` reads all raw files anew, whatever their times say."""
    from hyperloom.pipeline.planning.plan import plan
    from hyperloom.pipeline.root.digests import Digests

    return plan(loaded, storage, Digests(storage, rehash))


def cluster(loaded: Any) -> Any:
    """The recipe's checked `cluster` section, or what it is where the recipe has none."""
    from hyperloom.clusters.spec import Cluster
    from hyperloom.pipeline.recipes.recipe import validate_section

    return validate_section(loaded, "cluster", Cluster)


def check_cluster(loaded: Any) -> None:
    """Raise RecipeError for a mistake in the recipe's `cluster` section, of which its model is not even read where
    there is none."""
    if loaded.recipe.cluster:
        cluster(loaded)


def connect(loaded: Any) -> Callable[[], None]:
    """A function that starts or joins the recipe's Ray cluster, and says so the first time."""
    check_cluster(loaded)
    started: list[bool] = []

    def join() -> None:
        from hyperloom.clusters.connect import connect as connect_

        spec = cluster(loaded)
        if not started:
            started.append(True)
            print(
                f"Ray: {'starting a private cluster' if spec.where == 'local' else 'joining ' + spec.where}", flush=True
            )
        connect_(spec)

    return join


def next_command(given: Any, name: str) -> str:
    """The command line of another command on the same recipe and root."""
    import shlex

    words = ["hyperloom", name, given.recipe, *(["--root", given.root] if given.root in sys.argv else [])]
    return shlex.join(words)
