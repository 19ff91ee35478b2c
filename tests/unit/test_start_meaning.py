"""Weights of a network whose classes were in another order: heads say the same names as before, or start afresh."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.meaning import translation
from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.network.passing import passing
from hyperloom.stages.network.processors import Scale
from hyperloom.stages.train.network import Origin, Start
from hyperloom.stages.train.starting import Misfit, take
from tests.unit import inline

SIZE = [16, 24]
BEFORE: dict[str, Any] = {
    "rgb": {"type": "image", "size": SIZE},
    "land": {"type": "segmentation", "classes": ["x", "y"], "size": SIZE},
    "semantic": {"type": "segmentation", "classes": ["a", "b", "c"], "size": SIZE},
    "place": {"type": "category", "classes": ["a", "b", "c"]},
    "labels": {"type": "multilabel", "classes": ["a", "b", "c"]},
    "points": {"type": "keypoints", "points": ["a", "b", "c"]},
    "boxes": {"type": "boxes", "classes": ["a", "b", "c"], "most": 4},
    "depth": {"type": "dense", "unit": "m", "size": SIZE},
}
TASKS = ("semantic", "place", "labels", "points", "boxes", "depth")


def _network(seed: int, **changed: dict[str, Any]) -> MultiTask:
    known = inline.modalities(**{name: {**fields, **changed.get(name, {})} for name, fields in BEFORE.items()})
    inputs = tuple(Input(f"{m}@in", known[m], Scale()) for m in ("rgb", "land"))
    scale = {"m": 1.0, "cm": 100.0}.get(known["depth"].unit, 1.0)
    tasks = tuple(Task(n, known[n], Scale((10.0 * scale,), (2.0 * scale,)) if n == "depth" else Scale()) for n in TASKS)
    torch.manual_seed(seed)
    model = MultiTask(Architecture(inputs, tasks, plugins.parse("trunk", {"type": "unet", "width": 2}))).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def _started(root: Path, here: MultiTask, whole: bool = True) -> tuple[MultiTask, str]:
    """The network of `BEFORE`, and what was taken of it."""
    there, storage = _network(1), Storage(str(root))
    storage.write("old/model.safetensors", save(there.state_dict()))
    storage.write("old/model.json", json.dumps(there.architecture.to_json()).encode())
    return there, str(take(storage, Origin("old", "old/model.safetensors", "old/model.json", whole), here))


def _predicted(model: MultiTask) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    rgb = torch.from_numpy(random.integers(0, 255, (2, *SIZE, 3)).astype(np.uint8))
    land = torch.from_numpy(random.integers(0, 2, (2, *SIZE)).astype(np.uint8))
    with torch.inference_mode():
        return {n: v.numpy() for n, v in model.predict({"rgb@in": rgb, "land@in": land}).items()}


def test_heads_say_the_same_names_in_the_new_order_and_numbers_the_new_unit(tmp_path: Path) -> None:
    order = ["c", "a", "b"]
    changed = {n: {"classes": order} for n in ("semantic", "place", "labels", "boxes")}
    here = _network(2, **changed, points={"points": order}, depth={"unit": "cm", "range": [0, 1e6]})
    there, taken = _started(tmp_path, here)
    before, after = _predicted(there), _predicted(here)
    for one, other in zip(there.architecture.tasks, here.architecture.tasks, strict=True):
        how = translation(one.modality.meaning, other.modality.meaning)
        expected = one.modality.mean_translated(before[one.name], how)
        if one.name == "depth":
            expected = expected.clip(0, 1e6)
        assert after[one.name] == pytest.approx(expected, rel=1e-4, abs=1e-4, nan_ok=True), one.name
    assert "other meaning" not in taken


def test_heads_of_other_classes_or_units_start_afresh_and_that_is_said(tmp_path: Path) -> None:
    changed: dict[str, Any] = {"semantic": {"classes": ["a", "b", "z"]}, "depth": {"unit": "px"}}
    here, plain = _network(2, **changed), _network(2, **changed)
    there, taken = _started(tmp_path, here, whole=False)
    for name, value in here.state_dict().items():
        fresh = name.startswith(("heads.semantic", "heads.depth"))
        assert torch.equal(value, (plain if fresh else there).state_dict()[name]), name
    assert "other meaning: heads.semantic, heads.depth" in taken
    assert "semantic: the classes of that network: [a, b, c]; of this one: [a, b, z]" in taken
    with pytest.raises(Misfit, match=r"does not fill the network.*depth: the unit of that network: m; of this one: px"):
        _started(tmp_path / "whole", _network(3, **changed))


MAPS: dict[str, Any] = {
    "rgb": {"type": "image", "size": SIZE},
    "semantic": {"type": "segmentation", "classes": ["a", "b", "c"], "size": SIZE},
    "soft": {"type": "soft", "classes": ["b", "c", "a"], "size": SIZE},
    "depth": {"type": "dense", "unit": "m", "size": SIZE},
}
TRUNKS = (
    {"type": "unet", "width": 2},
    {"type": "vit", "width": 16, "patch": 4, "depth": 1},
    {"type": "inverted", "width": 4},
)


def _passing_on(seed: int, columns: list[str], trunk: dict[str, Any], classes: list[str]) -> MultiTask:
    known = inline.modalities(**{**MAPS, "semantic": {**MAPS["semantic"], "classes": classes}})
    inputs = tuple(Input(c, known[c.partition("@")[0]], Scale()) for c in columns)
    tasks = passing(True, [Task(n, known[n], Scale()) for n in ("semantic", "depth")], inputs)
    torch.manual_seed(seed)
    model = MultiTask(Architecture(inputs, tasks, plugins.parse("trunk", trunk))).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("classes", [["a", "b", "c"], ["c", "a", "b"]])
def test_inputs_in_another_order_keep_their_own_weights(
    tmp_path: Path, trunk: dict[str, Any], classes: list[str]
) -> None:
    """First filters, kinds of tokens and what is passed on went to the input that stood in the same place."""
    before = _passing_on(1, ["rgb@in", "depth@x", "depth@y", "soft@x", "soft@y"], trunk, ["a", "b", "c"])
    here = _passing_on(2, ["soft@y", "depth@y", "rgb@in", "soft@x", "depth@x"], trunk, classes)
    storage, random = Storage(str(tmp_path)), np.random.default_rng(0)
    storage.write("old/model.safetensors", save(before.state_dict()))
    storage.write("old/model.json", json.dumps(before.architecture.to_json()).encode())
    take(storage, Origin("old", "old/model.safetensors", "old/model.json", True), here)
    batch = {
        "rgb@in": torch.from_numpy(random.integers(0, 255, (2, *SIZE, 3)).astype(np.uint8)),
        **{f"depth@{s}": torch.from_numpy(random.normal(0, 1, (2, *SIZE, 1)).astype(np.float32)) for s in "xy"},
        **{f"soft@{s}": torch.from_numpy(random.dirichlet([1] * 3, (2, *SIZE)).astype(np.float32)) for s in "xy"},
    }
    with torch.inference_mode():
        old, new = before.predict(batch), here.predict(batch)
    order = [["a", "b", "c"].index(name) for name in classes]
    assert new["semantic"].numpy() == pytest.approx(old["semantic"].numpy()[..., order], abs=1e-4)
    assert new["depth"].numpy() == pytest.approx(old["depth"].numpy(), rel=1e-4, abs=1e-3)


def test_first_filters_of_an_input_that_the_other_network_has_not_start_afresh_and_that_is_said(tmp_path: Path) -> None:
    """Their place may be that of another input: that all weights fit was said, also where all must."""
    before = _passing_on(1, ["rgb@in", "depth@x"], TRUNKS[0], ["a", "b", "c"])
    here = _passing_on(2, ["depth@x", "rgb@new"], TRUNKS[0], ["a", "b", "c"])
    fresh, storage = here.trunk.enter[0][0].weight.clone(), Storage(str(tmp_path))
    storage.write("old/model.safetensors", save(before.state_dict()))
    storage.write("old/model.json", json.dumps(before.architecture.to_json()).encode())
    with pytest.raises(Misfit, match="does not fill the network: .*in part: trunk.enter"):
        take(storage, Origin("old", "old/model.safetensors", "old/model.json", True), here)
    told = str(take(storage, Origin("old", "old/model.safetensors", "old/model.json", False), here))
    assert torch.equal(here.trunk.enter[0][0].weight[:, 1:], fresh[:, 1:]) and "in part: trunk.enter" in told


def test_what_is_passed_on_of_another_input_starts_afresh(tmp_path: Path) -> None:
    trunk = TRUNKS[0]
    before = _passing_on(1, ["rgb@in", "depth@x", "depth@y"], trunk, ["a", "b", "c"])
    here = _passing_on(2, ["rgb@in", "depth@z", "depth@y"], trunk, ["a", "b", "c"])
    fresh = here.residuals["depth"].weights.clone()
    storage = Storage(str(tmp_path))
    storage.write("old/model.safetensors", save(before.state_dict()))
    storage.write("old/model.json", json.dumps(before.architecture.to_json()).encode())
    told = str(take(storage, Origin("old", "old/model.safetensors", "old/model.json", False), here))
    assert torch.equal(here.residuals["depth"].weights, fresh) and "other meaning: residuals.depth" in told


@pytest.mark.parametrize("classes", [["y", "x"], ["x", "z"]])
def test_an_input_of_other_classes_is_refused(tmp_path: Path, classes: list[str]) -> None:
    with pytest.raises(Misfit, match="land@in does not mean in old what it means here: .*Next: give its modality"):
        _started(tmp_path, _network(2, land={"classes": classes}), whole=False)


@pytest.mark.parametrize("changed", ["old.safetensors", "model.json"])
def test_a_file_that_was_changed_since_the_plan_starts_nothing(tmp_path: Path, changed: str) -> None:
    """A training may begin hours after its identity was made, and began with whatever lay there by then."""
    storage, start = Storage(str(tmp_path / "root")), Start.model_validate(str(tmp_path / "old.safetensors"))
    for name in ("old.safetensors", "model.json"):
        (tmp_path / name).write_bytes(b"before")
    meaning = {"facts": {"start": start.facts(Digests(storage))}}
    step: Any = SimpleNamespace(name="teacher", folder="train/1", storage=storage, meaning=meaning)
    assert storage.read(start.origin(step).weights) == b"before"  # type: ignore[union-attr]
    (tmp_path / changed).write_bytes(b"later")
    with pytest.raises(SourceError, match=f"{changed} is another file than when the run began"):
        start.origin(step)
