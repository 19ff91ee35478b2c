"""The width of a student by milliseconds: looked for once, kept by the step, and refused in words."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperloom.pipeline.errors import StepFailed
from hyperloom.stages.distill import width
from hyperloom.stages.distill.stage import Distill
from tests.unit import scenes

STUDENT: dict[str, Any] = {
    "stage": "distill",
    "in": "rgb@camera",
    "mask": "none",
    "targets": {"semantic": "soft@teacher"},
    "teacher": "teacher",
}


@given(limit=st.integers(0, 300), cheap=st.booleans())
def test_the_widest_that_is_quick_enough(limit: int, cheap: bool) -> None:
    """Where multiples of 8 take half the time, the widest of them is found beyond what halving comes to."""

    def takes(w: int) -> float:
        return w * (0.5 if cheap and w % 8 == 0 else 1.0)

    looks: list[int] = []

    def quick(w: int) -> bool:
        looks.append(w)
        return takes(w) <= limit

    chosen = width.widest(quick, 200)
    assert chosen == 0 if limit < 1 else takes(chosen) <= limit
    assert len(looks) <= 40
    if limit >= 1:
        best = max(w for w in range(1, 201) if takes(w) <= limit)
        assert chosen == best


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("root"))


def _step(data: Any, latency: float = 2.0, trunk: Any = "inverted", **fields: Any) -> Any:
    model = {"trunk": trunk, "latency_ms": latency}
    return scenes.step(data[0], data[2], Distill, **{**STUDENT, "model": model, **fields})


def test_the_width_is_measured_once_for_a_step_and_all_of_its_seeds(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[int, int]] = []

    def timed(architecture: Any, w: int, hidden: Any = (), each: float = 0.1) -> width.TimedForm:
        trunk = architecture.trunk.of_width(w)
        looked.append((trunk.fused, w))
        return width.TimedForm(trunk, w, each * w * (1 + 0.5 * abs(trunk.fused - 2)), 100 * w, w * w)

    monkeypatch.setattr(width, "timed", timed)
    run = _step(data, 2.2)
    job = run.stage.job(run)
    assert job.architecture.trunk.width == 11 and [r.meta["width"] for r in run.records] == [11]
    slower = functools.partial(timed, each=0.2)
    monkeypatch.setattr(width, "timed", slower)  # another machine goes on
    again, seeds = _step(data, 2.2), _step(data, 2.2, seeds=3)
    assert [r.stage.job(r).architecture.trunk.width for r in (again, seeds)] == [11, 11]
    other = _step(data, 2.2, updates=9)
    assert other.stage.job(other).architecture.trunk.width == 5
    form = _step(data, 2.0, {"type": "inverted", "fused": "auto"})
    trunk = form.stage.job(form).architecture.trunk
    assert (trunk.fused, trunk.width) == (2, 10) and {fused for fused, _ in looked} == {0, 1, 2, 3}
    none = _step(data, 0.05)
    with pytest.raises(
        StepFailed, match=r"latency_ms: 0\.05 is less than the 0\.4 ms that the narrowest inverted takes"
    ):
        none.stage.job(none)


def test_a_network_is_timed_as_it_will_be_exported(data: Any) -> None:
    run = _step(data)
    from hyperloom.stages.train.assembly import Assembly

    architecture = Assembly(run.stage, run).job().architecture
    form = width.timed(architecture, 2)
    assert 0.005 < form.took < 1000 and 5000 < form.parameters < 20000 and form.operations > 10**5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": {"latency_ms": 3, "parameters": "100k"}}, "latency_ms chooses the width, and so does parameters"),
        ({"model": {"latency_ms": 3, "trunk": {"type": "unet", "width": 4}}}, "and so does the trunk's width"),
        ({"model": {"latency_ms": 0}}, "greater than 0"),
        ({"model": {"trunk": {"type": "hybrid", "fused": "auto"}}}, "fused: auto is chosen by latency_ms"),
    ],
)
def test_mistakes_are_said(data: Any, fields: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        scenes.step(data[0], data[2], Distill, **{**STUDENT, **fields})
    with pytest.raises(ValueError, match="a train step makes none. Next: parameters: 430k, or stage: distill"):
        scenes.step(data[0], data[2], model={"latency_ms": 3})


def test_what_was_asked_is_the_identity(data: Any, tmp_path: Path) -> None:
    one, other, none = _step(data, 2.0), _step(data, 3.0), scenes.step(data[0], data[2], Distill, **STUDENT)
    assert len({one.fingerprint, other.fingerprint, none.fingerprint}) == 3
