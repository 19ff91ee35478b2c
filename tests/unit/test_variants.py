"""Variants of steps: `like` and `matrix` give the steps that one would have written by hand."""

from __future__ import annotations

import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage

HEAD = "name: toy\nroot: memory://variants\nmodalities: {}\n"
MATRIX = (
    HEAD
    + """\
matrix: {from: [1, 5], salt: [a, b]}
steps:
  a: {stage: "tests.toy:Numbers", start: "${from}"}
  b: {stage: "tests.toy:Squares", data: a}
  c: {stage: "tests.toy:Numbers", salt: "x-${salt}"}
  d: {stage: "tests.toy:Sum", data: [b-*, c-a]}
  e: {stage: "tests.toy:Sum", data: [b, c]}
  f: {stage: "tests.toy:Sum", data: [b-*, c]}
"""
)


def _steps(text: str) -> dict:
    return recipe.parse(text, "r.yaml").recipe.steps


def _identities(text: str) -> dict[str, str]:
    storage = Storage("memory://variants")
    return {s.name: s.fingerprint for s in plan(recipe.parse(text), storage, Digests(storage))}


def test_a_matrix_gives_the_steps_that_one_would_have_written() -> None:
    by_hand = """\
steps:
  a-1: {stage: "tests.toy:Numbers", start: 1}
  a-5: {stage: "tests.toy:Numbers", start: 5}
  b-1: {stage: "tests.toy:Squares", data: a-1}
  b-5: {stage: "tests.toy:Squares", data: a-5}
  c-a: {stage: "tests.toy:Numbers", salt: x-a}
  c-b: {stage: "tests.toy:Numbers", salt: x-b}
  d: {stage: "tests.toy:Sum", data: [b-1, b-5, c-a]}
  e-1-a: {stage: "tests.toy:Sum", data: [b-1, c-a]}
  e-1-b: {stage: "tests.toy:Sum", data: [b-1, c-b]}
  e-5-a: {stage: "tests.toy:Sum", data: [b-5, c-a]}
  e-5-b: {stage: "tests.toy:Sum", data: [b-5, c-b]}
  f-a: {stage: "tests.toy:Sum", data: [b-1, b-5, c-a]}
  f-b: {stage: "tests.toy:Sum", data: [b-1, b-5, c-b]}
"""
    assert list(_steps(MATRIX)) == list(_steps(HEAD + by_hand))
    assert _identities(MATRIX) == _identities(HEAD + by_hand)


def test_a_step_that_means_something_else_with_these_modalities_has_another_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And so have those that read it, and nobody else."""
    text = (
        HEAD.replace("{}", "{m: {type: scalar}}")
        + """\
steps:
  a: {stage: "tests.toy:Numbers"}
  b: {stage: "tests.toy:Squares", data: a}
  c: {stage: "tests.toy:Numbers", salt: x}
"""
    )
    before = _identities(text)
    monkeypatch.setattr("tests.toy.Numbers.revised_for", lambda self, all_: {} if self.salt else dict.fromkeys(all_, 2))
    after = _identities(text)
    assert {name for name in before if before[name] != after[name]} == {"a", "b"}


def test_a_variant_says_no_more_than_its_lines() -> None:
    """What a recipe leaves out stays open: the stage decides by that whether it takes a GPU."""
    steps = _steps(MATRIX)
    assert steps["a-1"].model_fields_set == {"stage", "start"} and steps["d"].model_fields_set == {"stage", "data"}
    assert steps["b-1"].model_fields_set == {"stage", "data"}


def test_like_merges_replaces_and_takes_away() -> None:
    steps = _steps(
        HEAD
        + """\
steps:
  shards: {stage: "tests.toy:Numbers"}
  base:
    stage: train
    data: shards
    in: [rgb@camera]
    targets: {semantic: {semantic@truth: 1.0, semantic@votes: .5}}
    mask: {type: modality, keep: .25}
    ema: .9
    updates: 7
  other: {like: base, targets: {semantic: {semantic@votes: .1}}, mask: {keep: .75}, ema: null}
  third: {like: other, mask: {type: none}, in: [depth@a, rgb@camera]}
"""
    )
    other, third = steps["other"], steps["third"]
    assert other.targets == {"semantic": {"semantic@truth": 1.0, "semantic@votes": 0.1}}
    assert (other.mask.type, other.mask.keep, other.ema, other.updates) == ("modality", 0.75, 0.0, 7)
    assert (third.mask.type, third.inputs, third.targets) == ("none", ("depth@a", "rgb@camera"), other.targets)
    assert (steps["base"].mask.keep, steps["base"].ema) == (0.25, 0.9)


def test_models_are_gathered_by_name() -> None:
    steps = _steps(
        HEAD.replace("{}", "{semantic: {type: segmentation, size: [4, 4], classes: [a, b]}}")
        + """\
matrix: {size: [40k, 80k]}
steps:
  shards: {stage: "tests.toy:Numbers"}
  student: {stage: distill, data: shards, in: rgb@camera, targets: {semantic: semantic@truth}, model: "${size}",
            updates: 1}
  report: {stage: evaluate, data: shards, models: {best: {model: student-*}}, seeds: {all: [best-40k, best-80k]}}
  other: {stage: evaluate, data: shards, models: [student-*]}
"""
    )
    assert steps["student-40k"].model.parameters == 40_000
    assert {n: m.model for n, m in steps["report"].models.items()} == {
        "best-40k": "student-40k",
        "best-80k": "student-80k",
    }
    assert list(steps["other"].models) == ["student-40k", "student-80k"]


def test_keys_are_filled_in_too() -> None:
    steps = _steps(
        HEAD
        + """\
matrix: {fold: [a, b]}
steps:
  shards: {stage: "tests.toy:Numbers"}
  train: {stage: train, data: shards, in: [rgb@camera], targets: {depth: {"depth@${fold}": 2, depth@c: 1}}, updates: 1}
"""
    )
    assert steps["train-b"].targets == {"depth": {"depth@b": 2.0, "depth@c": 1.0}}


@pytest.mark.parametrize("number", ["1.10", "01", "0.10", "1e3", "true", "+5"])
def test_a_number_is_no_other_text_than_the_one_that_is_written(number: str) -> None:
    """`data/v1.1` may be another folder than `data/v1.10`."""
    text = """
name: toy
root: memory://v
modalities: {{}}
matrix: {{v: [{}]}}
steps:
  a: {{stage: "tests.toy:Numbers", salt: "data/v${{v}}"}}
"""
    with pytest.raises(RecipeError, match="quote it") as refused:
        _steps(text.format(number))
    assert number in str(refused.value) and "r.yaml:5" in str(refused.value)
    (quoted,) = _steps(text.format(f'"{number}"')).values()
    assert quoted.salt == f"data/v{number}"
    for plain in ("3", "1.5"):
        (step,) = _steps(text.format(plain)).values()
        assert step.salt == f"data/v{plain}"


def test_a_step_can_be_asked_for_by_pattern() -> None:
    storage = Storage("memory://variants")
    chosen = plan(recipe.parse(MATRIX), storage, Digests(storage), ["b-*"])
    assert [s.name for s in chosen] == ["a-1", "a-5", "b-1", "b-5"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("salt: [a, b]", "salt: []", r"r.yaml:4: matrix: salt: give a list of values"),
        ("salt: [a, b]", "salt: [a, {b: 1}]", r"r.yaml:4: matrix: salt: values are words or numbers"),
        ("salt: [a, b]", "salt: [a b, a-b]", r"r.yaml:4: matrix: salt: two values give the same name"),
        ("salt: [a, b]", "salt: [a, b], From: [1]", r"r.yaml:4: matrix: 'From' must be in lower case"),
        ("x-${salt}", "x-$salt", r"r.yaml:4: matrix: no step mentions \$\{salt\}"),
        ("memory://variants", '"memory://${salt}"', r"r.yaml:2: \$\{salt\} is a name of the matrix"),
        ("${from}", "${form}", r"r.yaml:6: the environment variable form is not set and no name of the matrix \(from"),
        ("b-*, c-a", "a-*, e-*, x-*", r"r.yaml:9: step 'd' reads 'x-\*', which is no step"),
        ("start:", "strat:", r"r.yaml:6: unknown field 'strat'"),
        ("data: a}", "data: aa}", r"r.yaml:7: step 'b' reads 'aa'"),
        ("data: a}", "data: a, like: a}", r"r.yaml:7: step 'b' has the stage of 'a', which it is like"),
        ('b: {stage: "tests.toy:Squares", data: a}', "b: {like: bb}", r"r.yaml:7: step 'b' is like 'bb'.*no step"),
        ('b: {stage: "tests.toy:Squares", data: a}', "b: {like: b}", r"r.yaml:7: .*in a circle: b -> b"),
        ("  c: {", "  a-5: {", r"r.yaml:\d+: the matrix makes a second step 'a-5'"),
    ],
)
def test_mistakes_name_file_and_line(old: str, new: str, message: str) -> None:
    assert old in MATRIX
    with pytest.raises(RecipeError, match=message):
        recipe.parse(MATRIX.replace(old, new), "r.yaml")
