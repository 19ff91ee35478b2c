"""Budgets: a run that would exceed one ends in order, and the same command goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commits.retry import Attempts, Tally
from hyperloom.pipeline.commits.units import Record, Resources, Unit
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.exits import AGAIN, Exit
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.planning import spending
from hyperloom.pipeline.planning.spending import OverBudget, Spending, StepRate
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.recipes.budget import CostBudget
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from tests import toy


class Paid(toy.Numbers):
    """Each unit asks three questions that cost money."""

    def run(self, step: Any) -> dict[str, Any]:
        units = [Unit(step.folder, f"u{i}", "w", {"numbers": [i]}, calls=3) for i in range(self.units_)]
        step.records = step.run_units(units, {"w": toy.Writer(self.trouble)})
        return {"total": len(step.records)}


TEXT = """
name: toy
root: {root}
{budget}
modalities: {{}}
steps:
  numbers: {{stage: "tests.unit.test_spending:Paid", units_: 6}}
"""


def load(tmp_path: Path, budget: str) -> recipe.RecipeFile:
    path = tmp_path / "toy.yaml"
    path.write_text(TEXT.format(root=tmp_path / "root", budget=budget))
    return recipe.load(path)


def run(loaded: recipe.RecipeFile) -> runner.RunResult:
    return runner.run(loaded, progress=Progress(quiet=True), track=False)


def done(tmp_path: Path) -> int:
    return len(list((tmp_path / "root").rglob("units/*.json")))


def test_no_call_more_than_the_budget_is_sent(tmp_path: Path) -> None:
    with pytest.raises(OverBudget, match=r"its next 3 calls would exceed the budget of 10 \(9 were sent\)"):
        run(load(tmp_path, "budget: {calls: 10}"))
    assert done(tmp_path) == 3, "what was sent is committed"
    with pytest.raises(OverBudget):
        run(load(tmp_path, "budget: {calls: 2}"))
    assert done(tmp_path) == 3
    assert run(load(tmp_path, "budget: {calls: 9}")).ok, "the same command goes on, with a budget anew"
    assert done(tmp_path) == 6


def test_a_budget_moves_no_identity(tmp_path: Path) -> None:
    assert run(load(tmp_path, "")).ok
    assert run(load(tmp_path, "budget: {calls: 0, hours: 0.001}")).states == {"numbers": "fresh"}


def test_the_command_ends_with_its_own_code_and_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    load(tmp_path, "budget: {calls: 4}")
    monkeypatch.setattr("hyperloom.pipeline.commands.opening.connect", lambda loaded: None)
    assert cli.main(["run", str(tmp_path / "toy.yaml"), "--no-mlflow"]) == Exit.BUDGET == 8
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("hyperloom: ended in order: its next 3 calls") and "Next: raise `budget`" in lines[0]
    assert lines[1].startswith("Continue with: hyperloom run") and len(lines) == 2
    assert Exit.BUDGET not in AGAIN, "who starts it again by itself would spend it again"


def test_hours_and_gpu_hours_by_the_clock() -> None:
    now = [0.0]
    spent = Spending(CostBudget(hours=1, gpu_hours=0.5), clock=lambda: now[0])

    class seat:
        class kind:
            resources = Resources(gpus=0.5)

    class reservation:
        resources, places, step = Resources(gpus=1), [1, 2], "teacher"

    now[0] = 600
    spent.passes([seat], [])  # type: ignore[list-item]
    assert spent.gpu_seconds == 300 and not spent.over
    now[0] = 1400
    spent.passes([], [reservation])  # type: ignore[list-item]
    assert spent.gpu_seconds == 300 + 1600 and "0.5 GPU hours" in spent.over
    only = Spending(CostBudget(hours=1), clock=lambda: now[0])
    now[0] = 1400 + 3600
    assert "1 hours" in only.over and not Spending(None).over


def test_a_retry_is_not_counted_again(tmp_path: Path) -> None:
    attempts = Attempts(Storage(str(tmp_path)), "attempts")
    unit = Unit("expert/a", "u", "w", calls=5)
    spent = Spending(CostBudget(calls=5))
    assert spent.affordable([unit], attempts) == [unit]
    attempts.keep(unit.key, Tally(task=1))
    assert spent.affordable([unit], attempts) == [unit] and spent.calls == 5


def test_rates_are_kept_and_a_torn_file_is_none(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    first = Spending()
    first.unit("labels", Record("expert/a", "u", 8, ()), 2.0, Resources(gpus=0.5))
    first.keep(storage, "mine")
    second = Spending()
    second.unit("labels", Record("expert/b", "u", 8, ()), 1.0, Resources())
    second.keep(storage, "mine")
    costs = spending.load(storage, "mine")
    assert costs.spaces["expert/a"].gpu_seconds == 1.0 and costs.spaces["expert/b"].units == 1
    (tmp_path / "costs" / "mine.json").write_text("{")
    assert spending.load(storage, "mine").spaces == {}


def test_the_pace_of_a_training_is_that_of_its_updates(tmp_path: Path, monkeypatch) -> None:
    """Two seconds an update: of 300 seconds 120 grow with 60 updates, whatever the start and the export took."""
    storage, now = Storage(str(tmp_path)), [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    with Events(storage, "20260101-000000-abc", "rank0") as events:
        for update in (10, 20, 30, 60):
            now[0] = 1000.0 + 2 * update + (50 if update > 30 else 0)
            events.metric("teacher", {"loss": 1.0}, at=update, of=60)
    spent = Spending()
    spent.costs.steps["teacher"] = StepRate(300.0, 10, 60.0, 40, 8)
    spent.keep(storage, "mine", "20260101-000000-abc")
    assert spending.load(storage, "mine").steps["teacher"].paced == pytest.approx(120)


def test_what_is_resumed_counts_whole(tmp_path: Path, monkeypatch) -> None:
    """Killed after 800 of 1,000 updates, and gone on with: the 200 took 400 s, all of them take 2,000; the 100 s of
    start are once. Seeds that trained one after the other have the pace of each."""
    storage, now = Storage(str(tmp_path)), [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    with Events(storage, "20260101-000000-abc", "train-teacher") as events:
        for update in range(810, 1001, 10):
            now[0] = 1000.0 + 2 * (update - 800)
            events.metric("teacher", {"loss": 1.0}, at=update, of=1000)
    for seed in (0, 1):  # two of three: one was done before
        with Events(storage, "20260101-000000-abc", f"train-family-seed{seed}") as events:
            for update in range(10, 101, 10):
                now[0] = 1000.0 + 300 * seed + 2 * update
                events.metric("family", {f"loss/seed{seed}": 1.0}, at=update, of=100)
    spent = Spending()
    spent.costs.steps["teacher"] = StepRate(500.0, 10, 1000.0, 40, 8, gpu_seconds=500.0)
    spent.costs.steps["family"] = StepRate(500.0, 10, 300.0, 40, 8)
    spent._repeats = {"family": 3}
    spent.keep(storage, "mine", "20260101-000000-abc")
    teacher, family = (spending.load(storage, "mine").steps[name] for name in ("teacher", "family"))
    assert (teacher.seconds, teacher.paced) == (pytest.approx(2100), pytest.approx(2000))
    assert teacher.gpu_seconds == pytest.approx(2100)
    assert (family.seconds, family.paced) == (pytest.approx(700), pytest.approx(600))


def test_a_run_of_one_unit_says_nothing_of_the_slots() -> None:
    costs = spending.Costs(slots=16, gpus=2.0)
    costs.update(spending.Costs({"expert/a": spending.UnitRate(units=1, seconds=3.0)}, slots=1))
    assert (costs.slots, costs.gpus) == (16, 2.0)
    costs.update(spending.Costs({"expert/a": spending.UnitRate(units=32, seconds=96.0)}, slots=4, gpus=1.0))
    assert (costs.slots, costs.gpus) == (4, 2.0), "of a smaller cluster it does, but none of these had a GPU"
    units = {"expert/a": spending.UnitRate(units=1, seconds=3.0, gpu_seconds=3.0)}
    costs.update(spending.Costs(units, slots=1, gpus=1.0))
    assert costs.gpus == 2.0, "one unit had no second one beside it"
    costs.update(spending.Costs({"expert/a": replace(units["expert/a"], units=32)}, slots=1, gpus=1.0))
    assert costs.gpus == 1.0


def test_epochs_of_a_part_of_the_samples_are_no_resumed_training(tmp_path: Path, monkeypatch) -> None:
    """1,000 rows of which 600 teach: what the plan calls the effort is more than the updates that were made."""
    storage, now = Storage(str(tmp_path)), [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    with Events(storage, "20260101-000000-abc", "train-teacher") as events:
        for update in range(10, 121, 10):
            now[0] = 1000.0 + update
            events.metric("teacher", {"loss": 1.0}, at=update, of=120)
    spent = Spending()
    spent.costs.steps["teacher"] = StepRate(130.0, 10, 200.0, 1000, 10)
    spent.keep(storage, "mine", "20260101-000000-abc")
    kept = spending.load(storage, "mine").steps["teacher"]
    assert (kept.seconds, kept.paced) == (pytest.approx(130), pytest.approx(120))


def test_samples_that_were_left_out_took_their_time_too(tmp_path: Path) -> None:
    spent = Spending()
    spent.unit("labels", Record("expert/a", "u", 4, (), 4), 2.0, Resources())
    assert spent.costs.spaces["expert/a"].rows == 8


def test_gpu_seconds_are_those_of_the_step_and_outlive_other_runs(tmp_path: Path) -> None:
    """A training on one GPU is a unit on a slot: its GPU hours were forecast as none, and those of processes of its own
    as none once another step had run."""
    storage, now = Storage(str(tmp_path)), [0.0]

    class step:
        class stage:
            portion, repeats = 16, 1

            @staticmethod
            def effort(samples: int) -> float:
                return 100.0

            @staticmethod
            def learned(inputs: Any) -> int:
                return 0

        name, is_source, manifest = "teacher", False, None

    class reservation:
        resources, places, step = Resources(gpus=1), [1, 2], "student"

    spent = Spending(clock=lambda: now[0])
    now[0] = 50.0
    spent.passes([], [reservation])  # type: ignore[list-item]
    spent.unit("teacher", Record("train/a", "u", 0, ()), 90.0, Resources(gpus=1))
    for name in ("teacher", "student"):
        step.name = name
        spent.step(step, 100.0, [])  # type: ignore[arg-type]
    spent.keep(storage, "mine")
    later = Spending()
    step.name = "report"
    later.step(step, 5.0, [])  # type: ignore[arg-type]
    later.keep(storage, "mine")
    kept = spending.load(storage, "mine").steps
    assert {n: (r.gpu_seconds, r.portion) for n, r in kept.items()} == {
        "teacher": (90.0, 16),
        "student": (100.0, 16),
        "report": (0.0, 16),
    }


@pytest.mark.parametrize("budget", ["{hours: 0}", "{calls: -1}", "{euros: 5}"])
def test_a_wrong_budget_is_named(tmp_path: Path, budget: str) -> None:
    with pytest.raises(RecipeError, match="budget|euros"):
        load(tmp_path, f"budget: {budget}")
