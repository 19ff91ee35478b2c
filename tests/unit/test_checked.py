"""Recipes are checked before anything runs: every mistake with its line, near spelling, and nothing started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import cli
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.plan import check, plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.modality import Dense
from hyperloom.stages.modality.base import Defaults

CHECKOUT = Path(__file__).parents[2]
DEMO = (CHECKOUT / "recipes" / "demo.yaml").read_text(encoding="utf-8")
SMALL = """\
name: small
modalities:
  rgb: {type: image, size: [16, 24]}
  semantic: {type: segmentation, classes: [land, forest, road, water, building]}
  soft: {type: soft, of: semantic}
  depth: {type: dense, unit: m}
  normals: {type: dense, channels: 3, direction: true}
  flow: {type: dense, channels: 2}
  pose: {type: vector, length: 20}
  edges: {type: dense, range: [0, 1]}
  caption: {type: text, length: 16}
  tiny: {type: dense, size: [8, 8]}
steps:
  frames:
    stage: ingest
    source: {type: flights, flights: 4, frames: 2}
    group: flight
  labels:
    stage: label
    data: frames
    experts:
      - {type: edges, in: rgb@camera, out: edges@soft}
      - {type: edges, in: rgb@camera, out: edges@canny, method: canny}
      - {type: edges, in: rgb@camera, out: tiny@edges}
      - {type: http, in: rgb@camera, out: caption@llm, api: json, url: "http://localhost:9"}
  more:
    stage: label
    data: [frames]
    experts: [{type: edges, in: rgb@camera, out: edges@soft}]
  votes:
    stage: consensus
    data: labels
    out: edges@mean
    method: mean
  shards:
    stage: shard
    data: [frames, labels, votes]
    split:
      val: 0.1
      pin: {val: [flight_00], test: [flight_01]}
  again: {stage: shard, data: [frames, labels, votes]}
  net:
    stage: train
    data: shards
    in: rgb@camera
    targets: {edges: edges@mean}
    batch: 4
    updates: 2
    workers: 1
  report:
    stage: evaluate
    data: shards
    models: [net]
    truth: {depth: depth@truth}
"""


def _mistakes(text: str, root: Path) -> list[str]:
    """What is wrong with a recipe, one line a mistake."""
    storage = Storage(str(root))
    with pytest.raises(RecipeError) as caught:
        plan(recipe.parse(text, "r.yaml"), storage, Digests(storage))
    return str(caught.value).splitlines()


def _line(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


class Cloud(Dense):
    """A modality of one's own, for which nobody brought a head or an objective."""

    defaults: ClassVar[Defaults] = Defaults("cloud", "", "mae")

    @property
    def loss(self) -> str:
        return "nearest"


AT = {
    "flip cannot mirror pose@telemetry": "augment: [flip, colour]",
    "flow@truth: the recipe defines no modality 'flow'": "source: {type: flights",
    "inputs of its model, and 'frames' has no hsv@rgb": "model: teacher",
    "flow@truth of flights has the shape": "source: {type: flights",
}
"""Where a mistake is said that is not where something was changed."""


# -- one table of mistakes: what is written instead of what, on which line (that with the new text), and the words
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("edges, in: rgb@camera", "edges, in: rbg@camera", "no column 'rbg@camera'; did you mean 'rgb@camera'?"),
        ("[flow@dis, pose@telemetry]", "[flow@dsi, pose@telemetry]", "did you mean 'flow@dis'?"),
        ("in: rgb@camera, out: hsv@rgb", "in: rgb@camera, out: hvs@rgb", "no modality 'hvs'; did you mean 'hsv'?"),
        (
            "[rgb@camera, depth@motion, pose@telemetry]",
            "[rgb@camera, depth@moton, pose@telemetry]",
            "did you mean 'depth@motion'?",
        ),
        ("of: [depth@motion]", "of: [depth@moton]", "depth@consensus: 'labels' has no column 'depth@moton'"),
        ("weights: {color: 1.5}", "weights: {colour: 1.5}", "weights for colour, but the sources are semantic@color"),
        ("{method: copy, of:", "{method: vote, of:", "'vote' is for"),
        ("data: [frames, labels, votes]", "data: [labels, votes]", "data needs an ingest step"),
        ("votes, soft]\n    columns", "votes, teacher]\n    columns", "'teacher' gives a model (train, distill)"),
        ("columns: [rgb@camera, soft@teacher", "columns: [rgb@camera, soft@teachr", "did you mean 'soft@teacher'?"),
        (
            "split: {by: flight, pin: {test: &",
            "split: {by: drive, pin: {test: &",
            "split by 'drive', but ingest groups",
        ),
        ("flight_31]}}", "flight_31, flight_77]}}", "split.pin: there is no group 'flight_77'; did you mean"),
        ("semantic@color, semantic@texture", "semantic@colour, semantic@texture", "did you mean 'semantic@color'?"),
        ("depth: depth@consensus, normals", "depth: depth@consenus, normals", "did you mean 'depth@consensus'?"),
        ("depth: depth@consensus, normals", "dept: depth@consensus, normals", "called 'dept'; did you mean 'depth'?"),
        ("depth: depth@consensus, normals", "depth: semantic@color, normals", "semantic@color cannot teach 'depth'"),
        ("{type: cross-entropy, balance: 0.5}", "{type: huber}", "'huber' does not fit semantic@consensus"),
        (
            "data: shards\n    in: [rgb",
            "data: labels\n    in: [rgb",
            "'labels' gives samples (ingest, label, consensus)",
        ),
        ("in: [rgb@camera, hsv@rgb,", "in: [rgb@camera, pose@telemetry,", "flip cannot mirror pose@telemetry"),
        (
            "augment: [flip, colour]\n    balancer: unc",
            "stop: {metric: semantic.accuracy}\n    balancer: unc",
            "validation measures semantic.miou; stop on that",
        ),
        ("balancer: uncertainty", "validate: {semantic: semantic@color}", "there is no split val"),
        ("balancer: uncertainty", "confidence: {depth@consensus: flow@dis}", "several channels, confidence is one"),
        ("balancer: uncertainty", "confidence: {depth@consensus: edges@gradint}", "did you mean 'edges@gradient'?"),
        (
            "    batch: 8\n    ema: 0.98\n    workers: [1, 2]\n\n  # The",
            "    batch: 800\n\n  # The",
            "than the 224 training",
        ),
        (
            "model: teacher\n        out",
            "model: shards\n        out",
            "'shards' gives shards (shard); wanted here: a model",
        ),
        (
            "model: teacher\n        out",
            "model: teacher\n        in: rgb@camra\n        out",
            "no input 'rgb@camra'; did you",
        ),
        ("depth@teacher, normals@teacher]", "depth@teacher, pose@teacher]", "nothing for pose@teacher"),
        (
            "out: [semantic@teacher, soft",
            "out: [semantic@color, soft",
            "semantic@color is a column of the inputs already",
        ),
        (
            "    data: [frames, labels]\n",
            "    data: frames\n",
            "inputs of its model, and 'frames' has no hsv@rgb",
        ),
        ("teacher: teacher", "teacher: shards", "'shards' gives shards (shard); wanted here: a model"),
        ("{soft@teacher: 1.0,", "{soft@taecher: 1.0,", "'taught' has no column 'soft@taecher'; did you mean"),
        ("depth: depth@truth, normals", "depth: depth@thruth, normals", "no column 'depth@thruth'; did you mean"),
        ("      student: student", "      student: soft", "'soft' gives samples"),
        (
            "student: student\n    truth",
            "student: student\n    split: val\n    truth",
            "the split 'val' of step 'shards' is",
        ),
        (
            "student: student\n    truth",
            "student: student\n    against: colour\n    truth",
            "nobody is called 'colour'",
        ),
        (
            "ensemble: *asked}\n      st",
            "ensemble: {type: models, models: [student]}}\n      st",
            "has other inputs or tasks",
        ),
        ("model: student\n    report", "model: teacher\n    report", "'teacher' makes no ONNX file"),
        ("report: report", "report: shards", "'shards' gives shards (shard); wanted here: a report"),
        ("gate: {semantic.miou:", "gate: {semantik.miou:", "judges no modality 'semantik'; did you mean 'semantic'?"),
        ('["> best_expert"', '["> colour"', "'report' knows no 'colour'; did you mean 'color'?"),
        ('["> best_expert"', '["> best_exprt - 1e-3"', "'report' knows no 'best_exprt'; did you mean 'best_expert'?"),
        ('["> best_expert", ">= champion', '["> best_expert", ">= champoin', "no 'champoin'; did you mean 'champion'?"),
        ("gate: {semantic.miou: [", "gate: {depth.miou: [", "gate: 'depth' is not measured by 'miou'"),
        ("  flow:     {type: dense, channels: 2, unit: px}\n", "", "flow@truth: the recipe defines no modality 'flow'"),
        ("{type: dense, channels: 2, unit: px}", "{type: dense, channels: 4}", "flow@truth of flights has the shape"),
    ],
)
def test_a_mistake_in_the_demo_is_said_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert DEMO.count(old) >= 1, old
    text = DEMO.replace(old, new, 1)
    found = [mistake for mistake in _mistakes(text, tmp_path) if words in mistake]
    assert found, "\n".join(_mistakes(text, tmp_path))
    changed = next(
        i for i, pair in enumerate(zip(DEMO.splitlines(), text.splitlines(), strict=False), 1) if len({*pair}) > 1
    )
    assert int(found[0].split(":")[1]) == (_line(text, AT[words]) if words in AT else changed), found[0]


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("test: [flight_01]}", "test: [flight_01], train: [flight_1]}", "pin: {", "no group 'flight_1'; did you mean"),
        (
            "pin: {val: [flight_00], test: [flight_01]}",
            "pin: {val: [flight_00, flight_02], test: [flight_01, flight_03]}",
            "split:",
            "none fell into 'train'",
        ),
        ("val: 0.1\n", "stratify: depth@lidar\n", "stratify:", "nor a column of the shards is 'depth@lidar'"),
        ("batch: 4", "batch: 5", "batch: 5", "batch 5 is more than the 4 training samples. Next: batch: 4"),
        (
            "in: rgb@camera\n    targets",
            "in: [rgb@camera, caption@llm]\n    targets",
            "in: [rgb",
            "cannot read caption@llm",
        ),
        ("in: rgb@camera\n    targets", "in: [rgb@camera, tiny@edges]\n    targets", "in: [rgb", "differ in size"),
        ("workers: 1", "stop: {metric: edges.miou}", "stop:", "validation measures edges.mae; stop on that"),
        ("workers: 1", "stop: {metric: edge.mae}", "stop:", "'edge' is no task; did you mean 'edges'?"),
        ("workers: 1", "extras: {turn: {type: rotation, of: rgb@camra}}", "extras:", "rotation of rgb@camra"),
        (
            "data: [frames, labels, votes]",
            "data: [frames, labels, alike, votes]",
            "data: [frames, l",
            "no step of this",
        ),
        ("labels, votes]\n", "labels, more, votes]\n", "", ""),
        ("workers: 1", "workers: 8", "batch: 4", "batch: 4 samples cannot be shared by 8 workers"),
        (
            "data: labels\n    out",
            "data: lables\n    out",
            "data: lables",
            "no step of this recipe; did you mean 'labels'?",
        ),
        ("in: rgb@camera\n    targets", "in: [rgb@camera, rgb]\n    targets", "in: [rgb", "'rgb' is no column"),
        ("edges@mean}\n", "edges@mean, tiny: tiny@edges}\n", "    in: rgb", "inputs and tasks differ in size"),
        ("method: mean", "of: [edges@sofd, edges@canny]\n    method: mean", "of: [", "did you mean 'edges@soft'?"),
        ("    val: 0.1\n", "", "", ""),
        (
            "{type: dense, range",
            '{type: "tests.unit.test_checked:Cloud", range',
            "targets: {",
            "for which no head is known",
        ),
        (
            "{type: dense, range",
            '{type: "tests.unit.test_checked:Cloud", range',
            "targets: {",
            "name one under `losses:`",
        ),
        (
            "data: shards\n    in",
            "data: [shards, again]\n    sampler: {type: shares, shares: [1, 2, 3]}\n    in",
            "sampler:",
            "the sampler has 3 shares for 2 data sets",
        ),
        (
            "data: shards\n    in",
            "data: [shards, again]\n    phases:\n    - {share: 1, sampler: {type: shares, shares: [1, 2, 3]}}\n    in",
            "- {share: 1, sampler:",
            "the sampler has 3 shares for 2 data sets",
        ),
        ("models: [net]", "models: [votes]", "models: [v", "'votes' gives samples"),
        ("models: [net]", "temporal: {image: rgb@camra}", "temporal:", "have no image rgb@camra"),
        ("truth: {depth: depth@truth}", "columns: [depth@motion]", "columns: [d", "no column 'depth@motion'"),
    ],
)
def test_a_mistake_in_a_small_recipe_is_said_with_its_line(
    tmp_path: Path, old: str, new: str, at: str, words: str
) -> None:
    assert old in SMALL
    text = SMALL.replace(old, new, 1)
    if not words:  # two steps that make the same column alike are no mistake
        plan(recipe.parse(text, "r.yaml"), Storage(str(tmp_path)), Digests(Storage(str(tmp_path))))
        return
    found = _mistakes(text, tmp_path)
    assert any(m.startswith(f"r.yaml:{_line(text, at)}: ") and words in m for m in found), (_line(text, at), found)


# -- what the check is not in the way of ------------------------------------------------------------------------------
@pytest.mark.parametrize("path", sorted(str(p.relative_to(CHECKOUT)) for p in CHECKOUT.glob("recipes/**/*.yaml")))
def test_recipes_that_ship_have_no_mistake(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.syspath_prepend(str(CHECKOUT))
    monkeypatch.setenv("HYPERLOOM_SHARED", "/nowhere")
    loaded = recipe.load(path)
    check(loaded)


def test_mistakes_that_do_not_follow_from_one_another_are_said_together(tmp_path: Path) -> None:
    text = DEMO.replace("of: [depth@motion]", "of: [depth@moton]").replace("report: report", "report: shards")
    text = text.replace("flight_31]}}", "flight_99]}}")  # asked for once the rest is right
    assert [m.split(": ")[1] for m in _mistakes(text, tmp_path)] == ["step 'votes'", "step 'release'"]


def test_plan_and_run_refuse_and_leave_no_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, root = tmp_path / "bad.yaml", tmp_path / "root"
    path.write_text(DEMO.replace('["> best_expert"', '["> colour"'))
    line = _line(path.read_text(), "> colour")
    for command in (["plan"], ["run", "--no-mlflow"], ["submit"]):
        assert cli.main([*command, str(path), "--root", str(root)]) == 2 and not root.exists()
        error = capsys.readouterr().err
        assert error.startswith(f"hyperloom: {path}:{line}: step 'release': gate: 'report' knows no 'colour'")


def test_the_check_of_the_demo_takes_no_time_and_no_heavy_import() -> None:
    code = (
        "import sys, time, hyperloom.stages; from hyperloom.pipeline.recipes import recipe; "
        "from hyperloom.pipeline.planning.plan import check; loaded = recipe.load('recipes/demo.yaml'); "
        "check(loaded); start = time.process_time(); check(loaded); "
        "print(time.process_time() - start); "
        "print(sorted({'torch', 'ray', 'mlflow', 'pyarrow', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, check=True)
    seconds, heavy = done.stdout.split("\n")[:2]
    assert float(seconds) < 0.1 and heavy == "[]"
