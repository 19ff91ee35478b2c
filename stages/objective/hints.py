"""Hints: what a student learns from a teacher that is asked while it is taught (`stages.train.guide`).

    student:
      stage: distill
      teacher: teacher
      extras:
        answers: {type: answers, temperature: 2}
        attention: {type: attention, at: [2, 4, 8]}
        inside: {type: features, at: [4, 8]}

Each is a loss of its name to the balancer, averaged over the samples of the global batch. They need no column of the
teacher's answers, but the columns that the teacher reads must be in the shards. Depths are said by their *stride*: `4`
is the map of which a side has a quarter of the picture's; the last one of that size in the trunk is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.config import as_tuple
from hyperloom.stages.modality import Modality
from hyperloom.stages.network.processors import Scale
from hyperloom.stages.objective.extras import Extra, ObjectiveInputs
from hyperloom.stages.transfer import constant

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture
    from hyperloom.stages.network.model import MultiTask
    from hyperloom.stages.objective.extras import Observed


class Hint(Extra):
    """Base of objectives that look at the teacher's network beside the student's."""

    weight: float = Field(1.0, gt=0)

    @property
    def strides(self) -> tuple[int, ...]:
        """Where maps of both networks are looked at."""
        return ()

    def fits(self, architecture: Architecture) -> None:
        self.fits_one(architecture, "the student's")

    def fits_one(self, architecture: Architecture, whose: str) -> None:
        """Raises ValueError when a network has not what this looks at."""
        trunk = architecture.trunk
        known = trunk.of_width(trunk.width or 1).maps
        if wrong := [s for s in self.strides if s not in known]:
            have = f"its maps are at {', '.join(map(str, known))}" if known else "it has no maps of pictures"
            raise ValueError(f"{self.type}: at: {wrong[0]} is no stride of {whose} trunk {trunk.type}: {have}")

    def build_beside(self, architecture: Architecture, teacher: Architecture) -> nn.Module:
        """Its own parameters; none by default."""
        return self.build(architecture)

    def count(self, columns: Sequence[str], valid: torch.Tensor) -> torch.Tensor:
        return valid.any(1).sum()

    def loss(self, model: MultiTask, own: nn.Module, samples: ObjectiveInputs) -> torch.Tensor:
        import torch

        assert samples.student is not None and samples.teacher is not None
        each = self.each(model, own, samples.student, samples.teacher)
        return torch.where(samples.valid.any(1), each, 0.0).sum() * self.weight

    def each(self, model: MultiTask, own: nn.Module, student: Observed, teacher: Observed) -> torch.Tensor:
        """The loss of each sample, (N,)."""
        raise TypeError(f"the hint {self.type!r} has no each()")


class MapHint(Hint):
    """Base of hints from maps inside both networks."""

    at: tuple[int, ...] = Field((2, 4, 8), min_length=1)
    """Strides of the maps: 1 is as large as the picture, 8 has an eighth of its sides."""

    @field_validator("at", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.at))

    def each(self, model: MultiTask, own: nn.Module, student: Observed, teacher: Observed) -> torch.Tensor:
        import torch

        pairs = ((s, student.maps[s], _like(teacher.maps[s], student.maps[s])) for s in self.strides)
        return torch.stack([self.apart(own, *pair) for pair in pairs]).mean(0)

    def apart(self, own: nn.Module, stride: int, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """(N,): how far maps (N, C, H, W) and (N, K, H, W) are apart."""
        raise TypeError(f"the hint {self.type!r} has no apart()")


class AttentionHint(MapHint):
    """Attention transfer (Zagoruyko & Komodakis 2017): where a network looks, which is the sum over channels of squares
    at each site, as a vector of length one; half the squared distance of the student's from the teacher's, mean over
    depths. In 0..1; needs no parameters, whatever the widths."""

    revision: ClassVar[int] = 1

    def apart(self, own: nn.Module, stride: int, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import normalize

        one, other = (normalize(maps.square().sum(1).flatten(1), dim=1) for maps in (student, teacher))
        return (one - other).square().sum(1) / 2


class FeatureHint(MapHint):
    """Hints at several depths (FitNets, Romero et al. 2015; several as in Heo et al. 2019): at each a 1x1 convolution
    takes the student's map to the teacher's channels, and the mean squared difference from the teacher's map counts,
    which is standardised over the channels of each site, so that no depth and no teacher has a scale of its own. The
    convolutions are trained with the student and no part of it."""

    revision: ClassVar[int] = 1

    def build_beside(self, architecture: Architecture, teacher: Architecture) -> nn.Module:
        from torch import nn

        mine, theirs = architecture.trunk.maps, teacher.trunk.maps
        pairs = {s: (mine[s].channels, theirs[s].channels) for s in self.strides}
        return nn.ModuleDict({str(s): nn.Conv2d(i, o, 1) for s, (i, o) in pairs.items()})

    def apart(self, own: nn.Module, stride: int, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        mean = teacher.mean(1, keepdim=True)
        spread = (teacher - mean).square().mean(1, keepdim=True).add(1e-6).sqrt()
        projected = own[str(stride)](student)  # type: ignore[index]
        return (projected - (teacher - mean) / spread).square().mean((1, 2, 3))


class AnswerHint(Hint):
    """The teacher's answers to the same view (Beyer et al. 2022, "A good teacher is patient and consistent"): of
    classes the divergence of the student from the teacher (Hinton, Vinyals & Dean 2015), both softened by
    `temperature`, times its square; of numbers the mean absolute difference in deviations of the training data, of
    directions the cosine's from 1. Mean over sites and tasks."""

    revision: ClassVar[int] = 1
    of: tuple[str, ...] = ()
    """Tasks; by default all that both networks have and that are of classes or numbers."""
    temperature: float = Field(1.0, gt=0)

    _tuple = field_validator("of", mode="before")(as_tuple)

    def fits_one(self, architecture: Architecture, whose: str) -> None:
        tasks = {t.name: t.modality for t in architecture.tasks}
        known = ", ".join(tasks)
        if unknown := [t for t in self.of if t not in tasks]:
            raise ValueError(f"{self.type}: of: {unknown[0]} is no task of {whose} network; they are {known}")
        if unfit := [t for t in self.of if not answered(tasks[t])]:
            raise ValueError(f"{self.type}: of: {unfit[0]} is neither of classes nor of numbers")
        if not any(answered(m) for m in tasks.values()):
            raise ValueError(f"{self.type}: no task of {whose} network is of classes or numbers")

    def each(self, model: MultiTask, own: nn.Module, student: Observed, teacher: Observed) -> torch.Tensor:
        import torch

        names = self.of or [n for n, t in student.tasks.items() if n in teacher.tasks and answered(t.modality)]
        losses = []
        for name in names:
            one, other, task = student.predictions[name], teacher.predictions[name], student.tasks[name]
            if task.modality.unit_vectors:
                sites = 1 - torch.nn.functional.cosine_similarity(one, other, 1)
            elif task.regression:
                sites = (one - _rescaled(other, teacher.tasks[name].scale, task.scale)).abs().mean(1)
            else:
                sites = self._divergence(one, other)
            losses.append(sites.flatten(1).mean(1))
        return torch.stack(losses).mean(0)

    def _divergence(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        one, other = ((raw / self.temperature).log_softmax(1) for raw in (student, teacher))
        return (other.exp() * (other - one)).sum(1) * self.temperature**2


def hints(extras: Mapping[str, Extra]) -> dict[str, Hint]:
    """Those of the extras that need a teacher at hand."""
    return {name: extra for name, extra in extras.items() if isinstance(extra, Hint)}


def answered(modality: Modality) -> bool:
    """Is it of numbers, or of one class of several at each site?"""
    return modality.regression or (modality.voted and modality.loss == "cross-entropy")


def _rescaled(raw: torch.Tensor, theirs: Scale, ours: Scale) -> torch.Tensor:
    """Numbers (N, C, *sites) on the scale of one network on that of another."""
    for scale, back in ((theirs, True), (ours, False)):
        if scale.mean:
            mean, std = (
                constant(v, raw.dtype, raw.device).view(-1, *[1] * (raw.ndim - 2)) for v in (scale.mean, scale.std)
            )
            raw = raw * std + mean if back else (raw - mean) / std
    return raw


def _like(maps: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Maps in the size of others, where strides divide the picture otherwise."""
    from torch.nn.functional import interpolate

    size = other.shape[2:]
    return maps if maps.shape[2:] == size else interpolate(maps, size=size, mode="bilinear", align_corners=False)
