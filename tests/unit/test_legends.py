"""Legends: in a report, in a look page and in a collage a reader sees which colour is which channel, class or way."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline import plugins, recipe, runner
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.progress import Progress
from hyperloom.pipeline.storage import Storage
from hyperloom.stages.data.layer import layer
from hyperloom.stages.evaluate import collage
from hyperloom.stages.legend import legends
from hyperloom.stages.look.viewer import Viewer
from hyperloom.stages.report import gather, render, root
from tests.unit.inline import modalities

KINDS = ("people", "bicycles", "vehicles")
RECIPE = """\
name: streets
root: {root}
modalities:
  rgb: {{type: image, size: [12, 16]}}
  objects: {{type: dense, channels: 3, range: [0, 1], names: [people, bicycles, vehicles]}}
  flow: {{type: dense, channels: 2, unit: px}}
  things: {{type: boxes, most: 4, classes: [car, tram, person]}}
steps:
  frames: {{stage: ingest, source: {{type: arrays, path: "{data}/*", columns: {columns}}}, group: video}}
"""
FOLDERS = {"rgb@camera": "rgb", "objects@net": "objects", "flow@net": "flow", "things@net": "things"}


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames with a detector's maps and boxes, ingested."""
    folder = tmp_path_factory.mktemp("streets")
    for t in range(2):
        maps = np.zeros((12, 16, 3), np.float32)
        maps[:4, :, 1], maps[8:, :, 2] = 1, 0.5
        boxes = np.full((4, 6), np.nan, np.float32)
        boxes[0], boxes[1] = (0.1, 0.1, 0.5, 0.5, 0, 0.9), (0.2, 0.2, 0.9, 0.9, 2, 0.7)
        values = {"rgb": np.full((12, 16, 3), 90, np.uint8), "objects": maps, "flow": maps[..., :2], "things": boxes}
        for name, value in values.items():
            path = folder / "data" / "v0" / name / "npz" / f"{t}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, value)
    path = folder / "streets.yaml"
    path.write_text(RECIPE.format(root=folder / "root", data=folder / "data", columns=json.dumps(FOLDERS)))
    assert runner.run(recipe.load(path), progress=Progress(io.StringIO()), track=False).ok
    return path


def test_a_report_says_which_colour_is_which(streets: Path) -> None:
    loaded = recipe.load(streets)
    storage = Storage(loaded.recipe.root)
    html = render.html(gather.page(root.opened(loaded, storage, opening.steps(loaded, storage)))).decode()
    shown = dict(re.findall(r'<div class="legend"[^>]*>(\w+): (.*?)</div>', html))
    told = {name: re.findall(r"rgb\(([\d,]+)\)\"></i>([^<]*)<", text) for name, text in shown.items()}
    assert told["objects"] == list(zip(("255,0,0", "0,255,0", "0,0,255"), KINDS, strict=True))
    assert [word for _, word in told["flow"]] == ["right", "down", "left", "up"]
    assert [word for _, word in told["things"]] == ["car", "person"], "no sample has a tram"


def test_a_look_page_says_which_colour_is_which(streets: Path) -> None:
    loaded = recipe.load(streets)
    storage = Storage(loaded.recipe.root)
    view = Viewer("streets", storage, loaded.recipe.modalities, lambda: opening.steps(loaded, storage), ())
    told = {c["name"]: dict(map(tuple, c["legend"])) for c in view.overview({})["columns"]}  # type: ignore[misc]
    assert told["objects@net"] == {"people": [255, 0, 0], "bicycles": [0, 255, 0], "vehicles": [0, 0, 255]}
    assert list(told["flow@net"]) == ["right", "down", "left", "up"] and list(told["things@net"])[1] == "tram"


def dense(**fields: Any) -> Any:
    return modalities(maps={"type": "dense", "size": [2, 3], **fields})["maps"]


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_what_only_one_channel_has_is_drawn_in_its_colour(channels: int) -> None:
    """Also of more channels than a picture has colours, and laid over a picture, where a weak one is as full."""
    import cv2

    kind = dense(channels=channels, range=[0, 4])
    assert [name for name, _ in kind.legend] == [f"channel {i + 1}" for i in range(channels)]
    assert len({colour for _, colour in kind.legend}) == channels
    for place, (_, colour) in enumerate(kind.legend):
        value = np.zeros((2, 3, channels), np.float32)
        value[0, 0, place] = 4
        drawn = kind.picture(value)
        assert tuple(drawn[0, 0]) == colour and not drawn[1].any()
        over = cv2.imdecode(np.frombuffer(layer(value / 2, kind).data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.abs(over[0, 0, 2::-1].astype(int) - colour).max() <= 2 and over[0, 0, 3] in (127, 128)
        assert not over[1, ..., 3].any()


def test_what_a_picture_leaves_out_is_said() -> None:
    assert [name for name, _ in dense(channels=5, unit="dB").legend][2:] == ["channel 3", "2 more, not shown"]
    assert dense().legend == ()
    assert [name for name, _ in dense(channels=3, direction=True).legend] == ["x", "y", "z"]


def test_where_a_vector_points_is_drawn_as_its_legend_says() -> None:
    kind = dense(channels=2, unit="m", kind="vector", y="up")
    colours = dict(kind.legend)
    up = kind.picture(np.broadcast_to(np.float32([0, 1]), (2, 3, 2)))
    assert tuple(up[0, 0]) == colours["up"] and len(set(colours.values())) == 4


def test_names_of_channels_change_nothing_that_is_made() -> None:
    from hyperloom.pipeline.fingerprint import payload

    plain, named = (dense(channels=3, range=[0, 1], **n) for n in ({}, {"names": KINDS}))
    assert payload(plain, str) == payload(named, str) and plain.to_recipe() == named.to_recipe()
    with pytest.raises((RecipeError, ValueError), match="names: expected 2, one a channel, got 3"):
        plugins.parse("modality", {"type": "dense", "size": [2, 3], "channels": 2, "names": list(KINDS)})


def test_a_collage_has_the_legend_below(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    real = collage.legend
    monkeypatch.setattr(collage, "legend", lambda colours, width: drawn.append(colours) or real(colours, width))
    known = {"maps": dense(channels=3, range=[0, 1], names=KINDS)}
    row = {"maps@net": np.zeros((2, 3, 3), np.float32), "maps@other": None}
    collage.collage([("there", row)], list(row), known)
    assert drawn == [known["maps"].legend]
    assert legends(known, [{"maps@net": None}]) == {"maps": known["maps"].legend}
