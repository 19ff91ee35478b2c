"""Roots that refuse: a full disk and a read-only one, for real (tmpfs mounts; skips without the right to mount)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.root.storage import Storage

RECIPE = """\
name: toy
root: {root}
modalities: {{}}
steps:
  a: {{stage: "tests.toy:Numbers", units_: 40, each: 3000}}
  e: {{stage: "tests.toy:Sum", data: [a]}}
"""


def mount(folder: Path, options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount(folder, "size=400k")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def run(recipe: Path, monkeypatch) -> int:
    """`hyperloom run`, with units in this process instead of on Ray."""
    monkeypatch.setattr(opening, "connect", lambda loaded: None)
    return cli.main(["run", str(recipe), "--no-mlflow"])


def test_a_full_disk_is_one_clear_message_and_a_rerun_repairs(small: Path, tmp_path, monkeypatch, capsys) -> None:
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(RECIPE.format(root=small / "root"))
    assert run(recipe, monkeypatch) != 0
    told = "".join(capsys.readouterr())
    assert "the disk is full: free some space, then run the same command again" in told
    assert "Traceback" not in told
    storage = Storage(str(small / "root"))
    units = [p for p in storage.walk("") if "/units/" in p]
    assert 0 < len(units) < 40
    assert not [p for p in storage.walk("") if p.endswith("manifest.json")]
    links = [storage.read_json(p) for p in storage.walk("claims")]
    assert links and not [c for c in links if c.get("units", not c.get("released"))], "whoever comes next need not wait"
    subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
    assert run(recipe, monkeypatch) == 0
    calm = tmp_path / "calm"
    recipe.write_text(RECIPE.format(root=calm))
    assert run(recipe, monkeypatch) == 0
    assert kept(storage) == kept(Storage(str(calm)))


def test_a_read_only_root_is_one_clear_message(small: Path, tmp_path, monkeypatch, capsys) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(RECIPE.format(root=small / "root"))
    assert run(recipe, monkeypatch) == Exit.WRONG
    told = "".join(capsys.readouterr())
    assert "read-only: give another root with --root" in told
    assert "Traceback" not in told
    assert cli.main(["plan", str(recipe)]) == 0  # looking is allowed


def kept(storage: Storage) -> dict[str, bytes]:
    wanted = (p for p in storage.walk("") if "/data/" in p or "/units/" in p or p.endswith("manifest.json"))
    return {p: storage.read(p) for p in wanted}


def test_a_root_that_nothing_ran_in_is_named_and_so_is_the_one_beside_the_recipe(tmp_path, monkeypatch, capsys) -> None:
    """A relative root counts from the working folder, so from another folder it is another root."""
    recipe, elsewhere = tmp_path / "my recipes" / "toy.yaml", tmp_path / "elsewhere"
    recipe.parent.mkdir()
    elsewhere.mkdir()
    recipe.write_text(RECIPE.format(root="./runs"))
    monkeypatch.chdir(recipe.parent)
    assert cli.main(["status", "toy.yaml"]) == 0
    assert f"note: nothing has run in the root {recipe.parent}/runs, as" in capsys.readouterr().err
    assert run(Path("toy.yaml"), monkeypatch) == 0
    assert cli.main(["status", "toy.yaml"]) == 0
    assert "note:" not in capsys.readouterr().err, "neither a run nor what is there needs a word"
    monkeypatch.chdir(elsewhere)
    for command in ("status", "report", "failed", "plan"):
        assert cli.main([command, str(recipe)]) == 0
        err = capsys.readouterr().err
        assert err.count("note:") == 1 and f"nothing has run in the root {elsewhere}/runs, as './runs'" in err
        assert err.endswith(f"Next: cd '{recipe.parent}', or add --root '{recipe.parent}/runs'\n")
    assert cli.main(["status", str(recipe), "--root", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().err == f"note: nothing has run in the root {tmp_path}/none\n"
