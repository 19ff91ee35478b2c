"""How a network is run while it trains: in which precision, compiled or not. Losses, weights and their average stay
float32 either way, and so does what is validated and stored."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from hyperloom.stages.network.features import Forward, Run


def device() -> torch.device:
    """Where this process trains: on the GPU that it was given, else on the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def settle(threads: int, deterministic: bool, device: torch.device) -> None:
    """Set how this process computes: on CPUs always exactly the same; on a GPU, unless `deterministic`, by the fastest
    kernels, found by trial. There float32 products use TF32, as convolutions do by torch's own choice."""
    exact = deterministic or device.type != "cuda"
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(exact, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not exact
        torch.set_float32_matmul_precision("high")


def runner(model: nn.Module, precision: str, compiled: dict[str, str] | None, device: torch.device) -> Run:
    """A function that runs `model` and gives predictions and losses in float32, features as they come; whatever runs
    the network while it trains does so by this. `bf16` is torch's autocast: matrix products and convolutions in
    bfloat16 (Kalamkar et al. 2019), which keeps float32's range, so losses need no scaling. `compiled`: see
    `stages.network.compiling.how`."""
    call: Run = model
    if compiled is not None:
        call = torch.compile(model, **compiled)  # type: ignore[call-overload]

    def run(*inputs: object) -> Forward:
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
            result = call(*inputs)
        predictions = {name: values.float() for name, values in result.predictions.items()}
        return Forward(predictions, result.features, result.losses)  # torch 2.11 cannot compile `_replace`

    return run
