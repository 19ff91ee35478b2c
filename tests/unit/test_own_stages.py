"""Stages of one's own: a file outside the packages feeds shard and evaluate, and is checked as far as it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import hyperloom
import hyperloom.stages
from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.stages.results import Judged

MINE = '''
from hyperloom.pipeline.config import StepName
from hyperloom.pipeline.stage import Stage
from hyperloom.pipeline.commits.units import Resources, Unit
from hyperloom.stages.base import Producer
from hyperloom.stages.results import Labels, Samples, Shards

SPACE = "mine/bright"


class Bright:
    """Reads a partition's keys and says of each sample that it is bright."""

    resources = Resources()

    def __init__(self, storage, modality):
        self.storage, self.modality = storage, modality

    def setup(self):
        pass

    def run(self, unit, out):
        import numpy as np
        import pyarrow as pa

        from hyperloom.stages.table import read_table, write_table

        keys = read_table(self.storage, unit.payload["path"], ["key"])["key"]
        values = self.modality.encode([np.full(self.modality.shape, 0.5, np.float32)] * len(keys))
        fields = [pa.field("key", pa.string()), self.modality.field("edges@mine")]
        out.rows = len(keys)
        out.write("parquet", write_table({"key": keys, "edges@mine": values}, fields))


class Mine(Stage):
    """Labels without an expert."""

    data: StepName

    def uses(self):
        return {"edges"}

    def run(self, step):
        given = step.inputs[self.data]
        units = [Unit(SPACE, r.id, "bright", {"path": r.file.path}) for r in given.records if r.rows]
        step.records = step.run_units(units, {"bright": Bright(step.storage, step.modalities["edges"])})
        column = Producer("edges@mine", SPACE, "0" * 64, {"kind": "expert", "expert": {"type": "mine"}})
        return Labels({"edges@mine": column}, Samples.from_manifest(given).partitions)


class Merged(Stage):
    """The shards of another step as they are."""

    data: StepName

    def run(self, step):
        step.records = step.inputs[self.data].records
        return Shards.from_manifest(step.inputs[self.data])
'''
OWN = """\
name: own
modalities:
  rgb: {type: image, size: [8, 8]}
  edges: {type: dense, range: [0, 1]}
steps:
  frames: {stage: ingest, source: {type: files, path: PATH}, rows: 2}
  labels: {stage: label, data: frames, experts: [{type: edges, in: rgb@camera, out: edges@truth}]}
  bright: {stage: "my_stages:Mine", data: frames}
  shards: {stage: shard, data: [frames, labels, bright], split: {pin: {test: [b], train: [a]}}}
  merged: {stage: "my_stages:Merged", data: shards}
  report: {stage: evaluate, data: merged, pictures: 0}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe whose stages `my_stages:...` lie outside the packages."""
    (tmp_path / "my_stages.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for group in "ab":
        (tmp_path / "raw" / group).mkdir(parents=True)
        for i in range(3):
            picture = np.random.default_rng(i).integers(0, 255, (8, 8, 3)).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "raw" / group / f"{i}.png"), picture)
    return OWN.replace("{type: files, path: PATH}", f"{{type: files, path: {tmp_path}/raw, group: '(?P<group>[ab])/'}}")


def test_a_stage_of_ones_own_feeds_shard_and_another_feeds_evaluate(own: str, tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    outcome = runner.run(recipe.parse(own), root=root, progress=Progress(quiet=True), track=False)
    assert outcome.problems == {}, outcome.problems
    steps = {s.name: s for s in plan(recipe.parse(own), Storage(root), Digests(Storage(root)))}
    report = steps["report"].manifest
    assert report
    judged = Judged.from_manifest(report)
    assert judged.figures["mine"]["edges.mae"] > 0 and judged.lineage.stage == "my_stages:Merged"
    assert {s.state for s in steps.values()} == {"fresh"}


def test_what_reads_a_stage_of_ones_own_is_not_checked_against_it_before_it_ran(own: str, tmp_path: Path) -> None:
    text = own.replace("pictures: 0", "pictures: 0, columns: [edges@min]")
    root = str(tmp_path / "root")
    plan(recipe.parse(text), Storage(root), Digests(Storage(root)))
    outcome = runner.run(recipe.parse(text), root=root, progress=Progress(quiet=True), track=False)
    assert "'merged' has no column 'edges@min'; did you mean 'edges@mine'?" in outcome.problems["report"]


def test_a_stage_of_ones_own_may_say_what_it_gives_and_what_is_wrong(own: str, tmp_path: Path) -> None:
    (tmp_path / "my_stages.py").write_text(
        MINE.replace(
            "    def uses(self):",
            "    def check(self, step):\n"
            "        from hyperloom.stages.schema import Column, SamplesSchema\n"
            "        given = step.read(('data',), self.data, SamplesSchema)\n"
            "        if given and not given.raw:\n"
            "            step.mistake(('data',), 'only frames are bright')\n"
            "        return SamplesSchema({'edges@mine': Column('edges@mine', 'expert', lambda: '')})\n\n"
            "    def uses(self):",
        )
    )
    sys.modules.pop("my_stages", None)
    wrong = own.replace("split: {pin", "columns: [rgb@camera, edges@min], split: {pin")
    assert _mistakes(wrong, tmp_path) == [
        "r.yaml:9: step 'shards': 'frames' + 'labels' + 'bright' has no column 'edges@min'; did you mean 'edges@mine'?"
    ]
    wrong = own.replace('Mine", data: frames', 'Mine", data: labels')
    assert _mistakes(wrong, tmp_path) == ["r.yaml:8: step 'bright': only frames are bright"]


def _mistakes(text: str, folder: Path) -> list[str]:
    storage = Storage(str(folder / "root"))
    with pytest.raises(RecipeError) as caught:
        plan(recipe.parse(text, "r.yaml"), storage, Digests(storage))
    return str(caught.value).splitlines()


def test_the_stage_of_the_documentation_runs_as_it_stands(own: str, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/stages.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "brightened.py").write_text(code)
    text = own[: own.index("  bright:")].replace("edges@truth", "edges@gradient")
    text += '  bright: {stage: "brightened:Brighten", data: labels, by: 1.5}\n'
    root = str(tmp_path / "root")
    outcome = runner.run(recipe.parse(text), root=root, progress=Progress(quiet=True), track=False)
    assert outcome.problems == {}, outcome.problems
    pipeline = hyperloom.load(yaml.safe_load(text), root=root)
    before, after = (pipeline[s].read(c).values for s, c in (("labels", "edges@gradient"), ("bright", "edges@bright")))
    assert before.shape == (6, 8, 8, 1) and np.allclose(after, (before * 1.5).clip(0, 1), atol=0.01)
    assert after.max() > before.max()
    assert _mistakes(text.replace("edges@gradient", "edges@sobel"), tmp_path) == [
        "r.yaml:8: step 'bright': 'labels' has no column 'edges@gradient'; known: edges@sobel"
    ]


def test_a_plugin_that_is_installed_while_a_process_runs_is_known(tmp_path: Path, monkeypatch: Any) -> None:
    """A notebook that installed one had to be restarted."""
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not plugins.exists("expert", "tidal") and "tidal" not in plugins.types("expert")
    about = tmp_path / "tides-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tides\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[hyperloom.expert]\ntidal = tides:Tidal\n")
    (tmp_path / "tides.py").write_text(
        "from hyperloom.stages.label.python import Python\n\n\nclass Tidal(Python):\n    pass\n"
    )
    assert plugins.load("expert", "tidal").__name__ == "Tidal" and "tidal" in plugins.types("expert")


def test_who_asks_belongs_to_a_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources that differ in a credential alone may see other files: within a plan they were listed as one."""
    (tmp_path / "tenants.py").write_text(
        "from hyperloom.pipeline.config import secret\n"
        "from hyperloom.stages.ingest.source import Piece, Source\n\n\n"
        "class Tenant(Source):\n"
        "    token: str = secret()\n\n"
        "    def offers(self):\n        return ('rgb@camera',)\n\n"
        "    def pieces(self, digests):\n        return [Piece(self.token, self.token)]\n"
    )
    monkeypatch.setenv("TA", "first-tenant")
    monkeypatch.setenv("TB", "second-tenant")
    steps = "".join(
        f"  {n}: {{stage: ingest, source: {{type: 'tenants:Tenant', token: '${{{n.upper()}}}'}}}}\n"
        for n in ("ta", "tb")
    )
    path = tmp_path / "a.yaml"
    path.write_text(
        f"name: a\nroot: {tmp_path}/root\nmodalities: {{rgb: {{type: image, size: [4, 4]}}}}\nsteps:\n{steps}"
    )
    storage = Storage(str(tmp_path / "root"))
    first, second = plan(recipe.load(path), storage, Digests(storage))
    assert first.fingerprint != second.fingerprint
