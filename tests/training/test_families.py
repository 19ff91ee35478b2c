"""Families: one step that trains several models which differ in their seed, and who sees them as such."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits import manifest
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.inspection import verify
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.label.stage import Label
from hyperloom.stages.network.ensemble import Models, predictor
from hyperloom.stages.network.stored import weight_bytes
from hyperloom.stages.release.stage import Release
from hyperloom.stages.results import Judged, Released, Trained
from hyperloom.stages.train import loop
from hyperloom.stages.train.job import Member
from hyperloom.stages.verdict.conclusion import Concluded
from hyperloom.stages.verdict.stage import VerdictStage
from tests.unit import inline, scenes

FIELDS: dict[str, Any] = {"seed": 4, "seeds": 2, "updates": 12, "validate_every": 6, "in": ["rgb@camera"]}
TRUTH = {"semantic": "semantic@truth", "depth": "depth@laser"}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A root, its frames and shards, and the manifest of a distilled family of two."""
    storage, frames, shards = scenes.shards(tmp_path_factory.mktemp("root"), val=True)
    extra = {"stage": "distill", "mask": "none", "optimizer": {"lr": 0.02}}
    run = scenes.step(storage, shards, Distill, **FIELDS, **extra)
    return storage, frames, shards, run, inline.finish(run)


def _report(family: Any, models: Any, **fields: Any) -> Manifest:
    storage, _, shards, _, made = family
    stage = Evaluate(stage="evaluate", data="shards", truth=TRUTH, models=models, pictures=0, **fields)
    return inline.finish(inline.step(stage, storage, scenes.KNOWN, "report", shards=shards, pair=made))


def test_each_member_is_the_training_of_its_seed_alone(family: Any) -> None:
    storage, _, _, run, made = family
    trained = Trained.from_manifest(made)
    assert [(m.name, m.seed) for m in trained.members] == [("seed4", 4), ("seed5", 5)]
    weights = [scenes.weights(storage, m.folder) for m in trained.members]
    assert weights[0] != weights[1]
    loop.fit(run.stage.job(run).of(Member(5, "elsewhere")))
    assert scenes.weights(storage, "elsewhere") == weights[1]
    single = run.stage.model_copy(update={"seed": 5, "seeds": 1})
    assert inline.step(single, storage, scenes.KNOWN, "one", **run.inputs).folder == trained.members[1].folder
    assert len([f for f in made.all_files() if f.path.endswith("/student.onnx")]) == 2
    figure = trained.best_by
    best = min if figure.endswith("mae") else max
    by = {m.name: m.final[figure] for m in trained.members}
    assert trained.best == best(by, key=by.__getitem__) and trained.final[figure] == by[trained.best]


def test_one_seed_is_no_family_and_moves_no_identity(family: Any) -> None:
    stage = family[3].stage.model_copy(update={"seeds": 1})
    assert "seeds" not in payload(stage, str) and payload(stage, str) != payload(family[3].stage, str)


def test_a_family_grows_and_trains_only_what_is_new(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, _, _, run, _ = family
    fitted: list[int] = []
    fit = loop.fit
    monkeypatch.setattr(loop, "fit", lambda job, *rest: (fitted.append(job.seed), fit(job, *rest)))
    more = run.stage.model_copy(update={"seeds": 3})
    made = inline.finish(inline.step(more, storage, scenes.KNOWN, "pair", **run.inputs))
    assert fitted == [6] and len(Trained.from_manifest(made).members) == 3


def test_an_evaluation_judges_the_members_and_their_mean(family: Any) -> None:
    together = {"model": "pair", "ensemble": {"type": "models"}}
    made = _report(family, {"pair": "pair", "both": together}, against=["pair"])
    report = Judged.from_manifest(made)
    assert set(report.models) == {"pair seed4", "pair seed5", "both"}
    assert report.costs["both"]["members"] == 2 and report.costs["pair seed4"]["members"] == 1
    row = report.seeds["pair"]["semantic.miou"]
    assert row["values"] == [report.figures[f"pair {n}"]["semantic.miou"] for n in ("seed4", "seed5")]
    assert row["mean"] == pytest.approx(np.mean(row["values"])) and row["interval"] is not None
    assert {d["who"] for d in report.differences} >= {"both"}


def test_a_verdict_takes_a_family_seed_by_seed(family: Any) -> None:
    storage = family[0]
    report = _report(family, {"pair": "pair", "again": "pair"})
    claim = {"ours": "pair", "theirs": "again", "figure": "depth.mae"}
    stage = VerdictStage.model_validate({"stage": "verdict", "report": "report", "claims": {"same": claim}})
    done = inline.finish(inline.step(stage, storage, scenes.KNOWN, "verdict", report=report))
    same = Concluded.from_manifest(done).claims["same"]
    assert (same.word, list(same.seeds), same.interval) == ("not shown", [0.0, 0.0], None), "one block is too little"
    figures = Judged.from_manifest(report).figures
    assert same.sides["pair"] == pytest.approx(np.mean([figures[f"pair seed{n}"]["depth.mae"] for n in (4, 5)]))
    assert storage.read(done.files[0].path).startswith(b"\x89PNG")


def test_an_expert_and_an_ensemble_ask_all_members(family: Any) -> None:
    storage, frames, _, _, made = family
    batch = {"rgb@camera": np.stack([scenes.scene(np.random.default_rng(3), 0)["rgb@camera"]])}
    alone = [predictor(storage, made, None, name)(batch).mean["depth"] for name in ("seed4", "seed5")]
    assert not np.allclose(*alone)
    for ensemble in (None, Models(type="models")):
        assert predictor(storage, made, ensemble)(batch).mean["depth"] == pytest.approx(np.mean(alone, 0), abs=1e-4)
    expert = {"type": "model", "model": "pair", "out": ["depth@model", "spread@model"], "spread_of": "depth"}
    stage = Label.model_validate({"stage": "label", "data": "frames", "experts": [expert]})
    labels = inline.finish(inline.step(stage, storage, scenes.KNOWN, "labels", frames=frames, pair=made))
    spread = inline.column(storage, scenes.KNOWN, labels, "spread@model")
    assert all(s is not None and s.any() for s in spread.values()), "one model alone has no spread"


def test_how_large_models_are_is_known_from_their_manifest(family: Any) -> None:
    """By that a big one gets a share of a GPU: nothing of it is looked for in the root, and no identity knows it."""
    storage, _, _, _, made = family
    sizes = [len(scenes.weights(storage, m.folder)) for m in Trained.from_manifest(made).members]
    assert [weight_bytes(made, name) for name in ("seed4", "seed5")] == sizes and min(sizes) > 1000
    expert = plugins.parse("expert", {"type": "model", "model": "pair", "out": ["depth@model"]})
    bound, nowhere = expert.bind({"pair": made}), MagicMock(spec=Storage)
    assert bound.heft(nowhere) == weight_bytes(made) == sum(sizes) and not nowhere.mock_calls
    small = expert.bind({"pair": replace(made, records=())})
    assert small.heft(nowhere) == 0 and payload(small, str) == payload(bound, str)


def test_a_release_hands_out_the_best_member_or_the_one_that_is_named(family: Any) -> None:
    storage, _, _, _, made = family
    report, trained = _report(family, {"pair": "pair"}), Trained.from_manifest(made)
    other = next(n for n in trained.names if n != trained.best)
    for subject, member in (("", trained.best), (f"pair {other}", other)):
        stage = Release(stage="release", model="pair", report="report", name=f"tiny-{member}", subject=subject)
        done = Released.from_manifest(
            inline.finish(inline.step(stage, storage, scenes.KNOWN, "release", pair=made, report=report))
        )
        folder = next(m.folder for m in trained.members if m.name == member)
        assert storage.read(done.files["student.onnx"]) == storage.read(f"{folder}/student.onnx")
        assert done.subject == f"pair {member}" and f"pair {member} of 2 is released" in done.gate[0]


def test_a_family_that_was_judged_only_as_a_whole_is_not_released(family: Any) -> None:
    storage, _, _, _, made = family
    report = _report(family, {"both": {"model": "pair", "ensemble": {"type": "models"}}})
    stage = Release(stage="release", model="pair", report="report", name="tiny")
    step = inline.step(stage, storage, scenes.KNOWN, "release", pair=made, report=report)
    with pytest.raises(RecipeError, match=r"'report' judged 'both' by several .*list 'pair' once more under `models:`"):
        step.stage.run(step)


def test_an_ensemble_of_one_model_is_refused(family: Any) -> None:
    storage, _, shards, run, _ = family
    single = inline.finish(replace(run, stage=run.stage.model_copy(update={"seeds": 1}), fingerprint="a" * 64))
    with pytest.raises(RecipeError, match=r"it has one model\. Next: name further `models:`"):
        _report((storage, None, shards, None, single), {"pair": {"model": "pair", "ensemble": {"type": "models"}}})


RECIPE = """\
name: tiny
root: {root}
modalities:
  rgb:      {{type: image, size: [24, 32]}}
  depth:    {{type: dense, unit: m}}
  semantic: {{type: segmentation, classes: [land, forest, road, water, building]}}
  normals:  {{type: dense, channels: 3, direction: true}}
  flow:     {{type: dense, channels: 2, unit: px}}
  pose:     {{type: vector, length: 20}}
steps:
  frames: {{stage: ingest, source: {{type: flights, flights: 3, frames: 4, seed: 3}}, group: flight, rows: 4}}
  shards: {{stage: shard, data: frames, split: {{pin: {{train: [flight_00, flight_01], test: [flight_02]}}}}}}
  pair:   {{stage: train, data: shards, in: rgb@camera, targets: [depth@truth], {training}, seeds: 2, seed: 3}}
  one:    {{stage: train, data: shards, in: rgb@camera, targets: [depth@truth], {training}, seed: 4}}
  report: {{stage: evaluate, data: shards, models: [pair, one], truth: {{depth: depth@truth}}, pictures: 0}}
"""


def test_a_recipe_trains_without_ray_and_a_single_step_shares_the_training_of_its_seed(tmp_path: Any) -> None:
    training = "updates: 4, batch: 4, log_every: 2, model: {trunk: {type: unet, width: 2}}"
    loaded = recipe.parse(RECIPE.format(root=tmp_path / "root", training=training), "tiny.yaml")
    done = runner.run(loaded, progress=Progress(quiet=True), track=False)
    assert done.ok, done.problems
    storage = Storage(str(tmp_path / "root"))
    assert len(list(storage.names("train"))) == 3  # the family's own folder, and one for each of its seeds
    (report,) = (manifest.read(storage, f"evaluate/{n}/manifest.json").body for n in storage.names("evaluate"))
    assert report["figures"]["pair seed4"] == report["figures"]["one"] != report["figures"]["pair seed3"]
    assert report["seeds"]["pair"]["depth.mae"]["mean"] == pytest.approx(
        np.mean([report["figures"][n]["depth.mae"] for n in ("pair seed3", "pair seed4")])
    )
    metrics = [e for r in storage.names("events") for e in events.read(storage, r) if e["kind"] == "metric"]
    curves = {(e["step"], key) for e in metrics for key in e["values"]}
    assert ("pair", "loss/seed3") in curves
    assert len(curves & {("pair", "loss/seed4"), ("one", "loss")}) == 1, "a training that two steps share is told once"
    assert not verify.verify(storage).problems and not verify.garbage(storage)
