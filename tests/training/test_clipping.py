"""An augmentation that leaves nothing of the pictures is said once, with the option that mends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hyperloom.stages.train import clipping, loop
from hyperloom.stages.train.diagnosis import clipped
from hyperloom.stages.train.notice import Ask, Preempted
from tests.unit import scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("root"))


def _taught(data: Any, name: str, light: dict[str, Any], stop_after: int = 0) -> tuple[dict[str, float], list[str]]:
    run = scenes.step(data[0], data[2], augment=["flip", {"type": "colour", **light}], updates=6, log_every=50)
    job, log = replace(run.stage.job(run), folder=f"train/{name}"), scenes.Said()
    if stop_after:
        asks = iter(range(100))
        with pytest.raises(Preempted):
            loop.fit(job, log=log, request=lambda: Ask.STOP if next(asks) + 1 >= stop_after else Ask.NOTHING)
    loop.fit(job, log=log)
    return scenes.trained(data[0], job.folder)[1]["final"], [t for t in log.texts if t.startswith("augment")]


def test_pictures_that_light_leaves_black_or_white_are_said_once(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipping, "LOOKED", 4)
    final, texts = _taught(data, "shift", {"brightness": 0.9})
    share = final["clipped.rgb@camera"]
    assert 0.2 < share <= 1 and len(texts) == 1 and f"{share:.0%} of the first samples of rgb@camera" in texts[0]
    assert "`exposure`" in texts[0] and clipped(final) == texts, "as the training's last line says it"
    assert _taught(data, "broken", {"brightness": 0.9}, stop_after=2) == (final, texts), "a resumed training too"
    for light in ({}, {"brightness": 0, "exposure": 0.3}):
        final, texts = _taught(data, f"kind{len(light)}", light)
        assert not texts and "clipped.rgb@camera" not in final
