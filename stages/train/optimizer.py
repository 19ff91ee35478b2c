"""The optimizer of a training and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.train.job import Job


def rate(job: Job, update: int) -> float:
    """An update's learning rate as a share of the highest: linear warm-up, then cosine (Loshchilov & Hutter 2017)."""
    warm = round(job.optimizer.warmup * job.updates)
    if update < warm:
        return (update + 1) / (warm + 1)
    done = (update - warm) / max(1, job.updates - warm)
    return job.optimizer.floor + (1 - job.optimizer.floor) * (1 + math.cos(math.pi * done)) / 2


def adamw(job: Job, model: MultiTask, beside: Sequence[nn.Module]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); only the model's matrices and filters decay, not its norms and biases, nor what
    is trained `beside` it."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": decayed, "weight_decay": job.optimizer.weight_decay}]
    groups += [{"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}]
    if own := [p for module in beside for p in module.parameters()]:
        groups += [{"params": own, "weight_decay": 0.0}]  # a group of their own: they are never sharded
    return torch.optim.AdamW(groups, lr=job.optimizer.lr, betas=job.optimizer.betas, fused=True)
