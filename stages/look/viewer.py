"""The viewer: what the page may ask, as plain values. It plans again now and then while a run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hyperloom.pipeline.errors import HyperloomError, RecipeError
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.spelling import near
from hyperloom.stages.base import TRUTH, modality_of, source_of
from hyperloom.stages.data.shelf import Shelf
from hyperloom.stages.data.students import StudentAnswers
from hyperloom.stages.look import sample
from hyperloom.stages.look.order import Filter, Order

MOST_ON_A_PAGE = 100
MOST_GROUPS = 2000
REFRESH_SECONDS = 15.0
"""How often a root on which steps are not done is looked at again."""
WIDEST = 1600

PageQuestion = Mapping[str, str]


class RootLook(NamedTuple):
    """What one look at the root gave: changed together, and read together."""

    look: int
    """How often the root was looked at: rows and what they hold may be others by the next time."""
    shelf: Shelf
    order: Order
    students: StudentAnswers


class Viewer:
    """Of a recipe's modalities and root. `plan` plans anew; `only` are names of steps whose columns are shown first."""

    def __init__(
        self,
        name: str,
        storage: Storage,
        modalities: Mapping[str, Any],
        plan: Callable[[], list[PlannedStep]],
        only: Sequence[str] = (),
    ):
        self.name, self.storage, self.modalities, self._plan = name, storage, modalities, plan
        self._only = tuple(only)
        self._lock = threading.Lock()
        self._looks = 0
        self._look()

    @property
    def shelf(self) -> Shelf:
        return self.now.shelf

    @property
    def students(self) -> StudentAnswers:
        return self.now.students

    def overview(self, _: PageQuestion) -> dict[str, Any]:
        """Columns with what they are, groups, splits, figures to sort by."""
        self._refresh()
        shelf = self.shelf
        groups = list(dict.fromkeys(p.group for p in shelf.partitions))
        return {
            "name": self.name,
            "samples": len(shelf),
            "missing": sum(shelf.partitions[number].rows for number in shelf.absent),
            "running": shelf.running,
            "columns": [self._column(c) for c in self._all()],
            "groups": groups[:MOST_GROUPS],
            "moreGroups": max(0, len(groups) - MOST_GROUPS),
            "splits": sorted(set(shelf.splits.values())),
            "sorts": [{"name": f.name, "title": f.title, "worst": f.worst} for f in self.now.order.figures.values()],
        }

    def rows(self, question: PageQuestion) -> dict[str, Any]:
        """A page of samples in the order and of the kind that is question for, with how many there are."""
        figure, start = question.get("sort", ""), max(0, int(question.get("start", 0)))
        count = min(MOST_ON_A_PAGE, max(1, int(question.get("count", 12))))
        chosen = Filter(question.get("group", ""), question.get("split", ""), question.get("quarantine") == "1")
        look, _, order, _ = self.now
        rows, total = order.rows(figure, question.get("desc") == "1", chosen, start, count)
        errors = order.errors() if chosen.quarantine else {}
        cards = [sample.described(order.shelf, order, row, figure) for row in rows]
        for card in cards:
            card["errors"] = errors.get(card["row"], [])
        return {"rows": cards, "total": total, "look": look, "progress": order.progress(figure) if figure else None}

    def sample(self, question: PageQuestion) -> dict[str, Any]:
        """What columns say of one sample; nothing where its number is of another `look` than the present one."""
        row, (look, shelf, _, students) = int(question["row"]), self.now
        if question.get("look", str(look)) != str(look):
            return {"row": row, "look": look, "columns": {}}
        if not 0 <= row < len(shelf):
            raise IndexError(f"there is no sample {row}; there are {len(shelf)}")
        every = (*shelf.columns, *students.columns)
        names = [c for c in question.get("columns", "").split(",") if c in every]
        widest = min(WIDEST, max(32, int(question.get("width", 320))))
        return {"row": row, "look": look, "columns": sample.columns(shelf, students, row, names, widest)}

    # -- inside --------------------------------------------------------------------------------------------------------
    def _look(self) -> None:
        steps = self._plan()
        shelf = Shelf(self.storage, steps, self.modalities)
        if not len(shelf):
            raise RecipeError(f"there is no sample to look at under {self.storage}. Next: hyperloom run {self.name}")
        self._looks += 1
        self.now = RootLook(self._looks, shelf, Order(shelf), StudentAnswers(shelf, steps))
        self._looked = time.monotonic()
        self._shown = self._first(steps)

    def _refresh(self) -> None:
        """Look again where steps were not done; what cannot be planned just now stays as it was."""
        with self._lock:
            if not self.shelf.running or time.monotonic() - self._looked < REFRESH_SECONDS:
                return
            before = self.now.order
            try:
                self._look()
            except (HyperloomError, OSError):
                self._looked = time.monotonic()
                return
            before.ended.set()

    def _first(self, steps: Sequence[PlannedStep]) -> set[str]:
        """The columns that are shown when the page opens: of the named steps, else pictures and the first modality that
        several sources tell."""
        if self._only:
            unknown = [n for n in self._only if n not in {s.name for s in steps}]
            if unknown:
                names = [s.name for s in steps]
                raise RecipeError(
                    f"there is no step {unknown[0]!r}{near(unknown[0], names)}; steps: {', '.join(names)}"
                )
            shown = self.shelf.of_steps(self._only)
            return shown | {c for c in self.shelf.columns if self.modalities[modality_of(c)].rgb}
        every = self._all()
        rgb = {c for c in every if self.modalities[modality_of(c)].rgb}
        counts = [modality_of(c) for c in every if c not in rgb]
        most = max(dict.fromkeys(counts), key=counts.count, default="")
        return {c for c in rgb if not self._resized(c)} | {c for c in every if modality_of(c) == most}

    def _resized(self, column: str) -> bool:
        """Is it another column in another size, which shows the same once more?"""
        return (self.shelf.makers.get(column, {}).get("expert") or {}).get("type") == "resize"

    def _all(self) -> list[str]:
        return [*self.shelf.columns, *self.students.columns]

    def _column(self, column: str) -> dict[str, Any]:
        kind = self.modalities[modality_of(column)]
        about = self.shelf.makers.get(column, {})
        who = "truth" if source_of(column) == TRUTH else about.get("kind", "raw") if about.get("expert") else "raw"
        if (about.get("expert") or {}).get("type") == "model" or column in self.students.columns:
            who = "model"
        return {
            "name": column,
            "modality": modality_of(column),
            "source": source_of(column),
            "type": kind.type or type(kind).__name__.lower(),
            "rgb": kind.rgb,
            "kind": who,
            "shown": column in self._shown,
            "unit": getattr(kind, "unit", ""),
            "legend": [[name, list(rgb)] for name, rgb in kind.legend],
        }
