"""Generations of consensus (label, agree, train, label again), ensembles of masks and of models, students' costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.events import read
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.consensus.stage import ConsensusStage
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.label.model import Model
from hyperloom.stages.label.stage import Label
from hyperloom.stages.network.ensemble import Masks, Models, predictor
from hyperloom.stages.network.masks import ModalityMask
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import loop
from tests.unit import inline, scenes

KNOWN = scenes.KNOWN
SPLIT = {"pin": {"test": ["g3"], "train": ["g0", "g1", "g2"]}}


def _frames(storage: Storage) -> Manifest:
    """Four groups with two noisy experts, whose mistakes differ, and the truth."""
    random = np.random.default_rng(0)

    def sample() -> dict[str, Any]:
        made = scenes.scene(random, 0)
        truth = np.where(made["semantic@truth"] == 255, 0, made["semantic@truth"]).astype(np.uint8)
        noise = [random.random(truth.shape) < share for share in (0.25, 0.4)]
        experts = [np.where(n, random.integers(0, 3, truth.shape), truth).astype(np.uint8) for n in noise]
        return {
            "rgb@camera": made["rgb@camera"],
            "semantic@truth": truth,
            "semantic@a": experts[0],
            "semantic@b": experts[1],
        }

    return inline.ingested(storage, KNOWN, {f"g{g}": [sample() for _ in range(4)] for g in range(4)})


def _train(
    storage: Storage, shards: Manifest, name: str, seed: int = 0, kind: str = "train", **fields: Any
) -> Manifest:
    config = {
        **scenes.TRAIN,
        **scenes.LEARN,
        "stage": kind,
        "in": ["rgb@camera"],
        "mask": "none",
        "seed": seed,
        "updates": 25,
        **fields,
    }
    stage = {"train": scenes.Train, "distill": Distill}[kind].model_validate(config)
    teacher = Manifest("train", scenes.TEACHER, {}, body={"columns_in": ["rgb@camera"], "tasks": ["semantic"]})
    step = inline.step(stage, storage, KNOWN, name, shards=shards, teacher=teacher)
    loop.fit(step.stage.job(step))
    made = inline.finish(step)
    step.events.flush()
    return made


def _step(stage: Any, storage: Storage, name: str, **inputs: Manifest) -> Manifest:
    return inline.finish(inline.step(stage, storage, KNOWN, name, **inputs))


def _right(storage: Storage, frames: Manifest, made: Manifest, column: str) -> float:
    told, truth = (inline.column(storage, KNOWN, m, c) for m, c in ((made, column), (frames, "semantic@truth")))
    return float(np.mean([told[k] == truth[k] for k in truth]))


def test_two_generations_of_consensus_each_learn_from_the_one_before(tmp_path: Any) -> None:
    storage = Storage(str(tmp_path))
    frames = _frames(storage)
    inputs, votes, quality = {"frames": frames}, [], []
    vote = ConsensusStage(stage="consensus", data="frames", out="semantic@g0", method="vote")
    votes.append(_step(vote, storage, "votes0", frames=frames))
    for generation in (1, 2):
        shards = Shard(stage="shard", data=("frames", "votes"), split=SPLIT)
        shards = _step(shards, storage, "shards", frames=frames, votes=votes[-1])
        target = f"semantic@g{generation - 1}"
        models = {
            f"edge{i}": _train(storage, shards, f"edge{i}", i, targets={"semantic": target}, **{"in": columns})
            for i, columns in enumerate((["rgb@camera"], ["rgb@camera", "semantic@a"]))
        }
        experts = [{"type": "model", "model": name, "out": f"semantic@{name}_{generation}"} for name in models]
        label = Label.model_validate({"stage": "label", "data": "frames", "experts": experts})
        inputs[f"asked{generation}"] = _step(label, storage, "asked", frames=frames, **models)
        agree = ConsensusStage(
            stage="consensus",
            data=("frames", f"asked{generation}"),
            out=f"semantic@g{generation}",
            method="dawid-skene",
        )
        votes.append(_step(agree, storage, "votes", **inputs))
    quality = [_right(storage, frames, made, f"semantic@g{i}") for i, made in enumerate(votes)]
    about = votes[2].body["columns"]["semantic@g2"]["about"]
    assert about["inputs"] == ["semantic@a", "semantic@b", "semantic@edge0_2", "semantic@edge1_2"]
    assert quality[1] > quality[0] + 0.05 and quality[2] > quality[0] + 0.05
    models = inputs["asked2"].body["columns"]["semantic@edge0_2"]["about"]["expert"]["model"]
    assert models != inputs["asked1"].body["columns"]["semantic@edge0_1"]["about"]["expert"]["model"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Manifest, dict[str, Manifest]]:
    """A root, its shards, and two models that differ in their seed."""
    storage, _, shards = scenes.shards(tmp_path_factory.mktemp("root"))
    fields = {"in": ["rgb@camera", "semantic@noisy"], "mask": {"type": "modality", "keep": 0.6}}
    return storage, shards, {f"seed{i}": _train(storage, shards, f"seed{i}", i, **fields) for i in (0, 1)}


def _batch() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    samples = [scenes.scene(random, 0) for _ in range(3)]
    return {c: np.stack([s[c] for s in samples]) for c in ("rgb@camera", "semantic@noisy")}


def _masks(pool: str, members: int = 5) -> Masks:
    return Masks(type="masks", members=members, pool=pool, mask=ModalityMask(type="modality", visible="rgb"))


def test_members_may_vote_or_give_their_median(trained: Any) -> None:
    storage, _, models = trained
    teacher, batch = models["seed0"], _batch()
    drawn = _masks("mean").members(("rgb@camera", "semantic@noisy"))
    single = [
        predictor(storage, teacher)(batch if row[1] else {"rgb@camera": batch["rgb@camera"]}).mean for row in drawn
    ]
    classes = np.stack([m["semantic"].argmax(-1) for m in single])
    voted = predictor(storage, teacher, _masks("vote"))(batch)
    assert voted.mean["semantic"] == pytest.approx(np.stack([(classes == k).mean(0) for k in range(3)], -1), abs=1e-6)
    middle = predictor(storage, teacher, _masks("median"))(batch)
    depths = np.stack([m["depth"] for m in single])
    assert middle.mean["depth"] == pytest.approx(np.median(depths, 0), abs=1e-4)
    assert middle.mean["semantic"].sum(-1) == pytest.approx(np.ones((3, *scenes.SIZE)), abs=1e-5)
    mean = predictor(storage, teacher, _masks("mean"))(batch)
    assert np.array_equal(mean.spread["depth"], voted.spread["depth"])


def test_models_trained_apart_are_asked_as_one(trained: Any) -> None:
    storage, shards, models = trained
    together = Models(type="models", models=("seed1",))
    bound = together.bind(models)
    batch = _batch()
    made = predictor(storage, models["seed0"], bound)(batch)
    one, two = (predictor(storage, m)(batch).mean["depth"] for m in models.values())
    assert made.mean["depth"] == pytest.approx((one + two) / 2, abs=1e-4)
    assert made.spread["depth"] == pytest.approx(np.abs(one - two) / 2, abs=2e-2)
    stage = Evaluate(
        stage="evaluate",
        data="shards",
        truth={"semantic": "semantic@truth"},
        models={"both": {"model": "seed0", "ensemble": {"type": "models", "models": ["seed1"]}}, "one": "seed0"},
    )
    body = _step(stage, storage, "report", shards=shards, **models).body
    assert body["costs"]["both"]["parameters"] == 2 * body["costs"]["one"]["parameters"]
    assert body["costs"]["both"]["flops"] == 2 * body["costs"]["one"]["flops"]
    wrong = {"both": {"model": "seed0", "ensemble": {"type": "models", "models": ["shards"]}}}
    stage = Evaluate(stage="evaluate", data="shards", truth={"semantic": "semantic@truth"}, models=wrong)
    with pytest.raises(RecipeError, match="'shards' gives shards .*wanted here: a model"):
        _step(stage, storage, "report", shards=shards, **models)


def test_certainty_is_low_where_members_differ(trained: Any) -> None:
    storage, _, models = trained
    expert = {"type": "model", "model": "seed0", "out": ["spread@seed0"], "ensemble": {"type": "masks", "members": 6}}
    built = {}
    for kind in ("spread", "certainty"):
        model = Model.model_validate({**expert, "spread_as": kind}).bind(models)
        batch = {**_batch(), "rgb@camera?": np.ones(3, bool), "semantic@noisy?": np.ones(3, bool)}
        built[kind] = model.build(KNOWN, storage)(batch)["spread@seed0"]
    spread, sure = built["spread"], built["certainty"]
    assert 0 <= sure.min() < sure.max() <= 1
    assert np.corrcoef(spread.ravel(), sure.ravel())[0, 1] < -0.99


def test_a_student_says_what_it_costs(tmp_path: Any) -> None:
    storage, _, shards = scenes.shards(tmp_path)
    fields = {"teacher": "teacher", "in": "rgb@camera", "updates": 2, "model": "30k"}
    targets = {"semantic": {"soft@teacher": 1.0, "semantic@truth": 0.5}, "depth": "depth@laser"}
    made = _train(storage, shards, "student", kind="distill", targets=targets, **fields)
    assert 15_000 < made.body["parameters"] < 60_000
    assert made.body["onnx"]["flops"] > made.body["parameters"]
    told = [e["values"] for e in read(storage, "test") if e["kind"] == "metric" and e["step"] == "student"]
    assert any({"latency ms/onnx", "latency ms/torch"} <= set(values) for values in told)


def test_a_student_learns_features_through_a_projector(tmp_path: Any) -> None:
    storage, frames, shards = scenes.shards(tmp_path)
    teacher = _train(storage, shards, "teacher", updates=10)
    sizes = predictor(storage, teacher).model.architecture.trunk.sizes
    known = KNOWN | inline.modalities(
        planes={"type": "dense", "channels": sizes.planes, "size": list(scenes.SIZE)},
        whole={"type": "embedding", "length": sizes.pooled},
        wrong={"type": "dense", "channels": 99, "size": list(scenes.SIZE)},
    )

    def asked(*out: str) -> Manifest:
        experts = [{"type": "model", "model": "teacher", "out": list(out)}]
        stage = Label.model_validate({"stage": "label", "data": "frames", "experts": experts})
        return inline.finish(inline.step(stage, storage, known, "soft", frames=frames, teacher=teacher))

    soft = asked("planes@teacher", "whole@teacher", "soft@teacher2")
    planes = inline.column(storage, known, soft, "planes@teacher")["g0/000"]
    assert planes is not None and planes.shape == (*scenes.SIZE, sizes.planes) and planes.std() > 0
    stage = Shard(stage="shard", data=("frames", "soft"), split=SPLIT)
    taught = inline.finish(inline.step(stage, storage, known, "taught", frames=frames, soft=soft))
    config = {
        **scenes.TRAIN,
        **scenes.LEARN,
        "stage": "distill",
        "teacher": "teacher",
        "in": "rgb@camera",
        "mask": "none",
        "targets": {"semantic": "soft@teacher2", "planes": "planes@teacher", "whole": "whole@teacher"},
    }
    step = inline.step(Distill.model_validate(config), storage, known, "student", shards=taught, teacher=teacher)
    loop.fit(step.stage.job(step))
    made = inline.finish(step)
    assert set(made.body["tasks"]) == {"semantic", "planes", "whole"}
    batch = {"rgb@camera": _batch()["rgb@camera"]}
    asked_teacher = predictor(storage, teacher)
    asked_teacher.features = True
    wanted, told = asked_teacher(batch).mean["*planes"], predictor(storage, made)(batch).mean["planes"]
    assert np.abs(told - wanted).mean() < 0.8 * np.abs(wanted - wanted.mean((0, 1, 2))).mean()  # more than their mean
    with pytest.raises(RecipeError, match="nothing for wrong@teacher \\(its features have"):
        asked("wrong@teacher")
