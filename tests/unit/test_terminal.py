"""Whatever takes the output of a command, or does not: a run goes on, and a list that is cut says so."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.host import proxies, terminal, whereabouts

FULL = Path("/dev/full")


class Taking(io.StringIO):
    """Standard output that takes `left` characters, and then fails with `error`."""

    def __init__(self, left: int, error: Exception):
        super().__init__()
        self.left, self.error = left, error

    def write(self, text: str) -> int:
        self.left -= len(text)
        if self.left < 0:
            raise self.error
        return super().write(text)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(opening, "connect", lambda _: None)
    path = tmp_path / "toy.yaml"
    path.write_text(
        f"name: toy\nroot: {tmp_path}/root\nmodalities: {{}}\nsteps: {{a: {{stage: 'tests.toy:Numbers'}}}}\n"
    )
    return path


def _perform(monkeypatch: pytest.MonkeyPatch, out: Any, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command whose standard output is `out`."""
    err = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code = cli.main(list(arguments))
    return code, err.getvalue()


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(32, "Broken pipe"),
        OSError(28, "No space left on device"),
        OSError(5, "EIO"),
        ValueError("closed"),
    ],
)
def test_nothing_that_is_printed_fails_a_run(
    error: Exception, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _perform(monkeypatch, Taking(20, error), "run", str(recipe), "--no-mlflow") == (0, "")
    assert cli.main(["run", str(recipe), "--no-mlflow"]) == 0
    assert "steps are fresh" in capsys.readouterr().out


def test_a_list_that_finds_no_room_is_one_sentence(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, err = _perform(monkeypatch, Taking(20, OSError(28, "No space left on device")), "plan", str(recipe))
    assert code == Exit.FAILED and err.count("\n") == 1
    assert "standard output cannot be written: [Errno 28] No space left on device. Next" in err
    assert _perform(monkeypatch, Taking(20, BrokenPipeError(32, "Broken pipe")), "plan", str(recipe)) == (0, "")


def test_what_the_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "M\u00fcll.yaml"
    path.write_text("name: [\n")
    for encoding, shown in (("ascii", b"M\\xfcll"), ("latin-1", b"M\xfcll"), ("utf-8", b"M\xc3\xbcll")):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with terminal.guard():
                print("M\u00fcll of \udce9\U0001f600")
            assert cli.main(["plan", str(path)]) == Exit.WRONG
        assert shown in out.buffer.getvalue() and b" of \\udce9" in out.buffer.getvalue()  # type: ignore[attr-defined]
        assert shown + b".yaml" in err.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("sink", ["<&- >&- 2>&-", "| head -c 5", "> /dev/full"])
def test_real_outputs(sink: str, recipe: Path) -> None:
    """A closed one must not give its number to a file of the run."""
    if "full" in sink and not FULL.exists():
        pytest.skip("no /dev/full here")
    command = f"{sys.executable} -m hyperloom.pipeline plan {recipe} --json {sink}; echo ${{PIPESTATUS[0]}} >&9"
    read, write = os.pipe()
    script = f"exec 9>&{write}; {command}"
    said = subprocess.run(["bash", "-c", script], pass_fds=[write], capture_output=True, text=True, timeout=60)
    os.close(write)
    with open(read) as codes:
        code = int(codes.read())
    assert code == (1 if "full" in sink else 0)
    assert said.stderr.count("\n") == (1 if "full" in sink else 0), said.stderr


def test_a_working_folder_that_is_gone_is_one_line(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert cli.main(["plan", str(recipe)]) == Exit.FAILED
    error = capsys.readouterr().err
    assert error.startswith("hyperloom: the folder that this command was started in is gone. Next: ")


def test_a_working_folder_that_goes_while_a_command_works_is_said_before_torch_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    whereabouts.guard()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(HyperloomError, match="the folder that this command was started in is gone"):
        importlib.import_module("torch")


def test_loopback_is_reached_without_the_proxy() -> None:
    none: dict[str, str] = {"no_proxy": "a"}
    proxies.spare_loopback(none)
    assert none == {"no_proxy": "a"}
    for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        environ = {name: "http://proxy:3128", "NO_PROXY": "example.org,localhost"}
        proxies.spare_loopback(environ)
        assert environ["no_proxy"] == environ["NO_PROXY"] == "example.org,localhost,127.0.0.1,::1"
    everything = {"http_proxy": "x", "no_proxy": "*"}
    proxies.spare_loopback(everything)
    assert everything["no_proxy"] == "*"
