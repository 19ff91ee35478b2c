"""Transfer: tensors from the host to a device, so that the host waits for nothing.

A copy from ordinary memory makes the host wait until the device has done all that it was given before; one from pinned
memory does not. On a CPU nothing is copied. Torch is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def pinned(values: Any, device: torch.device) -> Any:
    """Tensors, also in dictionaries and lists, ready to be sent to `device`; all else as it is."""
    return _each(values, lambda tensor: tensor.pin_memory() if device.type == "cuda" and _waits(tensor) else tensor)


def sent(values: Any, device: torch.device) -> Any:
    """Tensors, also in dictionaries and lists, on `device`; all else as it is. Towards the host it waits: nothing else
    would say when they are there."""
    return _each(pinned(values, device), lambda tensor: tensor.to(device, non_blocking=device.type != "cpu"))


@lru_cache(maxsize=512)
def constant(values: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Numbers of the code or the recipe (a number, a tuple, tuples of tuples) as a tensor that is sent to a device
    once. It is shared, so nobody may write to it."""
    import torch

    with torch.inference_mode(False):  # it may be asked for first where nothing is trained, and then where it is
        return torch.tensor(values, dtype=dtype, device=device)


class Held:
    """A tensor of the host that is copied to a device once. It is shared, so nobody may write to it."""

    def __init__(self, tensor: torch.Tensor):
        self._copies = {tensor.device: tensor}
        self._own = tensor

    def on(self, device: torch.device) -> torch.Tensor:
        if device not in self._copies:
            self._copies[device] = self._own.to(device)
        return self._copies[device]


def _waits(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and not tensor.is_pinned()


def _each(values: Any, change: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _each(value, change) for name, value in values.items()}
    if isinstance(values, list):
        return [_each(value, change) for value in values]
    return change(values) if hasattr(values, "is_pinned") else values
