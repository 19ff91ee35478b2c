"""The live view of a run on a terminal: a line for each step that runs, redrawn in place by rich, words above it.

    depth    [2/7]  ━━━━━━━━╺━━━━━━  120/400 units, 80 reused, 2 failed  12.3/s  0:00:22 left  4 workers
    teacher  [3/7]  ━━━╺━━━━━━━━━━━  140/800 updates, loss 0.41         2.1/s  0:05:14 left  1 worker

It only draws; what is drawn `pipeline.output.progress` knows. Where nothing can be redrawn (a pipe, CI, `NO_COLOR`, a
dumb terminal) it is not used, and nothing imports rich.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

WINDOW_SECONDS = 30.0
"""The rate is that of the last so many seconds."""
REDRAWN = 4.0
"""Times a second."""


@dataclass
class LiveStep:
    """A step that runs: its place among the steps of the run, when it began, and what was last heard of it."""

    place: str
    name: str
    text: str = ""
    began: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)
    shown: str = ""
    """What a log has said of it."""
    since: float = field(default_factory=time.monotonic)
    """When it said so first."""
    done: int = 0
    total: int = 0
    reused: int = 0
    failed: int = 0
    workers: int = 0
    noun: str = "units"
    figures: str = ""
    _past: deque[tuple[float, int]] = field(default_factory=deque)
    _trainings: dict[str, tuple[int, int]] = field(default_factory=dict)

    def progress(self, event: Mapping[str, Any]) -> None:
        """Take over the counts of an event."""
        self.failed, self.workers = event["failed"], event.get("workers", 0)
        if self._trainings:
            return  # a training is one unit: its updates say more
        self.reused = event["reused"]
        self._count(event["done"], event["total"])
        self.text = ", ".join(filter(None, (self.units, self.rate_text, self.left)))

    def trained(self, event: Mapping[str, Any]) -> None:
        """Take over figures of a training after some of its updates; several trainings of a step are one sum."""
        if not self._trainings:
            self.reused, self.noun = 0, "updates"
            self._past.clear()
        self._trainings[event.get("writer", "")] = event["at"], event.get("of", 0)
        updates, planned = (sum(counts) for counts in zip(*self._trainings.values(), strict=True))
        self._count(updates, planned if all(of for _, of in self._trainings.values()) else 0)
        self.figures = " ".join(f"{k} {v:.4g}" for k, v in list(event["values"].items())[:4])
        self.text = ", ".join(filter(None, (self.units, self.rate_text, self.left, self.figures)))

    def _count(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        now = time.monotonic()
        self._past.append((now, self.done - self.reused))
        while len(self._past) > 2 and self._past[0][0] < now - WINDOW_SECONDS:
            self._past.popleft()

    @property
    def rate(self) -> float:
        """Units a second, without those that were reused; 0 while nobody knows."""
        if self._trainings and len(self._past) < 2:
            return 0.0  # it may go on from a checkpoint
        now, fresh = time.monotonic(), self.done - self.reused
        since, before = self._past[0] if len(self._past) > 1 else (self.began, 0)
        return (fresh - before) / (now - since) if now - since > 1 and fresh > before else 0.0

    @property
    def rate_text(self) -> str:
        spans = ((1, "s"), (60, "min"), (3600, "h"))
        span, name = next((s for s in spans if self.rate * s[0] >= 0.1), spans[-1])
        return f"{self.rate * span:.1f}/{name}" if self.rate else ""

    @property
    def units(self) -> str:
        reused = f" ({self.reused:,} reused)" if self.reused else ""
        failed = f", {self.failed} failed" if self.failed else ""
        of = f"/{self.total:,}" if self.total else ""
        return f"{self.done:,}{of} {self.noun}{reused}{failed}"

    @property
    def left(self) -> str:
        """How long it would take at this rate."""
        return f"{_clock((self.total - self.done) / self.rate)} left" if self.rate and self.total > self.done else ""

    @property
    def who(self) -> str:
        return f"{self.workers} worker{'' if self.workers == 1 else 's'}" if self.workers else ""


def suits(out: IO[str]) -> bool:
    """Can something be redrawn there, and does nobody want plain lines?"""
    plain = os.environ.get("TERM", "") in ("dumb", "unknown") or "NO_COLOR" in os.environ or "CI" in os.environ
    return out.isatty() and not plain


class LiveView:
    """`state` gives the steps that run, a headline and the last warning, whenever they are drawn."""

    def __init__(self, out: IO[str], state: Callable[[], tuple[list[LiveStep], str, str]]):
        from rich.console import Console

        self._state = state
        self.console = Console(file=out, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._live: Any = None

    def say(self, text: str) -> None:
        """A line above what is redrawn."""
        self.console.print(text, soft_wrap=True)

    def show(self) -> None:
        """Begin to draw, or draw anew."""
        from rich.live import Live

        if self._live is None:
            self._live = Live(
                get_renderable=self._drawn, console=self.console, refresh_per_second=REDRAWN, transient=True
            )
            self._live.start()
        else:
            self._live.refresh()

    def hide(self) -> None:
        """Leave what was said, and nothing of what was redrawn."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _drawn(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        steps, headline, warning = self._state()
        grid = Table.grid(padding=(0, 2))
        for number, justify in enumerate(("left", "right", "left", "left", "right", "left", "left")):
            grid.add_column(justify=justify, no_wrap=True, overflow="ellipsis", ratio=1 if number == 3 else None)  # type: ignore[arg-type]
        most = max(1, self.console.height - 4)
        for step in steps[:most]:
            bar: Any = ProgressBar(max(step.total, 1), step.done, width=20) if step.total else Text("")
            middle = ", ".join(filter(None, (step.units, step.figures))) if step.total or step.figures else step.text
            failed = "red" if step.failed else ""
            grid.add_row(
                Text(step.name, "bold"), Text(step.place, "dim"), bar, Text(middle, failed),
                Text(step.rate_text), Text(step.left), Text(step.who, "dim"),
            )  # fmt: skip
        lines: list[Any] = [Text(headline, "dim", no_wrap=True, overflow="ellipsis"), grid]
        if len(steps) > most:
            lines.append(Text(f"and {len(steps) - most} more steps", "dim"))
        if warning:
            lines.append(Text(warning, "yellow", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
