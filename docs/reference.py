"""Makes the reference of every field from the models, as the site is built: a hook of MkDocs.

It reads the JSON Schema of recipes (`hyperloom schema`), so a field, its check and its page are one line of source.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]

Schema = dict[str, Any]
KIND = "any "
"""Beginning of the names of definitions that stand for a kind of plug-in."""
PREFIX = "#/$defs/"


def on_config(config: Any) -> Any:
    """Add the pages to the navigation, and those that mkdocs.yml does not name yet."""
    config.nav.append({"Reference": [f"reference/{name}.md" for name in pages()]})
    named = str(config.nav)
    more = [path.name for path in sorted((HERE / "docs").glob("*.md")) if path.name not in named]
    if more:
        config.nav.append({"More": more})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages themselves."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """Name -> Markdown: one page for a recipe's own fields, one for each kind of plug-in; steps first."""
    import hyperloom

    schema = hyperloom.schema()
    defs = schema["$defs"]
    kinds = sorted((name.removeprefix(KIND) for name in defs if name.startswith(KIND)), key=lambda k: (k != "stage", k))
    whole = {"recipe": "\n".join(_recipe(schema, defs))}
    listed = {kind: "\n".join(_kind(kind, defs)) for kind in kinds}
    return whole | listed | {"errors": "\n".join(_errors())}


def _errors() -> Iterator[str]:
    """Every sentence of the source that says what to do next, by the folder that says it."""
    yield "# Errors\n\nWhat Hyperloom says when something is wrong, and what it says to do next; `…` stands for"
    yield "names and numbers. Search this page for a piece of the message. What helps in general:"
    yield "[troubleshooting](../troubleshooting.md).\n"
    for folder in ("pipeline", "stages", "clusters"):
        messages = dict.fromkeys(text for path in sorted((HERE / folder).rglob("*.py")) for text in _sentences(path))
        yield f"\n## {folder}\n\n| it says | what to do next |\n| --- | --- |"
        for text in sorted(messages, key=str.lower):
            what, _, after = text.partition("Next:")
            yield f"| {_plain(what)} | {_plain(after)} |"


def _sentences(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node] if isinstance(node, ast.Constant) else []
        texts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts]
        text = "".join(texts)
        if "Next:" in text and text.partition("Next:")[0].strip(" .…") and "\n\n" not in text:
            yield text


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return _cell(re.sub(r"([<>*_\[\]{}#])", r"\\\1", text.replace("`", "")).strip(" :"))


def _recipe(schema: Schema, defs: Schema) -> Iterator[str]:
    yield "# A recipe\n\nThe fields of the file itself. Those of its steps: [stage](stage.md).\n"
    alone = schema["then"]  # what is asked of a recipe that builds on no other
    needed = [*schema["required"], *alone["required"]]
    schema = {"properties": schema["properties"] | alone["properties"], "required": needed}
    yield from _table(schema, defs)
    for name, part in schema["properties"].items():
        for ref in _refs(part):
            if not ref.startswith(KIND):
                yield f"\n## {name}\n\n{_text(defs[ref])}\n"
                yield from _table(defs[ref], defs)
                yield from _below(defs[ref], defs, {ref})


def _kind(kind: str, defs: Schema) -> Iterator[str]:
    key = "stage" if kind == "stage" else "type"
    yield f"# {kind}\n\nWhat a recipe may write where a {kind} stands, by `{key}`; or `module:Class` of one's own.\n"
    for case in _cases(defs[KIND + kind]):
        name = case["if"]["properties"][key]["const"]
        definition = defs[_refs(case["then"])[0]]
        yield f"\n## {name}\n\n{_text(definition)}\n"
        yield from _table(definition, defs)
        yield from _below(definition, defs, set())


def _cases(schema: Schema) -> list[Schema]:
    return (schema.get("then") or schema).get("allOf", [])


def _below(definition: Schema, defs: Schema, seen: set[str]) -> Iterator[str]:
    """Tables of the mappings that stand in fields and are no plug-ins."""
    for name, part in definition.get("properties", {}).items():
        for ref in _refs(part):
            inner = next((one for one in defs[ref].get("anyOf", []) if "properties" in one), defs[ref])
            if ref.startswith(KIND) or ref in seen or "properties" not in inner:
                continue
            seen.add(ref)
            yield f"\n**{name}**: {_text(defs[ref])}\n"
            yield from _table(inner, defs)
            yield from _below(inner, defs, seen)


def _table(definition: Schema, defs: Schema) -> Iterator[str]:
    rows = [row for name, part in definition.get("properties", {}).items() if (row := _row(name, part, definition))]
    if rows:
        yield "| field | takes | default | |\n| --- | --- | --- | --- |"
        yield from rows


def _row(name: str, part: Schema, definition: Schema) -> str:
    if name in ("type", "stage"):
        return ""
    needed = name in definition.get("required", ())
    default = "**needed**" if needed else _code(part["default"]) if "default" in part else ""
    how = " *Changes no result.*" if part.get("x-identity") is False else ""
    return f"| `{name}` | {_cell(_takes(part))} | {default} | {_cell(_text(part))}{how} |"


def _takes(part: Schema) -> str:
    """What a field takes, in words."""
    if "$ref" in part:
        ref = part["$ref"].removeprefix(PREFIX)
        kind = ref.removeprefix(KIND)
        return f"[{kind}]({kind}.md)" if ref.startswith(KIND) else "a mapping, below"
    if "enum" in part or "const" in part:
        return ", ".join(f"`{value}`" for value in part.get("enum", [part.get("const")]))
    if "anyOf" in part:
        words = [_takes(one) for one in part["anyOf"] if one.get("pattern") != r"\$\{" or one.get("type") != "string"]
        return " or ".join(dict.fromkeys(filter(None, words)))
    type_ = part.get("type", "anything")
    type_ = next((one for one in type_ if one != "string"), "string") if isinstance(type_, list) else type_
    if type_ == "array":
        items = part.get("items") or next(iter(part.get("prefixItems", [])), {})
        return f"list of {_takes(items)}" if items else "list"
    if type_ == "object":
        values = part.get("additionalProperties")
        return f"mapping to {_takes(values)}" if isinstance(values, dict) and values else "mapping"
    return {"null": "nothing", "boolean": "true or false", "string": "text"}.get(type_, type_) + _limits(part)


def _limits(part: Schema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f" {sign} {part[key]:g}" for key, sign in signs.items() if isinstance(part.get(key), int | float))


def _refs(part: Any) -> list[str]:
    """Names of the definitions that a field names."""
    if isinstance(part, dict):
        own = [part["$ref"].removeprefix(PREFIX)] if isinstance(part.get("$ref"), str) else []
        return own + [ref for key, value in part.items() if key != "properties" for ref in _refs(value)]
    return [ref for one in part for ref in _refs(one)] if isinstance(part, list) else []


def _text(part: Schema) -> str:
    return str(part.get("description", "")).strip()


def _code(value: Any) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)
    return "" if value in (None, {}, []) else _cell(f"`{text if len(text) < 50 else text[:47] + '...'}`")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
