"""The picture of a verdict: a dot and an interval a claim, in the colour of its word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hyperloom.stages.plot import blank, png

if TYPE_CHECKING:
    from hyperloom.stages.verdict.conclusion import Conclusion

COLOURS = {"holds": "tab:green", "reversed": "tab:red", "not shown": "tab:gray"}


def picture(concluded: Mapping[str, Conclusion], word: str) -> bytes:
    """A PNG, the first claim on top. Raises SourceError without matplotlib."""
    figure = blank(7.5, 1.2 + 0.55 * len(concluded))
    drawn = figure.subplots()
    for place, one in enumerate(reversed(list(concluded.values()))):
        colour = COLOURS[one.word]
        if one.interval is not None:
            drawn.plot(one.interval, [place, place], color=colour, linewidth=3, alpha=0.5)
        drawn.plot(one.seeds, [place] * len(one.seeds), "|", color=colour, markersize=9)
        drawn.plot([one.value], [place], "o", color=colour)
        drawn.plot([one.border], [place], "x", color="black", markersize=6)
    labels = [f"{name}\n{one.word}" for name, one in reversed(list(concluded.items()))]
    drawn.set_yticks(range(len(labels)), labels)
    drawn.set_ylim(-0.6, len(labels) - 0.4)
    drawn.axvline(0, color="black", linewidth=0.6)
    drawn.grid(axis="x", alpha=0.25)
    drawn.set_title(f"{word}   (dot: all, |: each seed, x: what it is compared with)", fontsize=10)
    return png(figure)
