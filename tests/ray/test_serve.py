"""The expert `http` against a real Ray Serve deployment: any JSON route, and the Open Inference Protocol."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.stage import Label
from tests.ray.conftest import HERE, RayCluster, free_port
from tests.unit.inline import column, finish, ingested, modalities, step

pytest.importorskip("ray.serve", reason="Ray Serve is not installed (pip install 'ray[serve]')")
KNOWN = modalities(rgb={"type": "image", "size": [4, 6]}, value={"type": "vector", "length": 1})
SERVER = """
import base64, sys, time
import cv2, numpy as np
from ray import serve
from hyperloom.clusters.connect import connect
from hyperloom.clusters.spec import Cluster

connect(Cluster(address="auto"))
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Mean:
    async def __call__(self, request):
        asked = await request.json()
        if request.url.path.endswith("/infer"):
            (tensor,) = asked["inputs"]
            images = np.array(tensor["data"]).reshape(tensor["shape"])
            means = images.reshape(len(images), -1).mean(1)
            return {"outputs": [{"name": "mean", "datatype": "FP32", "shape": [len(means), 1], "data": means.tolist()}]}
        image = cv2.imdecode(np.frombuffer(base64.b64decode(asked["rgb"]), np.uint8), cv2.IMREAD_COLOR)
        return {"mean": [float(image.mean())]}


serve.run(Mean.bind(), name="mean", route_prefix="/")
print("ready", flush=True)
time.sleep(600)
"""


def routes(port: int) -> dict[str, str]:
    """What the proxy of Ray Serve leads where."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/routes", timeout=10) as response:
            return dict(json.load(response))
    except urllib.error.URLError:  # 503 until it knows any
        return {}


@pytest.fixture(scope="module")
def served(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port)], env=ray_cluster.env, cwd=HERE, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + 150
        while b"ready" not in log.read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        while "/" not in routes(port):  # the proxy hears of it after the deployment is ready
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        subprocess.run(
            [sys.executable, "-c", "import ray; from ray import serve; ray.init(); serve.shutdown()"],
            env=ray_cluster.env, capture_output=True, timeout=100,
        )  # fmt: skip


@pytest.mark.timeout(300)
def test_a_deployment_of_ray_serve_is_an_expert(served: str, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    frames = ingested(storage, KNOWN, {"g": [{"rgb@camera": np.full((4, 6, 3), i, np.uint8)} for i in range(5)]})
    experts = [
        {"type": "http", "api": "json", "url": served, "in": "rgb@camera", "out": "value@json",
         "fields": {"value@json": "mean"}},
        {"type": "http", "api": "kserve", "url": served, "model": "mean", "in": "rgb@camera", "out": "value@kserve",
         "fields": {"value@kserve": "mean"}, "per_request": 3},
    ]  # fmt: skip
    made = finish(step(Label(stage="label", data="frames", experts=experts), storage, KNOWN, frames=frames))
    assert made.quarantined == 0
    for source in ("json", "kserve"):
        values = column(storage, KNOWN, made, f"value@{source}")
        assert [v.tolist() for v in values.values() if v is not None] == [[0], [1], [2], [3], [4]]
