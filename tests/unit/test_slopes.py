"""PReLU's quick gradient is that of torch; memory that a training held goes back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from hyperloom.stages.network.espnet import EspConv
from hyperloom.stages.network.slopes import Slopes


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_are_those_of_torch(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6, 7).contiguous(memory_format=layout)
    x[0, 0, 0, 0] = 0.0
    slopes, upstream = torch.tensor([0.25, -0.5, 1.5, 0.0, 1.0]), torch.randn(2, 5, 6, 7)
    both = []
    for module in (Slopes(5).train(), nn.PReLU(5)):
        module.weight.data.copy_(slopes)
        given = x.clone().requires_grad_()
        answer = module(given)
        (first,) = torch.autograd.grad((answer * upstream).sum(), given, create_graph=True)
        weight = torch.autograd.grad((answer * upstream).sum(), module.weight)[0]
        both.append((answer, first, weight))
    for quick, own in zip(*both, strict=True):
        torch.testing.assert_close(quick, own, rtol=1e-6, atol=1e-6)
    assert torch.equal(both[0][0], both[1][0]) and torch.equal(both[0][1], both[1][1])


def test_a_penalty_on_a_gradient_is_that_of_torch() -> None:
    torch.manual_seed(0)
    x, penalties = torch.randn(2, 3, 4, 4), []
    for module in (Slopes(3).train(), nn.PReLU(3)):
        given = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((module(given) ** 3).sum(), given, create_graph=True)
        gradient.square().sum().backward()
        assert given.grad is not None and module.weight.grad is not None
        penalties.append((given.grad, module.weight.grad))
    for quick, own in zip(*penalties, strict=True):
        torch.testing.assert_close(quick, own, rtol=1e-5, atol=1e-4)


def test_single_pixels_are_a_product_in_training_and_a_convolution_elsewhere() -> None:
    torch.manual_seed(0)
    conv = EspConv(6, 4, 1)
    x = torch.randn(2, 6, 5, 3).contiguous(memory_format=torch.channels_last)
    trained, asked = conv.train()(x), conv.eval()(x)
    torch.testing.assert_close(trained, asked, rtol=1e-5, atol=1e-6)
    assert trained.is_contiguous(memory_format=torch.channels_last), "the picture is not turned about"


FAULTS = """
import resource
from types import SimpleNamespace
import numpy as np
from hyperloom.stages.train import memory

def faults():
    np.ones(2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
for device in ("cpu", "cuda"):
    with memory.held(SimpleNamespace(type=device)):
        print(faults())
print(faults())
"""
"""Pages that the kernel gave while a block of 64 MB was made and freed, five times: before, within, and after."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone gives memory back at once")
def test_memory_is_not_asked_for_anew_within() -> None:
    process = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )  # a heap of its own
    before, within, on_gpu, after = map(int, process.stdout.split())
    assert within < before / 10, "on a CPU it stays"
    assert on_gpu > before / 2, "a training on a GPU frees little here"
    assert after > before / 2, "as it was"
