"""Compiling: how a network is made one of fewer and larger kernels (torch.compile), where that can be done."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch

from hyperloom.stages.remarks import remark


def how(compile: bool | str, device: torch.device, say: bool = False) -> dict[str, str] | None:
    """What torch.compile is asked with; None where nothing is to be, or can be, compiled, which is a remark if `say`.
    What of a network cannot be compiled runs as it is."""
    if not compile:
        return None
    if why := why_not_compile(device):
        if say:
            remark(f"compile: {why}. The network runs as it is")
        return None
    from torch import _dynamo

    _dynamo.config.suppress_errors = True
    return {"mode": "reduce-overhead"} if compile == "graphs" else {}


def why_not_compile(device: torch.device) -> str | None:
    """What this machine lacks for `torch.compile`; None when nothing."""
    if device.type == "cuda":
        installed = importlib.util.find_spec("triton") is not None
        return None if installed else "Triton is not installed. Next: pip install triton on the workers"
    compilers = [os.environ.get("CXX", ""), "g++", "clang++"]
    if any(c and shutil.which(c) for c in compilers):
        return None
    return "no C++ compiler is on the PATH. Next: install g++ on the workers, or name one in CXX"
