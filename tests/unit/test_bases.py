"""A recipe that builds on another: the steps that one would have written, and mistakes at their file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import cli, plugins, project, recipe
from hyperloom.pipeline.digests import Digests
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plan import identities
from hyperloom.pipeline.storage import Storage

BASE = """\
name: base
root: memory://bases
paper: {id: 7, cite: A, claim: b, departs: [c]}
matrix: {from: [1, 5]}
modalities:
  rgb: {type: image, size: [8, 8]}
steps:
  a: {stage: "tests.toy:Numbers", start: "${from}", salt: x}
  b: {stage: "tests.toy:Squares", data: a}
  c: {like: a, salt: y}
  d: {stage: "tests.toy:Sum", data: [b-*, c-*]}
"""
OWN = """\
name: own
base: base.yaml
matrix: {from: [2, 5]}
steps:
  a: {salt: z}
  d: {data: [b-*]}
  e: {stage: "tests.toy:Sum", data: [c]}
"""
BY_HAND = """\
name: own
root: memory://bases
matrix: {from: [2, 5]}
modalities:
  rgb: {type: image, size: [8, 8]}
steps:
  a: {stage: "tests.toy:Numbers", start: "${from}", salt: z}
  b: {stage: "tests.toy:Squares", data: a}
  c: {like: a, salt: y}
  d: {stage: "tests.toy:Sum", data: [b-*]}
  e: {stage: "tests.toy:Sum", data: [c]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    yield tmp_path
    project.enter()


def _load(folder: Path, text: str = OWN, name: str = "own.yaml") -> recipe.RecipeFile:
    (folder / name).write_text(text)
    return recipe.load(folder / name)


def _identities(loaded: recipe.RecipeFile) -> dict[str, str]:
    known = identities(loaded, Digests(Storage("memory://bases")))
    return {name: known[name].fingerprint for name in loaded.recipe.steps}


def test_its_steps_are_those_that_one_would_have_written(folder: Path) -> None:
    own = _load(folder)
    assert _identities(own) == _identities(_load(folder, BY_HAND, "hand.yaml"))
    assert own.recipe.name == "own" and own.recipe.paper is None and own.recipe.root == "memory://bases"


def test_bases_have_bases_and_paths_count_from_the_file(folder: Path) -> None:
    (folder / "deeper").mkdir()
    _load(folder)
    last = "name: last\nbase: ../own.yaml\nmatrix: null\nmodalities: {rgb: null}\n"
    loaded = _load(folder, f"{last}steps: {{a: {{start: 9}}, d: {{data: [b, c]}}, e: null}}\n", "deeper/last.yaml")
    assert list(loaded.recipe.steps) == ["a", "b", "c", "d"] and loaded.recipe.modalities == {}
    assert loaded.recipe.steps["a"].start == loaded.recipe.steps["c"].start == 9


def test_a_step_with_another_stage_is_a_new_one(folder: Path) -> None:
    text = OWN.replace("  d: {data: [b-*]}\n", '  d: {stage: "tests.toy:Squares", data: b}\n')
    assert _load(folder, text).recipe.steps["d-2"].data == "b-2"
    text = OWN.replace("  d: {data: [b-*]}\n", "  d: {like: e, data: [b]}\n")
    assert list(_load(folder, text).recipe.steps["d-5"].data) == ["b-5"]


def test_plug_ins_may_lie_beside_the_base(folder: Path) -> None:
    (folder / "deeper").mkdir()
    (folder / "beside_the_base.py").write_text("from tests.toy import Numbers\nclass Mine(Numbers):\n    pass\n")
    (folder / "base.yaml").write_text(BASE.replace("tests.toy:Numbers", "beside_the_base:Mine"))
    steps = _load(folder, OWN.replace("base.yaml", "../base.yaml"), "deeper/own.yaml").recipe.steps
    assert type(steps["a-2"]) is plugins.load("stage", "beside_the_base:Mine")


def test_what_is_kept_of_a_run_has_the_base_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALT_OF_TEST", "salt-nobody-may-see")
    (folder / "base.yaml").write_text(BASE.replace("salt: x", 'salt: "${SALT_OF_TEST}"'))
    own = _load(folder, OWN.replace("  a: {salt: z}\n", ""))
    assert "# base.yaml:\n# name: base" in own.text and "${SALT_OF_TEST}" in own.text
    known = identities(own, Digests(Storage("memory://bases")))
    assert own.as_written(known["a-2"].value)["config"]["salt"] == "${SALT_OF_TEST}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("base: base.yaml", "base: bsae.yaml"), "own.yaml:2: base: cannot read .*bsae.yaml.*Next: give its path"),
        (("base: base.yaml", "base: [base.yaml]"), "own.yaml:2: base: give the path of the recipe"),
        (
            ("base: base.yaml", "base: own.yaml"),
            "own.yaml:2: base: .* build on each other in a circle: own.yaml",
        ),
        (
            ("  a: {salt", "  aa: {salt"),
            "own.yaml:5: base.yaml has no step 'aa' that could be changed.*'a'",
        ),
        (("  d: {data: [b-*]}", "  dd: null"), "own.yaml:6: base.yaml has no step 'dd'"),
        (("matrix: {from: [2, 5]}", "matrix: null"), r"own.yaml:5: step 'a' mentions \$\{from\}, which is no longer"),
        (("salt: z", "slat: z"), "own.yaml:5: unknown field 'slat'"),
        (("[b-*]", "[b-7]"), "own.yaml:6: step 'd' reads 'b-7'"),
        (("name: own\n", ""), "own.yaml:1: the field 'name' is missing"),
        (("matrix: {from", "matrix: {of"), "own.yaml:3: matrix: no step mentions"),
    ],
)
def test_mistakes_name_file_and_line(folder: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in OWN
    with pytest.raises(RecipeError, match=message):
        _load(folder, OWN.replace(*change))


def test_a_mistake_of_the_base_is_said_of_the_base(folder: Path) -> None:
    (folder / "base.yaml").write_text(BASE.replace("salt: y", "slat: y"))
    with pytest.raises(RecipeError, match=f"{folder}/base.yaml:10: unknown field 'slat'"):
        _load(folder)
    (folder / "base.yaml").write_text("name: base\nbase: own.yaml\n")
    with pytest.raises(RecipeError, match="base.yaml:2: base: .* in a circle: own.yaml -> base.yaml"):
        _load(folder)


def test_the_schema_knows_a_recipe_that_builds_on_another(capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert cli.main(["schema"]) == 0
    fits = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out)).is_valid
    step = {"stage": "label", "data": "frames", "experts": ["hsv"]}
    assert fits({"name": "x", "base": "y.yaml", "matrix": None, "steps": {"a": {"updates": 8}, "b": None, "c": step}})
    assert not fits({"name": "x", "base": ["y.yaml"]}) and not fits({"name": "x", "base": "y.yaml", "step": {}})
    assert not fits({"name": "x", "base": "y.yaml", "steps": {"c": {**step, "datta": 1}}})
    assert not fits({"name": "x", "modalities": {}, "steps": {"a": {"updates": 8}}}) and not fits({"name": "x"})
