"""MLflow as it ends up after a run: asked through its own client, at a real server that also dies and comes back."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.root.events import Events, pending, tracked
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking import landing
from hyperloom.pipeline.tracking.mlflow_model import LONGEST, REST, _described
from hyperloom.pipeline.tracking.wording import spaced
from tests.tracking.conftest import SIZE, Server, story, track


def _finish(process: subprocess.Popen[str], expected: int = 0) -> str:
    _, said = process.communicate(timeout=90)
    assert process.returncode == expected, said
    return said


def _runs(client: Any, experiment: str) -> dict[str, Any]:
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id])
    names = [r.info.run_name for r in runs]
    assert len(set(names)) == len(names), f"a run was made twice: {names}"
    return {r.info.run_name: r for r in runs}


def _artifacts(client: Any, run: Any, folder: str) -> set[str]:
    return {a.path for a in client.list_artifacts(run.info.run_id, folder)}


@pytest.mark.timeout(240)
def test_a_run_is_all_there(server: Server, client: Any, storage: Storage) -> None:
    mlflow = pytest.importorskip("mlflow")
    story(storage, "r1", "whole")
    said = _finish(track(storage, "r1", server.url, "whole"))
    runs = _runs(client, "whole")
    assert set(runs) == {"whole r1", "frames", "student", "report"}
    parent, student, report, frames = (runs[n] for n in ("whole r1", "student", "report", "frames"))
    assert {r.info.status for r in runs.values()} == {"FINISHED"}
    assert {runs[n].data.tags["mlflow.parentRunId"] for n in ("student", "report", "frames")} == {parent.info.run_id}

    assert student.data.tags["kind"] == "distill" and student.data.tags["reused"] == "false"
    assert "stage" not in student.data.tags, "it is the kind"
    assert student.data.tags["fingerprint"] == "bb" * 32 and frames.data.tags["reused"] == "true"
    assert student.data.params["optimizer.lr"] == "0.01" and len(student.data.params["note"]) == 500
    history = client.get_metric_history(student.info.run_id, "loss")
    assert [m.step for m in history] == list(range(100)) and history[3].value == 0.25
    assert student.data.metrics["seconds"] == 9.5
    (data,) = student.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("shards", "cd" * 6)
    assert json.loads(data.dataset.source) == {"uri": "s3://***@h/shard/cd"}

    assert _artifacts(client, report, "pictures") == {"pictures/collage.png"}
    assert _artifacts(client, report, "tables") == {"tables/results.json", "tables/results.md"}
    assert parent.data.metrics["student.semantic.miou"] == 0.62
    note = parent.data.tags["mlflow.note.content"]
    assert spaced("| student | 0.62 | 1.5 |") in note and "| frames&emsp;| ingest&emsp;|" in note
    assert "missing.png" in said and "missing.png" in parent.data.tags["hyperloom.refused"]
    recipe = mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/5-recipe.yaml")
    assert recipe == "name: aerial\nroot: s3://***@h/x\n"
    assert ":pw@" not in str([r.to_dictionary() for r in runs.values()])

    shown = ["1-report.html", "2-results.json", "3-picture.png", "5-recipe.yaml", "page"]
    assert [a.path for a in client.list_artifacts(parent.info.run_id)] == shown, "the story, in MLflow's own order"
    assert "2-results.json" in parent.data.tags["mlflow.loggedArtifacts"], "drawn as a table"

    version = client.get_model_version_by_alias("aerial", "champion")
    assert version.tags == {"gate": "passed", "fingerprint": "dd" * 32}
    assert "models:/aerial@champion" in client.get_registered_model("aerial").description
    experiment = client.get_experiment_by_name("whole")
    (logged,) = client.search_logged_models([experiment.experiment_id])
    assert logged.tags["made_by/semantic.color"] == "expert onnx revision 1"
    assert "metrics.`student.semantic.miou`" in experiment.tags[landing.VIEW] and landing.NOTE in experiment.tags
    assert parent.data.tags["kind"] == "run" and student.data.tags["kind"] == "distill" and parent.data.tags["verdict"]
    assert "outcome" not in parent.data.tags, "one sentence, one tag"
    assert version.run_id == report.info.run_id
    model = mlflow.pyfunc.load_model("models:/aerial@champion")
    image = np.zeros((2, *SIZE, 3), np.uint8)
    image[1, ..., 1] = 200
    told = model.predict(image)["semantic"]
    assert told.shape == (2, *SIZE) and not told[0].any() and told[1].all()
    assert model.metadata.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, *SIZE, 3)
    example = model.metadata.load_input_example(mlflow.artifacts.download_artifacts("models:/aerial@champion"))
    assert example.shape == (1, *SIZE, 3)
    with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
        model.predict(np.zeros((2, 5, 5, 3), np.uint8))


@pytest.mark.timeout(240)
def test_the_page_of_a_step_tells_its_story_once(server: Server, client: Any, storage: Storage) -> None:
    story(storage, "r", "told", name_of_model="told", fingerprint="ab" * 32)
    with Events(storage, "r", "a-writer-read-first") as first:
        first.metric("report", {"latency ms": 3.0}, 0)
        first.emit("tag", "report", values={"verdict.0": "student beats color", "learned_from.x@y": "color"})
        first.emit("tag", values={"outcome": "aerial: is the champion"})
    with Events(storage, "r", "release") as more:
        params = {"stage": "release", "model": {"step": "bb" * 32}}
        more.emit("step_started", "gate", stage="release", fingerprint="ee" * 32, params=params)
        more.emit("tag", "gate", values={"gate": "passed", "outcome": "aerial: is the champion", "reasons": "it holds"})
    _finish(track(storage, "r", server.url, "told"))
    runs = _runs(client, "told")
    whole, student, report, gate = (runs[n] for n in ("told r", "student", "report", "gate"))
    parent = f"[told](#/experiments/{whole.info.experiment_id}/runs/{whole.info.run_id})"
    notes = {name: run.data.tags["mlflow.note.content"] for name, run in runs.items()}
    assert notes["student"] == f"**done** in 9.5 s: step `student` (distill, reads shards) of {parent}"
    assert notes["frames"] == f"**reused**: step `frames` (ingest) of {parent}"
    assert "- student beats color" in notes["report"] and spaced("| student | 0.62 | 1.5 |") in notes["report"]
    assert "- student beats color" in notes["told r"] and "- learned from x@y: color" in notes["report"]
    assert (
        "- aerial: is the champion: it holds" in notes["gate"]
        and gate.data.tags["verdict"] == "aerial: is the champion"
    )
    assert gate.data.params == {"model.step": f"student ({'b' * 12})"}, "what was read has a name"
    said = [key for run in (student, report, gate) for key in run.data.tags]
    assert not {"stage", "outcome", "verdict.0"} & set(said) and report.data.tags["learned_from.x.y"] == "color"
    assert "rows" not in student.data.metrics and report.data.metrics["rows"] == 3, "a training has no rows"
    assert whole.info.start_time <= min(run.info.start_time for run in runs.values()), "whichever writer is read first"
    (version,) = client.search_model_versions(f"run_id = '{report.info.run_id}'")
    assert version.description == "# aerial", "a card of a heading alone stays"


def test_a_card_that_is_too_long_for_mlflow_ends_with_a_whole_line_and_where_the_rest_is() -> None:
    text = _described({"description": "# aerial\n" + "| a | row |\n" * 900})
    assert len(text) <= LONGEST and text.endswith(f"| a&emsp;| row |{REST}")
    assert _described({"description": "# aerial\n\nshort"}) == "short"


@pytest.mark.timeout(240)
def test_a_run_that_reuses_its_report_shows_its_picture_and_results(
    server: Server, client: Any, storage: Storage
) -> None:
    rehearsed = "a pilot: student is a rehearsal, NOT JUDGED"
    with Events(storage, "r1", "a-report") as report:
        report.emit("tag", "report", values={"outcome": rehearsed})
        report.emit("step_started", "gate", stage="release", fingerprint="ee" * 32, params={})
        report.emit("tag", "gate", values={"gate": "passed", "outcome": "again: is the champion"})
        report.emit("step_finished", "gate", stage="release", fingerprint="ee" * 32, status="done", seconds=1.0, rows=0)
    story(storage, "r1", "again")
    with Events(storage, "r2", "driver") as driver:
        driver.emit("run_started", name="again", recipe="", params={}, total=2)
        driver.emit("step_reused", "report", stage="evaluate", fingerprint="cc" * 32, rows=3)
        driver.emit("step_reused", "other", stage="evaluate", fingerprint="ff" * 32, rows=3)
        driver.emit("step_reused", "gate", stage="release", fingerprint="ee" * 32, rows=0)
        driver.emit("run_finished", status="finished", seconds=1.0)
    for run in ("r1", "r2"):
        _finish(track(storage, run, server.url, "again"))
    experiment = client.get_experiment_by_name("again").experiment_id
    by_name = {r.info.run_name: r for r in client.search_runs([experiment])}
    first, second = by_name["again r1"], by_name["again r2"]
    assert [a.path for a in client.list_artifacts(second.info.run_id)] == [
        "2-results.json", "3-picture.png", "5-recipe.yaml", "page",
    ]  # fmt: skip
    note = second.data.tags["mlflow.note.content"]
    assert second.data.tags["verdict"] == rehearsed and rehearsed in note, "but not who was the champion then"
    assert spaced("| student | 0.62 | 1.5 |") in note and "get-artifact?path=page/preview.png" in note
    assert first.data.tags["mlflow.note.content"].count("collage.png") == note.count("collage.png")


@pytest.mark.timeout(240)
def test_a_killed_tracker_costs_no_duplicate(server: Server, client: Any, storage: Storage) -> None:
    story(storage, "r2", "killed", range(50), end=False)
    process = track(storage, "r2", server.url, "killed", "--follow")
    deadline = time.monotonic() + 60
    while not tracked(storage, "r2").get("steps") and time.monotonic() < deadline:
        time.sleep(0.1)
    story(storage, "r2", "killed", range(50, 100), end=True)
    time.sleep(0.7)  # somewhere inside what it now shows
    process.kill()
    process.communicate()
    before = tracked(storage, "r2")
    assert before["seen"]
    _finish(track(storage, "r2", server.url, "killed"))
    _finish(track(storage, "r2", server.url, "killed"))
    runs = _runs(client, "killed")
    steps = [m.step for m in client.get_metric_history(runs["student"].info.run_id, "loss")]
    assert steps == list(range(100))
    versions = client.search_model_versions("name = 'aerial'")
    assert len([v for v in versions if v.run_id == runs["report"].info.run_id]) <= 1
    assert {r.info.status for r in runs.values()} == {"FINISHED"}


@pytest.mark.timeout(240)
def test_a_dead_server_delays_nobody_and_gets_everything_later(server: Server, client: Any, storage: Storage) -> None:
    server.stop()
    try:
        process = track(storage, "r3", server.url, "revived", "--follow", "--patience", "1")
        began = time.monotonic()
        with Events(storage, "r3", "driver") as driver:
            driver.emit("run_started", name="revived", recipe="", params={})
            for at in range(1000):
                driver.metric("train", {"loss": 1.0}, at)
            driver.emit("run_finished", status="finished", seconds=1.0)
        assert time.monotonic() - began < 5
        said = _finish(process, expected=75)
        assert f"MLflow at {server.url} does not answer" in said
        assert pending(storage) == ["r3"] and "does not answer" in tracked(storage, "r3")["problem"]
    finally:
        server.start()
    _finish(track(storage, "r3", server.url, "revived"))
    assert pending(storage) == [] and not tracked(storage, "r3")["problem"]
    run = _runs(client, "revived")["train"]
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 1000


@pytest.mark.timeout(240)
def test_a_driver_that_died_leaves_a_killed_run_which_a_later_one_revives(
    server: Server, client: Any, storage: Storage
) -> None:
    story(storage, "r4", "died", range(10), end=False)
    _finish(track(storage, "r4", server.url, "died"))
    runs = _runs(client, "died")
    assert {r.info.status for n, r in runs.items() if n != "frames"} == {"KILLED"}
    assert "**killed**" in runs["died r4"].data.tags["mlflow.note.content"]
    story(storage, "r4", "died", range(10, 20))
    _finish(track(storage, "r4", server.url, "died"))
    assert {r.info.status for r in _runs(client, "died").values()} == {"FINISHED"}


@pytest.mark.timeout(240)
def test_a_roll_back_moves_the_alias(server: Server, client: Any, storage: Storage, tmp_path: Any, capsys: Any) -> None:
    from hyperloom.pipeline import cli
    from hyperloom.stages.champion import Champion, crown

    old, new = "11" * 32, "22" * 32
    for run, fingerprint in (("r1", old), ("r2", new)):
        story(storage, run, "back", name_of_model="rolled", fingerprint=fingerprint)
        _finish(track(storage, run, server.url, "back"))
    assert client.get_model_version_by_alias("rolled", "champion").tags["fingerprint"] == new
    first = Champion(old, {"semantic.miou": 0.5}, "ab" * 32)
    crown(storage, "rolled", first, None)
    crown(storage, "rolled", Champion(new, {"semantic.miou": 0.6}, "ab" * 32), first)
    recipe = tmp_path / "back.yaml"
    recipe.write_text(
        f"name: back\nroot: {storage}\ntracking: {server.url}\nmodalities:\n  rgb: {{type: image, size: [8, 8]}}\n"
        "steps:\n  frames: {stage: ingest, source: {type: files, path: '*.png'}}\n"
    )
    assert cli.main(["release", str(recipe), "--rollback"]) == 0
    assert client.get_model_version_by_alias("rolled", "champion").tags["fingerprint"] == old
    crown(storage, "rolled", Champion(new, {"semantic.miou": 0.6}, "ab" * 32), first)
    client.set_registered_model_alias("rolled", "champion", "1")  # a person's choice, which the root takes over
    for says in (f"{old[:12]} is the champion again, in place of {new[:12]}", "in MLflow and here"):
        assert cli.main(["release", str(recipe), "--adopt"]) == 0
        assert says in capsys.readouterr().out
    left = next(v for v in client.search_model_versions("name = 'rolled'") if v.tags["fingerprint"] == new)
    assert left.tags["rolled_back"] == "true"
    assert not pending(storage)
