"""The tracker: events reach a view once, whatever dies in between, and wait for a server that is away."""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.host import process
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.root import events as log
from hyperloom.pipeline.root.events import Events, pending, tracked
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking import process as tracking_process
from hyperloom.pipeline.tracking import replay
from hyperloom.pipeline.tracking import tracker as tracking
from hyperloom.pipeline.tracking.store import artifacts, serve, store_uri
from hyperloom.pipeline.tracking.tracker import Forgotten, Position, Tracker, Unavailable
from hyperloom.pipeline.tracking.wording import allowed, apart, cut, cut_lines, flat, markdown, state


class Notebook:
    """A view that keeps what it was shown, and answers only while `open`."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.open = True
        self.abandoned = 0

    def take(self, batch: list[dict[str, Any]], position: Position) -> None:
        if not self.open:
            raise Unavailable("nobody answers")
        position.parent = "parent"
        self.taken += [e["at"] for e in batch if e["kind"] == "metric"]

    def abandon(self, position: Position) -> None:
        self.abandoned += 1


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(tracking, "LONGEST_PAUSE", 0.02)


def _write(storage: Storage, at: range, end: bool = False) -> None:
    with Events(storage, "run", "driver") as events:
        for i in at:
            events.metric("train", {"loss": 1.0}, i)
        if end:
            events.emit("run_finished", status="finished", seconds=1.0)


def _tracker(storage: Storage, view: Notebook) -> Tracker:
    return Tracker(storage, "run", "sqlite:///x", lambda: view)


def test_a_second_tracker_goes_on_where_the_first_stopped(storage: Storage) -> None:
    view = Notebook()
    _write(storage, range(3))
    assert _tracker(storage, view).pump() == 3
    _write(storage, range(3, 5), end=True)
    assert _tracker(storage, view).follow(lambda: True, 0, print)
    assert view.taken == [0, 1, 2, 3, 4]
    assert not pending(storage)


def test_another_store_gets_everything_from_the_start(storage: Storage) -> None:
    view = Notebook()
    _write(storage, range(3))
    _tracker(storage, view).pump()
    Tracker(storage, "run", "http://elsewhere", lambda: view).pump()
    assert view.taken == [0, 1, 2, 0, 1, 2]


def test_events_wait_for_a_server_that_is_away_and_nothing_counts_as_shown(storage: Storage) -> None:
    view, said = Notebook(), []
    view.open = False
    _write(storage, range(3), end=True)
    assert not _tracker(storage, view).follow(lambda: True, 0.05, said.append)
    assert said == ["nobody answers"]
    assert tracked(storage, "run")["problem"] == "nobody answers"
    assert pending(storage) == ["run"]
    view.open = True
    assert _tracker(storage, view).follow(lambda: False, 0, print)
    assert view.taken == [0, 1, 2]
    assert not pending(storage) and not tracked(storage, "run")["problem"]


def test_while_the_driver_lives_it_never_gives_up(storage: Storage) -> None:
    view, polls = Notebook(), iter(range(100))
    view.open = False
    _write(storage, range(2))

    def alive() -> bool:
        view.open = next(polls) >= 8
        return not view.open or not view.taken

    assert _tracker(storage, view).follow(alive, 0, lambda _: None)
    assert view.taken == [0, 1]


def test_what_a_dead_driver_left_is_shown_and_the_run_abandoned(storage: Storage) -> None:
    view = Notebook()
    _write(storage, range(2))
    assert _tracker(storage, view).follow(lambda: False, 0, print)
    assert view.taken == [0, 1] and view.abandoned == 1
    _write(storage, range(2, 3), end=True)
    assert _tracker(storage, view).follow(lambda: False, 0, print)
    assert view.abandoned == 1


def test_of_two_trackers_the_younger_wins(storage: Storage) -> None:
    old, young = Notebook(), Notebook()
    first = _tracker(storage, old)
    second = _tracker(storage, young)
    _write(storage, range(2), end=True)
    assert first.follow(lambda: True, 0, print)
    assert old.taken == []
    assert second.follow(lambda: True, 0, print)
    assert young.taken == [0, 1]


@pytest.mark.parametrize("asleep", ["before it shows", "while it shows"])
def test_a_tracker_that_slept_while_another_took_over_changes_nothing(storage: Storage, asleep: str) -> None:
    """As one that was stopped (SIGSTOP) and goes on when the run has been shown to its end by another."""
    young = Notebook()

    class Sleeper(Notebook):
        def take(self, batch: list[dict[str, Any]], position: Position) -> None:
            if asleep == "while it shows":
                meanwhile()
            super().take(batch, position)

    def meanwhile() -> None:
        _write(storage, range(2, 4), end=True)
        assert _tracker(storage, young).follow(lambda: True, 0, print)

    old = Sleeper()
    first = _tracker(storage, old)
    _write(storage, range(2))
    if asleep == "before it shows":
        meanwhile()
    assert first.follow(lambda: True, 0, print)
    assert young.taken == [0, 1, 2, 3] and old.taken == ([0, 1] if asleep == "while it shows" else [])
    assert pending(storage) == [] and tracked(storage, "run")["finished"]
    third = Notebook()
    assert _tracker(storage, third).follow(lambda: True, 0, print) and third.taken == []


def test_a_run_in_a_living_trackers_hands_is_not_pending(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    _tracker(storage, Notebook())
    _write(storage, range(2))
    assert pending(storage) == []
    later = time.time() + log.OWNED_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert pending(storage) == ["run"]


class Mended(Notebook):
    """A view that loses what it was shown, `times` times, before its next batch."""

    store = "one"

    def __init__(self, times: int):
        super().__init__()
        self.times = times

    def take(self, batch: list[dict[str, Any]], position: Position) -> None:
        position.note("a person did something")
        if self.times:
            self.times -= 1
            self.taken.clear()
            raise Forgotten("the view lost it")
        super().take(batch, position)


def test_what_a_view_has_lost_is_shown_again_from_the_start(storage: Storage) -> None:
    _write(storage, range(3))
    view = Mended(0)
    _tracker(storage, view).follow(lambda: False, 0.0, print)
    _write(storage, range(3, 5), end=True)
    view.times = 2
    assert _tracker(storage, view).follow(lambda: False, 0.0, print)
    assert view.taken == list(range(5)) and pending(storage) == []
    assert tracked(storage, "run")["notes"] == ["a person did something", "the view lost it"]
    view.times = 99
    _write(storage, range(5, 6), end=True)
    assert not _tracker(storage, view).follow(lambda: False, 60.0, print), "not for ever"
    assert "the view lost it" in tracked(storage, "run")["problem"]


def test_another_store_at_the_same_place_is_shown_all_runs(storage: Storage) -> None:
    _write(storage, range(3), end=True)
    assert _tracker(storage, Mended(0)).follow(lambda: False, 0.0, print)
    with Events(storage, "later", "driver") as events:
        events.emit("run_finished", status="finished", seconds=1.0)
    assert pending(storage) == ["later"]
    other = Mended(0)
    other.store = "two"
    assert Tracker(storage, "later", "sqlite:///x", lambda: other).follow(lambda: False, 0.0, print)
    assert pending(storage) == ["run"]


def test_what_only_a_person_can_mend_is_not_waited_for(storage: Storage) -> None:
    class Damaged(Notebook):
        def take(self, batch: list[dict[str, Any]], position: Position) -> None:
            raise Unavailable("the store is damaged", 0)

    _write(storage, range(3), end=True)
    began = time.monotonic()
    assert not _tracker(storage, Damaged()).follow(lambda: True, 60.0, print)
    assert time.monotonic() - began < 5 and pending(storage) == ["run"]


def test_each_run_is_caught_up_with_under_its_own_recipe(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for run, name, uri in (("r1", "mine", "a"), ("r2", "other", "a"), ("r3", "other", "b"), ("r4", "", "a")):
        with Events(storage, run, "driver") as events:
            events.emit("run_started", name=name) if name else events.emit("alias")
        log.positions(storage, run).append(0, Position(uri).text())
    shown: list[tuple[str, str]] = []

    class Process:
        whole = True

        def __init__(self, _: Storage, run: str, uri: str, experiment: str, patience: float, follow: bool):
            shown.append((run, experiment))

        def finish(self, _: Any) -> str:
            return "MLflow lacks a thing" if shown[-1][0] == "r2" else ""

    monkeypatch.setattr(replay, "TrackingProcess", Process)
    out = io.StringIO()
    loaded = SimpleNamespace(recipe=SimpleNamespace(name="mine", tracking="a"))
    replay.catch_up(storage, loaded, Progress(out))  # type: ignore[arg-type]
    assert shown == [("r1", "mine"), ("r2", "other"), ("r4", "mine")]
    assert out.getvalue().splitlines() == ["3 earlier runs not yet in MLflow: replaying", "MLflow lacks a thing"]


def test_a_torn_position_starts_again(storage: Storage) -> None:
    storage.write(f"{log.positions(storage, 'run').folder}/00000003.json", b'{"uri": "sq')
    _write(storage, range(2), end=True)
    view = Notebook()
    assert _tracker(storage, view).follow(lambda: True, 0, print)
    assert view.taken == [0, 1]


GONE = {**process.this(), "born": "0"}
"""A process that is proved to be gone: somebody else has its number now."""


def test_a_run_whose_driver_is_dead_is_closed_by_whoever_comes_next(storage: Storage) -> None:
    with Events(storage, "run", "driver") as events:
        events.emit("run_started", name="night", driver=GONE)
        events.emit("step_started", "frames")
    view = Notebook()
    _tracker(storage, view).pump()  # and is killed together with the driver
    assert pending(storage) == [], "its tracker lives still"
    position = Position(**tracked(storage, "run"))
    position.tracker = GONE
    places = log.positions(storage, "run")
    places.replace(places.last(), position.text())
    assert pending(storage) == ["run"]
    assert _tracker(storage, view).follow(lambda: False, 0, print)
    assert view.abandoned == 1 and pending(storage) == []
    assert _tracker(storage, view).follow(lambda: False, 0, print)
    assert view.abandoned == 1, "once is enough"
    with Events(storage, "run", "driver") as events:
        events.emit("run_started", name="night", driver=process.this())
    assert _tracker(storage, view).follow(lambda: False, 0, print)
    assert view.abandoned == 2, "it began again, and died again"


def test_the_driver_of_another_machine_is_taken_for_dead_when_its_tracker_is_silent(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Events(storage, "run", "driver") as events:
        events.emit("run_started", name="night", driver={**process.this(), "boot": "another"})
    _tracker(storage, Notebook()).pump()
    now = time.time()
    for silent, expected in ((log.OWNED_SECONDS + 1, []), (log.SILENT_SECONDS + 1, ["run"])):
        monkeypatch.setattr(time, "time", lambda silent=silent: now + silent)
        assert pending(storage) == expected


def test_a_tracker_that_is_killed_is_started_again(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    child = (
        "import os, signal, sys; count = len(os.listdir('.')); open(f'{count}', 'w')\n"
        "os.kill(os.getpid(), signal.SIGKILL) if count < 2 else sys.exit(75)"
    )
    monkeypatch.setattr(tracking_process.TrackingProcess, "_start", lambda self: _child(storage, child))
    unshown = tracking_process.TrackingProcess(storage, "run", "http://nowhere", "x").finish(print, 30)
    assert len(storage.names("trials")) == 3 and "does not answer" in unshown


def _child(storage: Storage, code: str) -> Any:
    storage.write("trials/.keep", b"")
    return subprocess.Popen([sys.executable, "-c", code], cwd=storage.path("trials"))


# -- words -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://me:pw@host/bucket", "s3://***@host/bucket"),
        ("https://token@host:5000/x", "https://***@host:5000/x"),
        ("api_key: abc123", "api_key: ***"),
        ("secret_access_key: ${NAME} AWS_ACCESS_KEY_ID=abc", "secret_access_key: ${NAME} AWS_ACCESS_KEY_ID=***"),
        ("https://host/a?sig=abc&b=1 then", "https://host/a?*** then"),
        ("s3://bucket/im?.png and max_tokens: 3, tokenizer: {type: x}",) * 2,
        ('{"password": "abc", "user": "me"}', '{"password": "***", "user": "me"}'),
        ("MLFLOW_TRACKING_TOKEN=xyz", "MLFLOW_TRACKING_TOKEN=***"),
        ("in: rgb@camera, tokens_per_step 3", "in: rgb@camera, tokens_per_step 3"),
        ("root: s3://bucket/a@b", "root: s3://bucket/a@b"),
    ],
)
def test_secrets_are_blotted_out_and_nothing_else(text: str, clean: str) -> None:
    assert blot(text) == clean


def test_names_and_parameters_fit_mlflow() -> None:
    assert allowed("semantic@color/miou") == "semantic.color/miou" and allowed("val.semantic") == "val.semantic"
    assert flat({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": "x"}) == {"a.b": "1", "a.c": "{}", "d": "[1, 2]", "e": "x"}
    assert markdown(["who", "x"], [["a|b", None], ["c", 0.123456]]).splitlines()[2:] == ["| a/b |  |", "| c | 0.1235 |"]
    assert [state({"status": s}) for s in ("done", "failed", "cancelled")] == ["FINISHED", "FAILED", "KILLED"]


def test_a_metric_keeps_its_name_from_batch_to_batch(storage: Storage) -> None:
    """Of two keys that would meet the first has the plain name; sorted, they would have changed places."""
    position = Position("uri", high={"train": {"loss@b": 1, "loss.b": 1}})
    names = apart(position.high["train"])
    assert names["loss@b"] == "loss.b" and apart(position.copy().high["train"]) == names
    kept = Position(**json.loads(position.text()))
    assert apart(kept.high["train"]) == names


def test_what_is_too_long_for_mlflow_ends_with_a_whole_number() -> None:
    assert cut("miou 0.62", 9) == "miou 0.62" and cut("a miou 0.62", 10) == "a miou…" and cut("x" * 20, 5) == "xxxx…"
    lines = "| a | 0.123 |\n| b | 0.456 |\n" * 9
    short = cut_lines(lines, 60, "\nrest")
    assert short == "| a | 0.123 |\n| b | 0.456 |\n| a | 0.123 |\nrest" and cut_lines("a", 60, "rest") == "a"
    assert markdown(["s"], [[10_812.4], [123_456_789.0], [0.00001234], [9999.4]]).splitlines()[2:] == [
        "| 10812 |",
        "| 123456789 |",
        "| 1.234e-05 |",
        "| 9999 |",
    ]


def test_names_that_mlflow_refuses_stay_apart() -> None:
    """A key for each pair that anybody could take for the other, and a name of MLflow's for each."""
    keys = ["semantic@road#1", "semantic@road%1", "semantic@road_1", "semantic@road.1", "semantic.road@1", "a", "A"]
    keys += ["\U0001f600", "\U0001f601", "x" * 250 + "a", "x" * 250 + "b", "x" * 241, "a//b", "a/b", "/a", "a/", "./a"]
    keys += [
        "",
        ".",
        "..",
        "...",
        "/",
        " ",
        "M\u00fcll",
        "Mu\u0308ll",
        "a\nb",
        "a:b",
        "a@b@c",
        "a.b@c",
        "a@b.c",
        "\udce9",
    ]
    keys += ["a/../b", "semantic.road_1"]
    keys += [allowed(key) for key in keys if allowed(key) not in keys]
    names = apart(keys)
    assert len(set(names.values())) == len(set(keys)), sorted(names.values())
    for name in names.values():
        assert re.fullmatch(r"[\w.\- /]{1,250}", name) and posixpath.normpath(name) == name, name
    assert names["semantic@road_1"] == "semantic.road_1" == allowed("semantic@road_1")
    assert apart(reversed(keys)) != names and apart(keys) == names, "the first one has the plain name"


def test_the_store_of_a_root(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert store_uri(storage, None, {}) == f"sqlite:///{tmp_path}/mlflow.db"
    assert store_uri(storage, None, {"MLFLOW_TRACKING_URI": "http://a"}) == "http://a"
    assert store_uri(storage, "http://b", {"MLFLOW_TRACKING_URI": "http://a"}) == "http://b"
    assert store_uri(Storage("memory://x"), None, {}) == ""
    assert artifacts(f"sqlite:///{tmp_path}/mlflow.db", "aerial") == f"{tmp_path}/mlartifacts/aerial"
    assert artifacts("http://a") is None
    with pytest.raises(Exception, match="is a server already"):
        serve("http://a")


@pytest.mark.parametrize(
    ("options", "password", "asks"),
    [([], "", False), (["--host", "localhost"], "", False), (["--host", "0.0.0.0"], "a-long-password", True),
     (["--host", "0.0.0.0", "--no-password"], "", False), (["--host", "::"], "", None)],
)  # fmt: skip
def test_a_server_that_others_reach_asks_for_a_password(
    options: list[str], password: str, asks: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    became: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *how: became.append(how))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", password)
    path = tmp_path / "r.yaml"
    path.write_text(f"name: r\nroot: {tmp_path}\nmodalities: {{}}\nsteps: {{a: {{stage: 'tests.toy:Numbers'}}}}\n")
    code = cli.main(["ui", str(path), *options])
    if asks is None:
        assert code == Exit.WRONG and not became and "set MLFLOW_AUTH_ADMIN_PASSWORD (" in capsys.readouterr().err
        return
    ((_, command, environment),) = became
    assert code == 0 and ("basic-auth" in command) == asks
    assert str(tmp_path) not in " ".join(command) and environment["MLFLOW_BACKEND_STORE_URI"].endswith("/mlflow.db")
    if asks:
        assert f"{tmp_path}/mlflow-auth.db" in Path(environment["MLFLOW_AUTH_CONFIG_PATH"]).read_text()
        assert len(environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]) == 64
