"""Draws: all that is random in the preparation of an update; for a GPU they are drawn an update ahead.

What a mask shows, what augmentations and blends do and what objectives without a target draw follows from (seed,
update) and the recipe alone, never from the samples. So while a device works on an update, a thread draws for the next
one, and the host has nothing to do but to send it. On CPUs host and device are one, and nothing is drawn ahead. Who
asks out of turn (a resumed training, a range test) is drawn for at once, and gets the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch

from hyperloom.stages.augment.blends import Blend
from hyperloom.stages.augment.views import Augment, Drawn
from hyperloom.stages.modality import Modality
from hyperloom.stages.network.visible import Visible, shown
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.job import Job, seed_of
from hyperloom.stages.transfer import pinned


@dataclass(frozen=True)
class BatchDraws:
    """Of this rank's part of a batch: what is `visible`, what each augmentation drew, of each blend the places of the
    other samples in the global batch and what it drew, and columns that objectives without a target read.
    `visible.kept` says how many tokens samples keep that have all inputs."""

    visible: Visible
    augments: Sequence[Drawn]
    places: Sequence[torch.Tensor]
    blends: Sequence[Drawn]
    columns: Mapping[str, torch.Tensor]


class Drawer:
    """BatchDraws for the part `part` of each global batch; `columns` are what light and what geometry change."""

    def __init__(
        self,
        job: Job,
        criterion: Criterion,
        part: slice,
        columns: tuple[Mapping[str, Modality], Mapping[str, Modality]],
        device: torch.device,
    ):
        self.job, self.criterion, self.part, self.device = job, criterion, part, device
        self.own, self.every = columns
        self.blends = [a for a in job.augment if isinstance(a, Blend)]
        self.augments = [a for a in job.augment if not isinstance(a, Blend)]
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[BatchDraws]] | None = None

    def __call__(self, number: int) -> BatchDraws:
        """What update `number` draws; the next one's are begun."""
        if self.device.type == "cpu":
            return self.draw(number)
        ahead, self._next = self._next, None
        draws = ahead[1].result() if ahead is not None and ahead[0] == number else self.draw(number)
        self._thread = self._thread or ThreadPoolExecutor(1, "draws")
        self._next = number + 1, self._thread.submit(self.draw, number + 1)
        return draws

    def close(self) -> None:
        """End the thread. Nobody may ask after that."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def moved(self, augment: Augment) -> Mapping[str, Modality]:
        """The columns that an augmentation changes."""
        return self.own if augment.light else self.every

    def draw(self, number: int) -> BatchDraws:
        """What update `number` draws, in memory from which it is sent."""
        job, part = self.job, self.part
        generator = torch.Generator().manual_seed(seed_of(job.seed, "mask", number))
        visible = job.mask.draw(self.criterion.model.architecture, job.batch, generator)[part]
        visible = self.counted(visible, torch.ones_like(visible.inputs))
        augments = [a.draw(self.moved(a), job.batch, part, generator) for a in self.augments]
        places, blends = [], []
        for blend in self.blends:
            places.append(torch.randperm(job.batch, generator=generator)[part])
            blends.append(blend.draw(self.every, job.batch, part, generator))
        extras = torch.Generator().manual_seed(seed_of(job.seed, "extras", number))
        columns = {name: values[part] for name, values in self.criterion.draw(job.batch, extras).items()}
        ready: dict[str, Any] = pinned(
            {"inputs": visible.inputs, "squares": list(visible.squares), "augments": augments, "places": places}
            | {"blends": blends, "columns": columns},
            self.device,
        )
        visible = Visible(ready.pop("inputs"), tuple(ready.pop("squares")), visible.kept)
        return BatchDraws(visible, **ready)

    def counted(self, visible: Visible, valid: torch.Tensor) -> Visible:
        """`visible`, with how many tokens samples keep of the inputs that are `valid`, (n, inputs) bool, on the host. A
        network that is compiled is told only where all keep as many: it would be compiled anew for any other numbers.
        """
        kept = getattr(self.criterion.model.fusion, "kept", None)
        lengths = kept and kept(shown(valid, visible))
        if lengths and self.job.rhythm.compile and len(set(lengths)) > 1:
            lengths = None
        return replace(visible, kept=lengths)
