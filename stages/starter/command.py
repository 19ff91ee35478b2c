"""`hyperloom init`: looks at a folder, decides, and writes `hyperloom.yaml` into it.

What cannot be understood is left out where the rest makes a recipe, and said by name with the line that mends it; where
nothing is left to learn from, that is the error. The recipe is checked as `hyperloom plan` does before it is written.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import HyperloomError, RecipeError
from hyperloom.pipeline.exits import Exit

if TYPE_CHECKING:
    from hyperloom.pipeline.output.replies import InitReply

RecipeCheck = Callable[[str, str], None]
"""Given a recipe's text and its path: raises what `hyperloom plan` would say."""
RECIPE = "hyperloom.yaml"
TASKS = ("segmentation", "dense", "depth", "normals", "flow", "category", "embedding")
"""What a network, or labels of pictures, may be said to tell."""


def add(commands: Any, check: RecipeCheck) -> None:
    """Add the command to a parser."""
    help_ = f"look at a folder of data, labels and networks, and write a recipe into it ({RECIPE})"
    sub = commands.add_parser("init", help=help_, description=help_)
    sub.add_argument("folder", metavar="DIR", help="with pictures, videos, sounds, texts or tables")
    sub.add_argument(
        "--expert",
        action="append",
        default=[],
        metavar="FILE|NAME",
        help="a network file, or a name of `hyperloom experts` (repeatable)",
    )
    sub.add_argument("--labels", action="append", default=[], metavar="PATH", help="folder or table of labels")
    task = "what a network tells, or [NETWORK=]TASK: segmentation, dense, ...; of a table the field to learn"
    sub.add_argument("--task", action="append", default=[], metavar="TASK", help=task)
    sub.add_argument("--classes", action="append", default=[], metavar="A,B,..", help="[NETWORK=] names of the classes")
    sub.add_argument("--group", default="", metavar="RULE", help="regular expression with (?P<group>..), or a field")
    sub.add_argument("--name", default="", help="of the recipe (the folder's)")
    sub.add_argument("--yes", action="store_true", help="ask nothing")
    sub.add_argument("--force", action="store_true", help=f"overwrite {RECIPE}")
    sub.set_defaults(command=lambda given: init(given, check))


def init(given: argparse.Namespace, check: RecipeCheck) -> int:
    """Write the recipe. Raises RecipeError and SourceError for what leaves nothing to write."""
    from hyperloom.stages.starter.deciding import decided

    folder = os.path.abspath(os.path.expanduser(given.folder))
    path = os.path.join(folder, RECIPE)
    if os.path.lexists(path) and not given.force:
        raise RecipeError(f"{path} is there already. Next: hyperloom run {path}, or init --force to write it anew")
    try:
        decision = decided(folder, given)
    except ImportError as error:  # of the core alone
        raise RecipeError(
            f"init needs a library that is not here ({error}). Next: pip install 'hyperloom[demo]'"
        ) from error
    for sentence in decision.remarks:
        print(f"  {sentence}")
    check(decision.text, path)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(decision.text)
    except OSError as error:
        raise RecipeError(f"cannot write {path}: {error}. Next: give a folder that may be written") from error
    shown = shlex.quote(os.path.join(given.folder, RECIPE))
    run = f"hyperloom run {shown}"
    reply: InitReply = {
        "recipe": path,
        "summary": decision.what,
        "remarks": decision.remarks,
        "next": run,
    }
    given.answer = reply
    print(f"wrote {shown}: {decision.what}")
    print(f"Next: {run} --pilot 40    a first look and a forecast (leave --pilot out for all of it)")
    return 0


def for_file(words: Sequence[str], path: str) -> str:
    """Of options `[NETWORK=]VALUE` the value for one file; the last that fits counts, one with a name more than one
    without."""
    base = os.path.basename(path)
    names = (path, base, os.path.splitext(base)[0])
    named = [v for w in words for n, sign, v in [w.partition("=")] if sign and n in names]
    plain = [w for w in words if "=" not in w]
    return (named or plain or [""])[-1]


class NothingToLearn(HyperloomError):
    """Neither labels nor a network that is understood."""

    exit_code = Exit.WRONG
