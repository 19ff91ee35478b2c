"""How long a network takes whose weights decayed to almost nothing: as it is read here, beside a bare loop.

    python -m benchmarks.subnormal [--file espnet_p2_q8_cityscapes20.pth] [--size 512 1024] [--repeats 3]

Long trainings with weight decay leave subnormal numbers (below 1.2e-38) where nothing uses a filter, and processors
compute with each by a detour. Without a file the network is an ESPNet of which every tenth filter has decayed. One
core; CPU seconds a frame, the least of `repeats`. The last line is JSON: `torch_vs_bare` and `onnx_vs_bare`, how many
times as fast as the bare loop over the same file; `same`, whether the classes are.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.stages.label.runtimes.onnx import OnnxSession
from hyperloom.stages.label.runtimes.torch import Torch
from hyperloom.stages.network.espnet import ESPNet

ARGUMENTS = {"classes": 20, "p": 2, "q": 8}
DECAYED, EVERY = 1e-40, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, help="a state dict of ESPNet (p 2, q 8, 20 classes)")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024))
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    frame = np.random.default_rng(0).standard_normal((1, 3, *args.size), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = args.file or _decayed(Path(folder) / "net.pth")
        bare = ESPNet(**ARGUMENTS).eval()
        bare.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
        graph = os.path.join(folder, "net.onnx")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(bare, (torch.from_numpy(frame),), graph, dynamo=False, input_names=["frames"])
        expert = Torch.model_validate(
            {"type": "torch", "net": "espnet", "arguments": ARGUMENTS, "path": str(file), "in": "rgb@camera",
             "out": "semantic@espnet", "decode": "classes"}
        )  # fmt: skip
        ours, options = expert.session(), onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        bound = OnnxSession(graph)
        with torch.inference_mode():
            runs: dict[str, Callable[[], np.ndarray]] = {
                "torch_bare": lambda: bare(torch.from_numpy(frame)).numpy(),
                "torch": lambda: ours(frame, [0])[0],
                "onnx_bare": lambda: session.run(None, {"frames": frame})[0],
                "onnx": lambda: bound(frame, [0])[0],
            }
            answers = {name: run().argmax(1) for name, run in runs.items()}
            seconds = {name: _least(run, args.repeats) for name, run in runs.items()}
    line = {
        "torch_vs_bare": round(seconds["torch_bare"] / seconds["torch"], 2),
        "onnx_vs_bare": round(seconds["onnx_bare"] / seconds["onnx"], 2),
        "same": all(np.array_equal(answers[f"{name}_bare"], answers[name]) for name in ("torch", "onnx")),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "subnormal": round(_share(bare), 4),
    }
    print(json.dumps(line))


def _decayed(path: Path) -> Path:
    torch.manual_seed(0)
    network = ESPNet(**ARGUMENTS)
    with torch.no_grad():
        for weight in network.parameters():
            weight[::EVERY] = DECAYED
    torch.save(network.state_dict(), path)
    return path


def _share(network: nn.Module) -> float:
    weights = torch.cat([w.detach().flatten() for w in network.parameters()])
    return float(((weights != 0) & (weights.abs() < torch.finfo(torch.float32).tiny)).float().mean())


def _least(run: Callable[[], np.ndarray], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
