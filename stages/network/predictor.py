"""Prediction with a trained model: one pass, or what an ensemble of masks or of models comes to.

Batches are numpy, as experts and evaluation have them; inputs that are missing (absent from the batch, or false in
their `?` mask) are hidden from the model. Members are asked one after the other (see stages.network.pooling).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hyperloom.stages.base import VALID
from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.network.pooling import Answers, How, Pooling
from hyperloom.stages.network.visible import present, shown

PLANES, POOLED = "*planes", "*pooled"
"""Names of the features among the answers; no modality is called so."""


@dataclass(frozen=True)
class Prediction:
    """By task: `mean` (N, *sites, C), class probabilities or values in units as `MultiTask.predict` has them, and
    `spread` (N, *sites, 1), the standard deviation over members, its square averaged over channels (zero for a single
    pass)."""

    mean: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]


class Predictor:
    """`members` says, for each member of the ensemble, which inputs it may see; `how`, how their answers are pooled."""

    def __init__(self, model: MultiTask, members: Sequence[Sequence[bool]], how: How = "mean"):
        self.model, self.members, self.how = model.eval(), [torch.tensor(m) for m in members], how
        self._allowed = torch.stack(self.members).any(0)
        self.features = False
        """Give what the heads see too, as PLANES (N, H, W, F) and POOLED (N, P) among the answers."""

    @property
    def parameters(self) -> int:
        """Of the one network that all members are."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def classed(self) -> frozenset[str]:
        """Tasks whose answers are probabilities of classes."""
        return frozenset(t.name for t in self.model.architecture.tasks if t.modality.categorical)

    @torch.inference_mode()
    def __call__(self, batch: Mapping[str, np.ndarray]) -> Prediction:
        """Predict for `batch`: column -> (N, *shape), optionally column? -> (N,) bool."""
        return predicted(self.answers(batch), self.how, self.classed)

    def answers(self, batch: Mapping[str, np.ndarray]) -> Iterator[Answers]:
        """Each member's answers, one after the other."""
        columns, valid = self._tensors(batch)
        planes = self.model.encode(columns)
        for member in self.members:
            raw = self.model(planes, shown(valid, member))
            answers, seen = dict(self.model.finish(raw.predictions)), raw.features
            if self.features:
                answers |= {POOLED: seen.pooled}
                answers |= {} if seen.planes is None else {PLANES: seen.planes.permute(0, 2, 3, 1)}
            yield answers

    def _tensors(self, batch: Mapping[str, np.ndarray]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Inputs of the model, zeros for those that are absent, and which are there, (N, inputs) bool."""
        architecture = self.model.architecture
        count = len(next(batch[p.column] for p in architecture.parts if p.column in batch))
        columns: dict[str, torch.Tensor] = {}
        for part in architecture.parts:
            values, valid = batch.get(part.column), batch.get(part.column + VALID)
            known = np.full(count, values is not None) if values is None or valid is None else np.asarray(valid, bool)
            values = np.zeros((count, *part.modality.shape), part.modality.dtype) if values is None else values
            columns[part.column] = torch.from_numpy(np.require(values, requirements=["C", "W"]))
            columns[part.column + VALID] = torch.from_numpy(known)
        return columns, present(architecture, columns) & self._allowed


class Together:
    """Several models asked as one: each model's members are members of the whole."""

    def __init__(self, predictors: Sequence[Predictor], how: How = "mean"):
        self.predictors, self.how = list(predictors), how
        self.model = self.predictors[0].model
        self.members = [m for p in self.predictors for m in p.members]
        self.features = False

    @property
    def parameters(self) -> int:
        """Of all models."""
        return sum(p.parameters for p in self.predictors)

    @torch.inference_mode()
    def __call__(self, batch: Mapping[str, np.ndarray]) -> Prediction:
        """As a `Predictor` does."""
        for one in self.predictors:
            one.features = self.features
        answers = (answer for one in self.predictors for answer in one.answers(batch))
        return predicted(answers, self.how, self.predictors[0].classed)


def predicted(answers: Iterable[Answers], how: How, classed: frozenset[str]) -> Prediction:
    """What the members' answers come to."""
    pool = Pooling(how, classed)
    for answer in answers:
        pool.add(answer)
    pooled, spread = pool.pooled()
    return Prediction(
        {t: v.contiguous().numpy() for t, v in pooled.items()}, {t: v.contiguous().numpy() for t, v in spread.items()}
    )
