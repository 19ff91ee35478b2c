"""Questions: at most five, each with an answer that is taken where nobody can be asked.

Standard input that is no terminal, and `--yes`, ask nothing: what was taken for granted stands in the recipe.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MOST = 5


@dataclass
class Questions:
    """Asks on the terminal. `read` takes the prompt and gives a line."""

    asking: bool
    read: Callable[[str], str] = input
    count: int = 0

    @classmethod
    def of(cls, yes: bool) -> Questions:
        return cls(not yes and sys.stdin is not None and sys.stdin.isatty())

    def line(self, question: str, default: str = "") -> str:
        """A line of text; the default where nobody can be asked, or the line is empty."""
        if not self.asking or self.count >= MOST:
            return default
        self.count += 1
        try:
            return self.read(f"{question} [{default or 'leave it'}] ").strip() or default
        except EOFError:
            self.asking = False
            return default

    def choice(self, question: str, options: Sequence[str]) -> str:
        """One of the options, by number or name; the first is the default."""
        listed = ", ".join(f"{i} {option}" for i, option in enumerate(options, 1))
        answer = self.line(f"{question} ({listed})", options[0])
        if answer.isdecimal() and 1 <= int(answer) <= len(options):
            return options[int(answer) - 1]
        return answer if answer in options else options[0]
