"""Files of weights as the field leaves them: each is read as data alone, or refused in one sentence that helps."""

from __future__ import annotations

import argparse
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors

from hyperloom.stages.network.statefile import read_state

STATE = {"stem.weight": torch.arange(6.0).view(2, 3), "stem.bias": torch.ones(2)}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"


def _torch(value: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **how)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.pth", _torch(STATE)),
        ("legacy.pth", _torch(STATE, _use_new_zipfile_serialization=False)),
        ("half.pth", _torch({k: v.half() for k, v in STATE.items()})),
        ("arrays.pth", _torch({k: v.numpy() for k, v in STATE.items()})),
        ("lightning.ckpt", _torch({"epoch": 3, "state_dict": STATE, "optimizer_states": [{"state": {}}]})),
        ("options.pth", _torch({"model": STATE, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.4)})),
        ("train.pth", _torch({"model_state_dict": STATE, "optimizer_state_dict": {"exp_avg": torch.ones(1)}})),
        ("deep.pth", _torch({"state": {"student": STATE}})),
        ("averaged.pth", _torch({"model": STATE, "model_ema": {k: v * 0 for k, v in STATE.items()}})),
        ("parallel.pth", _torch({f"module._orig_mod.{k}": v for k, v in STATE.items()})),
        ("weights.safetensors", safetensors(STATE)),
        ("misnamed.pth", safetensors(STATE)),
        ("misnamed.safetensors", _torch(STATE)),
    ],
)
def test_what_training_programs_keep_is_read(name: str, content: bytes) -> None:
    state = read_state(content, name)
    assert set(state) == set(STATE) and all(torch.equal(state[k].float(), v) for k, v in STATE.items())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (POINTER, "pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "a page of the web"),
        (_torch(STATE)[:600], "cut or damaged"),
        (safetensors(STATE)[:40], "no whole file of safetensors"),
        (
            _torch(torch.nn.Linear(1, 1)),
            r"objects of a program \(torch.nn.modules.linear.Linear\), and nothing in it is run",
        ),
        (_torch({"path": Path("x"), **STATE}), "objects of a program .*pathlib"),
        (pickle.dumps({"a": 1}), "no file of torch.save"),
        (_torch({"epoch": 3}), "no weights by name"),
        (_torch([1, 2]), "no weights by name"),
        (_torch({"first": STATE, "second": STATE}), r"several networks \(first, second\)"),
        (_torch({"a": torch.tensor([1.0, float("nan")])}), "the weight a has values that are no numbers"),
    ],
)
def test_what_is_none_is_refused_in_a_sentence(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        read_state(content, "file.pth")
    assert "\n" not in str(refused.value) and "weights_only" not in str(refused.value)


def test_which_of_several_networks_is_meant() -> None:
    def read(kept: Any) -> dict[str, torch.Tensor]:
        return read_state(_torch(kept), "net.pth")

    one, two = {"a": torch.zeros(2)}, {"a": torch.ones(2)}
    for kept in (
        {"ema": two, "step": torch.tensor(5)},
        {"state_dict": two, "ema": one, "confusion": torch.zeros(3, 3)},
        {"net": {"model": two}, "optimizer": {"model": one}},
    ):
        assert torch.equal(read(kept)["a"], two["a"])
    for kept in (
        {"discriminator": {"state_dict": one}, "generator": {"state_dict": two}},
        {"student": {"model": one}, "teacher": {"model": two}},
        {"model_ema": two, "loss_state": {"weights": one}},
    ):
        with pytest.raises(ValueError, match="holds several networks"):
            read(kept)


def test_a_header_of_any_length_is_safetensors() -> None:
    """Its first bytes are that length: 15,392 reads as a blank and the beginning of a page."""
    plain = safetensors({"a": torch.ones(2)})
    length = int.from_bytes(plain[:8], "little")
    padded = plain[8 : 8 + length].ljust(15392) + plain[8 + length :]
    assert torch.equal(read_state((15392).to_bytes(8, "little") + padded, "a.safetensors")["a"], torch.ones(2))
