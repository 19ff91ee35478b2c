"""The training loop: the same bytes after any interruption, missing labels, what it learns, what it refuses."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Output, Unit, commit
from hyperloom.pipeline.errors import RecipeError, StepFailed, StorageError, Superseded, Torn
from hyperloom.pipeline.host.faults import FaultInjected
from hyperloom.pipeline.root import disk
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.network.model import build_model, load_model
from hyperloom.stages.train import checkpoint, failures, fitted, loop
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.stage import Train
from hyperloom.stages.world import World
from tests.unit import scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Manifest, Manifest]:
    return scenes.shards(tmp_path_factory.mktemp("root"))


def _job(data: Any, folder: Path, **fields: Any) -> Job:
    """A job whose files go to `folder` while its shards stay where they are."""
    from dataclasses import replace

    storage, _, made = data
    run = scenes.step(storage, made, **fields)
    return replace(run.stage.job(run), folder=f"train/{folder.parent.name}-{folder.name}")


def test_a_class_keeps_its_own_count_when_the_shards_are_read_by_a_later_run(data: Any, tmp_path: Path) -> None:
    """A manifest's keys are in alphabetical order, classes are not."""
    storage, _, made = data
    later = manifests.load(storage, made.stage, made.fingerprint)
    assert later is not None and later.body == made.body and list(scenes.CLASSES) != sorted(scenes.CLASSES)
    counts = made.body["statistics"]["semantic@truth"]["classes"]
    for shards in (made, later):
        (target,) = (t for t in _job((storage, None, shards), tmp_path / "x").targets if t.task == "semantic")
        assert target.class_counts == tuple(counts[name] for name in scenes.CLASSES)


def _weights(job: Job) -> bytes:
    return scenes.weights(job.storage, job.folder)


class Interrupted(Exception):
    pass


def _interrupt_at(update: int) -> Any:
    def log(at: int, values: dict[str, float]) -> None:
        if at >= update and "loss" in values:
            raise Interrupted

    return log


@pytest.mark.parametrize("options", [{}, {"ema": 0.8, "balancer": "uncertainty"}])
def test_interrupted_training_ends_in_the_same_bytes(data: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    calm, rough = _job(data, tmp_path / "calm", **options), _job(data, tmp_path / "rough", **options)
    told: list[int] = []
    loop.fit(calm, log=lambda at, values: told.append(at))

    for update in (2, 5, 8):
        with pytest.raises(Interrupted):
            loop.fit(rough, log=_interrupt_at(update))
        assert fitted.load(rough.storage, rough.folder) is None
    again: list[int] = []
    loop.fit(rough, log=lambda at, values: again.append(at))
    assert _weights(rough) == _weights(calm)
    assert scenes.trained(rough.storage, rough.folder) == scenes.trained(calm.storage, calm.folder)
    assert again == told  # the history is told again, so that the curve of a new run is whole
    assert fitted.load(rough.storage, rough.folder) is not None


def _interrupted(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Job, Job, dict[str, Any] | None]:
    """A training to its end, the same one that a fault ended after its first checkpoint, and what that holds."""
    calm, rough = _job(data, tmp_path / "one"), _job(data, tmp_path / "two")
    loop.fit(calm)
    monkeypatch.setenv("HYPERLOOM_FAULT", "train.checkpoint=raise")
    monkeypatch.setenv("HYPERLOOM_FAULT_ONCE", str(tmp_path / "once"))
    with pytest.raises(FaultInjected):
        loop.fit(rough)
    return calm, rough, checkpoint.load(rough.storage, rough.folder)


def test_a_fault_after_a_checkpoint_costs_nothing(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm, rough, state = _interrupted(data, tmp_path, monkeypatch)
    assert state is not None and state["update"] == 3
    loop.fit(rough)
    assert _weights(rough) == _weights(calm)


def test_a_checkpoint_of_another_version_is_passed_over(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, rough, state = _interrupted(data, tmp_path, monkeypatch)
    assert state is not None
    checkpoints = checkpoint.Checkpoints(rough.storage, rough.folder)
    checkpoints.save(4, {name: part for name, part in state.items() if name != "clipping"})
    said = scenes.Said()
    loop.fit(rough, log=said)
    assert [line for line in said.texts if "another version" in line and "clipping" in line and "starting anew" in line]
    assert _weights(rough) == _weights(calm)


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(data: Any, tmp_path: Path) -> None:
    storage, said = data[0], list[str]()
    checkpoints = checkpoint.Checkpoints(storage, "torn")
    for update in (3, 6, 9):
        checkpoints.save(update, {"update": update})
    assert checkpoint.load(storage, "torn") == {"update": 9}
    before, last = storage.names("torn/checkpoints")
    assert before.startswith("00000006-") and last.startswith("00000009-")
    storage.write(f"torn/checkpoints/{last}", b"cut short")
    assert checkpoint.load(storage, "torn", said.append) == {"update": 6}
    assert last in said[0] and f"going on from {before}" in said[0]
    storage.write(f"torn/checkpoint/{storage.names('torn/checkpoint')[-1]}", b"{")
    assert checkpoint.load(storage, "torn") == {"update": 6}
    storage.delete(f"torn/checkpoints/{before}")
    assert checkpoint.load(storage, "torn", said.append) is None
    assert "starting anew" in said[1] and len(said) == 2
    storage.write(f"torn/checkpoint/{storage.names('torn/checkpoint')[-1]}", b"{")
    assert checkpoint.load(storage, "torn") is None
    checkpoints = checkpoint.Checkpoints(storage, "torn")
    checkpoints.begin()
    checkpoints.save(12, {"update": 12})
    assert checkpoint.load(storage, "torn") == {"update": 12}


def test_a_training_that_was_replaced_changes_nothing_more(data: Any, tmp_path: Path) -> None:
    """Its driver slept and another one has gone on with the training: the first stops at its next checkpoint, and the
    model is what one undisturbed training gives."""
    calm, rough = _job(data, tmp_path / "one"), _job(data, tmp_path / "two")
    loop.fit(calm)
    calls = 0

    def replaced(at: int, values: dict[str, float]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            loop.fit(rough)

    with pytest.raises(Superseded, match=r"the training, which another process has taken over.*Next: run the same"):
        loop.fit(rough, log=replaced)
    assert _weights(rough) == _weights(calm) and fitted.load(rough.storage, rough.folder) is not None


def test_who_ends_after_another_has_ended_the_training_changes_nothing(data: Any, tmp_path: Path) -> None:
    """It slept after its last question whether it was replaced; on a GPU its weights are others."""
    job = _job(data, tmp_path / "one")
    loop.fit(job)
    before = {path: job.storage.read(path) for path in job.storage.walk(job.folder)}
    fitted.save(job.storage, job.folder, {"final": {}}, {"model.json": b"{}", "model.safetensors": b"late"})
    assert {path: job.storage.read(path) for path in before} == before
    done = fitted.load(job.storage, job.folder)
    assert done is not None and done.about["final"] and all(file.path in before for file in done.files)
    job.storage.delete(done.files[0].path)
    assert fitted.load(job.storage, job.folder) is None, "a training whose files are gone is not done"
    loop.fit(job)
    assert {path: job.storage.read(path) for path in before if "/checkpoint" not in path} == {
        path: data for path, data in before.items() if "/checkpoint" not in path
    }


def test_a_sleeper_on_a_store_that_overwrites_changes_no_model_that_was_committed(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked whether the training was done, slept while another ended and committed it, and wrote then."""
    job = _job(data, tmp_path / "one")
    loop.fit(job)
    done = fitted.load(job.storage, job.folder)
    assert done is not None
    commit(Output(job.storage, Unit(job.folder, "training", "training", {}), files=list(done.files)))
    expected = load_model(job.storage, job.folder).state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(fitted, "load", lambda *_: None)
        patch.setattr(Storage, "create", lambda self, path, data: self.write(path, data) is None)
        fitted.save(job.storage, job.folder, done.about, {"model.json": b"{}", "model.safetensors": b"late"})
    late = fitted.load(job.storage, job.folder)
    assert late is not None and late.files != done.files, "it did replace what the training says of its end"
    read = load_model(job.storage, job.folder).state_dict()
    assert all(torch.equal(read[name], values) for name, values in expected.items())


def test_a_model_is_read_without_what_its_training_says_of_it(data: Any, tmp_path: Path) -> None:
    job = _job(data, tmp_path / "one")
    loop.fit(job)
    expected = load_model(job.storage, job.folder).state_dict()
    job.storage.write(f"{job.folder}/trained.json", b"{")  # cut; the manifest still names the model's files
    read = load_model(job.storage, job.folder).state_dict()
    assert all(torch.equal(read[name], values) for name, values in expected.items())
    (weights,) = (p for p in job.storage.walk(job.folder) if p.endswith("/model.safetensors"))
    job.storage.write(weights, b"other")
    with pytest.raises(Torn, match="holds another model than its name says"):
        load_model(job.storage, job.folder)


def test_a_disk_that_is_full_at_a_checkpoint_costs_nothing_that_was_stored(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, rough = _job(data, tmp_path / "calm"), _job(data, tmp_path / "rough")
    loop.fit(calm)
    write = disk.write

    def full(target: str, *rest: Any) -> bool:
        if "checkpoints/00000006" in target:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(target, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", full)
        with pytest.raises(StorageError, match="the disk is full: free some space, then run the same command again"):
            loop.fit(rough)
    state = checkpoint.load(rough.storage, rough.folder)
    assert state is not None and state["update"] == 3
    loop.fit(rough)
    assert scenes.trained(rough.storage, rough.folder) == scenes.trained(calm.storage, calm.folder)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_training_goes_on_from_what_is_whole_and_ends_in_the_same_bytes(data: Any, tmp_path: Path, cut: int) -> None:
    calm, rough = _job(data, tmp_path / "calm"), _job(data, tmp_path / "rough")
    loop.fit(calm)
    with pytest.raises(Interrupted):
        loop.fit(rough, log=_interrupt_at(7))
    storage, folder = rough.storage, f"{rough.folder}/checkpoints"
    names = storage.names(folder)
    for name in names[-cut:]:
        storage.write(f"{folder}/{name}", storage.read(f"{folder}/{name}")[:-9])
    loop.fit(rough)
    assert len(names) == 2 and _weights(rough) == _weights(calm)


def test_it_learns_what_is_there_to_learn(tmp_path: Path) -> None:
    data = scenes.shards(tmp_path / "root", val=True)
    job = _job(data, tmp_path / "fit", **scenes.LEARN)
    curve: list[dict[str, float]] = []
    loop.fit(job, log=lambda at, values: curve.append(values))
    losses = [v["loss.semantic"] for v in curve if "loss.semantic" in v]
    assert losses[-1] < 0.7 * losses[0]
    last = job.storage.read_json(f"{job.folder}/trained.json")["final"]
    assert last["val.semantic.miou"] > 0.5
    assert last["val.depth.mae"] < 2.5


def _losses(job: Job, batch: dict[str, torch.Tensor]) -> list[float]:
    torch.manual_seed(0)
    criterion = Criterion(job, build_model(job.architecture, job.parameters))
    visible = torch.ones(len(batch["rgb@camera"]), 2, dtype=torch.bool)
    return criterion(batch, visible, World()).values.tolist()


def test_missing_labels_and_inputs_do_not_count(data: Any, tmp_path: Path) -> None:
    job = _job(data, tmp_path / "losses")
    batch = next(iter(loop.Training(job, World(), lambda at, values: None).batches))
    full = _losses(job, batch)
    assert all(v > 0 for v in full)
    none = {**batch, "depth@laser?": torch.zeros(4, dtype=torch.bool)}
    assert _losses(job, none) == [full[0], 0.0]
    blind = {**batch, **{f"{c}?": torch.zeros(4, dtype=torch.bool) for c in ("rgb@camera", "semantic@noisy")}}
    assert _losses(job, blind) == [0.0, 0.0]
    alone = {k: v[:1] for k, v in batch.items()}
    twice = {k: torch.cat([v[:1], v[:1]]) for k, v in batch.items()}
    assert _losses(job, twice) == pytest.approx(_losses(job, alone))
    filler = {k: torch.cat([v[:1], v[1:2]]) for k, v in batch.items()}
    filler |= {k: torch.tensor([bool(batch[k][0]), False]) for k in batch if k.endswith("?")}
    assert _losses(job, filler) == pytest.approx(_losses(job, alone))


def test_several_sources_teach_one_task_by_weight(data: Any, tmp_path: Path) -> None:
    both = {"semantic": {"soft@teacher": 3.0, "semantic@truth": 1.0}}
    batch = next(iter(loop.Training(_job(data, tmp_path / "w", targets=both), World(), lambda a, v: None).batches))
    mixed, soft, hard = (
        _losses(_job(data, tmp_path / "w", targets={"semantic": t}), batch)[0]
        for t in (both["semantic"], {"soft@teacher": 1.0}, {"semantic@truth": 1.0})
    )
    pixels = batch["semantic@truth"].numel()
    known = int((batch["semantic@truth"] != 255).sum())
    assert mixed == pytest.approx((3 * pixels * soft + known * hard) / (3 * pixels + known), rel=1e-5)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"in": "thermal@camera"}, RecipeError, "no column 'thermal@camera'; did you mean 'rgb@camera'"),
        ({"targets": {"depth": "semantic@truth"}}, RecipeError, "cannot teach 'depth'"),
        ({"losses": {"depth": "cross-entropy"}}, RecipeError, "does not fit depth@laser"),
        ({"batch": 64}, StepFailed, "batch 64 is more than the 12"),
    ],
)
def test_what_the_shards_do_not_offer_is_said(
    data: Any, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    run = scenes.step(data[0], data[2], **fields)
    with pytest.raises(error, match=words):
        run.stage.job(run)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"epochs": 3}, "one of updates, epochs and minutes"),
        ({"in": {"depth": "rgb@camera"}}, "its own modality"),
        ({"in": ["rgb"]}, "no column"),
        ({"workers": 8}, "cannot be shared"),
        ({"workers": [1, 8]}, "cannot be shared"),
        ({"workers": [2, 1]}, "least, most"),
        ({"workers": 0}, "least, most"),
        ({"precision": "fp16"}, "precision"),
        ({"parallel": "fsdp", "balancer": "mgda"}, "whole gradients"),
        ({"stop": {"metric": "flow.mae"}}, "'flow' is no task"),
        ({"mask": {"type": "modality", "visible": "depth"}}, "inputs are"),
        ({"balancer": {"type": "static", "weights": {"flow": 1}}}, "flow"),
        ({"validate": {"flow": "flow@a"}}, "no task"),
        ({"learning_rate": 1}, "learning_rate"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Train.model_validate({**scenes.TRAIN, **fields})


def test_placement_does_not_change_the_identity() -> None:
    from hyperloom.pipeline.fingerprint import payload

    here = Train.model_validate(scenes.TRAIN)
    placed = {"workers": [1, 4], "parallel": "fsdp", "micro": 2, "compile": True}
    there = Train.model_validate({**scenes.TRAIN, **placed, "threads": 8, "checkpoint_every": 1, "gpu": True})
    assert payload(here, str) == payload(there, str)
    for meaning in ({"batch": 8}, {"precision": "bf16"}, {"stop": {"metric": "depth.mae"}}):
        assert payload(here, str) != payload(Train.model_validate({**scenes.TRAIN, **meaning}), str)


def test_failures_of_the_work_are_counted_and_broken_connections_are_not(data: Any) -> None:
    storage = data[0]
    failures.note(storage, "f", 0, RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    failures.note(storage, "f", 0, OSError("no route to host"))
    assert failures.count(storage, "f") == 0 and failures.last(storage, "f") is None
    failures.note(storage, "f", 0, ValueError("rank 1 was first"))
    failures.note(storage, "f", 0, ValueError("rank 0 was late"))
    failures.note(storage, "f", 1, ZeroDivisionError("again"))
    assert failures.count(storage, "f") == 2
    assert failures.last(storage, "f") == "ZeroDivisionError: again"
    failures.forget(storage, "f")
    assert failures.count(storage, "f") == 0
