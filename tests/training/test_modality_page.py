"""The modality that docs/modalities.md prints, from a file beside a recipe: with its stem, head, objective, measure and
processor it goes from rows to shards, trains and stops by its own figure, becomes ONNX and is evaluated."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import PluginError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.distill.export import STUDENT_ONNX
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.release.gate import parse
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train.stage import Train
from tests.unit import inline

CODE = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs/modalities.md").read_text(encoding="utf-8"), re.DOTALL
)
SIZE = 16
LEARN: dict[str, Any] = {"data": "shards", "batch": 8, "optimizer": {"lr": 0.01}, "log_every": 50}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The modalities of a recipe beside which the page's file lies."""
    folder = tmp_path_factory.mktemp("beside")
    (folder / "compass.py").write_text(next(code for code in CODE if "Bearing" in code), encoding="utf-8")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield inline.modalities(rgb={"type": "image", "size": [SIZE, SIZE]}, bearing={"type": "compass:Bearing"})
    sys.path.remove(str(folder))
    sys.modules.pop("compass", None)


def scene(random: np.random.Generator) -> dict[str, Any]:
    """A picture that is brighter towards where it heads, and what a bad gyro says of it, one time in four nothing."""
    degrees = random.uniform(0, 360)
    turn = np.deg2rad(degrees)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    grey = 128 + 80 * (np.cos(turn) * x + np.sin(turn) * y) + random.normal(0, 5, (SIZE, SIZE))
    gyro = np.array([(degrees + random.normal(0, 60)) % 360], np.float32)
    return {
        "rgb@camera": np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, 2),
        "bearing@truth": np.array([degrees], np.float32),
        "bearing@gyro": None if random.random() < 0.25 else gyro,
    }


@pytest.fixture(scope="module")
def shards(known: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Manifest]:
    storage, random = Storage(str(tmp_path_factory.mktemp("root"))), np.random.default_rng(0)
    frames = inline.ingested(storage, known, {f"g{g}": [scene(random) for _ in range(12)] for g in range(6)})
    split = {"pin": {"test": ["g0"], "val": ["g1"]}}
    stage = Shard.model_validate({"stage": "shard", "data": "frames", "split": split})
    return storage, inline.finish(inline.step(stage, storage, known, "shards", frames=frames))


@pytest.fixture(scope="module")
def pilot(known: dict[str, Any], shards: tuple[Storage, Manifest]) -> Manifest:
    """A transformer that sees the picture and the gyro, stopped by its own figure."""
    stage = Train.model_validate(
        {
            **LEARN,
            "stage": "train",
            "in": ["rgb@camera", "bearing@gyro"],
            "targets": {"bearing": "bearing@truth"},
            "model": {"trunk": {"type": "vit", "width": 4, "patch": 8, "depth": 1}},
            "mask": {"type": "modality", "keep": 0.7},
            "stop": {"metric": "bearing.degrees", "every": 40, "patience": 3},
            "updates": 240,
        }
    )
    return inline.finish(inline.step(stage, shards[0], known, "pilot", shards=shards[1]))


def test_it_trains_and_stops_by_a_figure_of_its_own(pilot: Manifest) -> None:
    assert pilot.body["final"]["val.bearing.degrees"] < 25 < 90, "a guess is off by a quarter turn"
    assert 0 < pilot.body["kept"] <= pilot.body["updates"]


def test_it_is_exported_and_evaluated_beside_an_expert(
    known: dict[str, Any], shards: tuple[Storage, Manifest], pilot: Manifest
) -> None:
    storage, made = shards
    stage = Distill.model_validate(
        {
            **LEARN,
            "stage": "distill",
            "in": ["rgb@camera"],
            "targets": {"bearing": "bearing@truth"},
            "model": {"trunk": {"type": "unet", "width": 2}},
            "updates": 120,
        }
    )
    student = inline.finish(inline.step(stage, storage, known, "student", shards=made, pilot=pilot))
    (output,) = student.body["onnx"]["outputs"]
    assert (output["type"], output["head"], output["shape"]) == ("compass:Bearing", "compass:Needle", [2])
    session = onnxruntime.InferenceSession(storage.read(f"{student.folder}/{STUDENT_ONNX}"))
    random = np.random.default_rng(1)
    views = [scene(random) for _ in range(8)]
    (points,) = session.run(None, {"rgb@camera": np.stack([v["rgb@camera"] for v in views])})
    truth = np.stack([v["bearing@truth"] for v in views])
    turns = np.abs((known["bearing"].answer(points) - truth + 180) % 360 - 180)
    assert np.linalg.norm(points, axis=1) == pytest.approx(1, abs=1e-4) and turns.mean() < 40

    evaluate = Evaluate.model_validate(
        {
            "stage": "evaluate",
            "data": "shards",
            "models": ["pilot", "student"],
            "pictures": 2,
            "intervals": {"draws": 100},
        }
    )
    step = inline.step(evaluate, storage, known, "report", shards=made, pilot=pilot, student=student)
    body = inline.finish(step).body
    figures = body["figures"]
    assert set(figures["pilot"]) == {"bearing.degrees", "bearing.within10", "bearing.coverage"}
    assert (
        figures["pilot"]["bearing.degrees"] < figures["gyro"]["bearing.degrees"]
        and figures["gyro"]["bearing.coverage"] < 1
    )
    assert body["verdict"]["pilot"]["bearing"] == {
        "measure": "degrees",
        "value": figures["pilot"]["bearing.degrees"],
        "expert": "gyro",
        "expert_value": figures["gyro"]["bearing.degrees"],
        "beats": True,
    }
    lower = next(r for r in body["differences"] if r["figure"] == "bearing.degrees" and r["who"] == "pilot")
    assert lower["difference"] < 0 and lower["better"] is True


def test_a_measure_that_is_not_there_is_said_with_the_modality(known: dict[str, Any]) -> None:
    class Astray(type(known["bearing"])):  # type: ignore[misc]
        defaults = known["bearing"].defaults._replace(measure="compass:Turn")

    with pytest.raises(PluginError, match="measure 'compass:Turn': module 'compass' has no 'Turn'"):
        Astray()


def test_a_gate_knows_its_figures(known: dict[str, Any]) -> None:
    assert parse("bearing.degrees", "<= 20").offset == 20
    with pytest.raises(ValueError, match="degrees is better when smaller"):
        parse("bearing.degrees", ">= 20")
    with pytest.raises(ValueError, match="no figure"):
        parse("bearing.gegrees", "<= 20")
