"""The gradients of updates of one shape as one CUDA graph: a small network's kernels end before the host has asked for
the next, so they are recorded once, losses and backward pass included, and asked for together afterwards.

The kernels are those that would have run, and random numbers follow from the update's seed as before, so the weights
are the same. What is frozen in a recording is only what Python decides: so nothing is recorded where code of a
recipe's own takes part, nor where several ranks, parts, phases or objectives without a target do. The optimizer, whose
rate changes, is asked for as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from torch import nn

from hyperloom.stages.network.visible import Visible
from hyperloom.stages.train import weighting
from hyperloom.stages.train.criterion import Losses
from hyperloom.stages.train.learners import Setup, UpdateBatch

Gradients = Callable[[UpdateBatch], tuple[Losses, torch.Tensor]]
SEEN = 3
"""Updates of a shape before it is recorded; libraries choose their kernels in the first."""
SMALL = 10_000_000
"""Parameters up to which an update waits for the host rather than for the device."""
SHARE = 3
"""A recording keeps its memory beside that of validation: at most this part of the device may be in use before."""


def recordable(setup: Setup) -> bool:
    """May the gradients of this training be recorded?"""
    job = setup.job
    if setup.device.type != "cuda" or setup.world.size > 1 or job.rhythm.compile or job.rhythm.sharded:
        return False
    if job.extras or job.spans or setup.model.parameter_count > SMALL:
        return False
    known = isinstance(setup.balancer, weighting.Fixed | weighting.LogVariance)
    return known and all(type(part).__module__.startswith(("torch.", "hyperloom.")) for part in _parts(setup))


class GraphedGradients:
    """`gradients` of a batch, left on the parameters; `seed` is called before each, with the number of the update."""

    def __init__(self, setup: Setup, gradients: Gradients, seed: Callable[[int], None]):
        self._setup, self._gradients, self._seed = setup, gradients, seed
        self._beside = torch.cuda.Stream(setup.device)
        self._shape: Hashable = None
        self._seen, self._refused = 0, False
        self._recorded: Recorded | None = None

    def __call__(self, batch: UpdateBatch) -> tuple[Losses, torch.Tensor]:
        """This rank's share of the losses, and their balanced sum."""
        if (shape := _shape(batch)) != self._shape:
            self._shape, self._seen, self._recorded = shape, 0, None
        self._seen += 1
        if self._recorded is None and self._seen > SEEN and not self._refused:
            self._recorded = self._record(batch)
        self._seed(batch.number)
        if self._recorded is not None:
            return self._recorded.replay(batch)
        now = torch.cuda.current_stream(self._setup.device)
        self._beside.wait_stream(now)
        with torch.cuda.stream(self._beside):  # where it is recorded: libraries keep what they need for each stream
            result = self._gradients(batch)
        now.wait_stream(self._beside)
        return result

    def _record(self, batch: UpdateBatch) -> Recorded | None:
        device = self._setup.device
        used, whole = torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
        if used * SHARE > whole:
            self._refused = True
            return None
        given, graph = _copied(batch), torch.cuda.CUDAGraph()
        try:
            # other threads pin memory and wait for events meanwhile, which would end a recording that is everybody's
            with torch.cuda.graph(graph, stream=self._beside, capture_error_mode="thread_local"):
                result = self._gradients(given)
        except RuntimeError as error:  # an operation that asks the device, or no memory: this shape runs as usual
            print(f"updates are not recorded: {error}")
            self._refused = True
            self._setup.balancer.parts = 0
            return None
        finally:
            gradients = [(p, p.grad) for p in self._setup.parameters if p.grad is not None]
            self._setup.optimizer.zero_grad()
        return Recorded(graph, given, result, gradients)


class Recorded:
    """A graph with the memory that it reads, and the memory that it fills."""

    def __init__(
        self,
        graph: torch.cuda.CUDAGraph,
        given: UpdateBatch,
        result: tuple[Losses, torch.Tensor],
        gradients: list[tuple[nn.Parameter, torch.Tensor]],
    ):
        self._graph, self._given, self._result, self._gradients = graph, given, result, gradients

    def replay(self, batch: UpdateBatch) -> tuple[Losses, torch.Tensor]:
        """Gradients of this batch, in the graph's memory until the next; losses that stay."""
        torch._foreach_copy_(list(_tensors(self._given)), list(_tensors(batch)))
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        losses, total = self._result
        return Losses(losses.values.clone(), losses.present.clone()), total.clone()


def _parts(setup: Setup) -> Iterator[Any]:
    """All whose code takes part in an update's gradients."""
    yield from setup.criterion.modules()
    yield from setup.criterion.objectives
    yield from (t.objective for t in setup.job.targets)
    yield from setup.job.modalities.values()
    yield setup.balancer


def _tensors(batch: UpdateBatch) -> Iterator[torch.Tensor]:
    yield from (batch.columns[name] for name in sorted(batch.columns))
    yield batch.visible.inputs
    yield from (squares for squares in batch.visible.squares if squares is not None)


def _shape(batch: UpdateBatch) -> Hashable:
    """What a recording depends on: names, sizes and kinds of tensors, and how many tokens samples keep."""
    squares = tuple(s is None for s in batch.visible.squares)
    each = tuple((t.shape, t.stride(), t.dtype) for t in _tensors(batch))
    return tuple(sorted(batch.columns)), each, squares, batch.visible.kept


def _copied(batch: UpdateBatch) -> UpdateBatch:
    visible = batch.visible
    squares = tuple(s if s is None else s.clone() for s in visible.squares)
    columns = {name: values.clone() for name, values in batch.columns.items()}
    return UpdateBatch(batch.number, columns, Visible(visible.inputs.clone(), squares, visible.kept))
