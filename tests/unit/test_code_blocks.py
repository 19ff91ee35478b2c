"""Every block of code in the documentation is what it says. Recipes and pieces of them are read as recipes, commands
by the command's own parser (in the prose too), Python runs: here, or in the test that `RUN` names. What is shown alone
says why, in `SHOWN` and `PROGRAMS`. The pieces of docs/howto.md are one recipe, which is checked as by `plan`."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import hyperloom
import hyperloom.stages  # registers the plug-ins
from hyperloom.pipeline import cli, registry
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.recipes.document import RecipeLoader
from hyperloom.pipeline.recipes.recipe import Recipe, parse
from hyperloom.pipeline.root.storage import Storage
from tests.unit.test_house import PACKAGES, sources
from tests.unit.test_schema import mistake, value

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
SHOWN = {
    "": "output, and how a recipe's parts hang together",
    "mermaid": "graphs, drawn by the site (tests/docs)",
    "ini": "units of systemd and lines of cron, which nothing here reads",
}
"""Languages of blocks that nothing runs, and why."""
PROGRAMS = {
    "make": "targets are looked up in the Makefile",
    "pip": "extras are looked up in pyproject.toml; tests/training/test_wheel.py installs",
    "ray": "Ray's own command",
    "curl": "asks a server of one's own",
    "mlflow/serve.sh": "tests/tracking/test_team.py serves by it",
    "eval": "the shell's completion",
}
"""Programs of shell blocks other than ours, and why they do not run here."""
RUN = {
    "README.md: class Brightness": "test_readme.py",
    "modalities.md: class Heading": "test_modality.py",
    "modalities.md: class Bearing": "../training/test_modality_page.py",
    "modalities.md: def from_coco": "test_odd_labels.py",
    "python.md: recipe.run()": "../training/test_python_models.py",
    "python.md: labels.batches": "../training/test_python_models.py",
    "python.md: .predict(images)": "../training/test_python_models.py",
    "shards.md: ": "test_shards_doc.py",
    "stages.md: class Brighten": "test_own_stages.py",
}
"""Blocks of Python, by page and words of theirs, that run in other tests."""
FILLED = {"RECIPE": "r.yaml", "DIR": "d", "STEP": "s", "NAME": "n", "FILE": "f"}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Place and text of the blocks of a language."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", text, re.M | re.S):
            if match[1] == language:
                yield f"{path.name}:{text[: match.start()].count(chr(10)) + 1}", match[2]


HERE = {"plugin.md": "class Brightness", "modalities.md": "def digits"}
"""Blocks of Python that run in this file."""


def test_each_language_is_run_or_says_why_not() -> None:
    openings = re.findall(
        r"^ *```(\w*)[^`]*?\n.*?^ *```", "\n".join(p.read_text("utf-8") for p in DOCUMENTS), re.M | re.S
    )
    assert set(openings) == {*SHOWN, "bash", "yaml", "python"}, "say here why a new one needs no test"


def test_python_runs_here_or_in_another_test() -> None:
    for place, text in (found := list(blocks("python"))):
        page = place.split(":")[0]
        tests = [test for key, test in RUN.items() if key.split(": ")[0] == page and key.split(": ")[1] in text]
        for test in tests:
            assert page in (Path(__file__).parent / test).read_text("utf-8"), f"{place} does not run in {test}"
        assert tests or HERE.get(page, "nothing") in text, f"{place} runs in no test"
    assert len(found) > len(HERE) + len(RUN) - 1


def module(folder: Path, page: str, name: str, monkeypatch: pytest.MonkeyPatch, before: str = "") -> None:
    """The block of a page that `HERE` names, as a file in `folder` that can be imported, after lines of our own."""
    (text,) = (text for place, text in blocks("python") if place.startswith(page) and HERE[page] in text)
    (folder / f"{name}.py").write_text(before + text)
    monkeypatch.syspath_prepend(str(folder))


def test_the_plug_in_in_twenty_lines_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, "plugin.md", "page_brightness", monkeypatch)
    (text,) = (text for place, text in blocks("yaml") if place.startswith("plugin.md"))
    loaded = parsed(wrapped(yaml.compose(text.replace("brightness:B", "page_brightness:B"), Loader=RecipeLoader))[0])
    expert = loaded.steps["labels"].experts[0]
    light = np.full((1, 96, 128, 3), 51, np.uint8)
    (value,) = expert.build(loaded.modalities, Storage(str(tmp_path)))({"rgb@camera": light})["brightness@mean"]
    assert loaded.modalities["brightness"].check(value) is None and value.mean() == pytest.approx(0.2**0.8)


def test_the_samples_of_ones_own_function_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (
        "from types import SimpleNamespace\nimport numpy as np\n\n"
        "def read(path):\n    return [SimpleNamespace(pixels=np.full((4, 4, 3), 7, np.uint8), label='three')] * 900\n\n"
    )
    module(tmp_path, "modalities.md", "mine_of_digits", monkeypatch, before)
    (text,) = (text for place, text in blocks("yaml") if "mine:digits" in text)
    (tmp_path / "digits.parquet").write_bytes(b"")
    (piece,) = wrapped(yaml.compose(textwrap.dedent(text), Loader=RecipeLoader))
    own = {"call": "mine_of_digits:digits", "files": str(tmp_path / "digits.parquet")}
    source = {**piece["steps"]["piece"]["source"], **own}
    digit = {"type": "category", "classes": ["two", "three"]}
    recipe = {
        "name": "digits",
        "modalities": {"scan": {"type": "image", "size": [4, 4]}, "digit": digit},
        "steps": {"frames": {"stage": "ingest", "source": source, "group": "block"}},
    }
    pipeline = hyperloom.load(recipe, root=tmp_path / "root")
    pipeline.run(ray=False, mlflow=False, progress=False)
    digits = pipeline["frames"].read("digit@truth")
    assert len(digits) == 500 and set(np.ravel(digits.values)) == {1} and len(set(digits.groups)) == 5


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


def test_other_programs_are_named_and_what_they_are_given_exists() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    makefile = (CHECKOUT / "Makefile").read_text()
    for place, text in blocks("bash"):
        for line in re.sub(r"\\\n", " ", text).splitlines():
            bare = re.sub(r"^(?:[A-Z_]+=\S* )*", "", line.split(" #")[0].strip())
            program = bare.split(" ")[0]
            if not bare or program in ("#", "hyperloom", "export"):
                continue
            assert program in PROGRAMS, f"{place}: say why {program} needs no test"
            for extras in re.findall(r"\[([a-z,0-9-]+)\]'", bare):
                assert set(extras.split(",")) <= set(project["optional-dependencies"]), f"{place}: {line}"
            if program == "make":
                assert re.search(rf"^{bare.split()[1]}:", makefile, re.M), f"{place}: {line}"


def test_commands_in_the_prose_exist_with_their_options() -> None:
    parser, seen = cli._parser(), 0
    for path in [*DOCUMENTS, CHECKOUT / "CONTRIBUTING.md"]:
        prose = re.sub(r"^ *```.*?^ *```", "", path.read_text("utf-8"), flags=re.M | re.S)
        for match in re.finditer(r"`hyperloom ([a-z][^`]*)`", prose):
            seen += 1
            assert not (wrong := unknown(parser, match[1])), f"{path.name}: hyperloom {match[1]}: {wrong}"
    assert seen > 60


def test_commands_that_messages_name_exist_with_their_options() -> None:
    parser, seen = cli._parser(), 0
    for path in sources(*PACKAGES):
        for match in re.finditer(r"hyperloom ([a-z-]+(?: [^`'\".;,()\n]*)?)", path.read_text("utf-8")):
            if match[1].split()[0] in subcommands(parser):
                seen += 1
                assert not (wrong := unknown(parser, match[1])), f"{path.name}: {match[0]}: {wrong}"
    assert seen > 150


def unknown(parser: argparse.ArgumentParser, command: str) -> str:
    """What of a command (without `hyperloom`) does not exist; empty where all of it does."""
    words, known = command.replace("\\|", " ").split(), parser
    while (below := subcommands(known)) and words and words[0] in below:
        known = below[words.pop(0)]
    options = {word.split("=")[0] for word in words if re.match("--?[a-z]", word)}
    return "no such command" if known is parser else ", ".join(options - set(known._option_string_actions))


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), {})


def wrapped(node: Any) -> list[dict[str, Any]]:
    """Recipes around the pieces of a block, one a key of its own: sections of a recipe, steps, fields of a step, or a
    list of experts. Raises LookupError for a piece that is none of these."""
    if isinstance(node, yaml.SequenceNode):
        return [{"steps": {"piece": {"stage": "label", "data": "frames", "experts": value(node)}}}]
    pieces = [(key.value, value(below)) for key, below in node.value]
    if not {key for key, _ in pieces} - set(Recipe.model_fields):
        return [dict(pieces)]
    return [_around(key, piece) for key, piece in pieces]


def _around(key: str, piece: Any) -> dict[str, Any]:
    if isinstance(piece, dict) and piece.keys() & {"stage", "like"}:
        return {"steps": {key: piece}}
    if isinstance(piece, dict) and piece.get("type") in registry.known("modality"):
        return {"modalities": {key: piece}}
    expert = {"type": "onnx", "path": "x.onnx", "in": "rgb@camera", "out": "boxes@x"}
    fields: dict[str, dict[str, Any]] = {
        "source": {"stage": "ingest", "group": "any", "source": piece},
        "columns": {"stage": "ingest", "group": "any", "source": {"type": "table", "path": "x.csv", "columns": piece}},
        "experts": {"stage": "label", "data": "frames", "experts": piece},
        "decode": {"stage": "label", "data": "frames", "experts": [{**expert, "decode": piece}]},
        "gate": {"stage": "release", "model": "student", "report": "report", "name": "n", "gate": piece},
    }
    return (
        {"steps": {"piece": fields[key]}}
        if key in fields
        else {key: piece}
        if key in Recipe.model_fields
        else _lost(key)
    )


def _lost(key: str) -> Any:
    raise LookupError(f"{key!r} is neither a section nor a step nor a field that this test knows how to check")


def parsed(recipe: dict[str, Any]) -> Recipe:
    """The recipe with all that it leaves out, read as the command reads it."""
    whole: dict[str, Any] = {"name": "a", "modalities": {}, "steps": {}, **recipe}
    whole["steps"] = dict(whole["steps"]) or {"frames": dict(RAW)}
    while True:
        try:
            return parse(json.dumps(whole), "block").recipe
        except RecipeError as error:
            missing = re.search(r"(?:reads|like) '(\w+)', which is no step|no step '?(\w+)", str(error))
            if not missing or (name := missing[1] or missing[2]) in whole["steps"]:
                raise
            whole["steps"][name] = dict(RAW)


RAW = {"stage": "ingest", "source": {"type": "files", "path": "x"}}
"""A step in place of one that a piece reads and does not have."""
PIECES = list(blocks("yaml"))


FITS_ALONE = {
    "clusters.md: ...": "fields are left out",
    "loader.md: ...": "fields are left out",
    "schedule.md: ...": "fields are left out",
    "modalities.md: {type: file, path: tokenizer.json": "names a file of one's own",
    "modalities.md: compass:Bearing": "its class runs in test_modality_page.py",
    "modalities.md: heading:Heading": "its class runs in test_modality.py",
    "README.md: brightness:Brightness": "its class runs in test_readme.py",
    "plugin.md: brightness:Brightness": "its class runs above",
    "comparing.md: [report-*]": "the reports of a matrix, which another block has",
}
"""Pieces that are held against the schema and are not read as recipes, by page and words of theirs, and why."""
FOREIGN = {"schedule.md: apiVersion": "a manifest of Kubernetes"}


def named(table: dict[str, str], place: str, text: str) -> bool:
    return any(key.split(": ")[0] == place.split(":")[0] and key.split(": ", 1)[1] in text for key in table)


@pytest.mark.parametrize(("place", "text"), PIECES, ids=[place for place, _ in PIECES])
def test_yaml_is_a_recipe_or_a_piece_of_one(
    place: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = yaml.compose(textwrap.dedent(text).replace(" ...,", "").replace(", ...}", "}"), Loader=RecipeLoader)
    if node is None or named(FOREIGN, place, text):  # a comment alone
        return
    for recipe in wrapped(node):
        shaped = {"name": "a", "modalities": {}, "steps": {"s": {"stage": "shard", "data": "s"}}, **recipe}
        assert not (said := mistake(shaped, whole="..." not in text)), said
        if base := recipe.get("base"):  # another block of the page
            page, name = place.split(":")[0], f"name: {Path(base).stem}\n"
            (tmp_path / base).write_text(next(t for p, t in PIECES if p.startswith(f"{page}:") and name in t))
            monkeypatch.chdir(tmp_path)
        if not named(FITS_ALONE, place, text):
            parsed(recipe)


def test_the_pieces_of_how_to_are_one_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole: dict[str, Any] = {"name": "howto", "root": str(tmp_path), "modalities": {}, "steps": {}}
    for place, text in blocks("yaml"):
        if place.startswith("howto.md"):
            for section, entries in value(yaml.compose(text, Loader=RecipeLoader)).items():
                whole[section] |= entries
    loaded = hyperloom.load(whole)
    assert list(check(loaded.loaded).steps) and {s.stage for s in loaded.loaded.recipe.steps.values()} == {
        "ingest", "label", "consensus", "people", "shard", "train", "distill", "evaluate", "release", "drift",
    }  # fmt: skip
