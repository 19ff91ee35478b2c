"""Licences: said before the run, and handed on from the expert to whatever learns of its labels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import licence
from hyperloom.stages.label.stage import Label
from hyperloom.stages.lesson import merged, of_column
from hyperloom.stages.results import Labels
from hyperloom.stages.train.stage import Train
from tests.unit import scenes
from tests.unit.inline import finish, ingested, modalities, step

KNOWN = modalities(
    rgb={"type": "image", "size": [4, 6]}, hsv={"type": "dense", "size": [4, 6], "channels": 3},
    small={"type": "dense", "size": [2, 3], "channels": 3},
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cc-by-nc-4.0", "not for commerce"),
        ("CC-BY-NC-SA-4.0", "not for commerce"),
        ("research only", "not for commerce"),
        ("apple-amlr", "not for commerce"),
        ("other", "a licence of its own"),
        ("", "names no licence"),
        ("apache-2.0", ""),
        ("mit", ""),
        ("bsd-3-clause", ""),
    ],
)
def test_what_a_licence_forbids_is_one_sentence(name: str, words: str) -> None:
    said = licence.remark("net", name)
    assert words in said if words else said == ""


def test_whether_a_licence_allows_commerce_may_be_unknown() -> None:
    assert [licence.commercial(name) for name in ("mit", "", "cc-by-nc-4.0", "other", "Other")] == [
        True, True, False, None, None,
    ]  # fmt: skip


def test_a_licence_goes_along_with_the_labels_and_with_what_is_made_of_them(tmp_path: Path) -> None:
    import numpy as np

    storage = Storage(str(tmp_path))
    data = ingested(storage, KNOWN, {"g": [{"rgb@camera": np.zeros((4, 6, 3), np.uint8)}]})
    experts = [
        {"type": "hsv", "in": "rgb@camera", "out": "hsv@net", "licence": "cc-by-nc-4.0"},
        {"type": "resize", "in": "hsv@net", "out": "small@net"},
    ]
    stage = Label.model_validate({"stage": "label", "data": "frames", "experts": experts})
    run = step(stage, storage, KNOWN, "labels", frames=data)
    made = Labels.from_manifest(finish(run))
    assert (
        stage.notices(storage)[0].startswith("hsv@net is licensed cc-by-nc-4.0")
        and stage.notices(storage)[0] in made.remarks
    )
    learned = [lesson for c, producer in made.columns.items() for lesson in of_column(c, producer.about)]
    assert licence.sentences(merged(learned)) == ["hsv@net: cc-by-nc-4.0 (NOT for commerce)"]
    assert any(lesson.how == "licence" for lesson in of_column("small@net", made.columns["small@net"].about))
    free = Label.model_validate({"stage": "label", "data": "frames", "experts": [{**experts[0], "licence": ""}]})
    assert free.notices(storage) == []
    same = step(free, storage, KNOWN, "labels", frames=data)
    assert finish(same).body["columns"]["hsv@net"]["space"] == made.columns["hsv@net"].space, (
        "a licence moved an identity"
    )


def test_weights_that_a_training_begins_with_have_terms_too(tmp_path: Path) -> None:
    def start(**fields: str) -> Train:
        file = {"file": str(tmp_path / "net.pth"), **fields}
        return Train.model_validate({**scenes.TRAIN, "model": {"trunk": {"type": "unet", "width": 2}, "start": file}})

    storage = Storage(str(tmp_path))
    unknown, forbids, free = start(), start(licence="cc-by-nc-4.0"), start(licence="mit")
    assert "its start net.pth names no licence" in unknown.notices(storage)[0]
    assert "its start net.pth is licensed cc-by-nc-4.0" in forbids.notices(storage)[0] and not free.notices(storage)
    assert payload(forbids, str) == payload(unknown, str), "its name changes no weights"
    planned = SimpleNamespace(meaning={"facts": {"start": {"weights": "a" * 64}}})
    learned = forbids.model.start.lessons(planned)
    assert [one.shards for one in learned if one.how == "start"] == ["a" * 64]
    assert licence.sentences(learned) == ["its start net.pth: cc-by-nc-4.0 (NOT for commerce)"]
    (tmp_path / "model.json").write_text("{}")
    assert not unknown.notices(storage), "a model of Hyperloom hands on its own"


def test_what_all_folds_say_of_one_file_is_one_line_of_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hyperloom.pipeline import cli

    (tmp_path / "in").mkdir()
    (tmp_path / "net.pth").write_bytes(b"weights")
    (tmp_path / "in" / "a.png").write_bytes(b"png")
    step = (
        "  fold{i}: {{stage: train, data: shards, in: rgb@camera, targets: {{edges: edges@gradient}}, updates: {n}, "
        "batch: 1, model: {{start: {path}}}}}\n"
    )
    folds = "".join(step.format(i=i, n=i + 1, path=tmp_path / "net.pth") for i in range(12))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"""
name: folds
root: {tmp_path / "root"}
modalities:
  rgb: {{type: image, size: [16, 16]}}
  edges: {{type: dense, range: [0, 1]}}
steps:
  frames: {{stage: ingest, group: group, source: {{type: files, path: {tmp_path / "in"}}}}}
  labels: {{stage: label, data: frames, experts: [{{type: edges, in: rgb@camera, out: edges@gradient}}]}}
  shards: {{stage: shard, data: [frames, labels]}}
{folds}""")
    assert cli.main(["plan", str(recipe)]) == 0
    (line,) = [text for text in capsys.readouterr().out.splitlines() if "licence" in text]
    assert line.startswith("fold0, fold1, fold2 and 9 more: its start net.pth names no licence")
    with pytest.raises(ValueError, match="a licence is for a file"):
        Train.model_validate({**scenes.TRAIN, "model": {"start": {"step": "other", "licence": "mit"}}})
