"""Aggregators: balancers that look at the gradient of every task, through the library torchjd.

    balancer: upgrad                                    # pcgrad, mgda, cagrad, ... are names of their own
    balancer: {type: torchjd, aggregator: AlignedMTL, preference: {semantic: 2}}
    balancer: {type: cagrad, options: {c: 0.3}}

Parameters that several tasks reach get the aggregated direction; those of one task alone (its head) get that task's own
gradient, as torchjd's `mtl_backward` has it. What is aggregated are the gradients of the *global* batch: they are
summed over parts and workers first, since the aggregate of means is not the mean of aggregates. Aggregators that draw
at random (PCGrad) draw from the count of updates, so all ranks and a resumed run draw alike. What the aggregators do
is torchjd's documentation and the papers it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from hyperloom.pipeline.errors import PluginError
from hyperloom.stages.balance.balancers import Balancer

if TYPE_CHECKING:
    from torch import nn

OPTIONS: dict[str, dict[str, float]] = {
    "AlignedMTL": {},
    "CAGrad": {"c": 0.5, "norm_eps": 1e-4},
    "ConFIG": {},
    "DualProj": {},
    "ExcessMTL": {"robust_step_size": 1.0, "n_warmup_steps": 0},
    "FairGrad": {"alpha": 1.0},
    "GradDrop": {},
    "GradVac": {"beta": 0.5, "eps": 1e-8},
    "IMTLG": {},
    "Krum": {"n_byzantine": 0, "n_selected": 1},
    "MGDA": {"epsilon": 1e-3, "max_iters": 100},
    "Mean": {},
    "PCD": {"tau": 0.02, "beta": 0.999, "eps": 1e-8},
    "PCGrad": {},
    "Random": {},
    "Sum": {},
    "TrimmedMean": {"trim_number": 1},
    "UPGrad": {},
}
"""torchjd's aggregators and their options with what we take by default. NashMTL is left out: it keeps the state of a
solver that no checkpoint can hold."""
PREFERRING = ("AlignedMTL", "ConFIG", "DualProj", "UPGrad")
"""Aggregators that take a preference over tasks."""
NAMES = {name.lower(): name for name in OPTIONS}


class Aggregated(Balancer):
    """One of torchjd's aggregators, named by `aggregator` or by the balancer's own type (`type: pcgrad`)."""

    revision: ClassVar[int] = 2
    per_task: ClassVar[bool] = True
    aggregator: str = ""
    options: dict[str, float] = Field(default_factory=dict)
    preference: dict[str, float] = Field(default_factory=dict)
    """Weight of each task, 1 unless given, for the aggregators that take one."""

    @property
    def chosen(self) -> str:
        return self.aggregator or NAMES.get(self.type, "")

    @model_validator(mode="after")
    def _known(self) -> Aggregated:
        if self.chosen not in OPTIONS:
            raise ValueError(f"aggregator: no {self.chosen or 'name'!r}; torchjd has {', '.join(OPTIONS)}")
        if unknown := sorted(set(self.options) - set(OPTIONS[self.chosen])):
            known = ", ".join(OPTIONS[self.chosen]) or "none"
            raise ValueError(f"options: {self.chosen} has no {', '.join(unknown)}; it has {known}")
        if self.preference and self.chosen not in PREFERRING:
            raise ValueError(f"preference: {self.chosen} takes none; {', '.join(PREFERRING)} do")
        if any(weight < 0 for weight in self.preference.values()):
            raise ValueError("preference: a task's weight cannot be negative")
        return self

    def check(self, tasks: Sequence[str]) -> None:
        if unknown := sorted(set(self.preference) - set(tasks)):
            raise ValueError(f"the balancer prefers {', '.join(unknown)}, but the tasks are {', '.join(tasks)}")

    def build(self, tasks: Sequence[str], regression: Sequence[bool]) -> nn.Module:
        from hyperloom.stages.balance import jacobian

        weights = [self.preference.get(t, 1.0) for t in tasks] if self.preference else None
        return jacobian.Jacobian(self._made, weights)

    def _made(self, preferred: Any) -> nn.Module:
        """torchjd's module. Raises PluginError when the aggregator's own libraries are not installed."""
        try:
            from torchjd import aggregation

            defaults = OPTIONS[self.chosen]
            options = {k: type(defaults[k])(self.options.get(k, defaults[k])) for k in defaults}
            extra = {} if preferred is None else {"pref_vector": preferred}
            return getattr(aggregation, self.chosen)(**options, **extra)
        except ImportError as error:
            raise PluginError(
                f"the balancer {self.chosen} cannot be made: {error}. Next: pip install 'hyperloom[balancers]'"
            ) from error
