"""Maps of numbers from a network whose own sign for "unknown" the modality knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from tests.unit.inline import modalities

NAN = float("nan")
KNOWN = modalities(
    depth={"type": "dense", "size": [4, 8], "unknown": 0, "unit": "m", "storage": "float32"},
    near={"type": "dense", "size": [4, 8], "unknown": "outside", "range": [1, 100], "storage": "float32"},
    plain={"type": "dense", "size": [4, 8], "storage": "float32"},
)


def answered(name: str, raw: np.ndarray, **decode: Any) -> list[float]:
    value = plugins.parse("decoder", {"type": "dense", **decode}).finish(raw.astype(np.float32), KNOWN[name])
    KNOWN[name].check(value)
    assert (np.isnan(value) == np.isnan(value[:1])).all()
    return [float(v) for v in value[0, :, 0]]


@pytest.mark.parametrize("size, edge", [((2, 4), 4), ((8, 16), 3.5), ((4, 8), 4)])
def test_unknown_pixels_are_no_part_of_those_beside_them(size: tuple[int, int], edge: float) -> None:
    """No depth between none and ten metres is made up where the map is brought to the modality's size."""
    raw = np.full(size, 10.0)
    raw[:, : int(edge * size[1] / 8)] = 0
    right = [NAN] * int(edge) + [10.0] * (8 - int(edge))
    assert answered("depth", raw) == pytest.approx(right, nan_ok=True)
    assert answered("depth", raw * 1000, scale=0.001) == pytest.approx(right, nan_ok=True)
    assert answered("near", raw / 100, invert="reciprocal") == pytest.approx(right, nan_ok=True)  # 0: infinitely far
    raw[raw == 0] = NAN
    assert answered("depth", raw) == pytest.approx(right, nan_ok=True)


@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_outside_of_a_range_in_pixels_is_so_in_the_modalitys_own_size(channels: int) -> None:
    """80 pixels of a map of twice the size are 40 here, and 120 are 60, which is out of 0 to 50."""
    fields = {"type": "dense", "size": [4, 8], "unit": "px", "unknown": "outside", "storage": "float32"}
    kind = modalities(flow={**fields, "channels": channels, "range": [-50, 50] if channels == 2 else [0, 50]})["flow"]
    raw = np.full((8, 16, channels), 80.0, np.float32)
    raw[:, 8:] = 120
    for value in (plugins.parse("decoder", {"type": "dense"}).finish(raw, kind), kind.fit(raw)):
        assert (value[:, :4] == 40).all() and np.isnan(value[:, 4:]).all()


def test_where_all_is_known_nothing_is_left_out() -> None:
    raw = np.tile(np.linspace(1, 4, 4), (2, 1))
    for decode in ({}, {"normalise": "range"}, {"normalise": "percentiles", "invert": "flip"}):
        plain = answered("plain", raw, offset=3, **decode)
        known = answered("depth", raw, offset=3, **decode)
        assert [k for k in known if k == k] == [p for p, k in zip(plain, known, strict=True) if k == k]
        assert sum(k != k for k in known) == sum(p == 0 for p in plain)
