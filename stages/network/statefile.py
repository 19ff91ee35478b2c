"""Weights of published networks as files: a state dict as data, in safetensors or torch's own form."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping

import torch

WRAPPERS = ("state_dict", "model")
"""Under which training programs keep the weights beside other things."""
PREFIX = "module."
"""Of names that went through DataParallel."""


def read_state(content: bytes, path: str) -> dict[str, torch.Tensor]:
    """Name -> weight, of the bytes of the file `path`. Nothing in it is run. Raises ValueError, naming the file, for
    what is no state dict."""
    state = _loaded(content, path)
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not any(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no weights by name. Next: save the network's state_dict()")
    return {str(k).removeprefix(PREFIX): v for k, v in state.items() if isinstance(v, torch.Tensor)}


def _loaded(content: bytes, path: str) -> object:
    if path.endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(content)
        except SafetensorError as error:
            raise ValueError(f"{path} is no whole file of safetensors ({error})") from error
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as weights alone: {str(error).splitlines()[0]}") from error
