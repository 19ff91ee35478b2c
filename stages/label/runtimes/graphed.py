"""A network's calls of one shape as one CUDA graph: its kernels are recorded once and asked for together afterwards.

What it gives lies in the graph's own memory, which the next call fills again: whoever takes it does so on the same
stream, before that. Shapes that come seldom (the last batch of a partition) are called as usual.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

SEEN = 3
"""Calls of a shape before it is recorded; libraries choose their kernels in the first."""
MOST = 2
"""Graphs of one network, each with memory of its own."""


class Graphed:
    """`module` on a GPU, for one thread at a time."""

    def __init__(self, module: Callable[[torch.Tensor], Any]):
        self._module = module
        self._seen = Counter[torch.Size]()
        self._graphs: dict[torch.Size, tuple[Any, torch.Tensor, Any]] = {}

    def __call__(self, images: torch.Tensor) -> Any:
        """What the module gives. Under autocast, this must be without its cache (`cache_enabled=False`), whose casts
        end with it and would be read by the graph."""
        if images.shape not in self._graphs:
            self._seen[images.shape] += 1
            if self._seen[images.shape] <= SEEN or len(self._graphs) == MOST:
                return self._module(images)
            self._graphs[images.shape] = self._recorded(images)
        graph, given, answer = self._graphs[images.shape]
        given.copy_(images)
        graph.replay()
        return answer

    def _recorded(self, images: torch.Tensor) -> tuple[Any, torch.Tensor, Any]:
        given, beside = images.clone(), torch.cuda.Stream(images.device)
        beside.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(beside):
            self._module(given)
        torch.cuda.current_stream(images.device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # other threads pin memory and wait for events meanwhile, which would end a recording that is everybody's
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            answer = self._module(given)
        return graph, given, answer
