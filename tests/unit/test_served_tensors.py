"""Tensors that a server answers, by the Open Inference Protocol: numbers are taken as they are, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.services.endpoint import Endpoint
from tests.unit.inline import modalities

KNOWN = modalities(
    rgb={"type": "image", "size": [2, 2]},
    several={"type": "multilabel", "classes": ["a", "b", "c"]},
    semantic={"type": "segmentation", "classes": ["nothing", "road"]},
    kind={"type": "category", "classes": ["a", "b", "c"]},
    depth={"type": "dense", "storage": "float32", "unknown": 0},
)
FIELDS = {"type": "http", "api": "kserve", "url": "http://server/", "model": "m", "in": "rgb@camera", "replay": False}


def answered(monkeypatch: pytest.MonkeyPatch, name: str, datatype: str, values: Any) -> Any:
    """What the column gets of one frame: a value that its modality takes, or the error."""
    data = np.asarray(values)
    output = {"name": name, "datatype": datatype, "shape": [1, *data.shape], "data": data.ravel().tolist()}
    monkeypatch.setattr(Endpoint, "post", lambda *_: {"outputs": [output]})
    call = plugins.parse("expert", {**FIELDS, "out": f"{name}@server"}).build(KNOWN, Storage("memory://served"))
    (value,) = call({"rgb@camera": np.zeros((1, 2, 2, 3), np.uint8)})[f"{name}@server"]
    if isinstance(value, Exception):
        return value
    try:
        KNOWN[name].check(value)
    except ValueError as error:
        return error
    return value


@pytest.mark.parametrize(
    ("name", "datatype", "values", "right"),
    [
        ("several", "FP32", [1, 0, 1], [1, 0, 1]),
        ("semantic", "INT64", [[0, 1], [255, 1]], [[0, 1], [255, 1]]),
        ("semantic", "FP32", [[0, 1], [1, 1]], [[0, 1], [1, 1]]),
        ("kind", "INT32", 2, 2),
        ("depth", "FP64", [[[0.5], [2]], [[3], [4]]], [[[0.5], [2]], [[3], [4]]]),
        ("depth", "UINT16", [[[1], [2]], [[3], [4]]], [[[1], [2]], [[3], [4]]]),
    ],
)
def test_the_same_numbers_in_another_data_type(
    monkeypatch: pytest.MonkeyPatch, name: str, datatype: str, values: Any, right: Any
) -> None:
    assert np.asarray(answered(monkeypatch, name, datatype, values)).tolist() == right


@pytest.mark.parametrize(
    ("name", "datatype", "values", "reason"),
    [
        ("several", "FP32", [0.97, 0.9, 0.02], "expected dtype uint8, got float32 0.02..0.97"),
        ("semantic", "FP32", [[0.9, 0.9], [0.9, 0.9]], "expected dtype uint8, got float32"),
        ("semantic", "INT64", [[257, 256], [0, 0]], "expected dtype uint8, got int64 0..257"),
        ("semantic", "INT8", [[-1, 0], [0, 0]], "expected dtype uint8, got int8 -1..0"),
        ("kind", "FP32", 2.9, "expected dtype int64, got float32 2.9"),
        ("kind", "INT64", 2.9, "is to be int64 and holds other numbers"),  # the server's word is not its numbers'
        ("several", "UINT8", [1, 0, 300], "is to be uint8 and holds other numbers"),
        ("several", "BOOL", [0.9, 0.2, 0.0], "is to be bool and holds other numbers"),
        ("depth", "INT32", [[[2**24 + 1], [2]], [[3], [4]]], "got int32"),
    ],
)
def test_what_a_column_cannot_hold_is_no_label(
    monkeypatch: pytest.MonkeyPatch, name: str, datatype: str, values: Any, reason: str
) -> None:
    value = answered(monkeypatch, name, datatype, values)
    assert isinstance(value, ValueError) and reason in str(value)


def test_an_answer_that_is_read_otherwise_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def post(*request: Any) -> Any:
        asked.append(request)
        return {"outputs": [{"name": "semantic", "datatype": "INT64", "shape": [1, 2, 2], "data": [0, 1, 1, 0]}]}

    monkeypatch.setattr(Endpoint, "post", post)
    expert = {**FIELDS, "out": "semantic@server", "replay": True}
    for fields in ({"decode": {"type": "classes", "activation": "ids"}}, {}):  # of revision 1, and of revision 2
        call = plugins.parse("expert", {**expert, **fields}).build(KNOWN, Storage(str(tmp_path)))
        (value,) = call({"rgb@camera": np.zeros((1, 2, 2, 3), np.uint8)})["semantic@server"]
        assert value.tolist() == [[0, 1], [1, 0]]
    assert len(asked) == 1


def test_only_tensors_without_a_decoder_mean_something_new() -> None:
    expert = {**FIELDS, "out": "semantic@server"}
    assert payload(plugins.parse("expert", expert))["revision"] == 2
    assert payload(plugins.parse("expert", {**expert, "decode": "classes"}))["revision"] == 1
    assert payload(plugins.parse("expert", {**expert, "api": "json"}))["revision"] == 1
