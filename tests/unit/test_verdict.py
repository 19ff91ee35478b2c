"""Verdicts: three words, given by a rule that is right as often as it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.evaluate.tradeoff import Point, Tradeoff
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.verdict.bootstrap import Arm, bootstrap
from hyperloom.stages.verdict.claims import Claim, together
from hyperloom.stages.verdict.conclusion import Concluded, Conclusion
from hyperloom.stages.verdict.stage import VerdictStage
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(digit={"type": "category", "classes": 4})
SHARES = {"good": 0.9, "twin": 0.9, "fair": 0.7, "poor": 0.5}
"""How often each source is right."""


def _samples(seed: int, count: int = 240) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 4, count)
    told = {f"digit@{n}": np.where(draw.random(count) < s, truth, (truth + 1) % 4) for n, s in SHARES.items()}
    return [{"digit@truth": np.int64(t), **{c: np.int64(v[i]) for c, v in told.items()}} for i, t in enumerate(truth)]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, dict[str, Any]]:
    """Two reports, each over a group of its own."""
    storage = Storage(str(tmp_path_factory.mktemp("root")))
    raw = inline.ingested(storage, KNOWN, {"a": _samples(1), "b": _samples(2), "rest": _samples(3, 4)}, 60)
    done = {}
    for fold in ("a", "b"):
        split = {"pin": {"test": [fold], "train": ["rest"]}}
        shards = inline.step(Shard(stage="shard", data="frames", split=split), storage, KNOWN, "shards", frames=raw)
        stage = Evaluate(stage="evaluate", data="shards", pictures=0, intervals={"over": "frames", "draws": 400})
        done[f"report-{fold}"] = inline.finish(
            inline.step(stage, storage, KNOWN, "report", shards=inline.finish(shards))
        )
    return storage, done


def _concluded(reports: Any, **claims: Any) -> Concluded:
    storage, done = reports
    stage = VerdictStage.model_validate({"stage": "verdict", "report": list(done), "claims": claims})
    return Concluded.from_manifest(inline.finish(inline.step(stage, storage, KNOWN, "verdict", **done)))


def test_a_verdict_is_the_runs_and_its_sentences_name_their_claims(reports: Any) -> None:
    gains = {"figure": "digit.accuracy", "ours": "good", "theirs": "fair"}
    _concluded(reports, gains=gains, loses=gains | {"ours": "poor"})
    *_, tags = (e["values"] for e in events.read(reports[0], "test") if "outcome" in e.get("values", ()))
    assert tags == {"outcome": "claims: not shown", "verdict.gains": "gains: holds", "verdict.loses": "loses: reversed"}


def test_words_are_those_that_the_sources_deserve(reports: Any) -> None:
    def claim(ours: str, theirs: str, **more: Any) -> dict[str, Any]:
        return {"figure": "digit.accuracy", "ours": ours, "theirs": theirs, **more}

    expected = {
        "better": (claim("good", "fair"), "holds"),
        "worse": (claim("poor", "fair"), "reversed"),
        "alike": (claim("good", "twin"), "not shown"),
        "no_worse": (claim("good", "twin", **{"is": "not worse", "margin": 0.1}), "holds"),
        "much_worse": (claim("poor", "good", **{"is": "not worse", "margin": 0.1}), "reversed"),
        "keeps": (claim("fair", "good", **{"is": "keeps", "at": 0.6}), "holds"),
        "loses": (claim("fair", "good", **{"is": "keeps", "at": 0.95}), "reversed"),
        "grows": (
            {"figure": "digit.accuracy", "is": "grows", "dial": {"poor": 1, "fair": 2, "good": 3}},
            "holds",
        ),
        "more_so": (
            claim("good", "poor", **{"is": "interaction", "than": {"ours": "good", "theirs": "fair"}}),
            "holds",
        ),
        "foretold": (
            {
                "figure": "digit.accuracy",
                "is": "ranks",
                "pairs": {
                    "x": {"ours": "good", "theirs": "poor", "predictor": 3},
                    "y": {"ours": "fair", "theirs": "poor", "predictor": 2},
                    "z": {"ours": "poor", "theirs": "good", "predictor": 1},
                },
            },
            "holds",
        ),
    }
    concluded = _concluded(reports, **{name: one for name, (one, _) in expected.items()})
    assert {n: c.word for n, c in concluded.claims.items()} == {n: word for n, (_, word) in expected.items()}
    assert (concluded.word, concluded.folds, concluded.samples) == ("not shown", 2, 480)
    one = concluded.claims["better"]
    assert one.value == pytest.approx(one.sides["good"] - one.sides["fair"])
    assert one.value == pytest.approx(np.mean(one.folds)) and len(one.folds) == 2
    assert one.smallest == pytest.approx((one.interval[1] - one.interval[0]) / 2)


def test_a_claim_of_a_small_unit_is_no_nought() -> None:
    one = Conclusion("holds", 3e-9, (2.1e-9, 4e-9), (3e-9,), (3e-9,), 9.5e-10, 0.0, {"a": 5e-9, "b": 2e-9})
    interval = "(95 % interval +2.1e-09 to +4e-09, smallest effect that could be seen 9.5e-10)"
    assert one.sentence() == f"HOLDS: +3e-09 {interval}"
    assert replace(one, interval=None).sentence() == "HOLDS: +3e-09, too few samples for an interval"
    points = [Point("s", 2e-9, (1e-9, 3e-9), 10), Point("m", 1.5e-9, (1e-9, 2.5e-9), 20)]
    said = Tradeoff("s", "report", "current.mae", False, "test", 9, points, {}).sentence()
    assert (
        said == "current.mae: m is the best of 2 sizes with 1.5e-09; s (2e-09, 10 parameters) lies within its interval"
    )


def test_ranks_of_draws_that_nobody_knows_are_unknown(reports: Any) -> None:
    """One group is too few to be resampled: there are no draws, so there is no interval."""
    storage, done = reports
    config = {"config": {"intervals": {"over": "groups", "draws": 100}}}
    alone = storage, {"report-a": replace(done["report-a"], payload=config)}
    pairs = {n: {"ours": n, "theirs": "poor", "predictor": p} for n, p in (("good", 3), ("fair", 2), ("twin", 1))}
    claims = {"foretold": {"figure": "digit.accuracy", "is": "ranks", "pairs": pairs}}
    one = _concluded(alone, **claims).claims["foretold"]
    assert one.interval is None and one.word == "not shown", "it ran from 0 to 0"
    assert _concluded(reports, **claims).claims["foretold"].interval is not None


def test_what_the_reports_lack_is_refused_when_the_recipe_is_read() -> None:
    text = """\
name: claims
root: memory://claims
modalities: {digit: {type: category, classes: 4}}
steps:
  frames:
    stage: ingest
    source: {type: table, path: a.csv, columns: {digit@truth: t, digit@good: g, digit@fair: f}}
  shards: {stage: shard, data: frames, split: {test: 0.5}}
  report: {stage: evaluate, data: shards}
  verdict:
    stage: verdict
    report: report
    claims:
      one: {ours: good, theirs: fairly, figure: digit.accuracy}
      two: {ours: good, theirs: fair, figure: digit.miou}
      three: {ours: good, theirs: fair, figure: digits.accuracy}
"""
    with pytest.raises(RecipeError) as error:
        check(recipe.parse(text, "r.yaml"), None)
    lines = str(error.value).splitlines()
    assert lines[0].startswith("r.yaml:14: step 'verdict': one: 'report' knows no 'fairly'; did you mean 'fair'?")
    assert lines[1].startswith("r.yaml:15: step 'verdict': two: 'digit' is not measured by 'miou'")
    assert lines[2].startswith("r.yaml:16: step 'verdict': three: 'report' judges no modality 'digits'")


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"ours": "a"}, "compares two: give ours and theirs"),
        ({"ours": "a", "theirs": "a"}, "ours and theirs are both 'a'"),
        ({"ours": "a", "theirs": "b", "is": "keeps"}, "keeps needs at: the share to keep"),
        ({"is": "grows", "dial": {"a": 1, "b": 1}}, "grows needs dial"),
        ({"ours": "a", "theirs": "b", "is": "interaction"}, "interaction needs than"),
        ({"is": "ranks"}, "ranks needs pairs: 3 at least"),
        ({"ours": "a", "theirs": "b", "margin": 0.1}, "margin is for `is: not worse`, not for `is: better`"),
        ({"ours": "a", "theirs": "b", "than": {"ours": "c", "theirs": "d"}}, "than is for `is: interaction`"),
        ({"ours": "a", "theirs": "b", "is": "not worse", "at": 0.9}, "at is for `is: keeps`"),
    ],
)
def test_a_claim_that_is_none_is_refused(claim: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Claim.model_validate({"figure": "a.b", **claim})


def _arm(name: str, means: np.ndarray, spread: float, draw: np.random.Generator, draws: int = 400) -> Arm:
    return Arm(name, means, means[..., None] + draw.normal(0, spread, (*means.shape, draws)))


def _gain(values: Any) -> np.ndarray:
    return values[0] - values[1]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """A gain of .1 that differs by fold and seed, measured with noise: the interval of 8 folds and 5 seeds holds it in
    most of 200 worlds, and that of no gain lies off 0 in few."""
    hits, cries = 0, 0
    claim = Claim(figure="a.b", ours="x", theirs="y")
    for world in range(200):
        draw = np.random.default_rng(world)
        folds = draw.normal(0, 0.05, (8, 1)) + draw.normal(0, 0.03, (8, 5))
        for gain in (0.1, 0.0):
            arms = [_arm("x", 0.5 + gain + folds, 0.01, draw), _arm("y", np.full((8, 1), 0.5), 0.01, draw)]
            outcome = bootstrap(arms, _gain)
            assert outcome.interval is not None
            hits += gain > 0 and outcome.interval[0] <= 0.1 <= outcome.interval[1]
            cries += gain == 0 and claim.word(outcome.interval, outcome.seeds) != "not shown"
    assert hits >= 170 and cries <= 24


def test_a_level_with_one_member_is_not_drawn_and_seeds_pair_up() -> None:
    draw = np.random.default_rng(0)
    seeds = draw.normal(0, 1, (1, 3))
    flat = [Arm(n, seeds + v, np.repeat((seeds + v)[..., None], 50, 2)) for n, v in (("x", 0.25), ("y", 0.0))]
    outcome = bootstrap(flat, _gain)
    assert outcome.interval == pytest.approx((0.25, 0.25)) and outcome.seeds == pytest.approx((0.25,) * 3)
    uneven = [flat[0], Arm("y", np.zeros((1, 2)), np.zeros((1, 2, 50)))]
    with pytest.raises(RecipeError, match=r"different numbers of seeds \(x 3, y 2\)"):
        bootstrap(uneven, _gain)


def test_one_seed_on_the_other_side_keeps_a_claim_from_holding() -> None:
    claim = Claim(figure="a.b", ours="x", theirs="y")
    assert claim.word((0.1, 0.3), (0.2, 0.1, 0.3)) == "holds"
    assert claim.word((0.1, 0.3), (0.5, -0.01, 0.3)) == "not shown"
    assert claim.word((-0.3, -0.1), (0.2, -0.4, -0.4)) == "reversed"
    assert claim.word(None, (0.2,)) == "not shown"
    assert together(["holds", "holds"]) == "holds" and together(["holds", "reversed"]) == "not shown"
    assert together(["reversed", "not shown"]) == "reversed" and together([]) == "not shown"
