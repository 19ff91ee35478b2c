"""The JSON Schema of recipes, made from the models: for editors that complete, and for programs that write recipes.

It has all plug-ins that are installed and registered. Descriptions are the docstrings of classes and the strings below
their fields. It says what a recipe's form is; what only the whole tells (a step that is no step) is said by `plan`.
Numbers and choices may also be `${NAME}`, as anywhere in a recipe.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from hyperloom.pipeline import plugins
from hyperloom.pipeline.config import Config
from hyperloom.pipeline.errors import PluginError
from hyperloom.pipeline.recipes.recipe import STAGE, Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REF = "#/$defs/{model}"
VARIABLE = r"\$\{"
RUNTIME = "x-identity"
"""Key, with false, of a field that says where or how fast: another value is the same result."""
JsonSchema = dict[str, Any]


def schema(sections: Mapping[str, type[Config]]) -> JsonSchema:
    """The schema of a recipe. `sections` are the models of sections that other packages own (`cluster`)."""
    classes: dict[tuple[str, str], type[Config]] = {}
    kinds = [STAGE]
    defs: JsonSchema = {}
    while kinds:  # a plug-in's fields may be plug-ins of further kinds
        fresh = {(kind, type_): cls for kind in kinds for type_, cls in _classes(kind).items()}
        classes |= fresh
        models: list[type[Config]] = [Recipe, *sections.values(), *classes.values()]
        places, defs = _definitions(list(dict.fromkeys(models)))
        kinds = sorted(_kinds(defs) - {kind for kind, _ in classes} - set(kinds))
    recipe = _whole_or_based(defs.pop(places[Recipe]["$ref"].rpartition("/")[2]))
    for name, model in sections.items():
        recipe["properties"][name] = {**places[model], "description": inspect.getdoc(model) or ""}
    for kind in {kind for kind, _ in classes} | _kinds({"recipe": recipe, **defs}):
        own = {type_: places[cls] for (of, type_), cls in classes.items() if of == kind}
        defs[_name(kind)] = _chosen(kind, own)
    whole = _finished({**recipe, "$defs": defs})
    return {"$schema": DIALECT, "title": "A Hyperloom recipe", **whole}


def _whole_or_based(recipe: JsonSchema) -> JsonSchema:
    """One that builds on another changes what stands there: its steps and modalities may be missing, parts, or null."""
    changed: JsonSchema = {
        "type": ["object", "string", "null"],
        "if": {"type": "object", "required": [STAGE]},
        "then": {"$ref": REF.format(model=_name(STAGE))},
    }
    changes: JsonSchema = {"type": "object", "additionalProperties": changed}
    whole: JsonSchema = {"required": ["modalities", "steps"], "properties": {}}
    based: JsonSchema = {"matrix": {"type": ["object", "null"]}, "modalities": changes, "steps": changes}
    for name in based:
        section = recipe["properties"][name]
        whole["properties"][name] = section
        recipe["properties"][name] = {k: section[k] for k in ("description", "placement") if k in section}
    recipe["required"] = [name for name in recipe["required"] if name not in whole["required"]]
    return {**recipe, "if": {"not": {"required": ["base"]}}, "then": whole, "else": {"properties": based}}


def types(kind: str) -> dict[str, type[Config]]:
    """The classes of a kind by the name that a recipe writes; without those that cannot be imported here."""
    return _classes(kind)


def _classes(kind: str) -> dict[str, type[Config]]:
    matches = {}
    for type_ in plugins.types(kind):
        try:
            cls = plugins.load(kind, type_)
        except PluginError:  # its library is not installed
            continue
        if inspect.isclass(cls) and issubclass(cls, Config):
            matches[type_] = cls
    return matches


def _definitions(models: list[type[Config]]) -> tuple[dict[type[Config], JsonSchema], JsonSchema]:
    """Where each model is defined, and the definitions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # defaults that JSON cannot say
        places, whole = models_json_schema(
            [(model, "validation") for model in models], ref_template=REF, schema_generator=_Generator
        )
    return {model: place for (model, _), place in places.items()}, whole["$defs"]  # type: ignore[misc]


class _Generator(GenerateJsonSchema):
    """Adds what pydantic does not know: descriptions from the source, and the short forms that validators take."""

    def model_schema(self, schema: Any) -> JsonSchema:
        result = super().model_schema(schema)
        for name, text in described(schema["cls"]).items():
            if name in result.get("properties", {}):
                result["properties"][name].setdefault("description", text)
        if result.pop(plugins.SHORT, False):
            about: JsonSchema = {key: result.pop(key) for key in ("title", "description") if key in result}
            return {**about, "anyOf": [result, {"type": "string"}]}
        return result

    def function_before_schema(self, schema: Any) -> JsonSchema:
        if schema.get("json_schema_input_schema"):
            return super().function_before_schema(schema)
        result = self.generate_inner(schema["schema"])
        if schema["schema"]["type"] == "model-fields":  # of a whole class; one that takes a text is called `_short`
            return {**result, plugins.SHORT: True} if schema["function"]["function"].__name__ == "_short" else result
        return _with_short(result)


def _with_short(result: JsonSchema) -> JsonSchema:
    """A field that also takes something shorter: one entry in place of a list, a name in place of a mapping, a text in
    place of a number."""
    kind = result.get("type")
    if kind == "array":
        one = result.get("items") or {"type": ["string", "number"]}
        if "$ref" in one:  # a mapping, in place of which a name may stand
            one = {"anyOf": [one, {"type": "string"}]}
            result = {**result, "items": one}
        return {"anyOf": [result, one]}
    if kind == "object":
        values = result.get("additionalProperties", True)
        names = {"type": "array", "items": {"type": "string"}}
        loose = values if values is True else {"anyOf": [values, {"type": "string"}, names]}
        return {"anyOf": [{**result, "additionalProperties": loose}, {"type": "string"}, names]}
    if "$ref" in result:
        return {"anyOf": [result, {"type": ["string", "integer"]}]}
    if "anyOf" in result:
        return {**result, "anyOf": [one for part in result["anyOf"] for one in _flat(_with_short(part))]}
    return {"type": ["string", "number", "null"] if kind == "null" else ["string", "number"]}


def _flat(result: JsonSchema) -> list[JsonSchema]:
    return result["anyOf"] if set(result) == {"anyOf"} else [result]


def _name(kind: str) -> str:
    return f"any {kind}"


def _chosen(kind: str, own: Mapping[str, JsonSchema]) -> JsonSchema:
    """A plug-in of a kind: a mapping that names its type (a step: its stage), or the type alone."""
    key = "stage" if kind == STAGE else "type"
    choice: JsonSchema = {
        "anyOf": [{"enum": sorted(own)}, {"type": "string", "pattern": f":|{VARIABLE}"}],
        "description": f"the {kind}: a registered name, or module:Class",
    }
    chosen = [
        {"if": {"properties": {key: {"const": type_}}, "required": [key]}, "then": place}
        for type_, place in sorted(own.items())
    ]
    mapping: JsonSchema = {"type": "object", "required": [key], "properties": {key: choice}, "allOf": chosen}
    if kind == STAGE:
        alike = {
            "type": "object",
            "properties": {"like": {"type": "string", "description": "the step it is a variant of"}},
        }
        return {"if": {"not": {"type": "object", "required": ["like"]}}, "then": mapping, "else": alike}
    return {"type": ["object", "string"], "if": {"type": "object"}, "then": mapping, "else": choice}


def _kinds(value: Any) -> set[str]:
    """The kinds of plug-ins that stand somewhere in a schema."""
    if isinstance(value, dict):
        matches = {value[plugins.KIND]} if isinstance(value.get(plugins.KIND), str) else set()
        return matches.union(*map(_kinds, value.values())) if value else matches
    return set().union(*map(_kinds, value)) if isinstance(value, list) else set()


def _finished(value: Any) -> Any:
    """Plug-ins become references, titles that only repeat a name go, and `${NAME}` may stand for any number."""
    if isinstance(value, list):
        return [_finished(one) for one in value]
    if not isinstance(value, dict):
        return value
    result = {
        key: {name: _finished(one) for name, one in part.items()} if key in ("properties", "$defs") else _finished(part)
        for key, part in value.items()
        if key not in (plugins.KIND, plugins.SHORT, "placement", "secret")
        and not (key == "title" and "properties" not in value)
    }
    if value.get("placement") is True:
        result[RUNTIME] = False
    if "patternProperties" in result:
        result.setdefault("additionalProperties", False)
    if plugins.KIND in value:
        result |= _reference(value[plugins.KIND], plugins.SHORT in value)
    if result.get("type") in ("integer", "number", "boolean"):
        result |= {"type": [result["type"], "string"], "pattern": VARIABLE}
    elif isinstance(result.get("pattern"), str) and VARIABLE not in result["pattern"]:
        result["pattern"] = f"{result['pattern']}|{VARIABLE}"
    elif "enum" in result and result.get("type") == "string":
        result = {"anyOf": [{"enum": result.pop("enum")}, {"type": "string", "pattern": VARIABLE}], **result}
    return result


def _reference(kind: str, short: bool) -> JsonSchema:
    """To a plug-in; where something shorter will do, also several of them, or one whose type is left out."""
    place = {"$ref": REF.format(model=_name(kind))}
    nameless = {"type": "object", "not": {"required": ["type"]}}
    return {"anyOf": [place, {"type": "array", "items": place}, nameless]} if short else place


def described(cls: type[Config]) -> dict[str, str]:
    """What the source says of each field of `cls`, by the name that recipes write: the string below the field."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Config):
            texts |= _strings(inspect.getsourcefile(base) or "", base.__name__)
    fields = {name: field.alias or name for name, field in cls.model_fields.items()}
    return {fields[name]: text for name, text in texts.items() if name in fields}


@cache
def _trees(path: str) -> dict[str, ast.ClassDef]:
    with open(path, encoding="utf-8") as file:
        return {node.name: node for node in ast.walk(ast.parse(file.read())) if isinstance(node, ast.ClassDef)}


def _strings(path: str, name: str) -> dict[str, str]:
    """Field -> the string below it, in the class `name` of a source file."""
    body = _trees(path)[name].body if path and name in _trees(path) else []
    matches = {}
    for node, below in pairwise(body):
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(text, str):
            matches[node.target.id] = inspect.cleandoc(text)
    return matches
