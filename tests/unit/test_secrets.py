"""Secrets of a recipe: canaries in every place that may hold one, and a look at every byte that comes out."""

from __future__ import annotations

import base64
import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperloom.pipeline import cli, secrets
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.host import project
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking import process

RECIPE = """\
# token: canary-comment-1
name: leaky
root: ${ROOT_DIR}/root
tracking: "http://canary-user-1:${TRACKING_PASSWORD}@127.0.0.1:9/?key=canary-query-1"
cluster:
  env:
    AWS_SECRET_ACCESS_KEY: canary-literal-1
    OTHER: "${OTHER_SECRET}"
    BLOCK: |
      canary-block-1
      canary-block-2
modalities: {}
steps:
  first:
    stage: tests.leaky:Leaky
    salt: ${SALT}
    number: ${NUMBER}
    peers: ["s3://canary-user-2:canary-password-2@host/a?X-Amz-Signature=canary-query-2", "${SHORT}"]
    url: https://canary-user-3:canary%2Fpassword-3@host/a?sig=canary-query-3&x=1
    path: ${PATH_SECRET:-nowhere}/below
    password: ${PASSWORD}
    max_quarantine: 1
"""
VARIABLES = {
    "TRACKING_PASSWORD": "canary-tracking-1",
    "OTHER_SECRET": "canary-other-1",
    "SALT": "canary salt / 'of' é",
    "NUMBER": "731100",
    "SHORT": "q7x",
    "PATH_SECRET": "/canary-path-1",
    "PASSWORD": 'canary-"password"-4',
}
CANARIES = ("canary", "731100")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe, with its variables set."""
    return planted(tmp_path, monkeypatch)


def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "canary-root"
    root.mkdir()
    for name, value in {**VARIABLES, "ROOT_DIR": str(root)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(opening, "connect", lambda loaded: None)  # in this process
    monkeypatch.setattr(secrets, "_known", {})
    monkeypatch.setattr(secrets, "_pattern", None)
    file = tmp_path / "leaky.yaml"
    file.write_text(RECIPE)
    return file


def leaks(data: bytes) -> list[str]:
    text = data.decode(errors="replace")
    return [text[max(0, i - 60) : i + 30] for c in CANARIES for i in [text.find(c)] if i >= 0]


def all_leaks(root: Path) -> dict[str, list[str]]:
    files = {str(f.relative_to(root)): leaks(f.read_bytes()) for f in root.rglob("*") if f.is_file()}
    assert len(files) > 3, "the test looks at nothing"
    return {name: where for name, where in files.items() if where}


@pytest.mark.parametrize("fails", ["", "worker", "step", "bug"])
def test_no_byte_that_leaves_holds_a_secret(
    path: Path, fails: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path.write_text(path.read_text() + f"    fails: {fails!r}\n")
    commands = (["plan"], ["plan", "--json"], ["run", "--no-mlflow"], ["status"], ["plan"], ["failed", "--traces"])
    for command, *options in (*commands, ["failed"], ["verify"], ["doctor", "--no-ray"]):
        cli.main([command, str(path), *options])
        out, err = capfd.readouterr()
        assert leaks((out + err).encode()) == [], command
        assert command != "plan" or "${" in out or "first" in out
    assert all_leaks(tmp_path / "canary-root") == {}


def test_what_the_environment_gave_is_shown_as_the_recipe_writes_it(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["plan", str(path), "--json"]) == 0
    (step,) = json.loads(capsys.readouterr().out)
    config = step["payload"]["config"]
    assert (config["salt"], config["number"], config["peers"][1]) == ("${SALT}", "${NUMBER}", "${SHORT}")
    assert "password" not in config and "url" not in config, "a credential bears no meaning"
    assert cli.main(["run", str(path), "--no-mlflow"]) == 0
    monkeypatch.setenv("SALT", "canary of another kind")
    capsys.readouterr()
    assert cli.main(["plan", str(path)]) == 0
    assert "a value that the environment gives changed" in capsys.readouterr().out


def test_credentials_bear_no_meaning(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint() -> str:
        (step,) = opening.steps(recipe.load(path), Storage("memory://none"))
        return step.fingerprint

    before = fingerprint()
    path.write_text(path.read_text().replace("canary-user-2:canary-password-2@", "somebody:else@"))
    monkeypatch.setenv("PASSWORD", "another")
    assert fingerprint() == before
    path.write_text(path.read_text().replace("somebody:else@host/a", "somebody:else@host/b"))
    assert fingerprint() != before


def test_the_recipe_is_stored_as_written(path: Path) -> None:
    text = recipe.load(path).text
    assert 'tracking: "http://***@127.0.0.1:9/?***"\n' in text
    assert 'KEY: ***\n    OTHER: "${OTHER_SECRET}"\n    BLOCK: ***\nmod' in text
    assert "url: https://***@host/a?***\n" in text
    assert "salt: ${SALT}\n" in text


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("${PASSWORD}", "canary-in-clear", "password (a secret) stands in the recipe itself. Next: set a variable"),
        (
            "password: ${PASSWORD}",
            "password: [canary-list]",
            "password (a secret): Input should be a valid string (got '***')",
        ),
        ("number: ${NUMBER}", "number: ${SHORT}", "(got '${SHORT}')"),
        ("env:\n", "env:\n    X: [canary-env]\n", "(got '***')"),
    ],
)
def test_an_error_shows_no_secret(path: Path, old: str, new: str, says: str, capsys: Any) -> None:
    path.write_text(path.read_text().replace(old, new))
    assert cli.main(["plan", str(path)]) == Exit.WRONG
    err = capsys.readouterr().err
    assert says in err and leaks(err.encode()) == []


def test_a_mistake_of_the_program_shows_no_secret(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def wrong(loaded: Any, storage: Any) -> None:
        raise KeyError(f"nothing at {storage} for {os.environ['PASSWORD']}")

    monkeypatch.setattr(opening, "steps", wrong)
    assert cli.main(["plan", str(path)]) == Exit.FAILED
    err = capsys.readouterr().err
    assert "Traceback" in err and "a mistake of the program" in err and leaks(err.encode()) == []


def test_a_worker_that_enters_the_project_says_no_secret(path: Path) -> None:
    recipe.load(path)
    data = base64.b64encode(pickle.dumps(project.current())).decode()
    code = f"import base64, pickle; pickle.loads(base64.b64decode('{data}')).enter(); print('it is canary-other-1')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "it is ${OTHER_SECRET}\n", done.stderr


def test_the_name_of_a_file_stays_what_it_is(path: Path, tmp_path: Path) -> None:
    """A variable may hold a word that a name has in it; a view must find the file all the same."""
    secrets.keep("student", "WHICH")
    with events.Events(Storage(str(tmp_path / "canary-root")), "r", "driver") as log:
        log.emit("artifact", "student", path="distill/0/student.onnx", to="student", about="the student")
    (event,) = events.read(log.storage, "r")
    assert (event["step"], event["path"], event["to"]) == ("student", "distill/0/student.onnx", "student")
    assert event["about"] == "the ${WHICH}"


def test_a_tracking_process_shows_no_secret(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def popen(command: list[str], **how: Any) -> Any:
        started.append((command, how))
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(subprocess, "Popen", popen)
    loaded = recipe.load(path)
    process.TrackingProcess(Storage(loaded.recipe.root), "run", loaded.recipe.tracking, loaded.recipe.name)
    ((command, how),) = started
    assert leaks(" ".join(command).encode()) == []
    assert how["env"][process.URI] == loaded.recipe.tracking
    assert set(json.loads(how["env"][process.SECRETS])) >= {"canary-tracking-1", "canary-literal-1"}


@pytest.mark.parametrize(("umask", "widest"), [(0, 0o644), (0o077, 0o600)])
def test_files_follow_the_umask_and_are_never_wider(path: Path, tmp_path: Path, umask: int, widest: int) -> None:
    before = os.umask(umask)
    try:
        assert cli.main(["run", str(path), "--no-mlflow"]) == 0
        modes = {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "canary-root").rglob("*") if f.is_file()}
        assert modes == {widest}
        assert os.umask(umask) == umask, "the command leaves the umask of its process as it was"
    finally:
        os.umask(before)
