"""Standard output and error of a process. Everything that Hyperloom prints goes through here.

What is printed is without secrets (`pipeline.secrets`); what the terminal cannot show is escaped, so that no name of a
file or a sample is an error. Once work is under way nothing that is printed can fail it: what nobody takes any more
(`| head`), or finds no room, is dropped. A command that only prints ends instead, with a sentence, since half of a list
is not a list.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.secrets import blot, hide

_works = False


class OutputError(HyperloomError):
    """Standard output takes nothing, and there is no work that is worth going on without it."""


class PrintStream:
    """A text stream that says all it is given, as far as it can be said."""

    def __init__(self, stream: IO[str], shy: bool = False):
        self._stream, self._shy = stream, shy

    def write(self, text: str) -> int:
        self.put(blot(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def put(self, text: str) -> None:
        """Write `text`, in which nothing is to be blotted."""
        self._attempt(lambda: self._put(text))

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            self._stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def _attempt(self, call: Callable[[], object]) -> None:
        """Raises BrokenPipeError or OutputError in a command that only prints."""
        try:
            call()
        except BrokenPipeError:
            self.forget()
            if not (_works or self._shy):
                raise
        except (OSError, ValueError) as error:  # a full disk, a terminal that is gone, a closed stream
            if not (_works or self._shy):
                self.forget()
                problem = f"standard output cannot be written: {str(error).rstrip('.')}"
                raise OutputError(f"{problem}. Next: the same command, to where there is room") from None

    def forget(self) -> None:
        """What is still to be written goes nowhere: Python would try it again as it ends."""
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        except (OSError, ValueError):  # no file of the system's
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def write_program(text: str) -> None:
    """Write a program or a configuration to standard output: values that are known are blotted, names that speak of
    secrets (`TOKEN=$(...)`) stay."""
    text = hide(text)
    if isinstance(sys.stdout, PrintStream):
        sys.stdout.put(text)
    else:
        sys.stdout.write(text)


def cover() -> None:
    """From now on this process, a worker whose output Ray keeps, prints through here, and works."""
    work()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, PrintStream):
            setattr(sys, name, PrintStream(stream))


def work() -> None:
    """From now on nothing that is printed can fail."""
    global _works
    _works = True


@contextmanager
def guard() -> Iterator[None]:
    """Inside the block this process prints through here, and files of it and its children are readable by all at most
    (0644, less where the umask says so)."""
    global _works
    before = sys.stdout, sys.stderr, _works
    umask = os.umask(0o077)
    os.umask(umask | 0o022)
    _works = False
    sys.stdout, sys.stderr = PrintStream(_opened(1)), PrintStream(_opened(2), shy=True)  # type: ignore[assignment]
    try:
        yield
    finally:
        settle()
        sys.stdout, sys.stderr, _works = before
        os.umask(umask)


def settle() -> None:
    """Write what is still to be written; nothing is raised."""
    for output in (sys.stdout, sys.stderr):
        try:
            output.flush()
        except (OSError, ValueError, HyperloomError):
            pass


def _opened(number: int) -> IO[str]:
    """Standard output (1) or error (2). Where the process came without one, its number goes to /dev/null: the next
    file that is opened would get it, and what a library prints would be written into that file."""
    for lower in range(number + 1):
        try:
            os.fstat(lower)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    stream = (sys.stdout, sys.stderr)[number - 1]
    return stream if stream is not None else open(number, "w", encoding="utf-8", closefd=False)
