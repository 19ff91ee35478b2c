"""`hyperloom plan` says what a change costs, unit by unit, before anything starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import cli
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from tests.unit.test_house import loaded_by

RECIPE = """\
name: {name}
root: {folder}/root
modalities: {{rgb: {{type: image, size: [8, 8]}}, edges: {{type: dense}}, hsv: {{type: dense, channels: 3}}}}
steps:
  frames:
    stage: ingest
    source: {{type: files, path: "{folder}/images/*/*.png", group: "(?P<group>[ab])/"}}
    rows: 4
  labels:
    stage: label
    data: frames
    experts:
      - {{type: edges, in: rgb@camera, out: edges@soft}}
      - {{type: edges, in: rgb@camera, out: edges@canny, method: canny}}
  votes: {{stage: consensus, data: labels, out: edges@consensus, method: mean}}
"""
EXPERTS = ["edges edges@soft", "edges edges@canny"]
Told = dict[str, "dict[str, tuple[int, int]] | None"]


class Project:
    """A recipe over folders of images; `told` is what the plan says: step -> producer -> (to run, to reuse)."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.folder, self._capsys = folder, capsys
        self.images("a", 8)
        self.write(RECIPE.format(name="first", folder=folder))

    def write(self, text: str) -> None:
        self.text = text
        (self.folder / "recipe.yaml").write_text(text)

    def change(self, old: str, new: str) -> None:
        assert old in self.text
        self.write(self.text.replace(old, new))

    def images(self, group: str, count: int) -> None:
        folder = self.folder / "images" / group
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            cv2.imwrite(str(folder / f"{i:03d}.png"), np.full((8, 8, 3), i * 9 + ord(group), np.uint8))

    def run(self) -> None:
        outcome = runner.run(recipe.load(self.folder / "recipe.yaml"), progress=Progress(quiet=True), track=False)
        assert outcome.ok, outcome.problems

    def told(self) -> Told:
        assert cli.main(["plan", str(self.folder / "recipe.yaml"), "--json"]) == 0
        steps = json.loads(self._capsys.readouterr().out)
        return {
            s["step"]: None if s["units"] is None else {u["producer"]: (u["run"], u["reuse"]) for u in s["units"]}
            for s in steps
        }


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path, capsys)


def test_before_the_first_run_everything_is_to_do(project: Project) -> None:
    told = project.told()
    assert told["frames"] == {"files rgb@camera": (2, 0)}
    assert told["labels"] == dict.fromkeys(EXPERTS, (2, 0))
    assert told["votes"] == {"mean edges@consensus": (2, 0)}
    assert not (project.folder / "root" / "expert").exists()


def test_when_all_is_done_nothing_is_to_do(project: Project) -> None:
    project.run()
    assert project.told()["labels"] == dict.fromkeys(EXPERTS, (0, 2))


def test_a_new_expert_costs_only_itself(project: Project) -> None:
    project.run()
    project.change("experts:\n", "experts:\n      - {type: hsv, in: rgb@camera, out: hsv@rgb}\n")
    told = project.told()
    assert told["labels"] == {"hsv hsv@rgb": (2, 0), **dict.fromkeys(EXPERTS, (0, 2))}
    assert told["votes"] == {"mean edges@consensus": (0, 2)}, "it does not look at the new one"


def test_new_data_costs_only_its_partitions(project: Project) -> None:
    project.run()
    project.images("b", 5)
    told = project.told()
    assert told["frames"] == {"files rgb@camera": (2, 2)}
    assert told["labels"] == dict.fromkeys(EXPERTS, (2, 2))
    assert told["votes"] == {"mean edges@consensus": (2, 2)}
    before = units(project)
    project.run()
    assert {space: len(after - before[space]) for space, after in units(project).items()} == dict.fromkeys(before, 2)


def test_what_changes_downstream_costs_nothing_here(project: Project) -> None:
    project.run()
    project.change("method: mean", "method: median")
    told = project.told()
    assert told["labels"] == dict.fromkeys(EXPERTS, (0, 2))
    assert told["votes"] == {"median edges@consensus": (2, 0)}


def test_a_changed_expert_costs_itself_and_what_reads_it(project: Project) -> None:
    project.run()
    project.change("method: canny", "method: canny, sigma: 2.0")
    told = project.told()
    assert told["labels"] == {EXPERTS[0]: (0, 2), EXPERTS[1]: (2, 0)}
    assert told["votes"] == {"mean edges@consensus": (2, 0)}


def test_two_recipes_share_units(project: Project) -> None:
    project.run()
    project.change("name: first", "name: second")
    project.change("frames:", "pictures:")
    project.change("data: frames", "data: pictures")
    project.change("- {type: edges, in: rgb@camera, out: edges@soft}", "- {type: hsv, in: rgb@camera, out: hsv@rgb}")
    assert project.told()["labels"] == {"hsv hsv@rgb": (2, 0), "edges edges@canny": (0, 2)}


def test_torn_units_count_as_to_do(project: Project) -> None:
    project.run()
    storage = Storage(str(project.folder / "root"))
    (manifest,) = [p for p in storage.walk("label") if p.endswith("manifest.json")]
    named = storage.read(manifest).decode()
    storage.delete(manifest)
    data = [p for p in storage.walk("expert") if "/data/" in p and p.partition("/data/")[0] in named]
    storage.write(data[0], storage.read(data[0])[:50])
    assert sorted(project.told()["labels"].values()) == [(0, 2), (1, 1)]  # type: ignore[union-attr]


def test_what_a_model_will_say_is_not_told_before_it_is_trained(project: Project) -> None:
    soft = "{stage: label, data: frames, experts: [{type: model, model: net, out: edges@net}]}"
    net = "{stage: train, data: shards, in: rgb@camera, targets: {edges: edges@soft}, epochs: 1, batch: 4}"
    project.write(f"{project.text}  shards: {{stage: shard, data: [frames, labels]}}\n  net: {net}\n  more: {soft}\n")
    told = project.told()
    assert told["net"] is None and told["more"] is None
    assert told["labels"] == dict.fromkeys(EXPERTS, (2, 0))


def test_a_plan_shows_it_to_people_and_imports_nothing_heavy(project: Project) -> None:
    command: Callable[[], str] = lambda: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "hyperloom.pipeline", "plan", str(project.folder / "recipe.yaml")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines = [line.split() for line in command().splitlines()]
    assert ["labels", "edges", "edges@canny"] in [line[:3] for line in lines]
    assert [line[-2:] for line in lines if line[:1] == ["labels"] and "edges" in line] == [["2", "0"]] * 2
    code = f"from hyperloom.pipeline import cli; cli.main(['plan', {str(project.folder / 'recipe.yaml')!r}])"
    assert loaded_by(code) <= {"numpy._core"}, "a video's frames are counted"


def units(project: Project) -> dict[str, set[str]]:
    storage = Storage(str(project.folder / "root"))
    found: dict[str, set[str]] = {}
    for path in storage.walk(""):
        space, _, name = path.partition("/units/")
        if name:
            found.setdefault(space, set()).add(name)
    return found
