"""The engine from the outside, in one process: reuse and its reasons, failures and their budgets, repair."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.errors import ClaimError, StepFailed, StorageError
from hyperloom.pipeline.inspection import quarantine, verify
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.planning.plan import PlannedStep, plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root import claims as claiming
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.claims import Claims
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.pipeline.running.run_result import origins

TOY = """\
name: toy
root: {root}
modalities: {{}}
steps:
  a: {{stage: "tests.toy:Numbers", file: {file}}}
  b: {{stage: "tests.toy:Squares", data: a}}
  c: {{stage: "tests.toy:Numbers", start: 5}}
  e: {{stage: "tests.toy:Sum", data: [a, b, c]}}
"""


class Toy:
    """A recipe of four steps over one root, run in this process."""

    def __init__(self, tmp_path: Path, root: str | None = None):
        self.file = tmp_path / "raw.bin"
        self.file.write_bytes(b"raw")
        self.storage = Storage(root or str(tmp_path / "root"))
        self.text = TOY.format(root=self.storage, file=self.file)
        self.out = io.StringIO()

    def load(self) -> recipe.RecipeFile:
        return recipe.parse(self.text, "toy.yaml")

    def change(self, old: str, new: str) -> None:
        assert old in self.text
        self.text = self.text.replace(old, new)

    def run(self, **options) -> runner.RunResult:
        return runner.run(self.load(), progress=Progress(self.out), track=False, wait=0, **options)

    def plan(self) -> dict[str, PlannedStep]:
        return {s.name: s for s in plan(self.load(), self.storage, Digests(self.storage))}

    def data(self) -> dict[str, bytes]:
        """All data and manifests, by path."""
        keep = (p for p in self.storage.walk("") if "/data/" in p or p.endswith(("manifest.json", "note.txt")))
        return {p: self.storage.read(p) for p in keep}


@pytest.fixture(params=["local", "memory"])
def toy(request, tmp_path) -> Toy:
    return Toy(tmp_path, None if request.param == "local" else f"memory://{tmp_path.name}")


def test_a_run_and_a_rerun(toy: Toy) -> None:
    assert toy.run().states == {"a": "done", "b": "done", "c": "done", "e": "done"}
    squares = [n * n for n in range(12)]
    total = sum(range(12)) + sum(squares) + sum(n * n for n in squares) + sum(range(5, 17))
    assert toy.plan()["e"].manifest.body == {"total": total}
    before = toy.data()
    again = toy.run()
    assert set(again.states.values()) == {"fresh"}
    assert "nothing to do" in toy.out.getvalue()
    assert toy.data() == before
    assert claiming.cards(toy.storage) == []


def test_the_plan_says_what_changed(toy: Toy) -> None:
    assert {s.why[0] for s in toy.plan().values()} == {"it has not run yet"}
    toy.run()
    toy.change("start: 5", "start: 6, salt: x")
    steps = toy.plan()
    assert [steps[n].state for n in "abce"] == ["fresh", "fresh", "stale", "stale"]
    assert steps["c"].why == ["salt added: x", "start: 5 -> 6"]
    assert steps["e"].why == ["data[2]: the step it reads changed"]
    assert toy.run().states == {"a": "fresh", "b": "fresh", "c": "done", "e": "done"}


def test_raw_data_is_known_by_content(toy: Toy) -> None:
    toy.run()
    toy.file.touch()
    assert {s.state for s in toy.plan().values()} == {"fresh"}
    toy.file.write_bytes(b"new")
    steps = toy.plan()
    assert [steps[n].state for n in "abce"] == ["stale", "stale", "fresh", "stale"]
    assert steps["a"].why[0].startswith("facts.file: ")


def test_placement_changes_nothing(toy: Toy) -> None:
    toy.run()
    toy.change("start: 5", "start: 5, pause: 0.001")
    assert {s.state for s in toy.plan().values()} == {"fresh"}


def test_going_back_reuses_what_was_made_before(toy: Toy) -> None:
    toy.run()
    toy.change("start: 5", "start: 6")
    toy.run()
    toy.change("start: 6", "start: 5")
    assert set(toy.run().states.values()) == {"fresh"}


def test_only_one_step_and_what_it_needs(toy: Toy) -> None:
    assert set(toy.run(only=["b"]).states) == {"a", "b"}


def test_a_passing_failure_is_tried_again(toy: Toy) -> None:
    toy.change("start: 5", "start: 5, trouble: raise-once")
    assert toy.run().ok
    assert "failure (attempt 1)" in toy.out.getvalue()
    assert list(quarantine.troubles(toy.storage, [])) == []


def test_a_lasting_failure_stops_only_what_reads_it(toy: Toy) -> None:
    toy.change("start: 5", "start: 5, trouble: raise")
    outcome = toy.run()
    assert outcome.states == {"a": "done", "b": "done", "c": "failed", "e": "blocked"}
    assert isinstance(outcome.error, StepFailed)
    assert "1 of 4 units failed for good" in outcome.problems["c"]
    assert "a worker's own mistake" in outcome.problems["c"]
    (kept,) = quarantine.troubles(toy.storage, [])
    assert kept.step == "c"
    assert "Traceback" in kept.trace
    attempts = [e for e in events.read(toy.storage, outcome.run) if e["kind"] == "failure"]
    assert [e["attempt"] for e in attempts] == [1, 2]  # the same mistake again
    toy.change(", trouble: raise", "")
    assert toy.run().states == {"a": "fresh", "b": "fresh", "c": "done", "e": "done"}
    assert list(quarantine.troubles(toy.storage, [])) == []


def test_exit_code_and_last_line_say_what_is_missing(tmp_path, capsys) -> None:
    toy, path = Toy(tmp_path), tmp_path / "toy.yaml"
    toy.change("start: 5", "start: 5, trouble: raise")
    outcome = toy.run()
    assert outcome.missing == {"c": "1 of 4 units", "e": "not run"}
    path.write_text(toy.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "connect", lambda loaded: None)  # in this process
        assert cli.main(["run", str(path), "--no-mlflow"]) == StepFailed.exit_code
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"missing: c (1 of 4 units), e (not run). Continue with: hyperloom run {path}"


def test_what_looks_suspicious_is_said_again_at_the_end(tmp_path, monkeypatch, capsys) -> None:
    toy = Toy(tmp_path)
    monkeypatch.setattr(opening, "connect", lambda loaded: None)
    (tmp_path / "toy.yaml").write_text(toy.text.replace("data: [a, b, c]}", 'data: [a, b, c], remark: "so large"}'))
    assert cli.main(["run", str(tmp_path / "toy.yaml"), "--no-mlflow"]) == 0
    assert "remark: e: so large" in capsys.readouterr().out.splitlines()[-4:]


def test_a_remark_is_of_the_steps_whose_data_it_is_of() -> None:
    """Not of the report that says it again, nor of shards that took it along."""
    bodies = {"one": ["odd"], "two": ["odd", "other"], "shards": ["odd", "other", "own"], "report": ["odd", "own"]}
    reads = {"shards": ["one", "two"], "report": ["shards"]}
    steps: list[Any] = [
        SimpleNamespace(name=name, reads=reads.get(name, []), manifest=SimpleNamespace(body={"remarks": remarks}))
        for name, remarks in bodies.items()
    ]
    steps.append(SimpleNamespace(name="undone", reads=["one"], manifest=None))
    assert origins("odd", steps) == ["one", "two"] and origins("own", steps) == ["shards"]
    assert origins("of an event alone", steps) == []


def test_the_last_line_says_what_mlflow_lacks(tmp_path, monkeypatch, capsys) -> None:
    (path := tmp_path / "toy.yaml").write_text(Toy(tmp_path).text)
    finish = SimpleNamespace(finish=lambda say, patience: "MLflow lacks a thing; the root has it")
    monkeypatch.setattr(runner.replay, "tracker", lambda *_: finish)
    monkeypatch.setattr(opening, "connect", lambda _: None)
    assert cli.main(["run", str(path)]) == 0
    lacks, page = capsys.readouterr().out.splitlines()[-2:]
    assert lacks == "MLflow lacks a thing; the root has it" and page.startswith("report: ")


def test_a_bad_sample_is_left_out_counted_listed_and_replayed(toy: Toy) -> None:
    toy.change("start: 5", "start: 5, trouble: quarantine")
    outcome = toy.run()
    assert outcome.ok
    assert outcome.quarantined == 1
    (bad,) = quarantine.troubles(toy.storage, list(toy.plan().values()))
    assert (bad.step, bad.key, bad.error) == ("c", "u3/0", "BadSample: a bad sample")
    assert toy.plan()["c"].manifest.rows == 11
    assert set(toy.run().states.values()) == {"fresh"}
    assert quarantine.replay(toy.storage, list(toy.plan().values())) == ["c", "e"]
    toy.change(", trouble: quarantine", "")
    assert toy.run().states == {"a": "fresh", "b": "fresh", "c": "done", "e": "done"}
    assert toy.plan()["c"].manifest.rows == 12
    assert list(quarantine.troubles(toy.storage, [])) == []


def test_what_others_made_from_steps_that_are_taken_back_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stayed without the samples, and fresh, without a word."""
    toy, path = Toy(tmp_path), tmp_path / "toy.yaml"
    toy.change("start: 5", "start: 5, trouble: quarantine")
    assert toy.run().quarantined == 1
    other = runner.run(
        recipe.parse(toy.text.replace("name: toy", "name: other").replace("data: [a, b, c]", "data: [c, b]"), "o.yaml"),
        progress=Progress(toy.out), track=False,
    )  # fmt: skip
    assert other.states == {"a": "fresh", "b": "fresh", "c": "fresh", "e": "done"}
    path.write_text(toy.text)
    assert cli.main(["failed", str(path), "--replay"]) == 0
    (folder,) = [p.removesuffix("/manifest.json") for p in toy.storage.walk("tests.toy.Sum") if p.endswith("st.json")]
    taken, said = capsys.readouterr().out.splitlines()
    assert taken.startswith("taken back: c, e.") and said.endswith(f"kept as before: {folder}")


def test_too_many_bad_samples_fail_the_step(toy: Toy) -> None:
    toy.change("start: 5", "start: 5, trouble: quarantine, max_quarantine: 0.01")
    outcome = toy.run()
    assert "1 of 12 samples" in outcome.problems["c"]
    assert "max_quarantine 0.01" in outcome.problems["c"]
    toy.change(", trouble: quarantine", "")
    assert "1 of 12 samples" in toy.run().problems["c"], "what is committed is not tried again by itself"
    assert quarantine.replay(toy.storage, list(toy.plan().values())) == ["c", "e"]
    assert toy.run().states == {"a": "fresh", "b": "fresh", "c": "done", "e": "done"}
    assert toy.plan()["c"].manifest.quarantined == 0


def test_damage_is_found_and_made_good(toy: Toy) -> None:
    toy.run()
    before = toy.data()
    steps = toy.plan()
    torn, gone = (steps["a"].manifest.records[i].file.path for i in (1, 2))
    toy.storage.write(torn, b"[")
    toy.storage.delete(gone)
    assert {p.path for p in verify.verify(toy.storage).problems} == {torn, gone}
    assert toy.plan()["a"].state == "damaged"
    assert toy.run().states["a"] == "done"
    assert toy.data() == before
    assert not verify.verify(toy.storage).problems


def test_a_flipped_byte_is_found_and_repaired(toy: Toy) -> None:
    toy.run()
    before = toy.data()
    path = toy.plan()["b"].manifest.records[0].file.path
    data = bytearray(toy.storage.read(path))
    data[1] ^= 1
    toy.storage.write(path, bytes(data))
    problems = verify.verify(toy.storage).problems
    assert [str(p) for p in problems] == [f"{path} was changed: its checksum is not the one committed"]
    assert not verify.mend(toy.storage, problems)
    toy.run()
    assert toy.data() == before


def test_garbage_is_what_no_manifest_names(toy: Toy) -> None:
    toy.run()
    assert verify.garbage(toy.storage) == []
    folder = toy.plan()["a"].folder
    toy.storage.write(f"{folder}/data/u9-000000000000.json", b"[]")
    assert verify.garbage(toy.storage) == [f"{folder}/data/u9-000000000000.json"]


def test_garbage_is_not_collected_beside_a_driver(tmp_path, capsys) -> None:
    toy, path = Toy(tmp_path), tmp_path / "toy.yaml"
    path.write_text(toy.text)
    with Claims(toy.storage, "other"):
        toy.storage.write("x/y/data/u0-4f53cda18c2b.json", b"[]")
        assert cli.main(["verify", str(path), "--gc"]) == ClaimError.exit_code
        assert "recipe 'other'" in capsys.readouterr().err
    assert cli.main(["verify", str(path), "--gc"]) == 0
    assert not toy.storage.exists("x/y/data/u0-4f53cda18c2b.json")


def test_a_step_of_a_stage_that_breaks_keeps_its_traceback(toy: Toy) -> None:
    toy.change("data: [a, b, c]", "data: []")
    toy.change('"tests.toy:Sum", data: []', '"tests.toy:Squares", data: e2')
    toy.text += '  e2: {stage: "tests.toy:Sum", data: []}\n'
    outcome = toy.run()
    assert outcome.ok  # squares of nothing is nothing
    toy.storage.delete(toy.plan()["a"].folder)
    Storage.write_json(toy.storage, f"{toy.plan()['a'].folder}/units/u1.json", {"torn": True})
    assert toy.run().states["a"] == "done"


def test_a_second_driver_is_told(toy: Toy) -> None:
    with Claims(toy.storage, "other") as other:
        other.take(f"steps/{toy.plan()['b'].folder}")
        outcome = toy.run()
    assert outcome.states == {"a": "done", "b": "failed", "c": "done", "e": "blocked"}
    assert outcome.error.exit_code == ClaimError.exit_code
    assert re.match(r"step 'b' is in hand of process \d+ .*recipe 'other'. Next: wait for it", outcome.problems["b"])


def test_events_tell_the_whole_story(toy: Toy) -> None:
    outcome = toy.run()
    told = list(events.read(toy.storage, outcome.run))
    kinds = [e["kind"] for e in told]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_finished"
    assert kinds.count("step_started") == kinds.count("step_finished") == 4
    started = next(e for e in told if e["kind"] == "step_started" and e["step"] == "e")
    assert [i["name"] for i in started["inputs"]] == ["a", "b", "c"]
    assert next(e for e in told if e["kind"] == "metric")["values"].keys() == {"total"}
    assert events.pending(toy.storage) == [outcome.run]


def test_a_root_that_cannot_be_written_is_one_clear_message(tmp_path) -> None:
    toy = Toy(tmp_path)
    (tmp_path / "root").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"Next: .*give another root"):
        toy.run()


def test_attempts_of_a_dead_driver_are_counted(tmp_path) -> None:
    toy = Toy(tmp_path)
    toy.change("start: 5", "start: 5, trouble: raise-once")
    folder = toy.plan()["c"].folder
    toy.storage.write_json(f"{folder}/attempts/00000000.json", [[folder, "u3"]])
    outcome = toy.run()
    assert outcome.ok  # the second attempt, so the passing mistake has passed
    assert not [e for e in events.read(toy.storage, outcome.run) if e["kind"] == "failure"]
    assert toy.storage.names(f"{folder}/attempts") == []
