"""Sharding: FSDP2 for models whose weights, gradients and optimizer state do not fit one worker.

`shard` splits every parameter over the ranks (Rajbhandari et al. 2020, ZeRO; Zhao et al. 2023, FSDP); between `whole`
and `scattered` a state is plain tensors again, so a checkpoint says nothing of how many workers wrote it, nor whether
they sharded. Gradients come out averaged over ranks, as with the flat all-reduce. Works on gloo and NCCL.

What shards is loaded where something is sharded: it is half of what importing a training takes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

BLOCK = 100_000
"""Parameters from which an item of a list of layers is gathered and freed by itself."""
BUCKET = 2**26
"""Bytes of sharded tensors that are made whole together."""


def shard(model: nn.Module, world_size: int, device: torch.device) -> None:
    """Split the parameters of `model` over all ranks, in place: each large item of its lists of layers is a unit of its
    own, what remains another. Every rank must hold the same weights when it calls this."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world_size,))
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # FSDP splits contiguous tensors
    for module in model.modules():
        if hasattr(module, "in_parts"):
            module.in_parts = False  # ranks would gather its weights another number of times
    for block in list(_blocks(model)):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(value: Any) -> bool:
    """Is this a tensor of which each rank has a part?"""
    loaded = sys.modules.get("torch.distributed.tensor")
    return loaded is not None and isinstance(value, loaded.DTensor)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The large items of the innermost lists of layers."""
    listed = isinstance(module, nn.ModuleList | nn.Sequential)
    for child in module.children():
        innermost = not any(isinstance(m, nn.ModuleList) for m in child.modules())
        if listed and innermost and sum(p.numel() for p in child.parameters()) >= BLOCK:
            yield child
        else:
            yield from _blocks(child)


def free(model: nn.Module) -> None:
    """Let go of parameters that a forward pass without a backward pass left gathered."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(state: Any) -> Any:
    """`state` with every sharded tensor made whole, on the CPU, at any depth. All ranks must call it."""
    gathered = iter([tensor for bucket in _buckets(list(_sharded(state))) for tensor in _gathered(bucket)])
    return _replaced(state, gathered)


def _sharded(state: Any) -> Iterator[Any]:
    """The sharded tensors of a state, in its order."""
    if is_sharded(state):
        yield state
    elif isinstance(state, Mapping | list):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _sharded(value)


def _replaced(state: Any, tensors: Iterator[torch.Tensor]) -> Any:
    """`state` with its sharded tensors replaced by `tensors`, one after the other."""
    if is_sharded(state):
        return next(tensors)
    if isinstance(state, Mapping):
        return {k: _replaced(v, tensors) for k, v in state.items()}
    return [_replaced(v, tensors) for v in state] if isinstance(state, list) else state


def _buckets(tensors: Sequence[Any]) -> Iterator[list[Any]]:
    """Tensors that travel together: neighbours of one type, up to `BUCKET`."""
    bucket: list[Any] = []
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or sum(t.nbytes for t in bucket) + tensor.nbytes > BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _gathered(bucket: Sequence[Any]) -> list[torch.Tensor]:
    """The sharded tensors of a bucket, whole, by one gathering: each by itself costs a network a hundred of them, and
    DTensor a millisecond. A rank has the rows that `torch.chunk` would give it."""
    world = bucket[0].device_mesh.size()
    rows = [-(-tensor.shape[0] // world) for tensor in bucket]
    sizes = [count * math.prod(tensor.shape[1:]) for count, tensor in zip(rows, bucket, strict=True)]
    mine = bucket[0].to_local().new_zeros(sum(sizes))
    for part, tensor in zip(mine.split(sizes), bucket, strict=True):
        local = tensor.to_local().flatten()
        part[: len(local)] = local
    all_ = mine.new_empty(world * len(mine))
    torch.distributed.all_gather(list(all_.chunk(world)), mine, group=bucket[0].device_mesh.get_group())
    parts = all_.cpu().view(world, -1).split(sizes, 1)
    return [part.reshape(-1, *t.shape[1:])[: t.shape[0]].clone() for part, t in zip(parts, bucket, strict=True)]


def scattered(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, the same on each rank, as `like` is: this rank's part of it where `like` is sharded. Its memory
    has the layout of `like`, since the fused optimizer pairs numbers by where they lie."""
    if value.shape != like.shape:
        return value
    if not is_sharded(like):
        return torch.empty_like(like, dtype=value.dtype).copy_(value)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device).contiguous(), like.device_mesh, like.placements, src_data_rank=None)


def load(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """`module.load_state_dict` from a whole state."""
    mine = module.state_dict()
    module.load_state_dict({k: scattered(v, mine[k]) if k in mine else v for k, v in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`optimizer.load_state_dict` from a whole state: moments are shared out like the parameters they belong to."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [n for group in state["param_groups"] for n in group["params"]]
    owner = dict(zip(numbers, parameters, strict=True))
    moments = {n: {k: scattered(v, owner[n]) for k, v in kept.items()} for n, kept in state["state"].items()}
    optimizer.load_state_dict({**state, "state": moments})


def clip(parameters: Sequence[nn.Parameter], most: float | None) -> torch.Tensor:
    """The norm of the whole gradient, (), and gradients scaled down to `most` where it is larger."""
    kinds = [[p for p in parameters if p.grad is not None and is_sharded(p) is d] for d in (False, True)]
    norms = [get_total_norm([p.grad for p in kind if p.grad is not None]) for kind in kinds if kind]
    norms = [n.full_tensor() if is_sharded(n) else n for n in norms]
    norm = norms[0] if len(norms) == 1 else torch.stack(norms).square().sum().sqrt()
    if most:
        for kind in kinds:
            clip_grads_with_norm_(kind, most, norm)
    return norm
