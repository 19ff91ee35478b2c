"""MLflow for a team, as `mlflow/serve.sh` starts it: users, PostgreSQL, artifacts on S3, and what may go wrong."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hyperloom.pipeline.host import process
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.events import Events, pending, tracked
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking.replay import catch_up
from hyperloom.pipeline.tracking.tracker import Position
from tests.stores import servers
from tests.tracking import team as teams
from tests.tracking.conftest import asks_for_a_password, story, track

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[teams.Team]:
    """The server with its users `ann` and `bob`."""
    pytest.importorskip("flask_wtf")
    pytest.importorskip("psycopg2")
    s3 = servers.moto()
    database = teams.Database()
    server = teams.Team(tmp_path_factory.mktemp("team"), database, s3)
    try:
        server.bucket().mkdir(teams.BUCKET)
        server.start()
        server.add_users()
        yield server
    finally:
        server.stop()
        database.close()
        s3.kill()


@pytest.fixture
def client(team: teams.Team, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What Ann sees."""
    from mlflow import MlflowClient

    for name, value in {**teams.login("ann"), "MLFLOW_TRACKING_URI": team.url}.items():
        monkeypatch.setenv(name, value)
    return MlflowClient(team.url, team.url)


def _carry(storage: Storage, run: str, team: teams.Team, experiment: str, user: str, *options: str) -> Any:
    return track(storage, run, team.url, experiment, *options, login=teams.login(user))


def _finish(tracker: Any, expected: int = 0) -> str:
    _, text = tracker.communicate(timeout=120)
    assert tracker.returncode == expected, text
    return text


def _runs(client: Any, experiment: str) -> dict[str, Any]:
    known = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    names = [r.info.run_name for r in known]
    assert len(set(names)) == len(names), f"a run is there twice: {names}"
    return {r.info.run_name: r for r in known}


@pytest.mark.timeout(300)
def test_two_users_runs_are_all_there_in_postgresql_and_on_s3(team: teams.Team, client: Any, tmp_path: Path) -> None:
    import mlflow

    roots = {user: Storage(str(tmp_path / user)) for user in ("ann", "bob")}
    for user, storage in roots.items():
        story(storage, f"r-{user}", "night", name_of_model="shared", fingerprint=user[0] * 64)
    for tracker in [_carry(s, f"r-{user}", team, "night", user) for user, s in roots.items()]:  # at the same moment
        _finish(tracker)
    experiment = client.get_experiment_by_name("night").experiment_id
    parents = {r.info.run_name: r for r in client.search_runs([experiment], "tags.`hyperloom.run` != ''")}
    assert set(parents) == {"night r-ann", "night r-bob"}
    for name, parent in parents.items():
        mine = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        steps = {r.info.run_name: r for r in mine}
        assert set(steps) == {"frames", "student", "report"} and len(mine) == 3, name
        assert {r.info.status for r in [parent, *mine]} == {"FINISHED"}
        points = client.get_metric_history(steps["student"].info.run_id, "loss")
        assert [p.step for p in points] == list(range(100)) and [p.value for p in points] == [
            1 / (i + 1) for i in range(100)
        ]
        pictures = client.list_artifacts(steps["report"].info.run_id, "pictures")
        assert [p.path for p in pictures] == ["pictures/collage.png"]
        local = client.download_artifacts(steps["report"].info.run_id, "pictures/collage.png", str(tmp_path))
        assert Path(local).read_bytes() == roots[name[-3:]].read("evaluate/x/collage.png")
    stored = team.bucket().find(f"{teams.BUCKET}/artifacts")
    assert sum(path.endswith("collage.png") for path in stored) == 2
    assert sorted(v.version for v in client.search_model_versions("name = 'shared'")) == ["1", "2"]
    assert mlflow.pyfunc.load_model("models:/shared@champion").metadata.signature is not None


def test_nobody_gets_in_without_a_password_and_no_password_is_seen(team: teams.Team, storage: Storage) -> None:
    asks_for_a_password(team.url, "ann", teams.USERS["ann"])
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "mlflow" in shown
    secrets = [*teams.SECRETS.values(), *teams.USERS.values(), "secret of the store"]
    assert not [s for s in secrets if s in shown or s in (team.folder / "server.log").read_text()]
    story(storage, "r", "night", range(2))
    text = _finish(track(storage, "r", team.url, "night", "--patience", "0", login={}), expected=75)
    assert "Next: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in text and "Traceback" not in text
    assert pending(storage) == ["r"], "nothing is lost"


@pytest.mark.timeout(300)
def test_a_server_away_and_a_killed_tracker_lose_nothing(team: teams.Team, client: Any, storage: Storage) -> None:
    story(storage, "r", "away", range(40), end=False)
    first = _carry(storage, "r", team, "away", "ann", "--follow")
    _until(lambda: tracked(storage, "r").get("steps"))
    story(storage, "r", "away", range(40, 70), end=False)
    first.kill()  # somewhere inside what it now shows
    first.communicate()
    team.stop()
    second = _carry(storage, "r", team, "away", "ann", "--follow")
    story(storage, "r", "away", range(70, 100), end=False)
    _until(lambda: "does not answer" in tracked(storage, "r").get("problem", ""))
    team.start()
    story(storage, "r", "away", range(0), end=True)
    _finish(second)
    _finish(_carry(storage, "r", team, "away", "ann"))
    runs = _runs(client, "away")
    points = client.get_metric_history(runs["student"].info.run_id, "loss")
    assert [p.step for p in points] == list(range(100))
    assert [p.timestamp for p in points] == sorted(p.timestamp for p in points)
    assert {r.info.status for r in runs.values()} == {"FINISHED"}
    assert not pending(storage) and not tracked(storage, "r")["problem"]


@pytest.mark.timeout(300)
def test_a_run_of_a_dead_driver_is_closed_by_the_next_command(
    team: teams.Team, client: Any, storage: Storage, tmp_path: Path
) -> None:
    gone = {**process.this(), "pid": _dead(), "born": "1"}
    with Events(storage, "r", "driver") as events:
        events.emit("run_started", name="dead", recipe="", params={}, driver=gone)
        events.emit("step_started", "train", stage="train", fingerprint="aa" * 32, params={}, inputs=[])
    tracker = _carry(storage, "r", team, "dead", "ann", "--follow")
    _until(lambda: tracked(storage, "r").get("steps"))
    tracker.kill()  # the machine of both went away
    tracker.communicate()
    assert {r.info.status for r in _runs(client, "dead").values()} == {"RUNNING"} and pending(storage) == ["r"]
    text = "name: dead\nroot: {root}\ntracking: {url}\nmodalities:\n  rgb: {{type: image, size: [8, 8]}}\n"
    text += "steps:\n  frames: {{stage: ingest, source: {{type: files, path: '*.png'}}}}\n"
    loaded = recipe.parse(text.format(root=storage, url=team.url))
    catch_up(storage, loaded, Progress(io.StringIO(), quiet=True))
    runs = _runs(client, "dead")
    assert {r.info.status for r in runs.values()} == {"KILLED"} and pending(storage) == []
    assert f"process {gone['pid']}" in runs["dead r"].data.tags["hyperloom.closed"]
    assert "**killed**" in runs["dead r"].data.tags["mlflow.note.content"]
    assert Position(**tracked(storage, "r")).closed


@pytest.mark.timeout(300)
def test_pictures_wait_for_a_store_of_files_that_is_away(team: teams.Team, client: Any, storage: Storage) -> None:
    team.bucket().rm(teams.BUCKET, recursive=True)
    story(storage, "r", "files", range(3))
    text = _finish(_carry(storage, "r", team, "files", "bob", "--patience", "0"), expected=75)
    assert "cannot do this now" in text and pending(storage) == ["r"]
    team.bucket().mkdir(teams.BUCKET)
    _finish(_carry(storage, "r", team, "files", "bob"))
    report = _runs(client, "files")["report"]
    assert [a.path for a in client.list_artifacts(report.info.run_id, "pictures")] == ["pictures/collage.png"]
    assert "collage" not in report.data.tags.get("hyperloom.refused", "")


def test_serve_says_what_it_lacks(tmp_path: Path) -> None:
    serve = str(HERE / "mlflow" / "serve.sh")
    whole = {
        "PATH": os.environ["PATH"], "PYTHON": "/bin/echo", "MLFLOW_DATABASE": "postgresql://me@host/mlflow",
        "MLFLOW_ARTIFACTS": "s3://b", "MLFLOW_AUTH_ADMIN_PASSWORD": "long enough 1",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "k",
    }  # fmt: skip
    wrong: list[tuple[dict[str, str], str]] = [
        ({"MLFLOW_DATABASE": ""}, "MLFLOW_DATABASE is not set"),
        ({"MLFLOW_DATABASE": "sqlite:///x"}, "MLFLOW_DATABASE is no PostgreSQL"),
        ({"MLFLOW_DATABASE": "postgresql://me:pw@host/x"}, "MLFLOW_DATABASE holds a password"),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD_FILE": str(tmp_path / "no")}, "cannot be read"),
    ]
    for change, expected in wrong:
        ran = subprocess.run([serve], env={**whole, **change}, capture_output=True, text=True)
        assert ran.returncode == 2 and expected in ran.stderr and "Next: " in ran.stderr and "me:pw" not in ran.stderr
    ran = subprocess.run([serve], env=whole, capture_output=True, text=True, check=True)
    assert "--app-name basic-auth" in ran.stdout and "long enough" not in ran.stdout and "postgresql" not in ran.stdout


def test_the_compose_file_gives_serve_all_that_it_asks_for() -> None:
    compose = yaml.safe_load((HERE / "mlflow" / "compose.yaml").read_text())
    given = {name.removesuffix("_FILE") for name in compose["services"]["mlflow"]["environment"]}
    head = (HERE / "mlflow" / "serve.sh").read_text()
    asked_for = next(line for line in head.splitlines() if line.startswith("for name in MLFLOW_DATABASE MLFLOW_ART"))
    assert set(asked_for.removeprefix("for name in ").removesuffix("; do").split()) <= given
    for service in compose["services"].values():
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        named = {str(v).removeprefix("/run/secrets/") for k, v in service["environment"].items() if k.endswith("_FILE")}
        assert named <= set(service["secrets"])


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def _dead() -> int:
    """The number of a process that is no more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.kill(ended.pid, signal.SIGKILL)
    ended.wait()
    return ended.pid
