"""Curves of papers: what a dial buys, drawn from a record beside the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.host import project

FLIGHTS = Path(__file__).parents[2] / "recipes/papers/scene-consensus/001-phg-mae-flights.yaml"


def _claim(value: float, **sides: float) -> dict[str, object]:
    interval = [value - 0.05, value + 0.05]
    rest = {"seeds": [value], "folds": [value], "smallest": 0.05, "border": 0.97, "word": "not shown"}
    return {"value": value, "interval": interval, "sides": sides, **rest}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers").mkdir()
    (tmp_path / "docs").mkdir()
    for path in (FLIGHTS, FLIGHTS.with_name("flights.yaml")):
        shutil.copy(path, tmp_path / "papers")
    yield tmp_path
    project.enter()


def _record(folder: Path, beside: dict[str, object]) -> None:
    claims = {"d_small": _claim(0.9, elder=0.5, **{"small-128": 0.45})}
    known = {"paper": 1, "verdict": "not shown", "claims": claims, "beside": beside, "folds": 1, "samples": 48}
    rest = {"data": {}, "fingerprint": "0", "seconds": 60.0, "cores": 2, "departs": ["all"], "steps": {}}
    (folder / "papers/001-phg-mae-flights.json").write_text(json.dumps({**known, **rest}))


def _report(folder: Path) -> str:
    line = ["papers", "report", "--folder", "papers", "--page", "docs/papers.md", "--root", str(folder / "root")]
    assert cli.main(line) == 0
    return (folder / "docs/papers.md").read_text()


def test_a_dial_is_drawn_beside_the_page(folder: Path) -> None:
    sides = {"small-8": 0.3, "small-32": 0.4, "small-128": 0.45}
    _record(folder, {"d_grows_small": _claim(0.04, **sides), "d_small_8": _claim(0.6), "d_small_32": _claim(0.8)})
    assert "![What a dial buys](papers/001-phg-mae-flights.png)" in _report(folder)
    picture = folder / "docs/papers/001-phg-mae-flights.png"
    assert picture.read_bytes()[:4] == b"\x89PNG" and picture.stat().st_size < 60_000

    from hyperloom.stages.papers.dials import curves
    from hyperloom.stages.papers.shelf import papers

    (curve,) = curves(papers("papers")[0])
    assert (curve.subjects, curve.places) == (("small-8", "small-32", "small-128"), (3, 5, 7))
    assert (curve.values, curve.border) == ((0.6, 0.8, 0.9), 0.97)
    assert curve.intervals[0] == pytest.approx((0.55, 0.65))


def test_without_shares_the_curve_is_of_figures(folder: Path) -> None:
    from hyperloom.stages.papers.dials import curves
    from hyperloom.stages.papers.shelf import papers

    _record(folder, {"experts": _claim(0.1, no_experts=0.2, one_expert=0.3, two_experts=0.35, single=0.4)})
    (curve,) = curves(papers("papers")[0])
    assert curve.values == (0.2, 0.3, 0.35, 0.4) and curve.border is None and not any(curve.intervals)


def test_a_record_without_a_dial_has_no_picture(folder: Path) -> None:
    _record(folder, {})
    assert "![" not in _report(folder) and not (folder / "docs/papers").exists()
