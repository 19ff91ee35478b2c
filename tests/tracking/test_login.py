"""`hyperloom ui --host`: a server that other machines reach asks for a password, and a run with it is shown there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mlflow_server import Server
from hyperloom.pipeline.root.events import pending
from hyperloom.pipeline.root.storage import Storage
from tests.tracking.conftest import asks_for_a_password, story, track

PASSWORD = "a password of twelve"


@pytest.mark.timeout(240)
def test_who_reaches_the_server_needs_the_password(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    recipe = tmp_path / "aerial.yaml"
    recipe.write_text(
        f"name: aerial\nroot: {storage}\nmodalities: {{}}\nsteps: {{a: {{stage: 'tests.toy:Numbers'}}}}\n"
    )
    words = ["-m", "hyperloom.pipeline", "ui", str(recipe), "--host", "0.0.0.0", "--port", "{port}"]
    server = Server.on_free_port(tmp_path, *words, MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD)
    server.start()
    try:
        asks_for_a_password(server.url, "admin", PASSWORD)
        story(storage, "r", "night", range(2))
        stranger = track(storage, "r", server.url, "night", "--patience", "0")
        assert "MLFLOW_TRACKING_PASSWORD" in stranger.communicate(timeout=100)[1] and stranger.returncode == 75
        login = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        known = track(storage, "r", server.url, "night", login=login)
        assert known.communicate(timeout=100)[1] is not None and known.returncode == 0
        assert pending(storage) == []
        for name, value in login.items():
            monkeypatch.setenv(name, value)
        client = mlflow.MlflowClient(server.url, server.url)
        (experiment,) = client.search_experiments(filter_string="name = 'night'")
        shown = client.search_runs([experiment.experiment_id], "tags.`hyperloom.run` = 'r'")
        assert [run.info.status for run in shown] == ["FINISHED"]
        running = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        assert PASSWORD not in running and PASSWORD not in server.log.read_text()
    finally:
        server.stop()
