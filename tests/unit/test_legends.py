"""Legends: in a report, in a look page and in a collage a reader sees which colour is which channel, class or way."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline import plugins
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.stages.data.layer import layer
from hyperloom.stages.evaluate import collage
from hyperloom.stages.legend import legends
from hyperloom.stages.look.viewer import Viewer
from hyperloom.stages.report import gather, material, render, root
from hyperloom.stages.results import Shards
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


def test_statistics_of_data_name_their_channels() -> None:
    known = modalities(
        objects={"type": "dense", "size": [2, 3], "channels": 3, "names": KINDS},
        flow={"type": "dense", "size": [2, 3], "channels": 2, "unit": "px"},
        pose={"type": "vector", "length": 4},
    )
    lengths = {"objects@net": 3, "flow@net": 2, "pose@gps": 4}
    kept = {"mean": [1, 2, 3, 4], "std": [0.5] * 4, "min": [0] * 4, "max": [9, 8, 7, 6]}
    statistics = {c: {"rows": 2, **{k: v[:n] for k, v in kept.items()}} for c, n in lengths.items()}
    schema = {c: {"type": known[c.partition("@")[0]].type} for c in lengths}
    table = material._columns("shards", Shards(schema, (), {}, statistics=statistics), known)
    assert table.columns == ["column", "type", "rows", "missing", "channel", "mean", "deviation", "range"]
    assert table.rows == [
        ["objects@net", "dense", 2, "0.0%", "people", "1", "0.5", "0 to 9"],
        [None, None, None, None, "bicycles", "2", "0.5", "0 to 8"],
        [None, None, None, None, "vehicles", "3", "0.5", "0 to 7"],
        ["flow@net", "dense", 2, "0.0%", "x", "1", "0.5", "0 to 9"],
        [None, None, None, None, "y", "2", "0.5", "0 to 8"],
        ["pose@gps", "vector", 2, "0.0%", None, "1, 2, 3 …", "0.5, 0.5, 0.5 …", "0 to 9, 0 to 8, 0 to 7 …"],
    ]


def test_a_look_page_says_which_colour_is_which(streets: Path) -> None:
    loaded = recipe.load(streets)
    storage = Storage(loaded.recipe.root)
    view = Viewer("streets", storage, loaded.recipe.modalities, lambda: opening.steps(loaded, storage), ())
    told = {c["name"]: dict(map(tuple, c["legend"])) for c in view.overview({})["columns"]}  # type: ignore[misc]
    assert told["objects@net"] == {"people": [255, 0, 0], "bicycles": [0, 255, 0], "vehicles": [0, 0, 255]}
    assert list(told["flow@net"]) == ["right", "down", "left", "up"] and list(told["things@net"])[1] == "tram"
    said = view.sample({"row": "0", "columns": "objects@net,things@net"})["columns"]
    assert said["objects@net"]["colours"] == [0, 1, 2]
    assert 1 not in said["things@net"]["colours"], "the picture has no tram, so its page names none"


def test_the_border_of_two_classes_is_no_third_class() -> None:
    """Also of class probabilities, whose pictures have the colours of the likeliest classes."""
    known = modalities(
        semantic={"type": "segmentation", "classes": list("abc"), "size": [8, 4 * collage.WIDTH]},
        soft={"type": "soft", "of": "semantic", "size": [8, 4 * collage.WIDTH]},
    )
    left = np.arange(4 * collage.WIDTH)[None].repeat(8, 0) < 2 * collage.WIDTH + 1
    value = np.stack([left, ~left, np.zeros_like(left)], -1).astype(np.float32)
    panel = collage._panel(value, "soft@net", known["soft"], {})
    inside = panel[: -collage.GAP, : -collage.GAP].reshape(-1, 3)
    assert {tuple(c) for c in inside.tolist()} == {colour for _, colour in known["soft"].legend[:2]}


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


@pytest.mark.parametrize("fields", [{"unit": "m", "kind": "vector"}, {"direction": True}, {"unit": "px"}])
def test_where_a_vector_points_is_drawn_as_its_legend_says(fields: dict[str, Any]) -> None:
    kind = dense(channels=2, **fields, y="down" if "unit" in fields and "kind" not in fields else "up")
    ways = ("right", "down", "left", "up") if kind.y == "down" else ("right", "up", "left", "down")
    assert len(set(dict(kind.legend).values())) == 4
    for (name, colour), way, end in zip(kind.legend, ways, ((1, 0), (0, 1), (-1, 0), (0, -1)), strict=True):
        drawn = kind.picture(np.broadcast_to(np.float32(end), (2, 3, 2)))
        assert drawn.shape == (2, 3, 3) and name == way and (drawn == colour).all()


GREY = 127
"""Of a channel whose range goes as far below zero as above."""


@pytest.mark.parametrize(
    ("fields", "rest", "first"),
    [
        ({"channels": 3, "direction": True}, 0, (255, GREY, GREY)),
        ({"channels": 3, "direction": True, "range": [-1, 1], "storage": "uint8"}, 0, (255, GREY, GREY)),
        ({"channels": 3, "unit": "m/s", "kind": "vector"}, 0, (255, GREY, GREY)),
        ({"channels": 3, "unit": "m/s", "kind": "vector", "range": [-4, 4]}, 0, (255, GREY, GREY)),
        ({"channels": 4, "unit": "px"}, 0, (255, GREY, GREY)),
        ({"channels": 2, "range": [-1, 1]}, 0, (255, GREY, 0)),
        ({"channels": 3, "range": [-1, 4]}, 0, (255, 51, 51)),
        ({"channels": 3, "range": [2, 4]}, 2, (255, 0, 0)),
        ({"channels": 3, "unit": "dB", "range": [-80, 1]}, -80, (255, 0, 0)),
        ({"channels": 3, "unit": "dB"}, 0, (255, 0, 0)),
    ],
)
def test_a_channel_at_its_most_is_drawn_in_its_colour(
    fields: dict[str, Any], rest: float, first: tuple[int, ...]
) -> None:
    """The others are zero, or at their lowest where that says more."""
    kind = dense(**fields)
    most = fields.get("range", (-1, 1))[1]
    colours = [colour for name, colour in kind.legend if "more" not in name]
    assert colours[0] == first and len(set(colours)) == min(kind.channels, 3)
    for place, colour in enumerate(colours):
        value = np.full((2, 3, kind.channels), rest, np.float32)
        value[..., place] = most
        assert (kind.picture(value) == colour).all()
        if kind.moves in ("direction", "vector", "displacement"):
            value[1] *= -1
            assert (kind.picture(value)[0] == colour).all(), "whatever else is in the picture"


@pytest.mark.parametrize("channels", [1, 5])
def test_a_direction_has_two_or_three_channels(channels: int) -> None:
    with pytest.raises(
        (RecipeError, ValueError), match=rf"direction: .* 2 \(x, y\) or 3 .* there are {channels}\. Next"
    ):
        dense(channels=channels, direction=True)


def kinds(**definition: Any) -> Any:
    return modalities(one=definition)["one"]


def named(kind: Any, *values: np.ndarray) -> list[str]:
    shown = legends({"one": kind}, [{"one@net": value} for value in values]).get("one", ())
    assert set(shown) <= set(kind.legend)
    return [name for name, _ in shown]


def test_a_legend_names_the_boxes_that_are_drawn() -> None:
    kind = kinds(type="boxes", most=4, classes=["a", "b", "c"])
    box = {"x0": 0.1, "y0": 0.1, "x1": 0.5, "y1": 0.5}
    crowd = kind.fit([{**box, "class": "a"}, {**box, "class": "b", "crowd": True}])
    faint = kind.fit([{**box, "class": "a", "score": 0.9}, {**box, "class": "c", "score": 0.02}])
    assert [mark.name for mark in kind.marks(crowd)] == ["a", "b, a crowd"] and named(kind, crowd) == ["a", "b"]
    assert [mark.name for mark in kind.marks(faint)] == ["a 0.90"] and named(kind, faint) == ["a"]
    assert named(kind, kind.fit([])) == [] and named(kind, faint, crowd) == ["a", "b"]


def test_a_legend_names_the_likeliest_classes_and_the_points_that_are_seen() -> None:
    soft = kinds(type="soft", size=[2, 3], classes=["a", "b", "c"])
    shares = np.zeros((2, 3, 3), np.float32)
    shares[:] = 0.2, 0.5, 0.3
    shares[0, 0] = 0  # unknown, and the first of three equal shares
    assert named(soft, shares) == ["b"] and named(soft, shares, shares[..., ::-1]) == ["b"]
    shares[1, 1] = 0, 0.4, 0.6
    assert named(soft, shares) == ["b", "c"] and named(soft, np.zeros_like(shares)) == []
    points = kinds(type="keypoints", points=["nose", "left eye", "right eye"])
    face = points.fit({"nose": [0.5, 0.5], "right eye": [0.6, 0.4]})
    assert named(points, face) == ["nose", "right eye"] == [mark.name for mark in points.marks(face)]
    classes = kinds(type="segmentation", size=[2, 3], classes=["a", "b", "c"])
    assert named(classes, np.array([[0, 0, 255], [2, 2, 2]], np.uint8)) == ["a", "c"]


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
    assert legends(known, [{"maps@net": None}]) == {}, "nothing is drawn in these colours"
