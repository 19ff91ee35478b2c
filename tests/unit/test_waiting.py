"""An update asks its device nothing: the host that asks waits until all that the device was given before is done.

Updates run on torch's device `meta`, which has no values: whatever wants to know one raises there, as it would wait on
a GPU, and every copy from the host is seen. That a GPU is kept busy is measured by `benchmarks/gpu.py`, not here.
"""

from __future__ import annotations

from pathlib import Path
from traceback import extract_stack
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hyperloom.stages.train.loop import Training
from hyperloom.stages.world import World
from tests.unit import scenes

META = torch.device("meta")
VIT: dict[str, Any] = {"trunk": {"type": "vit", "width": 2, "depth": 1, "patch": 8}}
COLOUR = {"type": "colour", "saturation": 0.2, "gamma": 0.2, "hue": 0.1, "grey": 0.2, "blur": 1.0}
CLASSES = list(scenes.CLASSES)
SOFT = {"targets": {"semantic": "soft@teacher"}}
ONE = {"in": ["rgb@camera"], "mask": "none"}
UPDATES: dict[str, dict[str, Any]] = {
    "masks, geometry, light, an average": {
        "augment": ["flip", "crop", "rotate", COLOUR],
        "losses": {"semantic": {"type": "cross-entropy", "balance": 0.5}},
        "ema": 0.9,
    },
    "mixup": {**ONE, "augment": ["mixup"], "losses": {"semantic": "logit-adjusted"}},
    "cutmix": {**ONE, **SOFT, "augment": ["cutmix"], "losses": {"semantic": {"type": "kl", "balance": 1}}},
    "classmix": {**ONE, "augment": [{"type": "classmix", "of": "semantic@truth"}]},
    "a published network": {
        **ONE,
        **SOFT,
        "model": {"trunk": {"type": "espnet", "classes": [*CLASSES, *[None] * 17]}, "parameters": "364k"},
        "losses": {"soft@teacher": [{"type": "kl", "balance": 0.5}, {"type": "dice"}]},
    },
    "tokens dropped, as many of each": {"model": VIT, "mask": {"type": "patch", "keep": 0.5}},
    "tokens dropped, others of each, and views": {
        "model": VIT,
        "mask": {"type": "both", "patches": {"keep": 0.5}},
        "extras": {
            "views": {"type": "contrastive", "between": ["rgb@camera"]},
            "tiles": {"type": "jigsaw", "of": "rgb@camera", "grid": 2},
        },
    },
}


class Asked(TorchDispatchMode):
    """Notes copies between host and device for which the host waits."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            ends = (args[0].device, kwargs.get("device") or args[-1].device)
            if len({torch.device(end).type for end in ends}) > 1 and not (
                kwargs.get("non_blocking") or args[-1] is True
            ):
                where = next(f"{f.name} in {f.filename}" for f in reversed(extract_stack()) if "/stages/" in f.filename)
                self.copies.append(f"{where}: {func} of {tuple(args[0].shape)}: {ends[0]} -> {ends[1]}")
        return func(*args, **kwargs)


class Written(TorchFunctionMode):
    """Notes numbers of the code that are sent for each use: lists as indices, tensors that are made on the device."""

    def __init__(self, copies: list[str]) -> None:
        super().__init__()
        self.copies = copies

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        places = args[1] if func is torch.Tensor.__getitem__ else ()
        listed = any(isinstance(place, list) for place in (places if isinstance(places, tuple) else (places,)))
        if (listed or func is torch.tensor) and given.device == META:
            where = next(f"{f.name} in {f.filename}" for f in reversed(extract_stack()) if "/stages/" in f.filename)
            self.copies.append(f"{where}: numbers of the code")
        return given


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("waiting"))


def _asked(data: Any, **fields: Any) -> list[str]:
    """The copies of a second update, the first having sent what is sent once."""
    job = scenes.job(data, "waiting", optimizer={"type": "sgd"}, **fields)
    training = Training(job, World(), device=META)
    batches = iter(training.batches)
    with torch.device("cpu"):
        training.step(next(batches))
    training.update = 1
    with Asked() as asked, Written(asked.copies):
        training.step(next(batches))
    return asked.copies


@pytest.mark.parametrize("update", UPDATES)
def test_an_update_asks_its_device_nothing(data: Any, update: str) -> None:
    assert _asked(data, **UPDATES[update]) == []


def test_what_is_drawn_ahead_is_what_is_drawn_in_turn(data: Any) -> None:
    training = Training(scenes.job(data, "ahead", augment=["flip", "colour"]), World(), device=META)
    drawer = training.prepare.drawer
    for number in (0, 1, 2, 7, 8):  # the fourth is out of turn
        ahead, now = drawer(number), drawer.draw(number)
        assert torch.equal(ahead.visible.inputs, now.visible.inputs)
        assert [repr(a) for a in ahead.augments] == [repr(a) for a in now.augments]
    drawer.close()


def test_who_asks_is_seen(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyperloom.stages.train.criterion import Criterion

    told = Criterion.forward

    def asking(self: Any, *args: Any, **kwargs: Any) -> Any:
        losses = told(self, *args, **kwargs)
        losses.values.sum().item()
        return losses

    def sending(self: Any, *args: Any, **kwargs: Any) -> Any:
        losses = told(self, *args, **kwargs)
        torch.ones(3).to(losses.values.device)
        return losses

    monkeypatch.setattr(Criterion, "forward", asking)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        _asked(data)
    monkeypatch.setattr(Criterion, "forward", sending)
    assert len(_asked(data)) == 1
