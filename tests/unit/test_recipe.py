"""Recipes: mistakes are named with file and line, and YAML means what people think it means."""

from __future__ import annotations

import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage

GOOD = """\
name: toy
root: {root}
modalities: {{}}
steps:
  a: {{stage: "tests.toy:Numbers", start: 1}}
  b: {{stage: "tests.toy:Squares", data: a}}
"""


def test_a_good_recipe_and_its_edges(tmp_path) -> None:
    loaded = recipe.parse(GOOD.format(root=tmp_path))
    assert loaded.recipe.reads("b") == ["a"]
    assert [s.name for s in plan(loaded, Storage(str(tmp_path)), Digests(Storage(str(tmp_path))))] == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start: 1", "strat: 1", r"r.yaml:5: unknown field 'strat'; did you mean 'start'\?"),
        ("start: 1", "start: soon", r"r.yaml:5: steps.a.start: .*integer.*got 'soon'"),
        ("data: a", "data: aa", r"r.yaml:6: step 'b' reads 'aa', which is no step of this recipe; did you mean 'a'\?"),
        (", data: a", "", r"r.yaml:6: the field 'data' is missing"),
        ("tests.toy:Squares", "squares", r"r.yaml:6: .*no stage of type 'squares'; known: .*ingest"),
        ("tests.toy:Squares", "tests.toys:Squares", r"r.yaml:6: .*cannot be imported"),
        ("name: toy", "name: Toy!", r"r.yaml:1: name: "),
        (
            "modalities: {}",
            "modalities: {rgb: {type: imag}}",
            r"r.yaml:3: .*no modality of type 'imag'.*; known: .*image",
        ),
        ("modalities: {}", "rooot: x", r"r.yaml:3: unknown field 'rooot'; did you mean 'root'\?"),
        ("  b:", "  a:", r"r.yaml:6: 'a' stands twice"),
        ("steps:", "steps: [", r"r.yaml:\d+:\d+: not valid YAML"),
        ("  a:", "\ta:", r"r.yaml:5:1: not valid YAML: .*indent by blanks"),
        ("name: toy", "name: @toy", r'r.yaml:1:7: not valid YAML: .*in quotes: "@toy"'),
        ("name: toy", "name:toy", r"r.yaml:\d:\d+: not valid YAML: .*a blank after its colon"),
        ('"tests.toy:Numbers"', "evalute", r"r.yaml:5: steps.a: no stage of type 'evalute'; did you mean 'evaluate'\?"),
        ("root: /r", "root: ${NO_SUCH_VARIABLE}", r"r.yaml:2: the environment variable NO_SUCH_VARIABLE is not set"),
    ],
)
def test_mistakes_name_file_and_line(old: str, new: str, message: str) -> None:
    text = GOOD.format(root="/r")
    assert old in text
    with pytest.raises(RecipeError, match=message):
        recipe.parse(text.replace(old, new), "r.yaml")


def test_several_mistakes_are_told_at_once() -> None:
    text = GOOD.format(root="/r").replace("start: 1", "strat: 1").replace("data: a", "dta: a")
    with pytest.raises(RecipeError) as error:
        recipe.parse(text, "r.yaml")
    assert len(str(error.value).splitlines()) == 3


def test_a_circle_is_named(tmp_path) -> None:
    text = GOOD.format(root=tmp_path).replace('"tests.toy:Numbers", start: 1', '"tests.toy:Squares", data: b')
    storage = Storage(str(tmp_path))
    with pytest.raises(
        RecipeError, match=r"r.yaml:5: the steps read each other in a circle: (a -> b -> a|b -> a -> b)"
    ):
        plan(recipe.parse(text, "r.yaml"), storage, Digests(storage))


def test_yaml_is_read_by_its_newer_rules(monkeypatch) -> None:
    monkeypatch.setenv("SPOT", "/data")
    text = GOOD.format(root="${SPOT}/${MISSING:-runs}") + 'schedule: {cron: "0 3 * * *", on: new-data}\n'
    loaded = recipe.parse(text.replace("salt", "salt").replace("start: 1", "start: 1, salt: no"))
    assert loaded.recipe.schedule.on.type == "new-data"
    assert loaded.recipe.steps["a"].salt == "no"
    assert loaded.recipe.root == "/data/runs"
    assert "${SPOT}" in loaded.text


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b""])
def test_a_file_that_is_no_recipe(tmp_path, content: bytes | None) -> None:
    path = tmp_path / "r.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"r.yaml"):
        recipe.load(path)
