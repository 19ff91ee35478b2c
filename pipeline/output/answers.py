"""What a command answers to a machine (`--json`): one JSON value on standard output, and nothing else there.

A command sets `given.answer`; what it prints for people meanwhile is not shown, or, where it takes long (`long` of its
parser), on standard error. A command without an answer of its own gives the lines that it printed: `{"exit_code": 0,
"lines": [...]}`. One that fails gives `{"error": "...", "exit_code": 2}`. Commands that print JSON by themselves (a
log, line by line) set `prints_json`.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from hyperloom.pipeline import plain

KEPT = 10_000
"""Lines that are kept of what a command prints, where it has no answer of its own."""


class _Aside:
    """Takes what is printed to standard output: the last lines are kept, and with `shown` go to standard error."""

    def __init__(self, shown: bool) -> None:
        self._error: IO[str] = sys.stderr
        self._shown, self._open, self._lines = shown, "", deque[str](maxlen=KEPT)

    def write(self, text: str) -> int:
        *whole, self._open = (self._open + text).split("\n")
        self._lines.extend(whole)
        return self._error.write(text) if self._shown else len(text)

    def isatty(self) -> bool:
        return self._shown and self._error.isatty()

    @property
    def lines(self) -> list[str]:
        return [*self._lines, *filter(None, [self._open])]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._error, name)


def offer(parser: argparse.ArgumentParser) -> None:
    """Give every command below `parser` the option `--json`; without it `json` is False."""
    parser.set_defaults(json=False)
    _offer(parser)


def _offer(parser: argparse.ArgumentParser) -> None:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for sub in action.choices.values():
            _offer(sub)
    works = not below or parser.get_default("command") is not None  # with parts, it may also work without one
    if works and "--json" not in parser._option_string_actions:
        help_ = "one JSON value on standard output, for programs"
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=help_)  # before a part, too


def answered(given: Any, command: Callable[[Any], int]) -> int:
    """Run a command; its exit code. With `--json` its answer is printed at the end."""
    if not getattr(given, "json", False) or getattr(given, "prints_json", False):
        return command(given)
    with _aside(getattr(given, "long", False)) as (out, recorder):
        given.answer, given.replied = None, False

        def reply(value: Any) -> None:
            given.replied = True
            print(plain.dumps(value, indent=1, default=str), file=out, flush=True)

        given.reply = reply
        try:
            code = command(given)
        except Exception as error:
            if not given.replied:
                reply({"error": str(error), "exit_code": int(getattr(error, "exit_code", 1))})
            raise
        if not given.replied:
            reply({"exit_code": int(code), "lines": recorder.lines} if given.answer is None else given.answer)
        return code


def reply(given: Any, value: Any) -> None:
    """Answer at once, for a command that goes on for long."""
    if getattr(given, "json", False):
        given.reply(value)


@contextmanager
def _aside(shown: bool) -> Iterator[tuple[Any, _Aside]]:
    """Inside the block what is printed is set aside; the real standard output, and what took its place."""
    out, recorder = sys.stdout, _Aside(shown)
    sys.stdout = recorder  # type: ignore[assignment]
    try:
        yield out, recorder
    finally:
        sys.stdout = out
