"""What people do in MLflow's pages while Hyperloom writes there: nothing that was measured is lost, all is said."""

from __future__ import annotations

import errno
import math
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.root.events import Events, pending, tracked
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking import landing
from hyperloom.pipeline.tracking.health import problem
from hyperloom.pipeline.tracking.tracker import Tracker
from tests.tracking.conftest import Server, story


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The view sets variables for the process that it has to itself."""
    before = {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")}
    yield
    for name in [k for k in os.environ if k.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(before)


def carry(storage: Storage, run: str, uri: str, experiment: str) -> tuple[bool, dict[str, Any]]:
    """Carry all events of a run, as a tracking process does: is all shown, and the position."""
    from hyperloom.pipeline.tracking.mlflow_view import MLflow

    tracker = Tracker(storage, run, uri, lambda: MLflow(storage, run, uri, experiment))
    done = tracker.follow(lambda: False, 0.0, lambda _: None)
    return done, tracked(storage, run)


def start(storage: Storage, run: str, name: str) -> None:
    with Events(storage, run, "driver") as driver:
        driver.emit("run_started", name=name, recipe="", params={})
        driver.emit("step_started", "labels", stage="label", fingerprint="aa" * 32, params={"k": 1}, inputs=[])
        driver.metric("labels", {"first": 1.0}, 1)


def end(storage: Storage, run: str) -> None:
    with Events(storage, run, "driver") as driver:
        driver.metric("labels", {"second": 2.0}, 2)
        driver.emit("step_finished", "labels", stage="label", status="done", seconds=1.0, rows=3)
        driver.emit("run_finished", status="finished", seconds=2.0)


@pytest.mark.parametrize("kind", ["step_started", "step_reused"])
def test_of_another_work_on_a_step_nothing_is_told_of_the_one_before(
    kind: str, server: Server, client: Any, storage: Storage
) -> None:
    """A step that starts once more with the same fingerprint goes on; with another it begins anew."""
    name, first, rows = f"anew-{kind}", "aa" * 32, [{"who": "color", "ms": 1.5}]
    start(storage, "r", name)
    with Events(storage, "r", "driver") as driver:
        sentences = {"verdict.0": "color is best", "verdict.1": "both"}
        driver.emit("tag", "labels", values={"outcome": "old: stays", **sentences})
        driver.emit("table", "labels", name="agreement", rows=rows)
        driver.emit("table", "labels", name="shared", rows=rows)
        driver.emit("step_finished", "labels", stage="label", fingerprint=first, status="done", seconds=7.5)
        driver.emit("step_started", "votes", stage="consensus", fingerprint="cc" * 32, params={}, inputs=[])
        driver.emit("tag", "votes", values={"verdict.0": "both"})
        driver.emit("table", "votes", name="shared", rows=rows)
        driver.emit(kind, "labels", stage="label", fingerprint=first, params={}, inputs=[])
    assert carry(storage, "r", server.url, name)[0]
    note = landing.NOTE
    before = shown(client, name)
    for page in (before["labels"], before[f"{name} r"]):
        assert "color is best" in page.data.tags[note] and "**agreement**" in page.data.tags[note]
    assert "in 7.5 s" in before["labels"].data.tags[note] and before["labels"].data.tags["verdict"] == "old: stays"
    with Events(storage, "r", "driver") as driver:
        driver.emit("run_started", name=name, recipe="", params={})
        driver.emit(kind, "labels", stage="label", fingerprint="bb" * 32, params={}, inputs=[])
    assert carry(storage, "r", server.url, name)[0]
    after = shown(client, name)
    status = {"step_started": "killed", "step_reused": "reused"}[kind]
    whole, labels = after[f"{name} r"], after["labels"]
    assert labels.data.tags[note].partition(" of [")[0] == f"**{status}**: step `labels` (label)"
    assert not labels.data.tags["verdict"] and labels.data.tags["mlflow.loggedArtifacts"] == "[]"
    assert "color is best" not in whole.data.tags[note] and "**agreement**" not in whole.data.tags[note]
    assert ": both\n" in whole.data.tags[note] and "**shared**" in whole.data.tags[note], "another step says so too"


def test_figures_and_parameters_are_those_of_the_later_work(server: Server, client: Any, storage: Storage) -> None:
    """MLflow showed the first figure of the run for ever, and the parameters of what ran before as if they were those
    of what runs."""
    name, figure = "later", "student.semantic.miou"
    for print_, lr, miou, seconds in (("aa", 0.1, 0.5, 9.0), ("aa", 0.1, 0.5, 4.0), ("bb", 0.2, 0.7, 3.0)):
        with Events(storage, "r", "driver") as driver:
            driver.emit("run_started", name=name, recipe="", params={})
            params = {"optimizer": {"lr": lr}}
            about = {"stage": "train", "fingerprint": print_ * 32}
            driver.emit("step_started", "student", **about, params=params, inputs=[])
            driver.metric("", {figure: miou})
            driver.emit("step_finished", "student", **about, status="done", seconds=seconds, rows=0)
        assert carry(storage, "r", server.url, name)[0]
        runs = shown(client, name)
        assert runs[f"{name} r"].data.metrics[figure] == miou
        assert runs["student"].data.metrics["seconds"] == seconds
    note = runs["student"].data.tags[landing.NOTE]
    assert "By now: optimizer.lr: 0.2 (not 0.1)" in note


@pytest.mark.parametrize("first", ["val", "test"])
def test_of_two_reports_the_last_of_the_recipe_is_the_runs(
    first: str, server: Server, client: Any, storage: Storage
) -> None:
    """It was the one that ended first, which is another one in every other run."""
    name, figure, values = f"reports-{first}", "student.semantic.miou", {"val": 0.9, "test": 0.6}
    with Events(storage, "r", "driver") as driver:
        driver.emit("run_started", name=name, recipe="", params={}, steps=["student", "val", "test"])
    for report in (first, *(values.keys() - {first})):
        with Events(storage, "r", "driver") as driver:
            driver.metric("", {figure: values[report]}, by=report)
        assert carry(storage, "r", server.url, name)[0]
    assert shown(client, name)[f"{name} r"].data.metrics[figure] == 0.6


def test_a_run_that_goes_on_with_another_order_follows_that(server: Server, client: Any, storage: Storage) -> None:
    """Who came last was remembered by a place in the recipe as it was: a report that is last now counted nothing."""
    name, figure = "reordered", "student.semantic.miou"
    for order, report, value in (
        (["student", "more", "val", "test"], "test", 0.6),
        (["test", "student", "val"], "val", 0.9),
    ):
        with Events(storage, "r", "driver") as driver:
            driver.emit("run_started", name=name, recipe="", params={}, steps=order)
            driver.metric("", {figure: value}, by=report)
        assert carry(storage, "r", server.url, name)[0]
    assert shown(client, name)[f"{name} r"].data.metrics[figure] == 0.9


def test_reports_that_are_reused_are_shown_in_the_order_of_the_recipe(
    server: Server, client: Any, storage: Storage
) -> None:
    """MLflow kept the figure of the report that had been the last one, and a run with reused reports alone had none."""
    name, figure, values = "reused", "student.semantic.miou", {"val": 0.9, "test": 0.6}

    def go_on(run: str, order: list[str], expected: float, **others: str) -> None:
        with Events(storage, run, "driver") as driver:
            driver.emit("run_started", name=name, recipe="", params={}, steps=order)
            for report in order:
                about = {"stage": "evaluate", "fingerprint": others.get(report, report) * 16, "reads": []}
                driver.emit("step_reused", report, **about, rows=3, figures={figure: values[report]})
        assert carry(storage, run, server.url, name)[0]
        known = client.search_runs(
            [client.get_experiment_by_name(name).experiment_id], f"tags.`hyperloom.run` = '{run}'"
        )
        assert [one.data.metrics[figure] for one in known] == [expected]

    with Events(storage, "r", "driver") as driver:
        driver.emit("run_started", name=name, recipe="", params={}, steps=list(values))
        for report, value in values.items():
            driver.emit("step_started", report, stage="evaluate", fingerprint=report * 16, params={}, inputs=[])
            driver.metric("", {figure: value}, by=report)
    go_on("r", ["test", "val"], 0.9)
    go_on("r", ["val", "test"], 0.6)
    values["test"] = 0.7
    go_on("r", ["val", "test"], 0.7, test="more")
    go_on("another", ["val", "test"], 0.7)


@pytest.mark.parametrize("kind", ["step_reused", "step_started"])
def test_a_report_that_begins_late_does_not_take_the_place_of_the_last_one(
    kind: str, server: Server, client: Any, storage: Storage
) -> None:
    """Once a report was another one, whatever had been said of the whole run since its start was forgotten."""
    name, figure = f"late-{kind}", "student.semantic.miou"
    about = {"stage": "evaluate", "reads": [], "params": {}, "inputs": []}
    for print_, value in (("a", 0.9), ("b", 0.9 if kind == "step_reused" else 0.8)):
        with Events(storage, "r", "driver") as driver:
            driver.emit("run_started", name=name, recipe="", params={}, steps=["test", "val"])
            if kind == "step_reused" and print_ == "b":
                driver.emit(kind, "val", fingerprint="a" * 16, **about, rows=3, figures={figure: value})
            else:
                driver.emit("step_started", "val", fingerprint=print_ * 16, **about)
                driver.metric("", {figure: value}, by="val")
            driver.emit("step_started", "test", fingerprint=print_ * 16, **about)
            driver.metric("", {figure: 0.6}, by="test")
        assert carry(storage, "r", server.url, name)[0]
        assert shown(client, name)[f"{name} r"].data.metrics[figure] == value


def shown(client: Any, experiment: str) -> dict[str, Any]:
    known = client.get_experiment_by_name(experiment)
    runs = client.search_runs([known.experiment_id])
    names = [r.info.run_name for r in runs]
    assert len(set(names)) == len(names), f"a run was made twice: {names}"
    return {r.info.run_name: r for r in runs}


def _begun(storage: Storage, run: str, server: Server, experiment: str) -> dict[str, Any]:
    """A run that is half shown; its position."""
    from hyperloom.pipeline.tracking.mlflow_view import MLflow

    start(storage, run, experiment)
    tracker = Tracker(storage, run, server.url, lambda: MLflow(storage, run, server.url, experiment))
    assert tracker.pump()
    return tracked(storage, run)


@pytest.mark.parametrize("what", ["experiment", "step", "parent", "all at the end", "gone"])
def test_what_was_deleted_is_there_again(what: str, server: Server, client: Any, storage: Storage) -> None:
    name = f"deleted-{what.replace(' ', '-')}"
    position = _begun(storage, "r1", server, name)
    experiment, step, parent = (
        client.get_experiment_by_name(name).experiment_id, position["steps"]["labels"], position["parent"],
    )  # fmt: skip
    if what == "experiment":
        client.delete_experiment(experiment)
    elif what == "gone":
        client.delete_experiment(experiment)
        server.stop()
        with closing(sqlite3.connect(f"{server.folder}/mlflow.db")) as store, store:
            for table in ("metrics", "latest_metrics", "params", "tags"):
                store.execute(f"DELETE FROM {table} WHERE run_uuid IN (?, ?)", [step, parent])
            store.execute("DELETE FROM runs WHERE run_uuid IN (?, ?)", [step, parent])
            store.execute("DELETE FROM experiment_tags WHERE experiment_id = ?", [experiment])
            store.execute("DELETE FROM experiments WHERE experiment_id = ?", [experiment])
        server.start()
    if what == "all at the end":
        end(storage, "r1")
        assert carry(storage, "r1", server.url, name)[0]
        client.delete_run(step)
        with Events(storage, "r1", "driver") as driver:
            driver.emit("run_finished", status="finished", seconds=2.0)
    else:
        for id_ in {"step": [step], "parent": [parent]}.get(what, []):
            client.delete_run(id_)
        end(storage, "r1")
    done, position = carry(storage, "r1", server.url, name)
    runs = shown(client, name)
    assert done and pending(storage) == [] and len(runs) == 2
    assert {r.info.status for r in runs.values()} == {"FINISHED"}
    metrics = runs["labels"].data.metrics
    assert (metrics["first"], metrics["second"], metrics["rows"]) == (1.0, 2.0, 3.0)
    assert position["notes"] and not position["lacks"]
    assert all(("lost" if what == "gone" else "deleted") in note for note in position["notes"])


def test_one_name_that_is_refused_costs_itself_alone(server: Server, client: Any, storage: Storage) -> None:
    start(storage, "r1", "names")
    with Events(storage, "r1", "driver") as driver:
        values = {"agreement/semantic.road_1": 1.0}
        for i, source in enumerate(("road#1", "road%1", "road_1", "\U0001f600", "\U0001f601", "", "../x", "a//b")):
            values[f"agreement/semantic@{source}"] = float(i)
        driver.metric("labels", values | {"nan": math.nan, "inf": math.inf, "x" * 300 + "a": 1.0, "x" * 300 + "b": 2.0})
        driver.emit("metric", "labels", values={"odd": "text", "none": None, "good": 5.0}, at=3)
        driver.emit("tag", "labels", values={"a#": "1", "a%": "2", "long": "v" * 20_000})
    end(storage, "r1")
    done, position = carry(storage, "r1", server.url, "names")
    data = shown(client, "names")["labels"].data
    agreement = sorted(v for k, v in data.metrics.items() if k.startswith("agreement/"))
    assert done and agreement == sorted([*map(float, range(8)), 1.0])
    assert {"nan", "inf"}.isdisjoint(data.metrics) and data.metrics["good"] == 5.0, "no numbers are no figures"
    assert {v for k, v in data.tags.items() if k.startswith("a_")} == {"1", "2"}
    assert [entry.partition(":")[0] for entry in position["lacks"]] == ["the metric odd", "the metric none"]
    refused = shown(client, "names")["names r1"].data.tags["hyperloom.refused"]
    assert "the metric odd" in refused and "the metric none" in refused


def test_a_champion_that_a_person_chose_stays(
    server: Server, client: Any, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUN_ID", "EXPERIMENT_ID", "EXPERIMENT_NAME", "REGISTRY_URI"):
        monkeypatch.setenv(f"MLFLOW_{name}", "left-over")  # of another program, in this shell

    def release(run: str, fingerprint: str) -> list[str]:
        story(storage, run, "chosen", range(1), name_of_model="chosen", fingerprint=fingerprint)
        assert carry(storage, run, server.url, "chosen")[0]
        return tracked(storage, run)["notes"]

    def champion() -> str:
        return str(client.get_model_version_by_alias("chosen", "champion").version)

    assert release("r1", "11" * 32) == release("r2", "22" * 32) == [] and champion() == "2"
    client.set_registered_model_alias("chosen", "champion", "1")
    (note,) = release("r3", "33" * 32)
    assert champion() == "1" and "version 1" in note and "version 3" in note and "--adopt" in note
    client.set_registered_model_alias("chosen", "champion", "3")
    assert release("r4", "44" * 32) == [] and champion() == "4", "they agreed again"
    client.delete_registered_model_alias("chosen", "champion")
    assert release("r5", "55" * 32) == [] and champion() == "5", "an alias of nobody"
    client.delete_model_version("chosen", "4")
    with Events(storage, "r6", "driver") as driver:
        driver.emit("alias", "", name="chosen", alias="champion", fingerprint="44" * 32, left="55" * 32)
        driver.emit("alias", "", name="chosen", alias="champion", fingerprint="99" * 32, left="55" * 32)
    done, position = carry(storage, "r6", server.url, "chosen")
    assert done and champion() == "6" and "made anew as version 6" in position["notes"][0]
    assert client.get_model_version("chosen", "6").tags["fingerprint"] == "44" * 32
    assert ["has no version 999999999999" in entry for entry in position["lacks"]] == [True]
    client.rename_registered_model("chosen", "archive")
    (note,) = release("r7", "77" * 32)
    assert "was renamed in MLflow to 'archive'" in note and champion() == "1"


def test_files_that_have_gone_and_states_that_were_changed(server: Server, client: Any, storage: Storage) -> None:
    position = _begun(storage, "r1", server, "files")
    client.set_terminated(position["steps"]["labels"], "FAILED")
    client.set_tag(position["steps"]["labels"], "stage", "by hand")
    client.rename_experiment(client.get_experiment_by_name("files").experiment_id, "renamed")
    shutil.rmtree(f"{server.folder}/mlartifacts", ignore_errors=True)
    with Events(storage, "r1", "driver") as driver:
        driver.emit("table", "labels", name="results of 100 % #1/../x", rows=[{"a": 1}])
    end(storage, "r1")
    done, position = carry(storage, "r1", server.url, "files")
    runs = {r.info.run_name: r for r in client.search_runs([client.get_experiment_by_name("renamed").experiment_id])}
    assert done and {r.info.status for r in runs.values()} == {"FINISHED"} and not position["lacks"]
    assert len(client.list_artifacts(runs["labels"].info.run_id, "tables")) == 2


def _copy(server: Server, storage: Storage) -> Path:
    """The store of a root of its own: a copy of the server's, whose tables are made already."""
    path = Path(storage.base, "mlflow.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(f"{server.folder}/mlflow.db")) as there, closing(sqlite3.connect(path)) as here:
        there.backup(here)
    return path


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            "schema",
            "has the tables of another version of MLflow. Next: keep a copy, then `mlflow db upgrade sqlite:///",
        ),
        ("cut", "is damaged ("),
        ("text", "is damaged (file is not a database). Next: move that file away"),
        ("dropped", "has the tables of another version of MLflow"),
    ],
)
def test_a_store_in_trouble_is_named(spoil: str, says: str, server: Server, storage: Storage) -> None:
    path = _copy(server, storage)
    if spoil == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif spoil == "text":
        path.write_text("this was a database " * 1000)
    else:
        with closing(sqlite3.connect(path)) as store, store:
            if spoil == "schema":
                store.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
            else:
                store.execute("DROP TABLE runs")
    start(storage, "r1", "trouble")
    end(storage, "r1")
    done, position = carry(storage, "r1", f"sqlite:///{path}", "trouble")
    assert not done and says in position["problem"] and str(path) in position["problem"]
    assert pending(storage) == ["r1"] and problem(f"sqlite:///{path}") == position["problem"], "doctor says the same"


def test_a_store_that_was_moved_away_is_filled_anew(server: Server, storage: Storage) -> None:
    """All runs of the root are shown in the new one, also those that were shown to their end in the old."""
    path = _copy(server, storage)
    for run in ("r1", "r2"):
        start(storage, run, "moved")
        end(storage, run)
        assert carry(storage, run, f"sqlite:///{path}", "moved")[0]
    with closing(sqlite3.connect(path)) as store, store:  # as if it were a new file: MLflow takes seconds to make one
        store.execute("UPDATE experiments SET creation_time = creation_time + 1 WHERE experiment_id = 0")
        store.execute("DELETE FROM latest_metrics")
        store.execute("DELETE FROM metrics")
    start(storage, "r3", "moved")
    end(storage, "r3")
    assert pending(storage) == ["r3"]
    assert carry(storage, "r3", f"sqlite:///{path}", "moved")[0]
    assert pending(storage) == ["r1", "r2"]
    assert carry(storage, "r1", f"sqlite:///{path}", "moved")[0]
    with closing(sqlite3.connect(path)) as store:
        assert store.execute("SELECT COUNT(*) FROM metrics WHERE key = 'first'").fetchone() == (2,)


@pytest.mark.parametrize(
    ("error", "says", "patience"),
    [
        (sqlite3.OperationalError("database is locked"), "is locked by another program", 6.0),
        (sqlite3.OperationalError("database or disk is full"), "has no room: ", 1.0),
        (sqlite3.OperationalError("attempt to write a readonly database"), "cannot be written: ", 0),
        (OSError(errno.ENOSPC, "No space left on device"), "has no room: ", 1.0),
        (OSError(errno.EROFS, "Read-only file system"), "cannot be written: ", 0),
        (OSError(errno.ENOENT, "of a file of the root"), None, 0),
    ],
)
def test_what_stops_a_store_is_waited_for_and_named(error: Exception, says: str | None, patience: float) -> None:
    pytest.importorskip("mlflow")
    from hyperloom.pipeline.tracking.mlflow_server import Server
    from hyperloom.pipeline.tracking.tracker import Unavailable

    server = Server.__new__(Server)
    server.where, server.client = "sqlite:///x", None

    def call() -> None:
        raise error

    with pytest.raises(Unavailable if says else OSError) as raised:
        server.call(call)
    if says:
        assert f"MLflow's store sqlite:///x {says}" in str(raised.value) and raised.value.patience == patience
