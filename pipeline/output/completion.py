"""Completion in shells, by argcomplete: commands, options, recipes, and the steps of the recipe that stands before.

The shell calls `hyperloom` with `_ARGCOMPLETE` set; what it is answered goes to a descriptor of its own.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import Any

SHELLS = ("bash", "zsh", "fish", "powershell")
_STEP = re.compile(r"^  ([A-Za-z][A-Za-z0-9_-]*)\s*:")


def script(shell: str) -> str:
    """What a shell has to run once to complete `hyperloom`."""
    from argcomplete import shellcode

    return str(shellcode(["hyperloom"], shell=shell))


def complete(parser: argparse.ArgumentParser, **options: Any) -> None:
    """Answer the shell and leave, where it asks."""
    import argcomplete

    _prepare(parser)
    argcomplete.autocomplete(parser, **options)


def _prepare(parser: argparse.ArgumentParser) -> None:
    """Say of each argument what completes it."""
    from argcomplete.completers import DirectoriesCompleter, FilesCompleter, SuppressCompleter

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _prepare(sub)
        elif action.dest in ("recipe", "recipes"):
            action.completer = FilesCompleter(("yaml", "yml"))  # type: ignore[attr-defined]
        elif action.dest in ("step", "steps"):
            action.completer = _steps  # type: ignore[attr-defined]
        elif action.dest in ("root", "to", "directory"):
            action.completer = DirectoriesCompleter()  # type: ignore[attr-defined]
        elif action.choices is None and action.nargs != 0:
            action.completer = SuppressCompleter()  # type: ignore[attr-defined]


def _steps(prefix: str, parsed_args: Any, **_: Any) -> Iterable[str]:
    """Names of the steps of the recipe on the line. It is not parsed: it may be half written."""
    try:
        with open(parsed_args.recipe, encoding="utf-8") as file:
            text = file.read().partition("\nsteps:")[2]
    except (OSError, UnicodeDecodeError, AttributeError, TypeError):
        return []
    names = []
    for line in text.splitlines()[1:]:
        if line[:1].strip() and not line.startswith("#"):
            break  # the next section
        if match := _STEP.match(line):
            names.append(match[1])
    return [name for name in names if name.startswith(prefix)]
