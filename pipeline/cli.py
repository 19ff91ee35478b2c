"""The command line: the list of commands, what is caught on their way out, and the exit codes.

What a command does is in its own file (`hyperloom.pipeline.commands`). Start-up is kept cheap: the files import nothing
but what describes their arguments.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from hyperloom.pipeline import deferred, project

DESCRIPTION = "Weave the labels of many expert models into one small model: Ray works, storage remembers, MLflow shows."
COMMANDS = (
    "run",
    "plan",
    "status",
    "submit",
    "tick",
    "schedule",
    "failed",
    "verify",
    "data",
    "release",
    "importing",
    "ui",
    "doctor",
)
"""The files of `hyperloom.pipeline.commands`, in the order of `--help`."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code (hyperloom.pipeline.exits)."""
    project.step_back()  # before anything is imported
    deferred.defer()
    given = _parser().parse_args(arguments)
    from hyperloom.pipeline import secrets

    with secrets.guard():
        return _perform(given)


def _perform(given: argparse.Namespace) -> int:
    from hyperloom.pipeline.errors import HyperloomError
    from hyperloom.pipeline.exits import Exit

    try:
        return given.command(given)
    except HyperloomError as error:
        from hyperloom.pipeline.execution import leave

        print(f"hyperloom: {error}", file=sys.stderr)
        return leave(error.exit_code)
    except KeyboardInterrupt:
        from hyperloom.pipeline.execution import leave

        print(
            "\nhyperloom: interrupted; what was committed is kept, and the same command goes on from there",
            file=sys.stderr,
        )
        return leave(Exit.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hyperloom", description=DESCRIPTION)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"hyperloom.pipeline.commands.{name}").add(commands)
    return parser
