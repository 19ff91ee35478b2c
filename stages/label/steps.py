"""An expert's function in three steps, so that a device computes one batch while others are read and put away.

    prepare   from a batch to what `compute` takes: resizing, layouts. In any thread, several at a time
    compute   the network. In one thread, in the order of the batches; on a device it may return before the device is
              done, having asked it for everything
    finish    from what `compute` gave to the columns: waiting for the device, decoding. In any thread

An expert whose function is a plain callable computes and does nothing before or after. Where the steps run, and how far
ahead, is the worker's (`stages.label.bisection`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperloom.stages.label.expert import Batch, Function


class Steps:
    """Base; called as a function it takes the three in turn."""

    device = False
    """Does `compute` return before its work is done?"""
    owned = True
    """Are the outputs nobody else's memory, so that they need no copy?"""
    notes: Sequence[str] = ()
    """What a person should know of how the outputs are read; said once for a step."""

    def prepare(self, batch: Batch) -> Any:
        return batch

    def compute(self, prepared: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no compute()")

    def finish(self, computed: Any) -> Batch:
        outputs: Batch = computed
        return outputs

    def __call__(self, batch: Batch) -> Batch:
        return self.finish(self.compute(self.prepare(batch)))


class Plain(Steps):
    """A function that is one step. It may use the memory of its answers again."""

    owned = False

    def __init__(self, function: Function):
        self.compute = function  # type: ignore[method-assign, assignment]


def steps_of(function: Function | Steps) -> Steps:
    return function if isinstance(function, Steps) else Plain(function)
