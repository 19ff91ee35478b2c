"""Papers: every recipe runs to its verdict when it is cut small; records know when they are stale."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

import hyperloom.stages
import hyperloom.stages.train.loop  # noqa: F401
from hyperloom.pipeline import cli, plugins
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.host import project
from hyperloom.pipeline.planning.plan import identities
from hyperloom.pipeline.result import Result
from hyperloom.pipeline.root import filelist
from hyperloom.pipeline.running import runner
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.papers import cut, moved, record, shelf, trial
from hyperloom.stages.papers.record import PaperRecord
from hyperloom.stages.results import Judged, Trained
from hyperloom.stages.train.stage import Train
from hyperloom.stages.verdict.conclusion import Concluded
from hyperloom.stages.verdict.stage import VerdictStage
from tests.real.test_street_experts import SHARED

pytest.importorskip("torchjd")
HERE = Path(__file__).parents[2]
RECIPES = sorted(p for p in (HERE / "recipes/papers").rglob("*.yaml") if "\npaper:" in p.read_text())
MOST = {"units": 400, "samples": 700, "updates": 50, "learned samples": 100, "weights": 400_000}
"""What one recipe may ask of a machine when it is cut small: units and samples of all steps; of all members of its
trainings their updates, the samples in these, and their weights. Counted and not timed: a machine may be slow today."""
LONG = ("001-phg-mae-streets", "001-phg-mae-students", "001-phg-mae-alive")
TINY = """\
name: p901-tiny
root: ./runs
paper: {id: 901, cite: "Nobody, Nowhere 2026", claim: who looks is better than who guesses, departs: [no paper at all]}
modalities:
  seen:  {type: vector, length: 2}
  digit: {type: category, classes: ["0", "1", "2"]}
steps:
  samples:
    {stage: ingest, group: block, source: {type: python, call: "tiny_paper:samples", out: [seen@eye, digit@truth]}}
  labels:
    stage: label
    data: samples
    experts:
      - {type: python, call: "tiny_paper:looks", per: sample, in: seen@eye, out: digit@looks}
      - {type: python, call: "tiny_guess:guesses", per: sample, in: seen@eye, out: digit@guesses}
  shards: {stage: shard, data: [samples, labels], split: {by: block, pin: {test: ["b*"]}}}
  report: {stage: evaluate, data: shards, models: {}, truth: {digit: digit@truth}}
  verdict: {stage: verdict, report: report, claims: {looking: {ours: looks, theirs: guesses, figure: digit.accuracy}}}
"""
CODE = """\
def samples():
    for i in range(120):
        values = {"seen@eye": [float(i % 3), 0.0], "digit@truth": str(i % 3)}
        yield f"s{i:03d}", f"{'a' if i < 8 else 'b'}{i // 8}", values

def looks(seen):
    return str(int(seen[0]))
"""
GUESS = "def guesses(seen):\n    return '1'\n"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_runs_to_its_verdict_when_it_is_cut_small(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody in it is judged on what taught him: the reports, which compare samples through every step, say so."""
    if path.stem in LONG and not os.environ.get("HYPERLOOM_LONG"):
        pytest.skip("networks label its frames, which takes minutes; HYPERLOOM_LONG=1 runs it")
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("HYPERLOOM_SHARED", str(SHARED))
    loaded = cut.cut(path, str(tmp_path / "root"))
    try:
        outcome = runner.run(loaded, None, None, None, track=False)
    except SourceError as error:
        pytest.skip(f"its data is not here: {error}")
    assert outcome.ok, outcome.problems
    results: dict[str, Result] = {}
    work: Counter[str] = Counter()
    for step in _planned(loaded):
        work += _work(step)
        kind = Judged if isinstance(step.stage, Evaluate) else Concluded if step.stage.stage == "verdict" else None
        if kind is not None:
            results[step.name] = kind.from_manifest(step.manifest)
    assert any(isinstance(r, Concluded) for r in results.values())
    for judged in results.values():
        assert not isinstance(judged, Judged) or not [r for r in judged.remarks if "LEAK" in r], judged.remarks
    large = {what: many for what, many in work.items() if many > MOST[what]}
    assert not large or path.stem in LONG, f"{large}, not {MOST}: cut its numbers, or make it a smaller test"


def test_names_that_look_like_numbers_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive called 0016E5 is one still when its recipe is cut."""
    monkeypatch.chdir(HERE)
    path = HERE / "recipes/papers/scene-consensus/001-phg-mae-streets.yaml"
    text = path.read_text().replace('fold: ["0001TP", "0006R0", "0016E5"]', 'fold: ["0016E5", "0001TP"]')
    other = tmp_path / "streets.yaml"
    other.write_text(text)
    steps = cut.cut(other, str(tmp_path / "root")).recipe.steps
    assert steps["lessons-0016E5"].split.pin == {"test": ("0016E5",)} and steps["teacher-0016E5"].updates == 3
    project.enter()


def test_there_are_papers_and_each_says_in_what_it_departs() -> None:
    assert RECIPES
    for one in shelf.papers(str(HERE / "recipes/papers")):
        assert one.verdict and one.paper.departs and one.path.stem.startswith(f"{one.paper.id:03d}-")


def _work(step: Any) -> Counter[str]:
    """What a finished step took, by the names of `MOST`."""
    work = Counter({"units": len(step.manifest.records), "samples": step.manifest.rows})
    if isinstance(step.stage, Train):
        trained = Trained.from_manifest(step.manifest)
        members = len(trained.names) or 1
        assert trained.updates and trained.parameters
        updates = {"updates": trained.updates, "learned samples": trained.updates * step.stage.batch}
        work.update({what: members * many for what, many in {**updates, "weights": trained.parameters}.items()})
    return work


def _planned(loaded: object) -> list[object]:
    from hyperloom.pipeline.planning.plan import plan
    from hyperloom.pipeline.root.digests import Digests
    from hyperloom.pipeline.root.storage import Storage

    storage = Storage(loaded.recipe.root)  # type: ignore[attr-defined]
    return list(plan(loaded, storage, Digests(storage)))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one paper."""
    place = tmp_path / "recipes/papers/tests"
    place.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (place / "901-tiny.yaml").write_text(TINY)
    (place / "tiny_paper.py").write_text(CODE)
    (place / "tiny_guess.py").write_text(GUESS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    yield place
    project.enter()


def _papers(*line: str) -> int:
    return cli.main(["papers", *line])


@pytest.mark.timeout(240)
def test_a_record_follows_its_recipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = folder / "901-tiny.json"
    assert _papers("list") == 0 and "never" in capsys.readouterr().out
    assert _papers("run") == 0 and "tests/901-tiny: holds" in capsys.readouterr().out
    first = json.loads(record.read_text())
    assert first["verdict"] == "holds" and first["before"] == [] and first["departs"] == ["no paper at all"]
    assert set(first["steps"]) == {"samples", "labels", "shards", "report", "verdict"}
    assert first["cpu"] > 0 and first["seconds"] >= 0.1
    assert first["claims"]["looking"]["sides"] == {"looks": 1.0, "guesses": pytest.approx(1 / 3, abs=0.02)}
    assert _papers("check") == 1 and "docs/papers.md is not what the records say" in capsys.readouterr().out
    assert _papers("report") == 0 and _papers("check") == 0
    page = Path("docs/papers.md").read_text()
    assert "| looking | looks 1.000 | guesses 0.3" in page
    assert "### 901 tiny" in page and "**Holds**" in page and "no paper at all" in page
    capsys.readouterr()
    assert _papers("run") == 0 and "all records are fresh" in capsys.readouterr().out

    assert _papers("run", "--again") == 0, "finished steps are looked at once more"
    assert json.loads(record.read_text()) == first, "which takes nothing from what the record says"

    guess = folder / "tiny_guess.py"
    guess.write_text("def guesses(seen):\n    raise SystemError('broken')\n")
    assert _papers("run") == 1 and json.loads(record.read_text()) == first
    cost = json.loads(Path("runs/papers/tests-901-tiny/cost.json").read_text())
    guess.write_text(GUESS.replace("'1'", "str(int(seen[0]))"))
    assert _papers("check") == 1 and "papers run 901-tiny" in capsys.readouterr().out
    assert _papers("run", "0901") == 0 and "not shown" in capsys.readouterr().out
    second = json.loads(record.read_text())
    assert second["seconds"] > cost["seconds"] > 0, "an attempt that failed counts"
    assert second["seconds"] > first["seconds"] + cost["seconds"], "and so do steps that the verdict before had done"
    assert second["verdict"] == "not shown" and [b["verdict"] for b in second["before"]] == ["holds"]


def test_what_is_chosen_must_be_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("902", "²"):
        assert _papers("list", name) == 2 and f"no paper or family '{name}'" in capsys.readouterr().err
    os.rename(folder / "901-tiny.yaml", folder / "901-tiny.txt")
    assert _papers("list") == 2 and "holds no recipe with a `paper:`" in capsys.readouterr().err


def test_mistakes_are_said_before_anything_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change, message in (
        (("digit.accuracy", "digit.acuracy"), "901-tiny.yaml:18: .*'accuracy'"),
        (("ours: looks", "ours: loks"), "901-tiny.yaml:18: .*loks.*'looks'"),
    ):
        (folder / "901-tiny.yaml").write_text(TINY.replace(*change))
        assert _papers("check") == 1 and re.search(message, capsys.readouterr().out), message
    (folder / "901-tiny.yaml").write_text(TINY)
    _recorded(folder)
    (folder / "901-tiny.yaml").write_text(TINY.replace("  digit: {type", "  digits: {type"))
    assert _papers("list") == 2
    assert re.search(r"901-tiny.yaml:\d+: .*no modality 'digit'; did you mean 'digits'", capsys.readouterr().err)
    (folder / "901-tiny.yaml").write_text(TINY)
    (folder / "902-tiny.yaml").write_text(TINY.replace("Nobody, Nowhere 2026", "Somebody"))
    assert _papers("list") == 2
    assert re.search(r"902-tiny.yaml:3: the paper of this id is 'Nobody.*901-tiny.yaml", capsys.readouterr().err)


def test_a_damaged_record_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "901-tiny.json").write_text('{"paper": 901')
    assert _papers("list") == 2 and "901-tiny.json is no record of a paper" in capsys.readouterr().err


def test_a_record_that_was_written_by_hand_is_nobodys_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _recorded(folder)
    path = folder / "901-tiny.json"
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text), indent=4))
    assert _papers("check") == 1 and "its record" not in capsys.readouterr().out, "how it is written says nothing"
    for change in (('"holds"', '"reversed"'), ('"folds": 1', '"folds": 3'), ('"seal": "', '"seal": "0')):
        path.write_text(text.replace(*change, 1))
        assert _papers("check") == 1
        assert "its record was changed since it was written. Next: restore it or" in capsys.readouterr().out
    assert _papers("list") == 0 and "stale" in capsys.readouterr().out
    forged = path.read_text()
    assert _papers("run") == 1 and "901-tiny.json was changed since it was written" in capsys.readouterr().out
    assert path.read_text() == forged, "it is not sealed, nor kept as an earlier verdict"


def _recorded(folder: Path) -> None:
    """A record of the paper as it is now, which nobody ran."""
    (one,) = shelf.papers(str(folder))
    now = identities(one.loaded, one.digests, [one.verdict])[one.verdict].fingerprint
    known = {"paper": 901, "verdict": "holds", "claims": {}, "beside": {}, "folds": 1, "samples": 1, "data": {}}
    rest = {"fingerprint": now, "seconds": 1.0, "cores": 1, "departs": ["all"], "steps": one.outline()}
    record.write(one.path, PaperRecord(**known, **rest))


def test_a_changed_meaning_of_a_plug_in_makes_a_record_stale(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of whatever stands between the data and the verdict; the samples are not made for that."""
    (folder / "tiny_paper.py").write_text(CODE.replace("def samples():\n", "def samples():\n    raise SystemError\n"))
    _recorded(folder)
    assert _papers("check") == 1 and "its record is of other" not in capsys.readouterr().out
    for plugin in (plugins.load("expert", "python"), plugins.load("source", "python"), Evaluate, VerdictStage):
        with monkeypatch.context() as patch:
            patch.setattr(plugin, "revision", plugin.revision + 1)
            assert _papers("check") == 1 and "901-tiny: its record is of other" in capsys.readouterr().out, plugin


def test_a_stale_record_says_which_lines_moved(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(*changes: tuple[str, str]) -> str:
        text = TINY
        for change in changes:
            assert change[0] in text
            text = text.replace(*change)
        (folder / "901-tiny.yaml").write_text(text)
        assert _papers("check") == 1
        return capsys.readouterr().out.partition("papers run 901-tiny\n")[2].partition("docs/papers.md")[0]

    _recorded(folder)
    assert moved() == ""
    assert moved(("length: 2", "length: 3")) == "  samples, labels: modalities.seen.length: 2 -> 3\n"
    assert moved(("b*", "a*")) == "  shards: split.pin.test[0]: b* -> a*\n"
    assert moved(("theirs: guesses", "theirs: looks"), ("ours: looks", "ours: guesses")).splitlines() == [
        "  verdict: claims.looking.ours: looks -> guesses",
        "  verdict: claims.looking.theirs: guesses -> looks",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Evaluate, "revision", Evaluate.revision + 1)
        assert moved() == f"  report: revision: {Evaluate.revision - 1} -> {Evaluate.revision}\n"
    (folder / "tiny_guess.py").write_text(GUESS.replace("'1'", "'2'"))
    assert moved() == "  labels: what it reads from outside the recipe changed (data, code or weights)\n"


def test_a_stale_record_says_that_the_environment_moved(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines are as they were, as written, and their value is nobody's business."""
    (folder / "901-tiny.yaml").write_text(TINY.replace('"b*"', '"${PIN_OF_TEST}"'))
    monkeypatch.setenv("PIN_OF_TEST", "b*")
    _recorded(folder)
    monkeypatch.setenv("PIN_OF_TEST", "a*")
    assert _papers("check") == 1
    out = capsys.readouterr().out
    assert f"papers run 901-tiny\n  {moved.OUTSIDE}\n" in out and "a*" not in out


def test_only_the_place_of_a_change_loses_its_beginning() -> None:
    before, now = ({"a": {"stage": "x", "config": {"path": path}}} for path in ("a.config.yaml", "b.config.yaml"))
    assert moved.moved(before, now) == ["a: path: a.config.yaml -> b.config.yaml"]


def test_what_several_papers_read_is_listed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    find = filelist.find
    monkeypatch.setattr(filelist, "find", lambda path, *root: looked.append(path) or find(path, *root))
    (folder / "many.txt").write_text("many")
    text = TINY.replace('call: "tiny_paper:samples"', 'call: "tiny_paper:samples", files: recipes/papers/tests/*.txt')
    (folder / "901-tiny.yaml").write_text(text)
    _recorded(folder)
    (folder / "902-tiny.yaml").write_text(text.replace("901", "902"))
    shutil.copy(folder / "901-tiny.json", folder / "902-tiny.json")
    looked.clear()
    assert [one.standing for one in shelf.papers(str(folder))] == ["fresh", "fresh"]
    assert looked == ["recipes/papers/tests/*.txt"]


def test_a_record_is_of_one_look_at_its_data(folder: Path) -> None:
    """Data that changes between the look at the shelf and the run is in all of it, or in none."""
    (folder / "many.txt").write_text("many")
    text = TINY.replace('call: "tiny_paper:samples"', 'call: "tiny_paper:samples", files: recipes/papers/tests/*.txt')
    (folder / "901-tiny.yaml").write_text(text)
    (one,) = shelf.papers(str(folder))
    before = one.outline()
    (folder / "many.txt").write_text("more")
    trial.tried(one)
    (now,) = shelf.papers(str(folder))
    assert now.standing == "fresh" and now.record.steps == now.outline() != before


@pytest.mark.parametrize("whom", ["command", "paper"])
def test_a_signal_to_one_process_ends_all(whom: str, folder: Path) -> None:
    """The command's papers end with it; where one of them is killed the command says so, and goes on the next time."""
    (folder / "tiny_guess.py").write_text(f"import time\n{GUESS.replace('return', 'time.sleep(0.5); return')}")
    command = [str(Path(sys.executable).with_name("hyperloom")), "papers", "run", "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        try:
            while not [log for log in Path().glob("runs/papers/*/papers.log") if "labels" in log.read_text()]:
                assert driver.poll() is None, driver.stdout.read()
                time.sleep(0.1)
            tree = psutil.Process(driver.pid).children(recursive=True)
            (paper,) = [p for p in tree if "spawn_main" in " ".join(p.cmdline())]
            driver.terminate() if whom == "command" else paper.kill()
            output, _ = driver.communicate(timeout=60)
        finally:
            driver.kill()
    assert driver.returncode == (143 if whom == "command" else 1), output
    assert "Traceback" not in output and ("was killed" in output) == (whom == "paper"), output
    assert not psutil.wait_procs(tree, timeout=20)[1]


def test_papers_have_modules_of_one_name_beside_them(folder: Path) -> None:
    """Each is known and checked by its own, a plug-in's class too, and runs with it and with what that imports."""
    other = folder.with_name("others")
    shutil.copytree(folder, other)
    (other / "901-tiny.yaml").rename(other / "902-tiny.yaml")
    (other / "902-tiny.yaml").write_text(TINY.replace("901", "902").replace("stage: evaluate,", "stage: 'mine:Mine',"))
    (folder / "901-tiny.yaml").write_text(TINY.replace("stage: evaluate,", "stage: 'mine:Mine',"))
    for place, revision in ((folder, 801), (other, 802)):
        code = "from hyperloom.stages.evaluate.stage import Evaluate\n"
        (place / "mine.py").write_text(f"{code}class Mine(Evaluate):\n    revision = {revision}\n")
        text = "from tiny_help import seen_as\n" + CODE.replace("int(seen[0])", "seen_as(seen)")
        (place / "tiny_paper.py").write_text(text)
        (place / "tiny_help.py").write_text("def seen_as(seen):\n    return int(seen[0])\n")
    first, second = shelf.papers(str(folder.parent))
    alone = [shelf.papers(str(place))[0].outline() for place in (folder, other)]
    assert [first.outline(), second.outline()] == alone and alone[0]["samples"] == alone[1]["samples"]
    assert [one["report"]["config"]["revision"] for one in alone] == [801, 802]
    (other / "tiny_guess.py").write_text(GUESS.replace("'1'", "'2'"))
    (other / "tiny_help.py").write_text("def seen_as(seen):\n    return 1\n")
    first, second = shelf.papers(str(folder.parent))
    assert first.outline() == alone[0] and second.outline()["labels"] != alone[1]["labels"]
    assert trial.tried(first) == "holds" and trial.tried(second) != "holds", "who looks does it with his own helper"
    (other / "tiny_paper.py").write_text(CODE.replace("str(int(seen[0]))", "'1'"))
    first, second = shelf.papers(str(folder.parent))
    assert first.outline() == alone[0] and second.outline()["samples"] != alone[1]["samples"]
    assert trial.tried(second) != "holds" and "tiny_help" not in sys.modules, "nor does he find the other's"
    project.leave()
    assert not {"tiny_paper", "tiny_guess", "mine"} & set(sys.modules)
    assert not {str(folder), str(other)} & set(sys.path) and str(folder.parents[2]) in sys.path
    assert [one.standing for one in shelf.papers(str(folder.parent))] == ["fresh", "fresh"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the papers' data is not here")
def test_the_records_are_of_this_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever changes what a paper's recipe rests on runs it again: `hyperloom papers run`, then `papers report`."""
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("HYPERLOOM_SHARED", str(SHARED))
    assert _papers("check", "--root", "build/papers") == 0, capsys.readouterr().out


def test_a_record_whose_data_is_not_here_is_not_called_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("HYPERLOOM_SHARED", str(tmp_path))
    for part in ("check", "run"):
        assert _papers(part, "5", "--root", str(tmp_path / "root")) == 0
        said = capsys.readouterr().out
        assert "005-pcgrad: its data is not here" in said and "fresh" not in said and "1 record" not in said
