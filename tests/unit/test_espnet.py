"""ESPNet as a trunk: a training starts from published weights, which mean what they meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.espnet import MEAN, STD, ESPNet
from hyperloom.stages.network.model import build_model
from hyperloom.stages.network.processors import Scale
from hyperloom.stages.train.network import Origin
from hyperloom.stages.train.starting import Misfit, take
from tests.unit import inline

SIZE, SCALE = (16, 24), Scale((120.0, 110.0, 90.0), (60.0, 50.0, 40.0))
COLOURS = inline.modalities(rgb={"type": "image", "size": [32, 48]}, semantic={
    "type": "segmentation", "classes": ["sky", "road", "car"], "size": list(SIZE)})  # fmt: skip


def _plan(**fields: Any) -> Architecture:
    trunk = plugins.parse("trunk", {"type": "espnet", "width": 3, "depth": 1, "classes": 7, **fields})
    return Architecture(
        (Input("rgb@camera", COLOURS["rgb"], SCALE),), (Task("semantic", COLOURS["semantic"], Scale()),), trunk
    )


def _published(root: Path, q: int = 3) -> ESPNet:
    """A network with means and variances of its own, and its weights as a file of torch, wrapped as programs do."""
    torch.manual_seed(1)
    net = ESPNet(classes=7, p=1, q=q).eval()
    for name, value in net.state_dict().items():
        value.copy_(torch.rand_like(value) + 0.5 if name.endswith("_var") else 0.1 * torch.randn_like(value))
    torch.save({"state_dict": {f"module.{n}": v for n, v in net.state_dict().items()}}, root / "published.pth")
    return net


def test_a_trunk_that_starts_from_published_weights_answers_what_they_answer(tmp_path: Path) -> None:
    net, model = _published(tmp_path), build_model(_plan()).train()
    taken = str(
        take(Storage(str(tmp_path)), Origin("published", "published.pth", "", False, names=(("", "trunk"),)), model)
    )
    assert "other shape" not in taken and "unused" not in taken and "not there: heads.semantic" in taken
    colours = torch.randint(0, 256, (2, 32, 48, 3), dtype=torch.uint8)
    raw = (colours.float().flip(-1) - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():  # in training too: what is normalised by does not move
        expected = torch.nn.functional.avg_pool2d(net(raw.permute(0, 3, 1, 2)), 2)
        features = model({"rgb@camera": colours}).features
    assert torch.allclose(features.planes, expected, atol=1e-5)
    assert features.planes.shape == (2, 7, *SIZE)


def test_a_head_begins_with_the_classes_that_the_weights_know(tmp_path: Path) -> None:
    """Published classes that are one here are scored together, some are none of ours, and one of ours nobody knows."""
    published = ["road", "car", None, "car", "road", None, None]
    net, model = _published(tmp_path), build_model(_plan(classes=published)).eval()
    take(Storage(str(tmp_path)), Origin("published", "published.pth", "", False, names=(("", "trunk"),)), model)
    colours = torch.randint(0, 256, (2, 32, 48, 3), dtype=torch.uint8)
    raw = (colours.float().flip(-1) - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        shares = net(raw.permute(0, 3, 1, 2)).softmax(1)
        logits = model({"rgb@camera": colours}).predictions["semantic"]
    road, car = (torch.nn.functional.avg_pool2d(shares[:, c].sum(1, True).log(), 2)[:, 0] for c in ([0, 4], [1, 3]))
    assert torch.allclose(logits[:, 1] - logits[:, 2], road - car, atol=1e-4)
    assert logits[:, 0].std() > 0  # the sky is learned afresh


def test_a_shallower_trunk_takes_the_first_blocks(tmp_path: Path) -> None:
    net, model = _published(tmp_path), build_model(_plan(width=2))
    taken = str(
        take(Storage(str(tmp_path)), Origin("published", "published.pth", "", False, names=(("", "trunk"),)), model)
    )
    assert "unused: trunk.encoder" in taken
    block = net.encoder.level3[1].d1.conv.weight
    assert torch.equal(model.state_dict()["trunk.encoder.level3.1.d1.conv.weight"], block)


def test_weights_that_are_code_or_torn_are_refused_in_a_sentence(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    torch.save({"weights": Path("x")}, tmp_path / "code.pth")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    for name, said in (
        ("code.pth", "as weights alone"),
        ("torn.safetensors", "no whole file"),
        ("none.pth", "no weights"),
    ):
        with pytest.raises(Misfit, match=f"start: other: {name}.*{said}"):
            take(storage, Origin("other", name, "", False), build_model(_plan()))


def test_weights_of_other_names_say_how_they_are_named(tmp_path: Path) -> None:
    torch.save({"backbone.conv1.weight": torch.ones(3)}, tmp_path / "names.pth")
    with pytest.raises(Misfit, match="are called backbone.conv1.weight, .*here they are .*names: {backbone"):
        take(Storage(str(tmp_path)), Origin("names.pth", "names.pth", "", False), build_model(_plan()))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((Input("hsv@rgb", inline.modalities(hsv={"type": "dense", "channels": 3, "size": [32, 48]})["hsv"], SCALE),),
         "one picture in colours, got hsv@rgb"),
        ((Input("rgb@a", COLOURS["rgb"], SCALE), Input("rgb@b", COLOURS["rgb"], SCALE)), "got rgb@a, rgb@b"),
        ((Input("rgb@a", inline.modalities(rgb={"type": "image", "size": [20, 48]})["rgb"], SCALE),), "multiples of 8"),
    ],
)  # fmt: skip
def test_what_it_cannot_read_is_named(inputs: tuple[Input, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plugins.parse("trunk", {"type": "espnet", "width": 1}).check(inputs, ())


@pytest.mark.parametrize("classes", [4, ["road", "car"]])
def test_too_few_published_classes_are_refused_before_anything_runs(classes: Any) -> None:
    with pytest.raises(ValueError, match="at least 5 classes, got .*published weights"):
        plugins.parse("trunk", {"type": "espnet", "classes": classes})


def test_a_class_that_no_task_has_is_said_with_the_near_one() -> None:
    tasks = (Task("semantic", COLOURS["semantic"], Scale()),)
    trunk = plugins.parse("trunk", {"type": "espnet", "width": 1, "classes": ["road", "cra", *[None] * 4]})
    with pytest.raises(ValueError, match="no task has a class 'cra'.*car.*null"):
        trunk.check((Input("rgb@camera", COLOURS["rgb"], SCALE),), tasks)
