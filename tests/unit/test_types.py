"""What a modality is, it says itself: outside `stages/modality` nobody asks for its class or compares its
type's name. So a type of one's own is never left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperloom import stages
from hyperloom.stages import modality
from tests.unit.trees import nodes, tree

CHECKOUT = Path(__file__).parents[2]
TYPES = frozenset(stages.PLUGINS["modality"])
ASKING = ("isinstance", "issubclass")
MAY = {
    "stages/ingest/sidefile.py": "files whose numbers a recipe scales, which no type of one's own wants unasked",
    "stages/formats/values.py": "foreign files of annotations have a form for each type, others are refused",
    "stages/data/annotations.py": "the same on the way out",
    "stages/label/hub/answers.py": "a foreign library's answers have a form for each type, others are refused",
}
"""Files that may, and why."""


def asked(path: Path) -> Iterator[str]:
    """Where a file asks for a modality's class, or compares with the name of a type: `line: code`."""
    module = tree(path)
    classes: set[str] = set()
    tables: set[str] = set()
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hyperloom.stages.modality"):
            taken = {a.asname or a.name for a in node.names if isinstance(getattr(modality, a.name, None), type)}
            classes |= taken - {"Defaults"}
        if isinstance(node, ast.Assign) and len(_names(node.value)) > 1 and _names(node.value) <= TYPES:
            tables |= {ast.unparse(target) for target in node.targets}
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.List) and _used(node) & classes:
            classes |= {ast.unparse(target) for target in node.targets}
    for node in nodes(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ASKING and _used(node.args[1]) & classes:
            yield f"{node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith(".type"):
            (against,) = node.comparators[:1]
            if _names(against) & TYPES or ast.unparse(against) in tables:
                yield f"{node.lineno}: {ast.unparse(node)}"


def _used(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _names(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_nobody_asks_a_modality_for_its_type() -> None:
    files = [p for p in sorted((CHECKOUT / "stages").rglob("*.py")) if p.parent.name != "modality"]
    assert len(files) > 100, "the test looks at nothing"
    where = {str(p.relative_to(CHECKOUT)): list(asked(p)) for p in files}
    assert {f: lines for f, lines in where.items() if lines and f not in MAY} == {}
    assert [f for f in MAY if not where[f]] == [], "no reason any more"


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(item.modality, Dense | Soft)",
        "isinstance(m, (Soft, int))",
        "PAIR = (Dense, Soft)\nisinstance(m, PAIR)",
        "issubclass(kind, Soft)",
        "modality.type == 'audio'",
        "m.type not in ('dense', 'soft')",
        "NUMBERS = ('dense', 'soft')\nm.type in NUMBERS",
    ],
)
def test_every_way_of_asking_is_seen(code: str, tmp_path: Path) -> None:
    file = tmp_path / "asks.py"
    file.write_text(f"from hyperloom.stages.modality import Dense, Soft\n{code}\n")
    assert len(list(asked(file))) == 1
    file.write_text("from hyperloom.stages.modality import Dense\nDense.model_validate({})\ndevice.type == 'cuda'\n")
    assert list(asked(file)) == []
