"""`hyperloom schema`: what is a recipe fits it, what is none does not, and each field says what it is."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import hyperloom
from hyperloom.pipeline import cli
from hyperloom.pipeline.recipes.document import RecipeLoader

CHECKOUT = Path(__file__).parents[2]
GOOD = """
name: a
modalities:
  rgb: {type: image, size: [4, 4]}
  kind: {type: category, classes: 3}
steps:
  frames: {stage: ingest, source: {type: video, path: "*.mp4"}, group: video}
  labels:
    stage: label
    data: frames
    experts: [{type: onnx, path: x.onnx, in: rgb@camera, out: kind@x, decode: classes}, {type: "mine:Own", any: 1}]
  shards: {stage: shard, data: [frames, labels]}
  model: {stage: train, data: shards, in: {rgb: rgb@camera}, targets: {kind: kind@x}, epochs: "${EPOCHS:-3}",
    model: {parameters: 150k}, optimizer: {lr: .001}, losses: {kind: [cross-entropy, {type: dice}]}}
"""


@cache
def validator() -> Any:
    return jsonschema.Draft202012Validator(hyperloom.schema())


def value(node: Any) -> Any:
    """What a recipe's YAML says, with variables as they are written."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: value(one) for key, one in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [value(one) for one in node.value]
    kind = node.tag.rpartition(":")[2]
    plain = {"null": lambda _: None, "bool": lambda text: text.lower() == "true", "int": int, "float": float}
    return plain.get(kind, str)(node.value)


def mistake(written: Any, whole: bool = True) -> str:
    """The deepest mistake, with its place; empty where there is none. Of what is not `whole` fields may be left out."""
    error = jsonschema.exceptions.best_match(validator().iter_errors(written))
    if error and error.validator == "required" and not whole:
        return ""
    return f"{'.'.join(map(str, error.absolute_path))}: {error.message}" if error else ""


def test_it_is_a_schema_and_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    schema = hyperloom.schema()  # as of now: another test may have loaded a plug-in of its own, or let it go
    jsonschema.Draft202012Validator.check_schema(schema)
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(schema))


@pytest.mark.parametrize("path", sorted((CHECKOUT / "recipes").glob("**/*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_of_the_repository_fits(path: Path) -> None:
    assert mistake(value(yaml.compose(path.read_text(encoding="utf-8"), Loader=RecipeLoader))) == ""


def test_a_variant_needs_no_stage_but_a_step_to_be_like() -> None:
    base = {"stage": "shard", "data": "a"}
    assert mistake({"name": "x", "modalities": {}, "steps": {"a": base, "b": {"like": "a", "columns": None}}}) == ""
    assert "steps.b.like" in mistake({"name": "x", "modalities": {}, "steps": {"a": base, "b": {"like": ["a"]}}})
    assert "'stage' is a required property" in mistake({"name": "x", "modalities": {}, "steps": {"b": {"columns": []}}})


def test_short_forms_own_plug_ins_and_variables_fit() -> None:
    assert mistake(value(yaml.compose(GOOD, Loader=RecipeLoader))) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["steps"]["labels"].update(datta=1), "steps.labels: .*datta"),
        (lambda r: r["steps"]["labels"]["experts"][0].update(pth=1), "experts.0: .*pth"),
        (lambda r: r["steps"]["labels"]["experts"][0].update(type="onx"), "experts.0.type: 'onx'"),
        (lambda r: r["steps"]["model"].update(epochs="many"), "epochs: 'many'"),
        (lambda r: r["steps"]["model"].update(epochs=-1), "epochs: -1"),
        (lambda r: r["steps"]["frames"].update(stage="ingset"), "stage: 'ingset'"),
        (lambda r: r["steps"].update({"9": {"stage": "label"}}), "'9'"),
        (lambda r: r["modalities"]["rgb"].update(codec="jpg"), "codec: 'jpg'"),
        (lambda r: r["modalities"]["rgb"].update(size=[1, 2, 3]), "size"),
        (lambda r: r.update(cluster={"wher": 1}), "cluster: .*wher"),
        (lambda r: r.update(schedule={"cron": "0 3 * * *", "on": "nwe-data"}), "on: 'nwe-data'"),
        (lambda r: r.pop("name"), "'name' is a required"),
        (lambda r: r.update(step={}), "'step' was unexpected"),
    ],
)
def test_mistakes_are_at_their_place(change: Callable[[Any], Any], said: str) -> None:
    written = copy.deepcopy(value(yaml.compose(GOOD, Loader=RecipeLoader)))
    change(written)
    assert re.search(said, mistake(written)), mistake(written)


def test_fields_say_what_they_are() -> None:
    schema = validator().schema
    assert "fsspec" in schema["properties"]["root"]["description"]
    expert = schema["$defs"]["any expert"]["then"]["properties"]["type"]["anyOf"][0]["enum"]
    assert {"onnx", "http", "model"} <= set(expert)
    train = next(one for one in schema["$defs"].values() if "max_failures" in one.get("properties", {}))
    assert "started again" in train["properties"]["max_failures"]["description"]


def test_the_command_prints_it_with_the_plug_ins_of_a_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bright.py").write_text(
        "from hyperloom.stages.label.expert import Expert\n"
        "class Bright(Expert):\n    gamma: float = 1.0\n    'How steep.'\n"
    )
    text = GOOD.replace("mine:Own", "bright:Bright").replace("any: 1", "in: rgb@camera, out: kind@b, gamma: 2")
    (tmp_path / "r.yaml").write_text(text)
    assert cli.main(["schema", str(tmp_path / "r.yaml")]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$defs"]["Bright"]["properties"]["gamma"]["description"] == "How steep."
