"""Objectives of distillation beside `kl`: other ways for a student's probabilities to be like its teacher's.

    losses: {soft@teacher: [kl, {type: dist}]}

All take a teacher's stored probabilities as targets, hard classes too where that makes sense; sites whose probabilities
sum to nothing are unlabelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hyperloom.stages.objective.base import Objective
from hyperloom.stages.objective.imbalance import shares

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.objective.base import PixelLoss
    from hyperloom.stages.objective.reduction import Loss

FLOOR = 1e-6
"""Probabilities of a teacher are at least this, so that their logarithms exist."""


class ReverseKL(Objective):
    """The divergence of the student from the teacher, KL(student || teacher), which gives up what the teacher thinks
    unlikely instead of covering all of it (Gu et al. 2024, "MiniLLM"); both softened by `temperature`, times its
    square."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("soft", "vector")
    temperature: float = Field(1.0, gt=0)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        def sites(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            student, teacher = softened(prediction, target, self.temperature)
            return (student.exp() * (student - teacher)).sum(1) * self.temperature**2, target.sum(1) > 0.5

        return sites


class JensenShannon(Objective):
    """The mean of both divergences from what lies half way between teacher and student: symmetric, and at most ln 2
    (Lin 1991); both softened by `temperature`, times its square."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("soft", "vector")
    temperature: float = Field(1.0, gt=0)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        def sites(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            student, teacher = softened(prediction, target, self.temperature)
            middle = ((student.exp() + teacher.exp()) / 2).log()
            both = teacher.exp() * (teacher - middle) + student.exp() * (student - middle)
            return both.sum(1) / 2 * self.temperature**2, target.sum(1) > 0.5

        return sites


class Dist(Objective):
    """DIST (Huang et al. 2022, "Knowledge distillation from a stronger teacher"): student and teacher are to agree in
    relations alone, by Pearson's correlation: of the classes at each site (`classes` weighs it), and of the sites in
    each class over the global batch (`sites`)."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("soft", "vector")
    temperature: float = Field(1.0, gt=0)
    classes: float = Field(1.0, ge=0)
    sites: float = Field(1.0, ge=0)

    @property
    def of_sets(self) -> bool:
        return self.sites > 0

    def loss(self, class_counts: Sequence[float] | None) -> Loss:
        from hyperloom.stages.objective.reduction import SetLoss, SiteLoss, SumLoss

        relations = SetLoss(self._both, _moments, _uncorrelated, each=False)
        return SumLoss([SiteLoss(self._at_sites), relations], [self.classes, self.sites])

    def _both(self, prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        student, teacher = softened(prediction, target, self.temperature)
        return student.exp().flatten(2), teacher.exp().flatten(2), target.sum(1) > 0.5

    def _at_sites(self, prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        student, teacher = (p.exp() for p in softened(prediction, target, self.temperature))
        one, other = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
        length = (one.square().sum(1) * other.square().sum(1) + 1e-12).sqrt()
        return 1 - (one * other).sum(1) / length, target.sum(1) > 0.5


class ChannelWise(Objective):
    """CWD (Shu et al. 2021, "Channel-wise knowledge distillation for dense prediction"): each class's map of logits as
    a distribution over the sites of a sample, softened by `temperature`; the divergence of the student's from the
    teacher's, times the temperature's square, mean over classes. Logits of the teacher are logarithms of its stored
    probabilities."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("soft",)
    temperature: float = Field(4.0, gt=0)

    def loss(self, class_counts: Sequence[float] | None) -> Loss:
        from hyperloom.stages.objective.reduction import SetLoss

        return SetLoss(self._maps, self._divergence, lambda values: values, each=True)

    def _maps(self, prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        student, teacher = softened(prediction, target, 1.0)
        return student.flatten(2), teacher.flatten(2), target.sum(1) > 0.5

    def _divergence(self, student: torch.Tensor, teacher: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        share = (weight > 0).to(student.dtype).clamp(min=1e-30).log()
        one, other = ((maps / self.temperature + share).log_softmax(2) for maps in (student, teacher))
        each = other.exp() * (other - one) * (weight > 0)
        return each.sum(2).mean(1) * self.temperature**2


def softened(prediction: torch.Tensor, target: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logarithms of the student's and of the teacher's probabilities, softened, both (N, C, *sites)."""
    truth, _ = shares(target, prediction)
    teacher = truth.clamp(min=FLOOR).log() / temperature
    return (prediction / temperature).log_softmax(1), teacher.log_softmax(1)


def _moments(student: torch.Tensor, teacher: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(N, 6, C): what correlations over sites follow from; they add up over samples."""
    import torch

    one = torch.ones_like(student)
    parts = (one, student, teacher, student * student, teacher * teacher, student * teacher)
    return torch.stack([(part * weight).sum(2) for part in parts], 1)


def _uncorrelated(moments: torch.Tensor) -> torch.Tensor:
    """1 - Pearson's correlation, mean over the classes that vary in the teacher."""
    amount, one, other, ones, others, both = moments / moments[:1].clamp(min=1e-9)
    varies = others - other * other > 1e-8
    spread = ((ones - one * one).clamp(min=0) * (others - other * other).clamp(min=0) + 1e-12).sqrt()
    lost = (amount - (both - one * other) / spread) * varies
    return lost.sum() / varies.sum().clamp(min=1)
