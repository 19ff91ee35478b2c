"""What one call of a network costs: floating-point operations, and milliseconds in torch and in ONNX Runtime.

Operations are counted by torch (a multiplication and an addition are two) and depend on the network alone. Times depend
on the machine: the least of single calls, after one that warms up, since what else the machine does only adds (the
median of a network of 3 ms was 42 ms on a busy one). Nothing here reads or writes the root.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

REPEATS = 9
RUNTIMES = {
    "onnx": "ONNX Runtime, one CPU thread",
    "torch": "torch, one CPU thread",
    "cuda": "torch, a GPU",
    "": "torch, in batches, as it was judged",
}
"""What the runtimes are called in which a sample was timed."""


def operations(call: Callable[[], Any]) -> int:
    """Floating-point operations of one call, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def milliseconds(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The least time of a call, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return min(times)


def onnx_milliseconds(network: bytes, batch: dict[str, np.ndarray], repeats: int = REPEATS) -> float:
    """The least time of ONNX Runtime on one thread for `batch`: column, as the network names its inputs -> array."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    given = {i.name: batch[i.name] for i in session.get_inputs()}
    return milliseconds(lambda: session.run(None, given), repeats)
