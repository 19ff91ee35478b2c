"""An error is a mean over answers: whoever is silent where it is hard is compared on what both answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.counting import rounded
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.consensus.agreement import matrices
from hyperloom.stages.evaluate import verdict
from hyperloom.stages.evaluate.common import CommonSamples
from hyperloom.stages.evaluate.compare import Comparison
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.evaluate.subject import Subject
from hyperloom.stages.measure.intervals import Intervals, Sheets
from hyperloom.stages.results import Judged
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.verdict.conclusion import Concluded
from hyperloom.stages.verdict.stage import VerdictStage
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(speed={"type": "scalar", "unit": "m/s"})
SPEED, COUNT = KNOWN["speed"], 160
EASY = 120
"""Samples of which the shy one says something; bold is better there, and far off where it is hard."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Any]:
    storage, draw = Storage(str(tmp_path_factory.mktemp("root"))), np.random.default_rng(0)
    samples = []
    for i in range(COUNT):
        truth, easy = draw.uniform(0, 10), i % 4 != 3
        bold = truth + (draw.uniform(0.6, 1.0) if easy else 8.0)
        shy = truth + draw.uniform(1.0, 1.4) if easy else None
        told = {"speed@truth": truth, "speed@bold": bold, "speed@shy": shy, "speed@mute": None if easy else truth}
        told["speed@even"] = truth + 2.0
        samples.append({c: None if v is None else SPEED.fit([v]) for c, v in told.items()})
    raw = inline.ingested(storage, KNOWN, {"a": samples, "rest": samples[:8]}, 40)
    split = {"pin": {"test": ["a"], "train": ["rest"]}}
    shards = inline.step(Shard(stage="shard", data="frames", split=split), storage, KNOWN, "shards", frames=raw)
    stage = Evaluate(stage="evaluate", data="shards", pictures=0, intervals={"over": "frames", "draws": 300})
    report = inline.step(stage, storage, KNOWN, "report", shards=inline.finish(shards))
    return storage, inline.finish(report)


def shared(judged: tuple[Storage, Any], *names: str) -> CommonSamples:
    storage, report = judged
    space = Judged.from_manifest(report).sheets["columns"]
    sheets = Sheets(Intervals(draws=300, over="frames"), storage, [r for r in report.records if r.space == space])
    figures = Judged.from_manifest(report).figures
    return CommonSamples(lambda who: sheets, {n: {f"speed@{n}": ("speed", SPEED)} for n in names}, figures)


def test_a_claim_is_about_what_both_answer_and_says_so(judged: tuple[Storage, Any]) -> None:
    storage, report = judged
    figures = Judged.from_manifest(report).figures
    assert figures["shy"]["speed.mae"] < 1.5 < figures["bold"]["speed.mae"], "the means over their own answers"
    claims = {"bold": {"ours": "bold", "theirs": "shy", "figure": "speed.mae"}}
    stage = VerdictStage.model_validate({"stage": "verdict", "report": ["report"], "claims": claims})
    made = inline.finish(inline.step(stage, storage, KNOWN, "verdict", report=report))
    one = Concluded.from_manifest(made).claims["bold"]
    assert one.word == "holds" and one.value == pytest.approx(0.4, abs=0.05), "it was reversed"
    assert one.sides == {"bold": pytest.approx(0.8, abs=0.03), "shy": figures["shy"]["speed.mae"]}
    texts = [e["text"] for e in events.read(storage, "test") if e["kind"] == "note"]
    assert f"report: speed.mae of bold and shy on the {EASY} of {COUNT} samples that all of them answer" in texts
    assert stage.revised_for(KNOWN) and not stage.revised_for({}), "earlier ones are asked again"


def test_a_model_is_held_against_an_expert_on_what_both_answer(judged: tuple[Storage, Any]) -> None:
    figures, who = Judged.from_manifest(judged[1]).figures, [Subject("bold", "model"), Subject("shy", "expert")]
    common = shared(judged, "bold", "shy", "mute")
    decided = verdict.verdict(who, figures, {"speed": SPEED}, None, common)
    row = decided["bold"]["speed"]
    assert row["beats"] is True and row["common"]["samples"] == EASY and row["value"] == figures["bold"]["speed.mae"]
    (line,) = verdict.sentences(decided)
    assert "beats every single expert (best: shy 1.2" in line and f"on the {EASY} samples that both answer 0.8" in line
    alone = verdict.verdict(who, figures, {"speed": SPEED})["bold"]["speed"]
    assert alone["beats"] is False and "common" not in alone

    draws = {n: common._sheets(n).draws(common._names[n]) for n in ("bold", "shy")}
    config, rises = Intervals(draws=300, over="frames"), {"speed.mae": False}
    compared = Comparison(config, figures, draws, {}, rises, common, {"speed.mae"})
    (row,) = compared.differences(who, ["shy"], {})
    assert row["better"] is True and row["samples"] == EASY and row["difference"] == pytest.approx(-0.4, abs=0.05)
    (said,) = verdict.difference_sentences([row], {"speed": SPEED}, 0.95)
    assert said.endswith(f"better, on the {EASY} samples that both answer")
    (row,) = Comparison(config, figures, draws, {}, rises).differences(who, ["shy"], {})
    assert row["better"] is False and "samples" not in row


def test_a_model_beats_every_expert_only_where_it_beats_each_on_what_both_answer(judged: tuple[Storage, Any]) -> None:
    """The best by its own answers had the easy samples: another one is ahead of the model on all of them."""
    figures, common = Judged.from_manifest(judged[1]).figures, shared(judged, "bold", "shy", "even")
    who = [Subject("bold", "model"), Subject("shy", "expert"), Subject("even", "expert")]
    assert verdict.best(who, figures, "expert", "speed", SPEED) == "shy"
    assert figures["even"]["speed.mae"] == pytest.approx(2) and figures["bold"]["speed.mae"] > 2.5
    decided = verdict.verdict(who, figures, {"speed": SPEED}, None, common)
    row = decided["bold"]["speed"]
    assert row["beats"] is False and (row["expert"], row["best"]) == ("even", "shy"), "it beat every single expert"
    (line,) = verdict.sentences(decided)
    assert line.endswith("DOES NOT beat every single expert (even 2; the best, shy, answers other samples)")
    assert "best" not in verdict.verdict(who[:2], figures, {"speed": SPEED}, None, common)["bold"]["speed"]

    draws = {n: common._sheets(n).draws(common._names[n]) for n in ("bold", "shy", "even")}
    config, rises = Intervals(draws=300, over="frames"), {"speed.mae": False}
    compared = Comparison(config, figures, draws, {}, rises, common, {"speed.mae"})
    rows = compared.differences(who, ["best_expert"], {"speed": "shy"}, {("bold", "speed"): "even"})
    assert [(r["against"], r["better"]) for r in rows] == [("shy", True), ("even", False)]
    assert verdict.sentences(decided, None, [{**rows[1], "better": None}])[0].find("too close to call") > 0


def test_who_answers_the_same_samples_is_compared_as_ever(judged: tuple[Storage, Any], tmp_path: Path) -> None:
    common = shared(judged, "bold", "shy", "mute")
    assert common(["bold", "bold"], "speed") is None
    assert common(["shy", "mute"], "speed") == ({"shy": {}, "mute": {}}, {}, 0)
    figures, who = Judged.from_manifest(judged[1]).figures, [Subject("shy", "model"), Subject("mute", "expert")]
    decided = verdict.verdict(
        who, {**figures, "mute": {**figures["mute"], "speed.coverage": 0.6}}, {"speed": SPEED}, None, common
    )
    assert decided["shy"]["speed"]["beats"] is None, "nothing in common is no comparison"
    assert "answer no sample in common: not compared" in verdict.sentences(decided)[0]
    compared = Comparison(Intervals(), figures, {}, {}, {"speed.mae": False}, common, {"speed.mae"})
    assert compared.differences(who, ["mute"], {}) == []
    assert common(["bold", "mute"], "speed")[2] == COUNT - EASY  # type: ignore[index]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((-2e-5, -3e-5, -1e-5), "speed.mae -2e-05 (95 % interval -3e-05 to -1e-05): better"),
        ((-0.25, -0.3, -0.001), "speed.mae -0.2500 (95 % interval -0.3000 to -0.0010): better"),
    ],
)
def test_a_small_difference_is_no_nought(numbers: tuple[float, ...], words: str) -> None:
    names = dict(zip(("difference", "low", "high"), numbers, strict=True))
    row = {"who": "a", "against": "b", "figure": "speed.mae", "better": True, **names}
    assert verdict.difference_sentences([row], {"speed": SPEED}, 0.95) == [f"a against b: {words}"]
    assert [rounded(v, 4) for v in (0.123456, 2.34567e-5, 0.0, 1234.56789)] == [0.1235, 2.346e-5, 0.0, 1234.5679]


def test_sources_of_a_small_unit_do_not_agree_by_nought() -> None:
    record = Record("consensus/x", "u", 2, (), meta={"figures": {"mae:i@a|i@b": [3e-9, 2]}})
    assert matrices([record], ["i@a", "i@b"])["mae"][0][1] == pytest.approx(1.5e-9)


def test_levels_are_compared_on_what_both_answer(tmp_path: Path) -> None:
    """The error of levels counts answers too, and its statistics count them in their own way."""
    known, storage = inline.modalities(level={"type": "ordinal", "levels": 4}), Storage(str(tmp_path))
    told = [
        (i % 4, min(3, i % 4 + (i % 3 == 0)), None if i % 4 == 3 else max(0, i % 4 - (i % 5 == 0))) for i in range(60)
    ]
    names = ("level@truth", "level@one", "level@two")
    samples = [
        {n: None if v is None else known["level"].fit(v) for n, v in zip(names, row, strict=True)} for row in told
    ]
    raw = inline.ingested(storage, known, {"a": samples, "rest": samples[:4]}, 20)
    split = {"pin": {"test": ["a"], "train": ["rest"]}}
    shards = inline.finish(
        inline.step(Shard(stage="shard", data="frames", split=split), storage, known, "shards", frames=raw)
    )
    stage = Evaluate(stage="evaluate", data="shards", pictures=0, intervals={"over": "frames", "draws": 100})
    report = inline.finish(inline.step(stage, storage, known, "report", shards=shards))
    claims = {"one": {"ours": "one", "theirs": "two", "figure": "level.mae"}}
    verdict_stage = VerdictStage.model_validate({"stage": "verdict", "report": ["report"], "claims": claims})
    made = inline.finish(inline.step(verdict_stage, storage, known, "verdict", report=report))
    both = [row for row in told if row[2] is not None]
    errors = [np.mean([abs(row[at] - row[0]) for row in both]) for at in (1, 2)]
    sides = Concluded.from_manifest(made).claims["one"].sides
    assert sides == {"one": pytest.approx(errors[0]), "two": pytest.approx(errors[1])}, "it ended with a KeyError"


@pytest.mark.parametrize("unit", [1.0, 1e-5, 1e-9, 1e-12])
def test_relative_errors_know_small_units_and_say_what_they_leave_out(tmp_path: Path, unit: float) -> None:
    """Of currents in amperes none had a relative error, or the largest few alone, without a word."""
    storage, draw = Storage(str(tmp_path)), np.random.default_rng(1)
    truth = [unit * value for value in (0, 1e-9, *draw.uniform(1, 10, 38))]
    told = {"speed@truth": truth, "speed@net": [1.25 * v if v else unit for v in truth]}
    samples = [{c: SPEED.fit([v[i]]) for c, v in told.items()} for i in range(40)]
    raw = inline.ingested(storage, KNOWN, {"a": samples, "rest": samples[:8]}, 40)
    split = {"pin": {"test": ["a"], "train": ["rest"]}}
    shards = inline.step(Shard(stage="shard", data="frames", split=split), storage, KNOWN, "shards", frames=raw)
    stage = Evaluate(stage="evaluate", data="shards", pictures=0)
    report = inline.step(stage, storage, KNOWN, "report", shards=inline.finish(shards))
    found = Judged.from_manifest(inline.finish(report))
    assert found.figures["net"]["speed.absrel"] == pytest.approx(0.25)
    (said,) = (text for text in found.remarks if "absrel" in text)
    assert said.startswith("speed@truth: absrel leaves out 2 of 40 numbers: truth no further from zero than 1e-")
