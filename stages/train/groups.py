"""Groups: which weights of a training move, how fast, and which decay.

Only a model's matrices and filters decay, not its norms and biases, nor what is trained beside it. A frozen weight gets
no gradient, so no optimizer moves or decays it, and its average stays what it is; a module all of whose weights are
frozen is in evaluation mode, so that its noise and statistics rest too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import nn

from hyperloom.stages.network import parts
from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.train.optimizers import Optimizer, ParameterGroups
from hyperloom.stages.train.starting import Misfit


def groups(
    optimizer: Optimizer, model: MultiTask, beside: Sequence[nn.Module], rates: Mapping[str, float] | None = None
) -> ParameterGroups:
    """What `optimizer.build` takes: the model's weights by factor of the rate and by whether they decay (those of
    factor 1 first), then what is trained `beside` the model. Raises Misfit for a part that is not there."""
    factor = dict.fromkeys((id(p) for p in model.parameters()), 1.0)
    for pattern, value in (rates or {}).items():
        factor |= dict.fromkeys((id(p) for p in matching(model, pattern).values()), value)
    result: ParameterGroups = []
    for share in sorted({1.0, *factor.values()}, key=lambda f: (f != 1.0, f)):
        for decay in (True, False):
            mine = [p for p in model.parameters() if factor[id(p)] == share and (p.ndim > 1) is decay]
            rate = {} if share == 1.0 else {"lr": float(optimizer.lr) * share}
            result.append({"params": mine, "weight_decay": optimizer.weight_decay if decay else 0.0, **rate})
    if own := [p for module in beside for p in module.parameters()]:
        result.append({"params": own, "weight_decay": 0.0})  # a group of their own: they are never sharded
    return result


def matching(model: MultiTask, pattern: str) -> dict[str, nn.Parameter]:
    """The weights that a pattern means, by the name of their part. Raises Misfit when there are none."""
    own = dict(model.named_parameters())
    named = {part: own[name] for name, part in parts.named(own, model.architecture.columns).items()}
    matches = {part: p for part, p in named.items() if parts.matches(pattern, part)}
    if not matches:
        known = [".".join(name.split(".")[:n]) for name in named for n in range(1, 5)]
        raise Misfit(f"model: {parts.absent(pattern, known)}")
    return matches


def freeze(model: MultiTask, patterns: Sequence[str], moving: Collection[str]) -> list[nn.Module]:
    """Let the parts that the patterns mean rest, and all others named in `moving` move; the modules that rest whole.
    Raises Misfit for a part that is not there, or when nothing would move."""
    for name, parameter in model.named_parameters():
        if name in moving:
            parameter.requires_grad_(True)
    for pattern in patterns:
        for parameter in matching(model, pattern).values():
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise Misfit("model: freeze leaves nothing of the network to move. Next: freeze fewer parts")
    every = ((m, list(m.parameters())) for m in model.modules())
    return [m for m, own in every if own and not any(p.requires_grad for p in own)]
