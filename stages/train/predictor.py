"""Prediction with a trained model: one pass, or the mean and spread over an ensemble of masks.

Batches are numpy, as experts and evaluation have them; inputs that are missing (absent from the batch, or false in
their `?` mask) are hidden from the model. Members are summed as they come, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from stages.shard.loader import VALID
from stages.train.model import MultiTask
from stages.train.visible import shown


@dataclass(frozen=True)
class Prediction:
    """By task: `mean` (N, *sites, C), class probabilities or values in units as `MultiTask.predict` has them, and
    `spread` (N, *sites, 1), the standard deviation over members, its square averaged over channels (zero for a single
    pass)."""

    mean: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]


class Predictor:
    """`members` says, for each member of the ensemble, which inputs it may see."""

    def __init__(self, model: MultiTask, members: Sequence[Sequence[bool]]):
        self.model, self.members = model.eval(), [torch.tensor(m) for m in members]
        self._allowed = torch.stack(self.members).any(0)

    @torch.inference_mode()
    def __call__(self, batch: Mapping[str, np.ndarray]) -> Prediction:
        """Predict for `batch`: column -> (N, *shape), optionally column? -> (N,) bool."""
        columns, there = self._tensors(batch)
        planes = self.model.encode(columns)
        total: dict[str, torch.Tensor] = {}
        square: dict[str, torch.Tensor] = {}
        for member in self.members:
            made = self.model.finish(self.model.fuse(planes, shown(there, member)))
            for task, values in made.items():
                total[task] = total[task] + values if task in total else values
                power = values.square()
                square[task] = square[task] + power if task in square else power
        count = len(self.members)
        mean = {t: v / count for t, v in total.items()}
        variance = {t: (square[t] / count - m.square()).clamp(min=0).mean(-1, keepdim=True) for t, m in mean.items()}
        return Prediction(
            {t: m.contiguous().numpy() for t, m in mean.items()},
            {t: v.sqrt().contiguous().numpy() for t, v in variance.items()},
        )

    def _tensors(self, batch: Mapping[str, np.ndarray]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Inputs of the model, zeros for those that are absent, and which are there, (N, inputs) bool."""
        inputs = self.model.architecture.inputs
        count = len(next(batch[i.column] for i in inputs if i.column in batch))
        columns, there = {}, torch.zeros(count, len(inputs), dtype=torch.bool)
        for n, item in enumerate(inputs):
            values = batch.get(item.column)
            if values is None:
                values = np.zeros((count, *item.modality.shape), item.modality.dtype)
            else:
                valid = batch.get(item.column + VALID)
                there[:, n] = True if valid is None else torch.from_numpy(np.asarray(valid, bool))
            columns[item.column] = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        return columns, there & self._allowed
