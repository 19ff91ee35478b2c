"""Every block of code in the documentation is what it says: recipes fit the schema, commands and options exist, Python
compiles. Blocks of other languages are pictures and output, which nothing runs; the pieces of docs/howto.md are one
recipe, which is checked as `plan` checks it. Blocks that tests run whole: test_readme.py, test_training_doc.py,
test_shards_doc.py."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import hyperloom
from hyperloom.pipeline import cli
from hyperloom.pipeline.plan import check
from hyperloom.pipeline.recipe import _Loader
from tests.unit.test_schema import mistake, value

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
SHOWN = ("mermaid", "json", "", "sql", "text", "makefile", "ini", "dockerfile")
"""Languages of blocks that are shown and not run: graphs, output, what other programs read."""
FILLED = {"RECIPE": "r.yaml", "DIR": "d", "STEP": "s", "NAME": "n", "FILE": "f"}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Place and text of the blocks of a language."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.M | re.S):
            if match[1] == language:
                yield f"{path.name}:{text[: match.start()].count(chr(10)) + 1}", match[2]


def test_each_language_is_looked_at_or_shown() -> None:
    languages = {m for path in DOCUMENTS for m in re.findall(r"^```(\w+)", path.read_text(encoding="utf-8"), re.M)}
    assert languages <= {*SHOWN, "bash", "yaml", "python"}, "say here why a new one needs no test"


def test_python_compiles() -> None:
    found = list(blocks("python"))
    assert len(found) > 8
    for place, text in found:
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise AssertionError(f"{place}: {error}") from error


def commands() -> Iterator[tuple[str, list[str]]]:
    for place, text in blocks("bash"):
        for line in text.replace("\\\n", " ").splitlines():
            if match := re.match(r"(?:[A-Z_]+=\S* )*(?:\S*/)?hyperloom ((?:[a-z]|--version).*)", line.strip()):
                words = shlex.split(re.split(r" [>|&;]|\s#", match[1])[0])
                yield f"{place}: {line}", [FILLED.get(word, word) for word in words if not word.startswith("[")]


def test_commands_and_their_options_exist() -> None:
    parser, seen = cli._parser(), 0
    for place, words in commands():
        seen += 1
        with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
            try:
                parser.parse_args(words)
            except SystemExit as end:
                assert not end.code, f"{place}: {said.getvalue()}"
    assert seen > 12


def test_recipes_fit_the_schema() -> None:
    seen = 0
    for place, text in blocks("yaml"):
        node = yaml.compose(text, Loader=_Loader)
        written = value(node) if node is not None else None  # a comment alone
        if not isinstance(written, dict) or not written.keys() & {"steps", "modalities"}:
            continue
        steps = written.get("steps") or {"s": {"stage": "shard", "data": "s"}}
        if all(isinstance(step, dict) and "stage" in step for step in steps.values()):
            seen += 1
            recipe = {"name": "a", "modalities": {}, **written, "steps": steps}
            assert not (said := mistake(recipe, whole="# ..." not in text)), f"{place}: {said}"
    assert seen > 12


def test_the_pieces_of_how_to_are_one_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole: dict[str, Any] = {"name": "howto", "root": str(tmp_path), "modalities": {}, "steps": {}}
    for place, text in blocks("yaml"):
        if place.startswith("howto.md"):
            for section, entries in value(yaml.compose(text, Loader=_Loader)).items():
                whole[section] |= entries
    loaded = hyperloom.load(whole)
    assert list(check(loaded.loaded).steps) and {s.stage for s in loaded.loaded.recipe.steps.values()} == {
        "ingest", "label", "consensus", "people", "shard", "train", "distill", "evaluate", "release", "drift",
    }  # fmt: skip
