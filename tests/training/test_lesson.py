"""What taught a student: its teacher is behind a target, or is refused; log, result and report name who made each."""

from __future__ import annotations

from typing import Any

import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.events import read
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.consensus.stage import ConsensusStage
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.label.stage import Label
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import loop
from tests.unit import inline, scenes

RECIPE = """\
name: small
modalities:
  rgb: {{type: image, size: [16, 24]}}
  semantic: {{type: segmentation, classes: [land, forest, road]}}
  coarse: {{type: segmentation, classes: [land, road]}}
  soft: {{type: soft, of: semantic}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "*.jpg", columns: {{semantic@truth: "{{stem}}.png"}}}}}}
  labels:
    stage: label
    data: frames
    experts: [{{type: color-classes, in: rgb@camera, out: semantic@color, colors: {{land: ["#968c5a"]}}}}]
  shards: {{stage: shard, data: [frames, labels], split: {{test: 0.3}}}}
  teacher: &net {{stage: train, data: shards, in: rgb@camera, targets: [semantic@color], batch: 2, updates: 1}}
  other: {{stage: train, data: shards, in: rgb@camera, targets: [semantic@color], batch: 2, updates: 2}}
  soft: {{stage: label, data: frames, experts: [{{type: model, model: teacher, out: [soft@t, semantic@t]}}]}}
  pooled:
    stage: label
    data: frames
    experts: [{{type: model, model: other, out: soft@pool, ensemble: {{type: models, models: [teacher]}}}}]
  votes: {{stage: consensus, data: [labels, soft], out: semantic@votes, method: vote}}
  remapped:
    stage: label
    data: votes
    experts: [{{type: remap, in: semantic@votes, out: coarse@votes, table: {{forest: land}}}}]
  taught: {{stage: shard, data: [frames, labels, soft, pooled, votes, remapped], split: {{test: 0.3}}}}
  student: {{stage: distill, data: taught, teacher: {teacher}, in: rgb@camera, targets: {targets}, updates: 1}}
"""


@pytest.mark.parametrize(
    ("teacher", "targets", "refused"),
    [
        ("teacher", "{semantic: soft@t}", ""),
        ("teacher", "{semantic: {semantic@color: 1, semantic@t: .1}}", ""),
        ("teacher", "{semantic: semantic@votes}", ""),
        ("teacher", "{coarse: coarse@votes}", ""),
        ("teacher", "{semantic: soft@pool}", ""),
        ("other", "{semantic: soft@pool}", ""),
        ("teacher", "{semantic: semantic@color}", "made none of the targets, which are semantic@color (expert)"),
        ("teacher", "{semantic: semantic@truth}", "made none of the targets, which are semantic@truth (raw)"),
        (
            "other",
            "{semantic: semantic@votes}",
            "'other' made none of the targets, which are semantic@votes ('tea",
        ),
        ("other", "{coarse: coarse@votes, semantic: soft@t}", "coarse@votes ('teacher'), soft@t ('teacher')"),
    ],
)
def test_a_teacher_is_behind_a_target_or_is_refused_by_the_plan(teacher: str, targets: str, refused: str) -> None:
    text = RECIPE.format(teacher=teacher, targets=targets)
    if not refused:
        check(recipe.parse(text, "r.yaml"))
        return
    line = next(i for i, words in enumerate(text.splitlines(), 1) if words.startswith("  student"))
    with pytest.raises(RecipeError) as caught:
        check(recipe.parse(text, "r.yaml"))
    (mistake,) = str(caught.value).splitlines()
    assert mistake.startswith(f"r.yaml:{line}: ") and refused in mistake and "leave `teacher:` out" in mistake


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A root, frames, shards and the manifest of a teacher that learned from them."""
    storage, frames, shards = scenes.shards(tmp_path_factory.mktemp("root"))
    run = scenes.step(storage, shards, updates=1, **{"in": "rgb@camera"}, targets={"semantic": "semantic@noisy"})
    loop.fit(run.stage.job(run))
    return storage, frames, shards, inline.finish(run)


def _student(storage: Storage, shards: Manifest, teacher: Manifest | None, targets: Any) -> Any:
    fields = {**scenes.TRAIN, "stage": "distill", "in": "rgb@camera", "mask": "none", "updates": 1}
    config = Distill.model_validate({**fields, "targets": targets, **({"teacher": "net"} if teacher else {})})
    inputs = {"shards": shards, **({"net": teacher} if teacher else {})}
    return inline.step(config, storage, scenes.KNOWN, "student", **inputs)


def test_answers_that_came_through_a_consensus_name_the_teacher_and_another_version_is_refused(data: Any) -> None:
    storage, frames, _, teacher = data
    label = Label.model_validate(
        {"stage": "label", "data": "frames", "experts": [{"type": "model", "model": "net", "out": "semantic@net"}]}
    )
    soft = inline.finish(inline.step(label, storage, scenes.KNOWN, "soft", frames=frames, net=teacher))
    voting = ConsensusStage(
        stage="consensus", data=("frames", "soft"), out="semantic@votes", of=["semantic@noisy", "semantic@net"],
        method="vote",
    )  # fmt: skip
    votes = inline.finish(inline.step(voting, storage, scenes.KNOWN, "votes", frames=frames, soft=soft))
    sharding = Shard(stage="shard", data=("frames", "votes"), split={"pin": {"test": ["g1"]}})
    shards = inline.finish(inline.step(sharding, storage, scenes.KNOWN, "taught", frames=frames, votes=votes))
    run = _student(storage, shards, teacher, {"semantic": {"semantic@votes": 1.0, "semantic@truth": 0.5}})
    loop.fit(run.stage.job(run))
    student = inline.finish(run)
    by = f"the consensus vote, in which answers of net ({teacher.fingerprint[:12]}) count"
    assert student.body["taught"] == {"semantic@votes": by, "semantic@truth": "raw data"}
    run.events.flush()
    told = list(read(storage, "test"))
    line = f"student: learned from raw data through semantic@truth; {by} through semantic@votes"
    assert any(e["kind"] == "note" and e["text"] == line for e in told)
    assert any(e["kind"] == "tag" and e["values"].get("learned_from.semantic@votes") == by for e in told)
    evaluate = Evaluate(stage="evaluate", data="shards", models=["student"], truth={"semantic": "semantic@truth"},
                        pictures=0)  # fmt: skip
    report = inline.finish(inline.step(evaluate, storage, scenes.KNOWN, "report", shards=shards, student=student))
    assert line.replace("student: ", "student ") in report.body["said"]

    newer = Manifest("train", "a" * 64, {}, body=teacher.body)
    wrong = _student(storage, shards, newer, {"semantic": "semantic@votes"})
    with pytest.raises(RecipeError, match=rf"'net' made none.*semantic@votes \({teacher.fingerprint[:12]}\)"):
        wrong.stage.job(wrong)


def test_a_student_without_a_teacher_learns_from_labels_and_says_so(data: Any) -> None:
    storage, _, shards, _ = data
    run = _student(storage, shards, None, {"semantic": "semantic@noisy"})
    loop.fit(run.stage.job(run))
    assert inline.finish(run).body["taught"] == {"semantic@noisy": "raw data"}
