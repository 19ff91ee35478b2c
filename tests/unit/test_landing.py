"""What a person lands on in MLflow: columns, descriptions and links, and where `hyperloom ui` says they are."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking import browser, landing, wording

ABOUT = {
    "name": "small",
    "status": "finished",
    "verdict": "small: is the champion",
    "verdicts": ["student: beats all; keeps .9 of its teacher"],
    "experiment": "7",
    "parent": "p" * 32,
    "models": {"small": "3"},
    "report": "report.html",
    "picture": ["c" * 32, "pictures/collage.png"],
    "tables": {"agreement": "| a |\n| --- |", "results": "| who |\n| --- |\n| student |"},
}
STEPS = {
    "frames": {"stage": "ingest", "status": "reused"},
    "labels": {"stage": "label", "status": "done", "reads": ["frames"], "seconds": 2.0},
    "votes": {"stage": "consensus", "status": "done", "reads": ["frames", "labels"]},
}


def test_cells_of_a_description_are_kept_apart() -> None:
    text = "a | b\n\n| who | kind |  |\n| --- | --- | --- |\n| net | 60 updates of 400 | 0.05 |"
    assert wording.spaced(text).splitlines() == [
        "a | b", "", "| who&emsp;| kind&emsp;|  |", "| --- | --- | --- |",
        "| net&emsp;| 60 updates of 400&emsp;| 0.05 |",
    ]  # fmt: skip


def test_the_table_of_runs_has_verdict_kind_and_figures() -> None:
    state = json.loads(landing.view([f"student.m{i}" for i in range(9)]))
    assert state["selectedColumns"][:3] == ["tags.`verdict`", "tags.`kind`", "metrics.`student.m0`"]
    assert len(state["selectedColumns"]) == 2 + landing.MOST_FIGURES and state["columnOrder"]


def test_a_description_begins_with_what_came_of_the_run() -> None:
    text = landing.description("r1", ABOUT, STEPS, "s3://b/runs")
    places = [
        text.index(part)
        for part in (
            "**finished**: small: is the champion",
            "[small version 3](#/models/small/versions/3)",
            f"[report](#/experiments/7/runs/{'p' * 32}/artifacts/report.html)",
            f"[![collage.png](get-artifact?path=page/preview.png&run_uuid={'p' * 32})]"
            f"(#/experiments/7/runs/{'c' * 32}/artifacts/pictures/collage.png)",
            "| student |",
            "- student: beats all; keeps .9 of its teacher",
            "frames  →  labels  →  votes",
            "| labels | label | frames | done |",
            "**agreement**",
            "`s3://b/runs`",
        )
    ]
    assert places == sorted(places)
    assert landing.description("r1", {"status": "running"}, {}, "x").startswith("**running**")


def test_what_a_description_shows_fits_beside_the_rest() -> None:
    from io import BytesIO

    from PIL import Image

    Image.new("RGB", (2592, 700)).save(wide := BytesIO(), "PNG")
    assert Image.open(BytesIO(landing.preview(wide.getvalue()))).size == (540, 146)
    assert landing.preview(b"no picture") == b"no picture"
    columns = ["who", "kind", "semantic.accuracy", "semantic.miou", "depth.rmse", "depth.mae", "members", "ms"]
    rows = [["teacher", "model", 0.9, 0.5, 1.0, 2.0, 8, 3.25]]
    shown = landing.in_short(columns, rows, ["teacher.semantic.miou", "teacher.depth.mae"]).splitlines()
    assert shown[0] == "| who | kind | semantic.miou | depth.mae |" and shown[-1] == "| teacher | model | 0.5 | 2 |"
    cut = landing.in_short(columns, rows).splitlines()
    assert cut[0] == "| who | kind | semantic.accuracy | semantic.miou | depth.rmse |"
    assert cut[-1] == "and 3 more columns"
    classes = landing.in_short(["who", *"abcdefghij"], [["teacher", *[0.1234] * 10]]).splitlines()
    assert classes[0] == "| who | a | b | c | d | e | f | g |" and classes[-1] == "and 3 more columns"
    long = landing.in_short(["text", "more"], [["n" * 200, 1]]).splitlines()
    assert long[0] == "| text |" and long[-1] == "and 1 more column", "at least one"


def test_the_page_of_a_step_says_what_it_is_and_what_came_of_it() -> None:
    step = {**STEPS["labels"], "sentences": ["color is best"], "tables": ["agreement", "gone"]}
    parts = landing.step_description("labels", ABOUT, step).split("\n\n")
    assert parts == [
        f"**done** in 2 s: step `labels` (label, reads frames) of [small](#/experiments/7/runs/{'p' * 32})",
        "- color is best",
        "**agreement**",
        "| a |\n| --- |",
    ]
    assert landing.step_description("frames", ABOUT, STEPS["frames"]).startswith("**reused**: step `frames` (ingest)")


def test_the_collage_is_the_picture() -> None:
    chosen = landing.first_picture(None, "a", "pictures/depth.png")
    chosen = landing.first_picture(chosen, "b", "pictures/collage.png")
    assert landing.first_picture(chosen, "c", "pictures/other.png") == ["b", "pictures/collage.png"]
    assert landing.first_picture(None, "a", "card.md") is None


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe on a server elsewhere, whose last run was shown there."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    storage, path = Storage(str(tmp_path / "root")), tmp_path / "r.yaml"
    path.write_text(
        f"name: small\nroot: {tmp_path}/root\ntracking: http://mlflow.example.org\nmodalities: {{}}\n"
        "steps: {a: {stage: 'tests.toy:Numbers'}}\n"
    )
    for number, name in enumerate(("small", "other")):
        run = f"20260101-00000{number}-aaaaaa"
        storage.write(f"events/{run}/driver/000000.jsonl", b"")
        position = {"uri": "http://mlflow.example.org", "parent": f"{name}-run", "about": {**ABOUT, "name": name}}
        events.positions(storage, run).append(0, json.dumps(position).encode())
    return path


def test_ui_says_where_the_last_run_is(
    shown: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(browser, "browse", opened.append)
    assert cli.main(["ui", str(shown), "--open"]) == 0
    output = capsys.readouterr().out
    server = "http://mlflow.example.org"
    assert f"last run: {server}/#/experiments/7/runs/small-run?workflowType=" in output, "not another recipe's"
    assert f"all runs: {server}/#/experiments/7/runs?viewStateShareKey=hyperloom&" in output
    assert f"model small: {server}/#/models/small" in output and opened[0].startswith(
        f"{server}/#/experiments/7/runs/small-run?"
    )
    assert cli.main(["ui", str(shown), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["pages"]) == {"last run", "all runs", "model small"}


def test_ui_opens_the_pilot_where_that_ran_last(shown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`run --pilot` ends with `hyperloom ui RECIPE`: what it shows is called otherwise there."""
    storage, run = Storage(str(shown.parent / "root")), "20260101-000009-aaaaaa"
    storage.write(f"events/{run}/driver/000000.jsonl", b"")
    about = {**ABOUT, "name": "small-pilot", "experiment": "8"}
    position = {"uri": "http://mlflow.example.org", "parent": "pilot-run", "about": about}
    events.positions(storage, run).append(0, json.dumps(position).encode())
    assert cli.main(["ui", str(shown)]) == 0
    output = capsys.readouterr().out
    assert "last run: http://mlflow.example.org/#/experiments/8/runs/pilot-run?" in output


def test_a_browser_is_opened_once_the_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = f"__import__('pathlib').Path({str(tmp_path / 'url')!r}).write_text(url)"
    (tmp_path / "webbrowser.py").write_text(f"def open(url):\n    {note}\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [sys.executable, "-c", browser._LATER, "http://x/#/a", "127.0.0.1", port]
        subprocess.run(command, check=True, timeout=30, env={"PYTHONPATH": str(tmp_path), "PATH": ""})
    assert (tmp_path / "url").read_text() == "http://x/#/a"
