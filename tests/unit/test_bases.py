"""A recipe that builds on another: the steps that one would have written, and mistakes at their file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.host import project
from hyperloom.pipeline.planning.plan import identities
from hyperloom.pipeline.recipes import bases, recipe
from hyperloom.pipeline.recipes.merging import merged_steps
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from tests.unit.test_schema import validator

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
        (
            ("  a: {salt: z}\n", '  c: {stage: "tests.toy:Numbers", start: 4}\n'),
            "own.yaml:5: in base.yaml step 'c' is like",
        ),
        (("matrix: {from: [2, 5]}", "matrix: [from]"), "own.yaml:3: matrix: names are expected"),
        (("matrix: {from: [2, 5]}", "modalities: image"), "own.yaml:3: modalities: names are .* no mapping"),
    ],
)
def test_mistakes_name_file_and_line(folder: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in OWN
    with pytest.raises(RecipeError, match=message):
        _load(folder, OWN.replace(*change))


@pytest.mark.parametrize("steps", ["[a]", "\n- a: {salt: z}", "a", "null", "3"])
def test_sections_without_names_are_refused_on_either_side(folder: Path, steps: str) -> None:
    for section in ("steps", "modalities", "matrix"):
        if (section, steps) in (("modalities", "null"), ("matrix", "null")):
            continue  # takes the section away
        with pytest.raises(RecipeError, match=f"own.yaml:3: {section}: names are expected"):
            _load(folder, f"name: own\nbase: base.yaml\n{section}: {steps}\n")
        (folder / "wrong.yaml").write_text(f"name: wrong\n{section}: {steps}\n")
        with pytest.raises(RecipeError, match=f"wrong.yaml:2: {section}: names are expected"):
            _load(folder, "name: own\nbase: wrong.yaml\nsteps: {a: {salt: z}}\nmatrix: {from: [2]}\n")


def test_null_takes_away_what_a_step_has_by_like(folder: Path) -> None:
    base = BASE.replace("c: {like: a, salt: y}", "c: {like: a}\n  e: {like: c, salt: y}")
    (folder / "base.yaml").write_text(base)
    steps = _load(folder, "name: own\nbase: base.yaml\nsteps: {c: {salt: null}}\n").recipe.steps
    assert [steps[f"{name}-1"].salt for name in "ace"] == ["x", "", "y"]
    _load(folder, "name: mid\nbase: base.yaml\nsteps: {e: {salt: null}}\n", "mid.yaml")
    steps = _load(folder, "name: own\nbase: mid.yaml\nsteps: {c: {salt: z}}\n").recipe.steps
    assert [steps[f"{name}-1"].salt for name in "ace"] == ["x", "z", ""]
    whole = merged_steps({"c": {"like": "a", "one": {"two": 2}}}, {"c": {"one": {"two": None, "three": None}}})
    assert whole == {"c": {"like": "a", "one": {"two": None, "three": None}}}, "at any depth"


def test_variables_are_needed_for_what_is_left_of_the_base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "base.yaml").write_text(BASE.replace("salt: x", 'salt: "${SALT_OF_TEST}"'))
    at = f"{folder}/base.yaml:8: the environment variable SALT_OF_TEST is not set and no name of the matrix"
    with pytest.raises(RecipeError, match=rf"{at} .*Next: SALT_OF_TEST=... hyperloom run {folder}/own.yaml"):
        _load(folder, OWN.replace("  a: {salt: z}\n", ""))
    assert _load(folder).recipe.steps["a-2"].salt == "z"
    assert _load(folder, "name: own\nbase: base.yaml\nsteps: {a: {salt: null}}\n").recipe.steps["a-1"].salt == ""
    monkeypatch.setenv("SALT_OF_TEST", "salt-nobody-may-see")
    written = _load(folder).written
    assert not written.given and not written.variables, "what the recipe says itself came from nowhere else"


def test_variables_that_find_a_base_travel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, base in (("low", "${PLACE_OF_TEST}.yaml"), ("mid", "low.yaml"), ("own", "mid.yaml")):
        (folder / f"{name}.yaml").write_text(f'name: {name}\nbase: "{base}"\n')
    with pytest.raises(RecipeError, match=f"low.yaml:2: .*PLACE_OF_TEST is not set.* hyperloom run {folder}/own.yaml"):
        recipe.load(folder / "own.yaml")
    monkeypatch.setenv("PLACE_OF_TEST", "base")
    assert recipe.load(folder / "own.yaml").written.variables == {"PLACE_OF_TEST": "base"}


def test_a_mistake_is_never_said_of_a_line_of_the_base_that_was_replaced(folder: Path) -> None:
    whole = bases.read("name: own\nbase: base.yaml\nmodalities: {rgb: {type: map}}\n", str(folder / "own.yaml"))
    assert ("modalities", "rgb", "size") not in whole.lines and ("steps", "a", "salt") in whole.lines


def test_a_mistake_of_the_base_is_said_of_the_base(folder: Path) -> None:
    (folder / "base.yaml").write_text(BASE.replace("salt: y", "slat: y"))
    with pytest.raises(RecipeError, match=f"{folder}/base.yaml:10: unknown field 'slat'"):
        _load(folder)
    (folder / "base.yaml").write_text("name: base\nbase: own.yaml\n")
    with pytest.raises(RecipeError, match="base.yaml:2: base: .* in a circle: own.yaml -> base.yaml"):
        _load(folder)


def test_the_schema_knows_a_recipe_that_builds_on_another() -> None:
    fits = validator().is_valid
    step = {"stage": "label", "data": "frames", "experts": ["hsv"]}
    assert fits({"name": "x", "base": "y.yaml", "matrix": None, "steps": {"a": {"updates": 8}, "b": None, "c": step}})
    assert not fits({"name": "x", "base": ["y.yaml"]}) and not fits({"name": "x", "base": "y.yaml", "step": {}})
    assert not fits({"name": "x", "base": "y.yaml", "steps": {"c": {**step, "datta": 1}}})
    assert not fits({"name": "x", "modalities": {}, "steps": {"a": {"updates": 8}}}) and not fits({"name": "x"})
