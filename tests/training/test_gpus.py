"""Two ranks over NCCL on two GPUs: what `test_worlds.py` shows over gloo on CPUs, in every suite, holds there too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperloom.stages.train import loop
from tests.training import ranks
from tests.training.test_worlds import curve, made

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
pytestmark = [
    pytest.mark.timeout(500),
    pytest.mark.skipif(
        GPUS < 2 or not torch.distributed.is_nccl_available(),
        reason=f"two ranks over NCCL need two GPUs, and torch sees {GPUS}; test_worlds.py has the same over gloo",
    ),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "replicated": {},
    "sharded": {"parallel": "fsdp"},
    "sharded-parts": {"parallel": "fsdp", "micro": 2},
    "bf16": {"precision": "bf16"},
    "leaves": {},
    "sharded-leaves": {"parallel": "fsdp"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_two_gpus_train_as_one(data: Any, tmp_path: Path, name: str) -> None:
    """Up to the rounding of sums; a training that two began goes on on one."""
    alone, pair = (made(data, f"{who}-{name}", **OPTIONS[name]) for who in ("gpu", "gpus"))
    alone = replace(alone, rhythm=replace(alone.rhythm, sharded=False))
    loop.fit(alone, device=torch.device("cuda", 0))
    (end,) = ranks.train([(pair, 4 if "leaves" in name else 0)], 2, tmp_path, backend="nccl")
    assert end.split()[0] == ("Preempted" if "leaves" in name else "done")
    if "leaves" in name:
        loop.fit(replace(pair, rhythm=replace(pair.rhythm, sharded=False)), device=torch.device("cuda", 0))
    slack = 3e-2 if name == "bf16" else 5e-3
    for mine, theirs in zip(curve(pair), curve(alone), strict=True):
        assert mine == pytest.approx(theirs, rel=slack, abs=slack)
