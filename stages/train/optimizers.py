"""Optimizers: how far weights move along a gradient, as a recipe names them.

    optimizer: {lr: 1e-3, warmup: 0.05, weight_decay: 0.05}      # AdamW
    optimizer: {type: sgd, lr: 0.1, momentum: 0.9}
    optimizer: {type: "mine:Lion", lr: 1e-4}

A plug-in's `build` gets groups of parameters that already say which of them decay, and gives an optimizer of torch,
whose `state_dict` goes into checkpoints. How the rate changes over a training is the schedule's (`schedules.py`), what
is done with a batch the learner's (`learners.py`). Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hyperloom.pipeline.plugins import Plugin

if TYPE_CHECKING:
    import torch

Rate = Annotated[float, Field(gt=0)] | Literal["auto"]
PROBED = 1e-3
"""What an optimizer is built with whose rate is yet to be found."""
ParameterGroups = list[dict[str, Any]]
"""What torch's optimizers take: {"params": [...], "weight_decay": ..., perhaps "lr"}."""


class Optimizer(Plugin):
    """Base of optimizers."""

    lr: Rate = 1e-3
    """The highest rate; `auto` finds it by a range test before the first update (`stages.train.range_test`)."""
    weight_decay: float = Field(0.0, ge=0)
    """Of matrices and filters; norms, biases and what is trained beside the model never decay."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the updates in which the rate rises."""
    floor: float = Field(0.01, ge=0, le=1)
    """Share of the rate to which schedules fall."""
    clip: float | None = Field(1.0, gt=0)
    """Largest norm of the gradient."""

    def known(self) -> Self:
        """The same with a rate that is a number."""
        return self.model_copy(update={"lr": PROBED}) if self.lr == "auto" else self

    def build(self, groups: ParameterGroups) -> torch.optim.Optimizer:
        """The optimizer of these groups; a group's own `lr` goes before `self.lr`, which is a number."""
        raise TypeError(f"the optimizer {self.type!r} has no build()")


class AdamW(Optimizer):
    """AdamW (Loshchilov & Hutter 2019), what a recipe gets that names no type.

    Neither its type nor a revision enters the identity of a training: those of before it had a name keep theirs.
    """

    revision: ClassVar[int | None] = None  # type: ignore[assignment]
    lr: Rate = 2e-3
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)

    @model_validator(mode="before")
    @classmethod
    def _nameless(cls, value: Any) -> Any:
        named = isinstance(value, dict) and value.get("type") == "adamw"
        return {k: v for k, v in value.items() if k != "type"} if named else value

    def build(self, groups: ParameterGroups) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, fused=True)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Sutskever et al. 2013)."""

    revision: ClassVar[int] = 1
    lr: Rate = 0.1
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _moving(self) -> SGD:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum")
        return self

    def build(self, groups: ParameterGroups) -> torch.optim.Optimizer:
        import torch

        fused = all(p.is_cuda for group in groups for p in group["params"])  # on CPUs it would round otherwise
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=fused or None)
