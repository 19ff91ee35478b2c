"""Weights of published networks as files: a state dict as data, in safetensors or torch's own form.

What a file is follows from its bytes, whatever it is called. Training programs keep the weights beside other things (an
optimizer, options, the best figure so far) and under names of their own: the mapping of names to weights is found,
where there is one that goes first. Nothing in a file is run: objects other than plain data are refused by name.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from hyperloom.stages.network.subnormal import flushed

PREFERRED = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
"""Under which training programs keep the weights, those that go first."""
PREFIXES = ("module.", "_orig_mod.")
"""Of names that went through DataParallel and torch.compile."""
DEPTH = 3
"""So deep weights may lie in what a program kept."""
WHAT_ELSE = (
    (b"version https://git-lfs", "a pointer of Git LFS and not the weights. Next: git lfs pull"),
    (b"<", "a page of the web and not weights. Next: download it again, and look what the address gives"),
)
"""How bytes begin that are no weights, and what they are."""


def read_state(content: bytes, path: str) -> dict[str, torch.Tensor]:
    """Name -> weight, of the bytes of the file `path`, subnormal numbers as zeros. Nothing in it is run. Raises
    ValueError, naming the file, for what is no state dict."""
    mappings = dict(_mappings(_loaded(content, path)))
    if not mappings:
        raise ValueError(f"{path} holds no weights by name. Next: save the network's state_dict()")
    state = {_plain(str(k)): torch.as_tensor(v) for k, v in mappings[_first(mappings, path)].items() if _weight(v)}
    if broken := next((k for k, v in state.items() if v.is_floating_point() and bool(v.isnan().any())), None):
        raise ValueError(
            f"{path}: the weight {broken} has values that are no numbers (NaN): a training that failed. Next: take an "
            "earlier file of it"
        )
    return {name: flushed(weight) for name, weight in state.items()}


def _weight(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiu")


def _mappings(value: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """The mappings that hold weights, by where they lie; nothing of optimizers."""
    if not isinstance(value, Mapping) or any("optim" in name.lower() for name in names):
        return
    if any(_weight(v) for v in value.values()) and all(isinstance(k, str) for k in value):
        yield names, value
    for name, inner in value.items() if len(names) < DEPTH else ():
        yield from _mappings(inner, (*names, str(name)))


def _first(mappings: Mapping[tuple[str, ...], Mapping[Any, Any]], path: str) -> tuple[str, ...]:
    """Which of several is meant: the one under the name that goes first, else the only one."""
    nested = [names for names in mappings if names]
    highest = [names for names in nested if len(names) == min(map(len, nested))]
    for name in PREFERRED:
        if len(of := [names for names in highest if names[-1] == name]) == 1:
            return of[0]
    if nested and () in mappings and not any(torch.as_tensor(v).ndim for v in mappings[()].values() if _weight(v)):
        mappings = {names: mappings[names] for names in nested}  # numbers alone beside mappings are counters
    if len(mappings) > 1 and () not in mappings:
        places = ", ".join(".".join(names) for names in mappings)
        raise ValueError(f"{path} holds several networks ({places}). Next: save the state_dict() of the one you mean")
    return () if () in mappings else next(iter(mappings))


def _plain(name: str) -> str:
    while prefix := next((p for p in PREFIXES if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    return name


def _loaded(content: bytes, path: str) -> object:
    if not content:
        raise ValueError(f"{path} is empty. Next: download it again")
    if content[8:9] == b"{":
        return _safetensors(content, path)  # its first bytes are a length, which may look like anything
    if what := next((what for begins, what in WHAT_ELSE if content.lstrip().startswith(begins)), None):
        raise ValueError(f"{path} is {what}")
    if path.endswith(".safetensors") and not content.startswith((b"PK", b"\x80")):
        return _safetensors(content, path)
    from torch.serialization import safe_globals

    try:
        with warnings.catch_warnings(), safe_globals(_harmless()):
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what the bytes lead it into: keys, places, attributes of what is none
        raise ValueError(f"{path} {_why(error, content)}") from error


def _safetensors(content: bytes, path: str) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole file of safetensors ({error}). Next: download it again") from error


def _harmless() -> list[Any]:
    """What programs keep beside weights that is plain data: options, and numbers of numpy."""
    kinds = [type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8", "u1", "b1")]
    builders = [np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]]  # how numpy makes a number and an array
    return [argparse.Namespace, np.dtype, np.ndarray, *builders, *kinds]


def _why(error: Exception, content: bytes) -> str:
    """What torch's error amounts to, without its advice to run the file."""
    text = str(error)
    if "TorchScript" in text:
        return "is a program of TorchScript. Next: save its state_dict()"
    if named := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"cannot be read as weights alone: it holds objects of a program ({named[1]}), and nothing in it is run. "
            "Next: where you trust it, load it in that program and save the network's state_dict()"
        )
    if isinstance(error, pickle.UnpicklingError) and not content.startswith(b"PK"):
        return "is no file of torch.save or of safetensors. Next: save the network's state_dict() with torch.save"
    return "is cut or damaged. Next: download it again"
