"""Names mean one thing, and what the documentation names exists."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from hyperloom.pipeline.counting import counted, plural
from tests.unit import rooms
from tests.unit.trees import nodes, statements, tree

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "stages", "clusters")
DOTTED = re.compile(r"(?<![\w./@:-])(?:hyperloom\.)?((?:pipeline|stages|clusters)(?:\.(?!md\b)[A-Za-z_]\w*)+)")
TWICE = {
    "Job": "a step's units at the executor; a training's at the loop: neither is seen where the other is",
    "Listing": "of committed files in the engine; of a source's groups in a schema",
    "Model": "the expert of type `model`; in an evaluation, a trained model and how it is asked",
}
"""Names of classes and types that still mean two things, and which; do not add to it."""
VAGUE = ("made", "found", "told", "there", "asked", "said", "wanted")
STORED = {
    ("stages/distill/hyperloom_student.py", "told"): "its bytes are part of every student and its digest",
    ("stages/evaluate/report.py", "said"): "sets `Judged.said`",
    ("stages/release/card.py", "said"): "reads `Judged.said`",
    ("stages/results.py", "said"): "a key of the manifest of an evaluation",
}
"""Vague names that stay, by file, and why; do not add to it."""
PATHS = re.compile(r"(?<![\w./])((?:pipeline|stages|clusters|tests|benchmarks)/[\w./-]*\w)")


def sources() -> list[Path]:
    return sorted(p for package in PACKAGES for p in (CHECKOUT / package).rglob("*.py"))


def documents() -> list[Path]:
    return [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


def exists(dotted: str) -> bool:
    """Is this a module of ours, or something that one of them defines?"""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        place = CHECKOUT.joinpath(*parts[:length])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            rest = parts[length:]
            return not rest or re.search(rf"\b{rest[0]}\b", file.read_text(encoding="utf-8")) is not None
    return False


def test_a_number_has_its_noun_in_the_form_that_it_wants() -> None:
    assert [counted(n, "sample") for n in (0, 1, 1200)] == ["0 samples", "1 sample", "1,200 samples"]
    assert [plural(n) for n in ("label file", "class", "copy", "day", "box")] == [
        "label files", "classes", "copies", "days", "boxes",
    ]  # fmt: skip
    seen, both = 0, []
    for file in sources():
        texts = [node.value for node in nodes(tree(file)) if isinstance(node, ast.Constant)]
        words = [text for text in texts if isinstance(text, str)]
        seen += len(words)
        both += [f"{file.name}: {text}" for text in words if re.search(r"\w\(e?s\)(?!:)", text)]
    assert seen > 5000 and not both, "one of the two forms is wrong"


def test_modules_that_are_named_exist() -> None:
    assert exists("stages.train.loop") and exists("pipeline.config.placement") and not exists("stages.train.wholes")
    seen, wrong = 0, []
    for file in [*sources(), *documents()]:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            names = DOTTED.findall(line)
            seen += len(names)
            wrong += [f"{file.relative_to(CHECKOUT)}:{number}: {name}" for name in names if not exists(name)]
            paths = [path for path in PATHS.findall(line) if not (CHECKOUT / path).exists()]
            wrong += [f"{file.relative_to(CHECKOUT)}:{number}: {path}" for path in paths]
    assert seen > 1000, "the test looks at nothing"
    assert wrong == []


def test_the_map_of_the_rooms_is_what_the_folders_say() -> None:
    text = (CHECKOUT / "docs" / "design.md").read_text(encoding="utf-8")
    lines = re.findall(r"^  (\w+)/ +(.+)$", text.partition("## Map of the rooms")[2].partition("\n## ")[0], re.M)
    folders = {p: [room for room in order if (CHECKOUT / p / room).is_dir()] for p, order in rooms.ORDERS.items()}
    assert [name for name, _ in lines] == folders["stages"] + folders["pipeline"]
    places = [CHECKOUT / package / name for package, names in folders.items() for name in names]
    for place, (name, line) in zip(places, lines, strict=True):
        says = ast.get_docstring(ast.parse((place / "__init__.py").read_text(encoding="utf-8")))
        assert says and says.splitlines()[0].rstrip(".") == line, name


def types(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of the classes of a module, and of its aliases of types (`Size = tuple[int, int]`)."""
    for node in statements(module):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, node.name
    for node in module.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from ((n.lineno, n.id) for n in targets if isinstance(n, ast.Name) and re.match("[A-Z][a-z]", n.id))


def test_a_type_name_means_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        for line, name in types(tree(path)):
            places[name].append(f"{path.relative_to(CHECKOUT)}:{line}")
    assert places["Size"], "aliases are not seen"
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in TWICE} == {}
    assert set(TWICE) <= set(twice), "take what means one thing off the list"


NAMES = ("id", "arg", "attr", "name", "asname")


def identifiers(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of what a module calls things: variables, parameters, functions, fields, imports."""
    for node in nodes(module):
        for field in node._fields:
            if field in NAMES and isinstance(name := getattr(node, field), str):
                yield getattr(node, "lineno", 0), name


def test_a_name_says_what_it_holds() -> None:
    """`made` and `found` can be anything: a name is the noun of what it holds (manifest, columns, present)."""
    example = ast.parse("def told(said): x.made = [wanted for wanted in there]")
    assert {"told", "said", "made", "wanted", "there"} <= {name for _, name in identifiers(example)}
    vague = [
        (str(path.relative_to(CHECKOUT)), name, line)
        for path in sources()
        for line, name in identifiers(tree(path))
        if name in VAGUE
    ]
    assert [f"{file}:{line}: {name}" for file, name, line in vague if (file, name) not in STORED] == []
    assert {(file, name) for file, name, _ in vague} == set(STORED), "take what is gone off the list"
