"""The page of a report as data: sections of blocks, each plain values that say nothing of HTML.

Whoever gathers makes these (`stages.report.gather`), whoever renders reads them (`stages.report.render`); so what a
page says can be tested, and compared, without a browser. Text is as it stands in recipes and data: escaping it is the
renderer's work. Pictures are bytes of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

Tone = Literal["plain", "good", "bad"]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; `best`: no other row of its column is better."""

    value: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False


PageCell: TypeAlias = "str | int | float | bool | Estimate | None"


@dataclass(frozen=True)
class Words:
    """Sentences, one a line."""

    kind: ClassVar[str] = "words"
    lines: Sequence[str]
    tone: Tone = "plain"
    folded: str = ""
    """With a title here, the lines are hidden until somebody opens them."""


@dataclass(frozen=True)
class PageTable:
    """Rows of cells. Estimates of one column are drawn on one scale."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[PageCell]]
    title: str = ""
    note: str = ""
    marked: Sequence[int] = ()
    """Places of rows that stand out."""


@dataclass(frozen=True)
class PlotLine:
    """Points (x, y) of one curve, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Curves over one axis; with `marks` points with their names; `diagonal` is where y is x."""

    kind: ClassVar[str] = "chart"
    title: str
    x: str
    lines: Sequence[PlotLine]
    y: str = ""
    marks: bool = False
    log: bool = False
    """Is the axis of x logarithmic?"""
    diagonal: bool = False


@dataclass(frozen=True)
class Matrix:
    """A square of figures by name and name; None where there is none."""

    kind: ClassVar[str] = "matrix"
    title: str
    names: Sequence[str]
    values: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Box:
    """A step in the graph: what it is called, how it stands, what it took; `share` is that of all time, 0 to 1."""

    name: str
    stage: str
    state: str
    lines: Sequence[str] = ()
    reads: Sequence[str] = ()
    share: float = 0.0


@dataclass(frozen=True)
class StepGraph:
    """Steps and what each reads."""

    kind: ClassVar[str] = "graph"
    boxes: Sequence[Box]


@dataclass(frozen=True)
class Tile:
    """What one column says of a sample: a picture, to be laid over the sample's own where `over`, or words."""

    column: str
    mime: str = ""
    data: bytes = field(default=b"", repr=False)
    words: str = ""
    over: bool = False


@dataclass(frozen=True)
class ShownSample:
    """A sample: its own picture (empty without one), and what columns say of it."""

    key: str
    tiles: Sequence[Tile]
    column: str = ""
    """Whose picture it is."""
    mime: str = ""
    picture: bytes = field(default=b"", repr=False)
    width: int = 0
    height: int = 0

    @property
    def groups(self) -> list[tuple[str, list[Tile]]]:
        """Tiles by modality; one without any where there is but the picture."""
        by: dict[str, list[Tile]] = {}
        for tile in self.tiles:
            by.setdefault(tile.column.partition("@")[0], []).append(tile)
        return list(by.items()) or [("", [])]

    @property
    def bytes(self) -> int:
        return len(self.picture) + sum(len(tile.data) for tile in self.tiles)


@dataclass(frozen=True)
class Gallery:
    """Samples beside each other, and what colours mean, by modality."""

    kind: ClassVar[str] = "gallery"
    samples: Sequence[ShownSample]
    legends: Sequence[tuple[str, Sequence[tuple[str, Sequence[int]]]]] = ()


@dataclass(frozen=True)
class Bars:
    """Amounts by name, each with how it is written."""

    kind: ClassVar[str] = "bars"
    title: str
    items: Sequence[tuple[str, float, str]]


@dataclass(frozen=True)
class Verbatim:
    """A text as it is, folded away."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


PageBlock: TypeAlias = "Words | PageTable | Chart | Matrix | StepGraph | Gallery | Bars | Verbatim"


@dataclass(frozen=True)
class Section:
    """A part of the page. `name` is its anchor."""

    name: str
    title: str
    blocks: Sequence[PageBlock]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A report: what it was to do, what came of it, and the sections that have something to show. `doubts` keep figures
    from proving anything; `missing` are parts that could not be read."""

    name: str
    task: str
    outcome: str
    tone: Tone
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    doubts: Sequence[str] = ()
    missing: Sequence[str] = ()
