"""The criterion: a model with its targets, so that a batch becomes one loss for each task.

Masked reconstruction and supervision are the same sum here: an input may be a target, and every labelled pixel of every
target counts, whether or not it was visible (PHG-MAE), or only where it was hidden (MAE). Each task's loss is the
weighted mean over all its labelled pixels of the *global* batch, so it does not depend on how many workers share the
batch, and a task without labels is exactly zero, never 0/0. Does not step, log or store anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from hyperloom.stages.augment.blends import answers
from hyperloom.stages.base import VALID, modality_of
from hyperloom.stages.meaning import Translation, translation
from hyperloom.stages.modality.knowledge import spread
from hyperloom.stages.network.features import Forward
from hyperloom.stages.network.model import Columns, MultiTask
from hyperloom.stages.network.processors import Scale, processor_of
from hyperloom.stages.network.visible import Visible, present, shown
from hyperloom.stages.objective.extras import DRAWN, Extra, ObjectiveInputs
from hyperloom.stages.objective.hints import Hint, hints
from hyperloom.stages.train.hinted import Hinted
from hyperloom.stages.train.job import Confidence, Job
from hyperloom.stages.world import World


@dataclass(frozen=True)
class Losses:
    """Per task, (T,): this rank's share of the mean losses (their sum over ranks is the loss) and whether any pixel of
    the global batch is labelled."""

    values: torch.Tensor
    present: torch.Tensor


class Criterion(nn.Module):
    """Holds the model and what turns target columns into tensors on the scale of its predictions."""

    def __init__(self, job: Job, model: MultiTask, hinted: Hinted | None = None):
        super().__init__()
        self.model, self.job = model, job
        self.network: Callable[..., Forward] = model.__call__
        """Runs the model: the loop may set another precision."""
        self._blank: dict[str, torch.Tensor] | None = None
        self.tasks = model.architecture.tasks
        scales = {t.name: t.scale if t.regression else Scale() for t in self.tasks}
        learned = {t.name: t.modality for t in self.tasks}
        read = [(job.modalities[modality_of(t.column)], t.task) for t in job.targets]
        self.taught = [modality for modality, _ in read]
        self.readers = [target_reader(modality, learned[task], scales[task]) for modality, task in read]
        pairs = list(zip(job.targets, self.readers, strict=True))
        self.forced = {t.task: (t.column, r) for t, r in reversed(pairs) if t.task in model.forced}
        """For heads that are given their target: the first column that teaches the task, and its reader."""
        self.weighers = [Weigher(t.confidence, job.modalities) if t.confidence else None for t in job.targets]
        self.held = nn.ModuleList(r for r in self.readers if isinstance(r, nn.Module))
        self.objectives = [t.objective.loss(t.class_counts) for t in job.targets]
        self.hinted = hinted or (Hinted(job, model) if hints(job.extras) else None)
        """The network beside its teacher, where hints ask for it; one for all phases."""
        self.extras = nn.ModuleList(self._own(extra) for extra in job.extras.values())
        """What extras have of their own, in their order."""

    def _own(self, extra: Extra) -> nn.Module:
        architecture = self.model.architecture
        if self.hinted is not None and isinstance(extra, Hint):
            return extra.build_beside(architecture, self.hinted.guide.architecture)
        return extra.build(architecture)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """What extras need to be drawn for the `count` samples of a global batch, as columns of it."""
        return {n + DRAWN: e.draw(self.model.architecture, count, generator) for n, e in self.job.extras.items()}

    def forward(
        self, batch: Columns, visible: Visible | torch.Tensor, world: World, counts: torch.Tensor | None = None
    ) -> Losses:
        """`batch` is what the loader gives and `draw` drew, `visible` what the mask wants. With `counts` (see `count`)
        the batch is a part of this rank's share, and the losses are that part's share."""
        valid = present(self.model.architecture, batch)
        seen, some = shown(valid, visible), valid.any(1)
        planes = self.model.encode(batch) if self.job.extras else []
        targets = {name: read(batch[answers(batch, column)[0][0][0]]) for name, (column, read) in self.forced.items()}
        result = self.network(planes or batch, seen, None, targets)
        pair = self.hinted.observed(batch, result.predictions, self.job) if self.hinted is not None else ()
        sums, amounts = self._sums(batch, result.predictions, some, seen, world)
        for (name, extra), own in zip(self.job.extras.items(), self.extras, strict=True):
            if name in self.job.silent:
                sums.append(torch.zeros((), device=valid.device))
                continue
            samples = ObjectiveInputs(self.network, planes, valid, batch[name + DRAWN], world, *pair)
            sums.append(extra.loss(self.model, own, samples))
        for value in result.losses.values():
            sums.append(torch.where(some, value, 0.0).sum())
        counts = world.sum(amounts) if counts is None else counts
        return Losses(torch.stack(sums) / counts.clamp(min=1e-9).float(), counts > 0)

    @torch.no_grad()
    def count(self, parts: Sequence[Columns], visible: Sequence[Visible], world: World) -> torch.Tensor:
        """What `forward` divides each task's sum by, (T,) float64 over the global batch, for this rank's share in
        `parts`, without running the network on it."""
        own = []
        for batch, mask in zip(parts, visible, strict=True):
            valid = present(self.model.architecture, batch)
            if self._blank is None:
                raw = self.model({k: v[:1] for k, v in batch.items()})
                self._blank = {name: torch.zeros_like(values[0]) for name, values in raw.predictions.items()}
            blank = {name: values.expand(len(valid), *values.shape) for name, values in self._blank.items()}
            own.append(self._sums(batch, blank, valid.any(1), shown(valid, mask), World())[1])
        return world.sum(torch.stack(own).sum(0))

    @property
    def names(self) -> list[str]:
        """The tasks, then the extras, then the terms that modules add, in the order of the losses."""
        return [*(t.name for t in self.tasks), *self.job.extras, *self.model.terms]

    def _sums(
        self, batch: Columns, raw: Columns, seen: torch.Tensor, visible: Visible, world: World
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Per task the weighted sum of losses over labelled pixels; the weighted number of those, and of the samples
        that each extra counts."""
        none = torch.zeros((), dtype=torch.float64, device=seen.device)
        sums = [none.float()] * len(self.tasks)
        counts = [none] * len(self.names)
        columns = self.model.architecture.columns
        parts = zip(self.job.targets, self.taught, self.readers, self.objectives, self.weighers, strict=True)
        for target, modality, read, objective, weigher in parts:
            for names, share in answers(batch, target.column, *([weigher.column] if weigher else [])):
                column = names[0]
                labelled, total = objective(raw[target.task], read(batch[column]), world)
                use = labelled & spread(modality.teaching(batch[column]), labelled)
                use = use & spread(batch[column + VALID] & seen, labelled)
                if target.hidden and target.column in columns:
                    use = use & hidden(visible, columns.index(target.column), labelled.shape[1:])
                amount, weight = use.sum(), _weight(use, share)
                if weigher is not None:
                    given = torch.where(use, weigher(batch, labelled.ndim, names[1]), 0.0)
                    weight = given if weight is None else given * weight
                if weight is not None:
                    amount = weight.double().sum()
                i = self.names.index(target.task)
                sums[i] = sums[i] + target.weight * total(use, weight)
                counts[i] = counts[i] + target.weight * amount.double()
        valid = present(self.model.architecture, batch) if self.job.extras else seen
        for i, (name, extra) in enumerate(self.job.extras.items(), len(self.tasks)):
            if name not in self.job.silent:
                counts[i] = none + extra.count(columns, valid)
        for i in range(len(self.tasks) + len(self.job.extras), len(counts)):
            counts[i] = seen.sum().double()
        return sums, torch.stack(counts)


def target_reader(modality: Any, task: Any, scale: Scale) -> Callable[[torch.Tensor], torch.Tensor]:
    """Reads a column of `modality` as what teaches `task`: in its order of the classes and on its `scale`."""
    how = translation(modality.meaning, task.meaning)
    # of texts the task knows the vocabulary
    read = processor_of(task if modality.textual else modality).target(scale.of(how, modality.channels))
    return nn.Sequential(Reordered(modality, how), _module(read)) if how.places or how.within else read


class Reordered(nn.Module):
    """Raw values whose classes are in another order, in that of the task; without those that were clipped where the
    task's range goes on."""

    def __init__(self, modality: Any, how: Translation):
        super().__init__()
        self.modality, self.how = modality, replace(how, factor=1.0)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        reordered: torch.Tensor = self.modality.translated(values, self.how)
        return reordered


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function = function

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.function(values)


def _module(read: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    return read if isinstance(read, nn.Module) else Called(read)


class Weigher:
    """Reads a confidence as weights, (N, *sites) or (N, 1, ...) where a sample has one."""

    def __init__(self, confidence: Confidence, modalities: Mapping[str, Any]):
        self.confidence = confidence
        self.read = processor_of(modalities[modality_of(confidence.column)]).reader(Scale())

    @property
    def column(self) -> str:
        return self.confidence.column

    def __call__(self, batch: Columns, dims: int, column: str) -> torch.Tensor:
        """`column` is what stands in the batch in place of the confidence."""
        falls = self.confidence.falls
        value = self.read(batch[column])[:, 0]
        weight = value.clamp(min=0) if falls is None else torch.exp(-value.clamp(min=0) / falls)
        weight = weight.nan_to_num(0.0) * batch[column + VALID].view(-1, *[1] * (value.ndim - 1))
        return weight if weight.ndim == dims else weight.view(len(weight), *[1] * (dims - 1))


def _weight(use: torch.Tensor, share: torch.Tensor | None) -> torch.Tensor | None:
    """How much the sites of each sample count by its share (N,), (N, *sites); None for all alike."""
    return None if share is None else torch.where(use, share.view(-1, *[1] * (use.ndim - 1)), 0.0)


def hidden(visible: Visible, i: int, sites: Sequence[int]) -> torch.Tensor:
    """Which sites of input i were hidden, (N, *sites) bool; where its patches are of another kind than the sites, all
    of a sample are that is not wholly visible."""
    squares = visible.squares[i] if visible.squares else None
    if squares is None or squares.ndim - 1 == len(sites):
        return ~visible.sites(i, sites)
    whole = visible.inputs[:, i] & squares.flatten(1).all(1)
    return ~whole.view(-1, *[1] * len(sites))
