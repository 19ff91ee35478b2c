"""`import hyperloom`: load, plan, run, read columns as arrays, and how notebooks show them. Models: tests/training."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import hyperloom
from tests.unit.test_house import loaded_by

CHECKOUT = Path(__file__).parents[2]


def recipe(root: Path) -> dict[str, Any]:
    """Two flights of three frames, rendered, with edges; the depth of one frame is missing."""
    flights = {"type": "flights", "flights": 2, "frames": 3, "seed": 3}
    return {
        "name": "small",
        "root": root,
        "modalities": {
            "rgb": {"type": "image", "size": (24, 32)},
            "semantic": {"type": "segmentation", "classes": ["land", "forest", "road", "water", "building"]},
            "depth": {"type": "dense", "unit": "m"},
            "normals": {"type": "dense", "channels": 3, "direction": True},
            "flow": {"type": "dense", "channels": 2, "unit": "px"},
            "edges": {"type": "dense", "range": [0, 1]},
            "pose": {"type": "vector", "length": 20},
        },
        "steps": {
            "frames": {"stage": "ingest", "source": flights, "group": "flight", "rows": np.int64(4)},
            "labels": {"stage": "label", "data": "frames", "experts": [
                {"type": "edges", "in": "rgb@camera", "out": "edges@gradient"},
            ]},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> hyperloom.Pipeline:
    loaded = hyperloom.load(recipe(tmp_path_factory.mktemp("python")))
    assert loaded.plan()["labels"].state == "missing" and not loaded.plan().fresh
    run = loaded.run(ray=False, mlflow=False, progress=False)
    assert run.states == {"frames": "done", "labels": "done"} and run.id
    return loaded


def test_a_recipe_is_planned_and_run_once(ran: hyperloom.Pipeline) -> None:
    assert list(ran) == ["frames", "labels"] and ran.plan().fresh
    again = ran.run(ray=False, mlflow=False, progress=False)
    assert again.id == "" and set(again.states.values()) == {"fresh"}
    assert ran["labels"].reads == ["frames"] and ran["labels"].config.experts[0].type == "edges"


def test_progress_is_printed_unless_nobody_wants_it(
    ran: hyperloom.Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = hyperloom.load(recipe(tmp_path))
    other.run("frames", ray=False, mlflow=False)
    assert "[1/1] frames" in capsys.readouterr().out
    other.run(ray=False, mlflow=False, progress=False)
    assert capsys.readouterr().out == ""


def test_a_column_comes_as_arrays_with_the_names_of_its_samples(ran: hyperloom.Pipeline) -> None:
    assert ran["labels"].columns == ("edges@gradient",)
    edges, rgb = ran["labels"].read("edges@gradient"), ran["frames"].read("rgb@camera")
    assert edges.values.shape == (6, 24, 32, 1) and edges.values.dtype == np.float32 and edges.valid.all()
    assert rgb.values.shape == (6, 24, 32, 3) and rgb.values.dtype == np.uint8
    assert edges.keys == rgb.keys and len(set(edges.keys)) == 6 and set(edges.groups) == {"flight_00", "flight_01"}
    assert list(edges.index) == [0, 1, 2, 0, 1, 2] and np.asarray(edges).max() <= 1
    some = ran["labels"].read("edges@gradient", rows=2, start=3)
    assert some.keys == edges.keys[3:5] and np.array_equal(some.values, edges.values[3:5])
    batches = list(ran["labels"].batches("edges@gradient"))
    assert [k for batch in batches for k in batch.keys] == edges.keys and len(batches) == 2
    assert len(ran["labels"].read("edges@gradient", rows=0)) == 0


def test_what_is_missing_is_no_number(tmp_path: Path) -> None:
    for video, t in (("a", 0), ("a", 1), ("b", 0)):
        for name, value in {"rgb": np.zeros((6, 8, 3), np.uint8), "depth": np.full((6, 8, 1), 2, np.float32)}.items():
            path = tmp_path / f"vre/{video}/{name}/npz/{t}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            if (video, name) != ("b", "depth"):
                np.savez(path, value)
    columns = {"rgb@camera": "rgb", "depth@dpt": "depth"}
    source = {"type": "arrays", "path": f"{tmp_path}/vre/*", "columns": columns}
    loaded = hyperloom.load(
        {
            "name": "gaps",
            "modalities": {"rgb": {"type": "image", "size": [6, 8]}, "depth": {"type": "dense"}},
            "steps": {"frames": {"stage": "ingest", "source": source, "group": "video"}},
        },
        root=tmp_path / "root",
    )
    loaded.run(ray=False, mlflow=False, progress=False)
    depth = loaded["frames"].read("depth@dpt")
    assert depth.missing == 1 and np.isnan(depth.values[~depth.valid]).all() and "1 missing" in repr(depth)
    assert [value is None for value in depth] == list(~depth.valid)
    assert len(depth.present()) == 2 and depth.present().groups == ["a", "a"]


def test_mistakes_are_said_as_by_the_command(ran: hyperloom.Pipeline, tmp_path: Path) -> None:
    with pytest.raises(hyperloom.HyperloomError, match=r"edges@gradiant.*edges@gradient"):
        ran["labels"].read("edges@gradiant")
    with pytest.raises(KeyError, match="labels"):
        ran["lables"]
    with pytest.raises(hyperloom.HyperloomError, match="holds no model"):
        ran["labels"].model()
    wrong = recipe(tmp_path) | {"stepz": {}}
    with pytest.raises(hyperloom.HyperloomError, match="stepz"):
        hyperloom.load(wrong)
    with pytest.raises(hyperloom.HyperloomError, match=r"not done.*recipe\.run"):
        hyperloom.load(recipe(tmp_path))["labels"].read("edges@gradient")
    with pytest.raises(hyperloom.HyperloomError, match="which champion"):
        ran.champion()


def test_a_step_that_fails_raises(tmp_path: Path) -> None:
    wrong = recipe(tmp_path)
    call = {"type": "python", "call": "json:loads", "in": "rgb@camera", "out": "edges@mine"}
    wrong["steps"]["labels"]["experts"] = [call]
    with pytest.raises(hyperloom.HyperloomError, match="labels"):
        hyperloom.load(wrong).run(ray=False, mlflow=False, progress=False)


def test_notebooks_show_tables_and_pictures(ran: hyperloom.Pipeline) -> None:
    for shown in (ran, ran.plan(), ran["labels"], ran.run(ray=False, mlflow=False, progress=False)):
        assert "<table>" in shown._repr_html_() and "labels" in shown._repr_html_()
    page = ran["frames"].read("rgb@camera", rows=2)._repr_html_()
    assert page.count("data:image/png;base64,") == 2
    assert repr(ran.plan()).splitlines()[0].split() == ["step", "stage", "state", "why", "rows"]
    odd = recipe(Path(ran.root))
    odd["steps"]["frames"]["source"] = {"type": "video", "path": "<b>nowhere</b>/*.mp4"}
    assert "<b>nowhere" not in hyperloom.load(odd)._repr_html_(), "text is escaped"


def test_the_package_is_light_typed_and_of_one_version() -> None:
    assert loaded_by("import hyperloom; hyperloom.load") == set()
    assert (Path(hyperloom.__file__).parent / "py.typed").is_file()
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert hyperloom.__version__ == project["version"]
    assert all(getattr(hyperloom, name) is not None for name in hyperloom.__all__) and "load" in dir(hyperloom)
    with pytest.raises(AttributeError, match="lode"):
        getattr(hyperloom, "lo" + "de")


def test_a_notebook_reads_labels_and_code_as_they_are_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process had read of a table or imported stayed, under the identity of what was there by then."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    labels, code = tmp_path / "labels.csv", tmp_path / "mine_by_now.py"
    source = {"type": "files", "path": "pictures", "columns": {"speed@truth": str(labels)}}
    expert = {"type": "python", "call": "mine_by_now:speed", "in": "rgb@camera", "out": "speed@mine", "per": "sample"}
    pipeline = hyperloom.load({
        "name": "by-now",
        "root": tmp_path / "root",
        "modalities": {"rgb": {"type": "image", "size": [8, 8]}, "speed": {"type": "scalar"}},
        "steps": {
            "frames": {"stage": "ingest", "source": source},
            "labels": {"stage": "label", "data": "frames", "experts": [expert]},
        },
    })  # fmt: skip
    for speed in (3, 4, 3):
        labels.write_text(f"name,speed\na,{speed}\n")
        code.write_text(f"def speed(picture):\n    return {speed}.5\n")
        pipeline.run(ray=False, mlflow=False, progress=False, report=False)
        values = [float(pipeline[step].read(column).values[0, 0]) for step, column in
                  (("frames", "speed@truth"), ("labels", "speed@mine"))]  # fmt: skip
        assert values == [speed, speed + 0.5]
