"""The command line: the list of commands, what is caught on their way out, and the exit codes.

What a command does is in its own file (`hyperloom.pipeline.commands`). Start-up is kept cheap: the files import nothing
but what describes their arguments.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hyperloom.pipeline.host import deferred, project, whereabouts

if TYPE_CHECKING:
    from hyperloom.pipeline.errors import Ended

DESCRIPTION = "Weave the labels of many expert models into one small model: Ray works, storage remembers, MLflow shows."
COMMANDS = (
    "demo",
    "init",
    "run",
    "plan",
    "status",
    "submit",
    "tick",
    "schedule",
    "logs",
    "lineage",
    "cancel",
    "cluster",
    "failed",
    "verify",
    "data",
    "look",
    "report",
    "curve",
    "audit",
    "papers",
    "release",
    "importing",
    "experts",
    "ui",
    "doctor",
    "schema",
    "completion",
)
"""The files of `hyperloom.pipeline.commands`, in the order of `--help`."""

COLLECTED = (50_000, 20, 50)
"""When garbage is collected (gc.set_threshold): seldom, since what a command reads of manifests lives as long as it."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code (hyperloom.pipeline.exits)."""
    gc.set_threshold(*COLLECTED)
    try:
        whereabouts.check()
    except whereabouts.Nowhere as error:
        print(f"hyperloom: {error}", file=sys.stderr)
        return error.exit_code
    whereabouts.guard()
    project.step_back()  # before anything is imported
    if arguments is None:
        _understand_utf8()
    deferred.defer()
    from hyperloom.pipeline.host import proxies, terminal

    proxies.spare_loopback()
    with terminal.guard(), _sigterm():
        line = shlex.join(["hyperloom", *(sys.argv[1:] if arguments is None else arguments)])
        return _perform(arguments, line)


def _perform(arguments: list[str] | None, line: str) -> int:
    from hyperloom.pipeline.errors import Ended, HyperloomError, Interrupted
    from hyperloom.pipeline.exits import Exit
    from hyperloom.pipeline.output import answers, completion

    given: argparse.Namespace | None = None
    try:
        parser = _parser(arguments if arguments is not None else sys.argv[1:])
        if "_ARGCOMPLETE" in os.environ:
            completion.complete(parser)
        try:
            given = parser.parse_args(arguments)
        except SystemExit:  # --help
            sys.stdout.flush()
            raise
        given.line = line
        code = answers.answered(given, given.command)
        sys.stdout.flush()
        return code
    except (Ended, KeyboardInterrupt) as error:
        from hyperloom.pipeline.running.execution import leave

        return leave(_stopped(error if isinstance(error, Ended) else Interrupted(), given, line))
    except HyperloomError as error:
        from hyperloom.pipeline.running.execution import leave

        print(f"hyperloom: {error}", file=sys.stderr)
        return leave(error.exit_code)
    except BrokenPipeError:
        return Exit.DONE
    except Exception:  # a mistake of ours or of a plug-in; beyond this its traceback would not be blotted
        import traceback

        from hyperloom.pipeline.running.execution import leave

        traceback.print_exc()
        print(f"hyperloom: a mistake of the program or of a plug-in, in: {line}", file=sys.stderr)
        return leave(Exit.FAILED)


def _stopped(end: Ended, given: argparse.Namespace | None, line: str) -> int:
    """Say how to go on, unless the command only shows something; the exit code."""
    print("" if getattr(given, "only_shows", False) else f"\nhyperloom: {end}\nContinue with: {line}", file=sys.stderr)
    return end.exit_code


def _understand_utf8() -> None:
    """Begin anew in UTF-8 where this Python takes names of files for ASCII: nothing else could open a file named
    `Müll.csv`."""
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})


@contextmanager
def _sigterm() -> Iterator[None]:
    """Inside the block SIGTERM ends the command as Ctrl-C does; a run has more to say about both
    (pipeline.host.ending)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        from hyperloom.pipeline.errors import Ended

        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Understands all commands; or only the one that `arguments` begin with, where a file is named like it: the others
    are two thirds of a command's start."""
    from hyperloom.pipeline import __version__
    from hyperloom.pipeline.output import answers

    parser = argparse.ArgumentParser(prog="hyperloom", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"hyperloom {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS:
        importlib.import_module(f"hyperloom.pipeline.commands.{name}").add(commands)
    answers.offer(parser)
    return parser
