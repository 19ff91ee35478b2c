"""A real MLflow server on loopback that a test can stop and start, and a run's events that tell of everything."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.mlflow_server import Server, environment
from docs.screenshots import chromium
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking.process import ROOT, URI

HERE = Path(__file__).parents[2]
SIZE = (24, 32)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server.on_free_port(tmp_path_factory.mktemp("mlflow"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    return mlflow.MlflowClient(server.url, server.url)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def track(
    storage: Storage, run: str, uri: str, experiment: str, *options: str, login: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """The tracking process, as the driver starts it; `login` are the variables of a user of the server."""
    command = [sys.executable, "-m", "hyperloom.pipeline.tracking", "--run", run]
    return subprocess.Popen(
        [*command, "--experiment", experiment, *options],
        cwd=HERE,
        env=environment() | {ROOT: str(storage), URI: uri, **(login or {})},
        stderr=subprocess.PIPE,
        text=True,
    )


def asks_for_a_password(url: str, name: str, password: str) -> None:
    """Raise AssertionError unless the server lets this user in, and nobody without the password."""
    import requests

    def status(**options: Any) -> int:
        search = f"{url}/api/2.0/mlflow/experiments/search"
        return requests.post(search, json={"max_results": 1}, timeout=20, **options).status_code

    assert (status(), status(auth=(name, "wrong")), status(auth=(name, password))) == (401, 401, 200)


def story(
    storage: Storage,
    run: str,
    name: str,
    points: range = range(100),
    end: bool = True,
    name_of_model: str = "aerial",
    fingerprint: str = "dd" * 32,
) -> None:
    """The events of a run with every kind in it: a training's curve, a report with its collage, a release."""
    package = _package(storage)
    package |= {"name": name_of_model, "model": {**package["model"], "fingerprint": fingerprint}}
    writer = "driver" if end else "train-student"
    with Events(storage, run, "driver") as driver:
        driver.emit(
            "run_started", name=name, recipe="name: aerial\nroot: s3://me:pw@h/x\n", params={"root": "s3://me:pw@h/x"}
        )
        driver.emit("step_reused", "frames", stage="ingest", fingerprint="aa" * 32, rows=7)
        shards = {"name": "shards", "stage": "shard", "digest": "cd" * 6, "uri": "s3://me:pw@h/shard/cd"}
        student = {"optimizer": {"lr": 0.01}, "in": ["rgb@camera"], "note": "n" * 9000}
        driver.emit("step_started", "student", stage="distill", fingerprint="bb" * 32, params=student, inputs=[shards])
    with Events(storage, run, writer) as curve:
        for at in points:
            curve.metric("student", {"loss": 1 / (at + 1), "val.semantic.miou": at / 100}, at)
    if not end:
        return
    with Events(storage, run, "driver") as driver:
        driver.emit(
            "step_finished", "student", stage="distill", fingerprint="bb" * 32, status="done", seconds=9.5, rows=0
        )
        driver.emit("step_started", "report", stage="evaluate", fingerprint="cc" * 32, params={}, inputs=[])
        rows = [{"who": "color", "semantic.miou": 0.41}, {"who": "student", "semantic.miou": 0.62, "depth.mae": 1.5}]
        driver.emit("table", "report", name="results", rows=rows)
        driver.emit("artifact", "report", path="evaluate/x/collage.png", to="pictures")
        driver.emit("artifact", "report", path="evaluate/x/missing.png", to="pictures")
        driver.metric("", {"student.semantic.miou": 0.62})
        driver.emit("register", "report", **package)
        storage.write("reports/x/report.html", b"<title>The report</title>")
        driver.emit("artifact", path="reports/x/report.html", to=None)
        driver.emit(
            "step_finished", "report", stage="evaluate", fingerprint="cc" * 32, status="done", seconds=1.0, rows=3
        )
        driver.emit("run_finished", status="finished", seconds=20.0)


def _package(storage: Storage) -> dict[str, Any]:
    """A release's files, with a network that calls water what is more green than red, and its `register` event."""
    from onnx import TensorProto, helper

    from hyperloom.stages.evaluate.collage import collage
    from hyperloom.stages.modality import Image, Segmentation

    known = {"rgb": Image(size=SIZE), "semantic": Segmentation(classes=("land", "water"), size=SIZE)}
    picture = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    row = {"rgb@camera": picture, "semantic@truth": (picture[..., 0] > 128).astype(np.uint8), "semantic@student": None}
    storage.write("evaluate/x/collage.png", collage([("flight/000001", row)] * 2, list(row), known))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["rgb"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Split", ["float"], ["land", "water", "blue"], axis=3, num_outputs=3),
            helper.make_node("Concat", ["land", "water"], ["semantic"], axis=3),
        ],
        "student",
        [value("rgb", TensorProto.UINT8, ["n", *SIZE, 3])],
        [value("semantic", TensorProto.FLOAT, ["n", *SIZE, 2])],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    storage.write("release/x/student.onnx", network.SerializeToString())
    tasks = {"semantic": {"type": "segmentation", "classes": ["land", "water"], "output": "semantic"}}
    about = {"size": list(SIZE), "tasks": tasks, "input": "rgb@camera"}
    storage.write("release/x/student.json", json.dumps(about).encode())
    storage.write("release/x/hyperloom_student.py", (HERE / "stages/distill/hyperloom_student.py").read_bytes())
    example = io.BytesIO()
    np.save(example, picture[None])
    storage.write("release/x/example.npy", example.getvalue())
    return {
        "name": "aerial",
        "alias": "champion",
        "tags": {"gate": "passed", "made_by/semantic@color": "expert onnx revision 1"},
        "metrics": {"semantic.miou": 0.62},
        "description": "# aerial",
        "model": {
            "fingerprint": "dd" * 32,
            "files": {name: f"release/x/{name}" for name in ("student.onnx", "student.json")},
            "loader": "release/x/hyperloom_student.py",
            "example": "release/x/example.npy",
            "requirements": ["numpy", "onnxruntime", "pillow"],
            "signature": {
                "inputs": [{"name": "rgb@camera", "dtype": "uint8", "shape": [-1, *SIZE, 3]}],
                "outputs": [{"name": "semantic", "dtype": "uint8", "shape": [-1, *SIZE]}],
            },
        },
    }


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; skipped where it or its driver is not installed."""
    pytest.importorskip("selenium.webdriver")
    with ExitStack() as open_:
        try:
            driver = open_.enter_context(chromium())
        except SystemExit as missing:
            pytest.skip(str(missing))
        yield driver
