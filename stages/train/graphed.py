"""The gradients of updates of one shape as one CUDA graph: a small network's kernels end before the host has asked for
the next, so they are recorded once, losses and backward pass included, and asked for together afterwards.

The kernels are those that would have run, and random numbers follow from the update's seed as before, so the weights
are the same. What is frozen in a recording is only what Python decides: so nothing is recorded where code of a
recipe's own takes part, nor where several ranks, parts, phases or objectives without a target do, nor where samples
keep other numbers of tokens. The optimizer, whose rate changes, is asked for as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.balance import weighting
from hyperloom.stages.network.visible import Visible
from hyperloom.stages.train.criterion import Losses
from hyperloom.stages.train.learners import Setup, UpdateBatch

Gradients = Callable[[UpdateBatch], tuple[Losses, torch.Tensor]]
SEEN = 3
"""Updates of one shape in a row before it is recorded; libraries choose their kernels in the first."""
SMALL = 10_000_000
"""Parameters up to which an update waits for the host rather than for the device."""
ROOM = 2
"""A recording keeps its memory beside that of validation: so many times what an update takes must be free."""


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
        shape = _shape(batch)
        if self._recorded is None and not self._refused and self._is_fixed(batch):
            self._seen, self._shape = self._seen + 1 if shape == self._shape else 1, shape
            if self._seen > SEEN:
                self._recorded = self._record(batch)
        self._seed(batch.number)
        if self._recorded is not None and shape == self._shape:
            return self._recorded.replay(batch)
        now = torch.cuda.current_stream(self._setup.device)
        self._beside.wait_stream(now)
        with torch.cuda.stream(self._beside):  # where it is recorded: libraries keep what they need for each stream
            result = self._gradients(batch)
        now.wait_stream(self._beside)
        return result

    def _is_fixed(self, batch: UpdateBatch) -> bool:
        """Do all samples keep as many tokens, which is known on the host? Without tokens nobody asks."""
        kept = batch.visible.kept
        return not hasattr(self._setup.model.fusion, "kept") if kept is None else len(set(kept)) == 1

    def _record(self, batch: UpdateBatch) -> Recorded | None:
        setup, now = self._setup, torch.cuda.current_stream(self._setup.device)
        cached = torch.cuda.memory_reserved(setup.device) - torch.cuda.memory_allocated(setup.device)
        room = torch.cuda.mem_get_info(setup.device)[0] + cached
        self._refused = room < ROOM * torch.cuda.max_memory_allocated(setup.device)
        if self._refused:
            return None
        given, graph = _copied(batch), torch.cuda.CUDAGraph()
        try:
            # other threads pin memory and wait for events meanwhile, which would end a recording that is everybody's
            with torch.cuda.graph(graph, stream=self._beside, capture_error_mode="thread_local"):
                result = self._gradients(given)
        except RuntimeError as error:  # an operation that asks the device, or no memory: updates run as usual
            print(f"updates are not recorded: {error.__context__ or error}")
            self._refused, setup.balancer.parts = True, 0
            return None
        finally:
            torch.cuda.set_stream(now)  # a recording that broke off would leave its own
            gradients = [(p, p.grad) for p in setup.parameters if p.grad is not None]
            setup.optimizer.zero_grad()
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
    job = setup.job
    yield from setup.criterion.modules()
    yield from setup.criterion.objectives
    yield from _plugins([job.architecture, [t.objective for t in job.targets], job.modalities])
    yield setup.balancer


def _plugins(value: Any) -> Iterator[Plugin]:
    """Every plug-in within a value, those within others too."""
    if isinstance(value, Plugin):
        yield value
        inside: Any = [getattr(value, name) for name in type(value).model_fields]
    elif is_dataclass(value):
        inside = [getattr(value, field.name) for field in fields(value)]
    else:
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for one in inside:
        yield from _plugins(one)


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
