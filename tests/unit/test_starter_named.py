"""`hyperloom init` with experts of the catalogue: by name, and those of packages where nothing else is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from hyperloom.pipeline import cli
from hyperloom.stages.starter import named


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(random.integers(0, 255, (48, 64, 3), np.uint8)).save(tmp_path / f"frame{i}.jpg")
    return tmp_path


def written(folder: Path) -> dict[str, dict[str, object]]:
    loaded: dict[str, dict[str, object]] = yaml.safe_load((folder / "hyperloom.yaml").read_text())
    return loaded


def test_an_expert_by_name_needs_no_file(pictures: Path) -> None:
    assert cli.main(["init", str(pictures), "--expert", "deeplab-cityscapes", "--expert", "fastestdet", "--yes"]) == 0
    recipe = written(pictures)
    lines = {one["name"]: one for one in recipe["steps"]["labels"]["experts"] if one["type"] == "catalogue"}  # type: ignore[index]
    assert lines["deeplab-cityscapes"]["out"] == "semantic@deeplab" and lines["fastestdet"]["out"] == "boxes@fastestdet"
    assert recipe["modalities"]["semantic"]["classes"][:2] == ["road", "sidewalk"]  # type: ignore[index]
    assert len(recipe["modalities"]["boxes"]["classes"]) == 80  # type: ignore[index]


def test_classes_of_ones_own_and_experts_of_other_data(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["init", str(pictures), "--expert", "owlv2-base", "--expert", "silero-vad", "--yes"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyperloom.stages.label.hub.huggingface.HuggingFace.content", lambda *_: ["x"])
        patch.setattr("hyperloom.stages.label.hub.huggingface.HuggingFace.terms", lambda *_: {})
        assert cli.main([*given, "--classes", "owlv2-base=door,window"]) == 0
    assert written(pictures)["modalities"]["boxes"]["classes"] == ["door", "window"]  # type: ignore[index]
    assert "silero-vad reads sound@mic, not pictures alone" in capsys.readouterr().out


def test_pictures_alone_are_labelled_by_what_is_installed(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rapidocr")
    assert cli.main(["init", str(pictures), "--yes"]) == 0
    assert "packages that are installed label the pictures" in capsys.readouterr().out
    assert written(pictures)["modalities"]["writing"]["classes"] == ["text"]  # type: ignore[index]


def test_without_any_the_error_says_what_would_help(
    pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "AT_HAND", {})
    assert cli.main(["init", str(pictures), "--yes"]) == 2
    assert "hyperloom[experts-small]" in capsys.readouterr().err
