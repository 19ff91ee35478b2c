"""Memory that ran out, of the host or of a device, whatever framework says so."""

from __future__ import annotations

import sys

OUT_OF_MEMORY = (
    "out of memory",  # CUDA, by torch and by ONNX Runtime
    "can't allocate memory",  # torch on a CPU
    "cannot allocate memory",
    "failed to allocate memory",  # ONNX Runtime
    "bad_alloc",
    "bad allocation",
    "alloc_failed",  # cuBLAS and cuDNN
)


def ran_out(error: BaseException) -> bool:
    """Is the error about memory? Frameworks have classes of their own for it, or none at all."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(words in message for words in OUT_OF_MEMORY)


def free() -> None:
    """Give back what a framework keeps for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
