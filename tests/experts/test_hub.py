"""Models of the hub: pinned once, fetched once, checked, and offline ever after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.hub import fetch, pins
from hyperloom.stages.label.stage import Label
from tests.experts.hub import COMMIT, Hub, alone, serving
from tests.experts.test_huggingface import KNOWN, NAMES, segformer
from tests.unit.inline import column, finish, ingested, step

MODEL = "tiny/segformer"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model, and a cache of one's own."""
    folder = tmp_path / "segformer"
    segformer(folder)
    (folder / "pytorch_model.bin").write_bytes(b"a program")
    with serving(Hub({MODEL: folder})) as hub:
        alone(monkeypatch, hub, tmp_path / "home")
        yield hub


def _storage(folder: Path) -> Storage:
    return Storage(str(folder / "root"))


def test_a_model_by_name_is_the_same_expert_as_its_directory(hub: Hub, tmp_path: Path) -> None:
    storage, random = _storage(tmp_path), np.random.default_rng(0)
    frames = [{"rgb@camera": random.integers(0, 255, (24, 32, 3), np.uint8)} for _ in range(2)]
    raw = ingested(storage, KNOWN, {"a": frames}, 2)
    common = {"type": "huggingface", "task": "image-segmentation", "in": "rgb@camera", "labels": {"vegetation": "tree"}}
    assert set(NAMES["id2label"].values()) == {"Sky", "vegetation", "road", "car"}
    common["labels"] |= {"Sky": "sky", "car": None}
    answers = []
    for where in ({"path": str(hub.models[MODEL])}, {"model": MODEL}):
        stage = Label.model_validate(
            {"stage": "label", "data": "frames", "experts": [{**common, **where, "out": "semantic@net"}]}
        )
        done = finish(step(stage, storage, KNOWN, "labels", frames=raw))
        answers.append(column(storage, KNOWN, done, "semantic@net"))
    assert all(np.array_equal(answers[0][key], answers[1][key]) for key in answers[0])
    assert not any("pytorch_model.bin" in line for line in hub.asked), "weights that are a program were fetched"
    asked = len(hub.asked)
    stage = Label.model_validate(
        {"stage": "label", "data": "frames", "experts": [{**common, "model": MODEL, "out": "semantic@again"}]}
    )
    finish(step(stage, storage, KNOWN, "again", frames=raw))
    assert len(hub.asked) == asked, "the hub was asked for what is here"


def test_a_revision_is_pinned_once_and_needs_no_hub_afterwards(hub: Hub, tmp_path: Path, monkeypatch: Any) -> None:
    storage = _storage(tmp_path)
    pin = pins.pinned(storage, MODEL, "main")
    assert pin.commit == COMMIT and set(pin.files) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert pins.pinned(storage, MODEL, "main") == pin
    with pytest.raises(
        SourceError, match=r"is not pinned in this root yet, and the hub does not answer.*Next: plan once"
    ):
        pins.pinned(storage, MODEL, "other")


def test_what_breaks_off_goes_on_and_what_is_another_file_is_refused(hub: Hub, tmp_path: Path) -> None:
    pin = pins.pinned(_storage(tmp_path), MODEL, "main")
    size = pin.files["model.safetensors"][0]
    hub.torn["model.safetensors"] = size // 2
    try:
        fetch.fetched(pin)
    except ConnectionError as error:
        assert "was not fetched whole" in str(error)
    folder = fetch.fetched(pin)
    assert (folder / "model.safetensors").read_bytes() == (hub.models[MODEL] / "model.safetensors").read_bytes()
    assert any("model.safetensors" in line for line in hub.asked)

    config = folder / "config.json"
    config.resolve().write_bytes(config.read_bytes().replace(b"segformer", b"deformers"))
    with pytest.raises(SourceError, match="config.json of the model tiny/segformer is not what the hub said it is"):
        fetch.fetched(pin)
    assert b"segformer" in (fetch.fetched(pin) / "config.json").read_bytes(), "it was not fetched again"


@pytest.mark.parametrize(
    ("model", "revision", "words"),
    [
        ("tiny/nothing", "main", r"the hub has none of this name.*correct `model:`, or set HF_TOKEN"),
        (MODEL, "v9", r"there is the model, but no such revision"),
    ],
)
def test_what_is_not_there_is_said(hub: Hub, tmp_path: Path, model: str, revision: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        pins.pinned(_storage(tmp_path), model, revision)


def test_owners_who_want_to_be_asked_and_weights_that_are_programs(hub: Hub, tmp_path: Path) -> None:
    hub.closed.add(MODEL)
    with pytest.raises(SourceError, match="its owners want to be asked first.*set HF_TOKEN"):
        pins.pinned(_storage(tmp_path), MODEL, "main")
    hub.closed.clear()
    (hub.models[MODEL] / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="has no safetensors weights"):
        pins.pinned(_storage(tmp_path), MODEL, "main")


def test_a_licence_that_forbids_commerce_is_said_before_the_run(hub: Hub, tmp_path: Path) -> None:
    expert = {"type": "huggingface", "task": "depth-estimation", "model": MODEL, "in": "rgb@camera", "out": "depth@net"}
    stage = Label.model_validate({"stage": "label", "data": "frames", "experts": [expert, {**expert, "out": "d@net"}]})
    assert stage.notices(_storage(tmp_path / "a")) == []
    hub.licence = "cc-by-nc-4.0"
    (said,) = stage.notices(_storage(tmp_path / "b"))
    assert said.startswith("tiny/segformer is licensed cc-by-nc-4.0") and "not for commerce" in said
    hub.licence = ""
    assert "names no licence" in stage.notices(_storage(tmp_path / "c"))[0]
    hub.licence = "other"
    assert "a licence of its own" in stage.notices(_storage(tmp_path / "d"))[0]
