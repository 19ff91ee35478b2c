"""Where weights start and which of them move: from a step, the champion or a file; frozen parts, rates by part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from hyperloom.pipeline.commits.manifest import Manifest, commit
from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.fields import step_refs
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.digests import Digests
from hyperloom.stages import champion as champions
from hyperloom.stages.network import parts
from hyperloom.stages.train import fitted, loop
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.train.stage import Train
from hyperloom.stages.train.starting import Misfit
from hyperloom.stages.world import World
from tests.training import ranks
from tests.unit import inline, scenes

WIDTH = {"trunk": {"type": "unet", "width": 2}}


@pytest.fixture(scope="module")
def teacher(data: Any) -> Manifest:
    """A trained step of one input and one task."""
    run = scenes.step(data[0], data[2], **{"in": "rgb@camera", "targets": {"semantic": "semantic@truth"}})
    job = run.stage.job(run)
    loop.fit(job)
    done = fitted.load(job.storage, job.folder)
    assert done is not None
    return Manifest("train", run.fingerprint, {}, (), done.files, {"columns_in": ["rgb@camera"]})


def made(data: Any, name: str, teacher: Manifest | None = None, **fields: Any) -> Job:
    config = Train.model_validate({**scenes.TRAIN, **fields})
    inputs = {"shards": data[2], **({"teacher": teacher} if teacher else {})}
    run = inline.step(config, data[0], scenes.KNOWN, "student", **inputs)
    return replace(run.stage.job(run), folder=f"train/{name}")


def weights(job: Job) -> dict[str, torch.Tensor]:
    """What a job stored, by the names of parts."""
    found = load(scenes.weights(job.storage, job.folder))
    return {part: found[own] for own, part in parts.named(found, job.architecture.columns).items()}


def fresh(job: Job) -> dict[str, torch.Tensor]:
    """What a job starts with."""
    state = loop.Training(job, World()).model.state_dict()
    return {part: state[own].clone() for own, part in parts.named(state, job.architecture.columns).items()}


START: dict[str, Any] = {"model": {**WIDTH, "start": "teacher"}}


@pytest.mark.parametrize("inputs", [["rgb@camera", "semantic@noisy"], ["semantic@noisy", "rgb@camera"]])
def test_weights_of_a_step_are_taken_where_they_fit(data: Any, teacher: Manifest, inputs: list[str]) -> None:
    """An input and a task were added, and the order of the inputs does not count."""
    job = made(data, f"fits-{inputs[0]}", teacher, **START, **{"in": inputs})
    began, plain = fresh(job), fresh(replace(job, start=None))
    old = load(scenes.weights(data[0], teacher.folder))
    first, place = "trunk.enter.0.0.weight", 0 if inputs[0] == "rgb@camera" else 3
    for part, value in began.items():
        if part in old and part != first:
            assert torch.equal(value, old[part]), part
    assert torch.equal(began[first][:, place : place + 3], old[first])
    noisy = slice(3, 6) if place == 0 else slice(0, 3)
    assert torch.equal(began[first][:, noisy], plain[first][:, noisy]), "a new input starts afresh"
    new = [part for part in began if part.startswith("heads.depth")]
    assert new and all(torch.equal(began[part], plain[part]) for part in new)
    said = scenes.Said()
    loop.fit(job, log=said)
    assert said.texts[0].startswith("starts from teacher: ")
    assert "in part: trunk.enter" in said.texts[0] and "not there: heads.depth" in said.texts[0]


def test_options_of_a_trunk_that_weights_do_not_show_are_said(data: Any, teacher: Manifest) -> None:
    leaky = {"trunk": {**WIDTH["trunk"], "activation": "leaky", "dilations": [1, 2, 4, 8, 4, 2]}, "start": "teacher"}
    said = scenes.Said()
    loop.fit(made(data, "leaky", teacher, model=leaky), log=said)
    assert said.texts[0].endswith("its trunk had other activation and dilations")


def test_a_start_that_does_not_fit_is_refused(data: Any, teacher: Manifest) -> None:
    whole = made(data, "whole", teacher, model={**WIDTH, "start": {"step": "teacher", "whole": True}})
    with pytest.raises(Misfit, match=r"does not fill the network: .*not there: heads.depth.*whole: false"):
        loop.fit(whole)
    vit = {"trunk": {"type": "vit", "width": 2, "patch": 8, "depth": 1}, "start": "teacher"}
    with pytest.raises(Misfit, match=r"nothing of teacher fits.*type: unet, width: 2"):
        loop.fit(made(data, "other", teacher, model=vit, targets={"depth": "depth@laser"}))
    with pytest.raises(RecipeError, match="'shards' gives shards.*wanted here: a model"):
        made(data, "none", teacher, model={"start": "shards"})


def test_a_file_of_weights_enters_identity_by_its_content(data: Any, teacher: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "old.safetensors"
    file.write_bytes(scenes.weights(data[0], teacher.folder))
    alone = {"in": "rgb@camera", "targets": {"semantic": "semantic@truth"}}
    fields: dict[str, Any] = {"model": {**WIDTH, "start": {"file": str(file), "whole": True}}, **alone}
    stage = Train.model_validate({**scenes.TRAIN, **fields})
    before = stage.facts(Digests(data[0]))
    job, same = made(data, "file", **fields), made(data, "step", teacher, **START, **alone)
    for one in (job, same):
        loop.fit(one)
    again = weights(same)
    assert all(torch.equal(value, again[part]) for part, value in weights(job).items())
    moved = Train.model_validate({**scenes.TRAIN, **alone, "model": {**WIDTH, "start": str(file)}})
    assert payload(moved, str)["model"]["start"] == {}, "where the file lies means nothing"
    file.write_bytes(file.read_bytes()[:-4] + bytes(4))
    assert stage.facts(Digests(data[0])) != before
    with pytest.raises(SourceError):
        Train.model_validate({**scenes.TRAIN, "model": {"start": "gone.safetensors"}}).facts(Digests(data[0]))


def test_the_champion_is_a_fact_and_a_new_one_makes_the_step_stale(data: Any, teacher: Manifest) -> None:
    storage = data[0]
    fields = {"model": {**WIDTH, "start": "models:/aerial@champion"}}
    stage = Train.model_validate({**scenes.TRAIN, **fields})
    with pytest.raises(SourceError, match="no such champion"):
        stage.facts(Digests(storage))

    def crown(weights: Manifest, digest: str) -> None:
        trained = replace(weights, stage="distill", fingerprint=digest * 64)
        read = {"config": {"model": {"step": trained.fingerprint}}}
        release = Manifest("release", digest * 64, read)
        for one in (trained, release):
            commit(storage, one)
        champions.crown(
            storage, "aerial", champions.Champion(release.fingerprint, {}, ""), champions.current(storage, "aerial")
        )

    crown(teacher, "a")
    first = stage.facts(Digests(storage))
    job = made(data, "champion", **fields)
    same = made(data, "x", teacher, **START)
    assert torch.equal(fresh(job)["trunk.refine.0.0.weight"], fresh(same)["trunk.refine.0.0.weight"])
    crown(replace(teacher, files=tuple(replace(f, sha256="0" * 64) for f in teacher.files)), "b")
    assert stage.facts(Digests(storage)) != first
    assert list(step_refs(stage)) == ["shards"]
    assert list(step_refs(Train.model_validate({**scenes.TRAIN, **START}))) == ["shards", "teacher"]


FROZEN: dict[str, Any] = {"freeze": ["trunk.enter", "heads.sem*"], "learn_rates": {"trunk": 0.1, "trunk.merge": 2}}


def test_frozen_parts_rest_to_the_bit_and_others_follow_their_rate(data: Any) -> None:
    """With decay and an average, interrupted or not; the balancer that looks at each gradient included."""
    fields = {"ema": 0.5, "optimizer": {"lr": 0.01, "weight_decay": 0.5}, "updates": 6}
    for balancer in ("uncertainty", "mgda"):
        job, rough = (
            made(data, f"{n}-{balancer}", model={**WIDTH, **FROZEN}, balancer=balancer, **fields)
            for n in ("calm", "cut")
        )
        began = fresh(job)
        loop.fit(job)
        with pytest.raises(Preempted):
            loop.fit(rough, request=ranks.At(4))
        loop.fit(rough)
        resumed = weights(rough)
        for part, value in weights(job).items():
            rests = part.startswith(("trunk.enter", "heads.semantic"))
            assert torch.equal(value, began[part]) is rests, part
            assert torch.equal(value, resumed[part])
    training = loop.Training(job, World())
    rates = sorted({group["lr"] for group in training.setup.optimizer.param_groups})
    now = training.schedule.get_last_lr()[0]
    assert rates == pytest.approx([now * 0.1, now, now * 2])


def test_no_part_frozen_trains_to_the_bytes_of_a_recipe_that_says_nothing(data: Any) -> None:
    plain, one = made(data, "says-nothing"), made(data, "rate-1", model={**WIDTH, "learn_rates": {"trunk": 1}})
    for job in (plain, one):
        loop.fit(job)
    same = weights(one)
    assert all(torch.equal(value, same[part]) for part, value in weights(plain).items())


@pytest.mark.timeout(500)
def test_two_workers_sharded_or_not_freeze_alike(data: Any, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"model": {**WIDTH, **FROZEN}, "ema": 0.5}
    alone = made(data, "alone", **fields)
    loop.fit(alone)
    pair = [made(data, f"pair-{n}", **fields, **({"parallel": "fsdp"} if n else {})) for n in (0, 1)]
    assert ranks.train([(j, 0) for j in pair], 2, tmp_path) == ["done", "done"]
    began, expected = fresh(alone), weights(alone)
    for job in pair:
        for part, value in weights(job).items():
            assert torch.allclose(value, expected[part], atol=2e-3), part
            if part.startswith(("trunk.enter", "heads.semantic")):
                assert torch.equal(value, began[part])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"freeze": "heads.semantik"}, "did you mean 'heads.semantic'"),
        ({"freeze": ["trnk"]}, "did you mean 'trunk'"),
        ({"freeze": "encoders.rgb@camra"}, "did you mean 'encoders.rgb@camera'"),
        ({"learn_rates": {"trunk": 0}}, "freeze it"),
        ({"learn_rates": {"head": 2}}, "did you mean 'heads'"),
        ({"start": {"step": "a", "file": "b"}}, "a step, the champion"),
        ({"start": "models:/aerial/3"}, "champions alone"),
    ],
)
def test_a_recipe_names_what_is_there(model: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Train.model_validate({**scenes.TRAIN, "model": model})


def test_what_only_the_network_knows_is_said_by_it(data: Any) -> None:
    with pytest.raises(Misfit, match=r"'trunk.entr' names no part.*did you mean 'trunk.enter'"):
        loop.fit(made(data, "deep", model={**WIDTH, "freeze": ["trunk.entr"]}))
    with pytest.raises(Misfit, match="nothing of the network to move"):
        loop.fit(made(data, "all", model={**WIDTH, "freeze": ["trunk", "heads"]}))


@pytest.mark.parametrize("trunk", ["unet", "inverted"])
def test_a_narrower_network_takes_filters_of_a_wider_one(data: Any, trunk: str) -> None:
    """Evenly spaced, the same channels on both sides of a layer, so that half of a network whose other half is silent
    answers like the whole."""
    run = scenes.step(data[0], data[2], model={"trunk": {"type": trunk, "width": 4}}, updates=2)
    wide = replace(run.stage.job(run), folder=f"train/wide-{trunk}")
    loop.fit(wide)
    done = fitted.load(wide.storage, wide.folder)
    assert done is not None
    source = Manifest("train", "b" * 64, {}, (), done.files, {"columns_in": ["rgb@camera", "semantic@noisy"]})
    half = {"trunk": {"type": trunk, "width": 2}, "start": {"step": "teacher", "select": True}}
    job = made(data, f"half-{trunk}", source, model=half, **{"in": ["rgb@camera"]})
    began, old = fresh(job), weights(wide)
    spread = [part for part, value in began.items() if value.shape != old[part].shape]
    assert len(spread) > 20
    for part, value in began.items():
        chosen = old[part]
        for axis, (few, many) in enumerate(zip(value.shape, chosen.shape, strict=True)):
            inputs = (few, many) == (3, 6)
            chosen = (
                chosen.narrow(axis, 0, few)
                if inputs
                else chosen[(slice(None),) * axis + (slice(None, None, many // few),)]
            )
        assert torch.equal(value, chosen), part
    said = scenes.Said()
    loop.fit(job, log=said)
    assert "evenly chosen of more: trunk." in said.texts[0] and "other shape" not in said.texts[0]
    plain = made(data, f"plain-{trunk}", source, model={**half, "start": {"step": "teacher", "whole": True}})
    with pytest.raises(Misfit, match="or select: true, which takes evenly spaced filters of it"):
        loop.fit(plain)


def test_names_of_another_program_are_brought_to_ours(data: Any, teacher: Manifest, tmp_path: Path) -> None:
    old = load(scenes.weights(data[0], teacher.folder))
    file = tmp_path / "public.safetensors"
    save_file({n.replace("trunk.enter", "backbone.stem"): v for n, v in old.items()}, file)
    names = {"backbone.stem": "trunk.enter"}
    job = made(data, "named", model={**WIDTH, "start": {"file": str(file), "names": names}}, **{"in": ["rgb@camera"]})
    began, plain = fresh(job), fresh(replace(job, start=None))
    for part, value in began.items():
        assert torch.equal(value, (old if part.startswith("trunk.enter") else plain)[part]), part
    wrong = {"file": str(file), "names": {"backbone.sten": "trunk.enter"}}
    with pytest.raises(Misfit, match=r"no weight of public.safetensors begins with 'backbone.sten'"):
        loop.fit(made(data, "misnamed", model={**WIDTH, "start": wrong}))
    with pytest.raises(ValueError, match="names are for the weights of a file"):
        made(data, "step-names", teacher, model={**WIDTH, "start": {"step": "teacher", "names": names}})
