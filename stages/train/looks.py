"""Looks: what a training looks at beside its updates, through loaders of their own.

How well the network does on the split `val` and on a share of the training samples, and before the first update, of
several inputs whose answers are passed on to a task (`stages.network.residual`), which is best: an untrained network
that sees one of them alone answers what that says, so each is measured as a network is. All of it follows from the data
and the seed, and all ranks look together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

from hyperloom.stages.measure.measure import directions
from hyperloom.stages.network.architecture import Task
from hyperloom.stages.network.model import Columns, MultiTask
from hyperloom.stages.train.batches import loader
from hyperloom.stages.train.dead import Filters
from hyperloom.stages.train.diagnosis import SAMPLES
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.validation import validate
from hyperloom.stages.world import World


@dataclass(frozen=True)
class Looks:
    """The looks of one rank; `alive` is called with each batch."""

    job: Job
    model: MultiTask
    world: World
    alive: Callable[[], None]

    def samples(self, split: str, against: Iterable[str]) -> Iterator[Columns]:
        """A split, with the columns that it is compared `against`: of `train` a share, always the same."""
        read = (p.column for p in self.model.architecture.parts)
        columns, train = tuple(dict.fromkeys([*read, *against])), split == "train"
        few = -(-SAMPLES // self.job.batch) if train else None
        for batch in islice(loader(self.job, columns, self.world, split, shuffle=train), few):
            self.alive()
            yield batch

    def figures(self, kept: MultiTask) -> dict[str, float]:
        """`val.task.figure` and `fit.task.figure` of the network that would be kept, and its share of dead filters."""
        job, figures, filters = self.job, dict[str, float](), Filters()
        for name, split, against in (("val", "val", job.judged), ("fit", "train", job.fitted)):
            if against:
                batches = self.samples(split, against.values())
                with filters.watched(kept) if name == "fit" else nullcontext():
                    values = validate(job, kept, batches, against, self.world)
                figures |= {f"{name}.{figure}": value for figure, value in values.items()}
        return figures | filters.figures(self.world)

    def begin(self) -> dict[str, str]:
        """Let every residual of several inputs begin with the best; task -> that input's column."""
        several = [t for t in self.model.architecture.tasks if len(t.residual) > 1 and t.name in self.job.fitted]
        batches = list(self.samples("train", self.job.fitted.values())) if several else []
        return {task.name: self._best(task, batches) for task in several}

    def _best(self, task: Task, batches: Iterable[Columns]) -> str:
        modality, against = self.job.modalities[task.name], {task.name: self.job.fitted[task.name]}
        sign, figures = 1 if directions(modality)[modality.metric] else -1, []
        for column in task.residual:
            place = self.model.architecture.columns.index(column)
            measured = validate(self.job, self.model, batches, against, self.world, alone=place)
            figures.append(sign * measured.get(f"{task.name}.{modality.metric}", -sign * float("inf")))
        best = figures.index(max(figures))
        self.model.residuals[task.name].begin_with(best)  # type: ignore[operator]
        return task.residual[best]
