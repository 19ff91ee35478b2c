"""Which folder of `stages/` may import which: the order of the rooms, and what breaks it, spelled out.

A room imports itself, the modules directly in `stages/`, and rooms before it, at whatever depth of the file the import
stands: one inside a function counts as well. Imports under `if TYPE_CHECKING:` do not count, since no program runs
them. Names of plug-ins in strings do not count either: they are how an earlier room reaches a later one.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit.trees import BLOCKS, tree

ROOMS = (
    "modality", "formats", "network", "ingest", "label", "consensus", "shard", "measure", "objective", "augment",
    "balance", "train", "distill", "evaluate", "verdict", "audit", "select", "papers", "release", "drift", "expect",
    "data", "people", "report", "look", "starter",
)  # fmt: skip
"""Lower ones first; docs/design.md says what each is for."""
GROUND = "stages"
"""The modules directly in `stages/`, below all rooms."""
PACKAGE = "hyperloom.stages"


@dataclass(frozen=True)
class Import:
    """One import across rooms."""

    file: str
    line: int
    module: str
    importer: str
    imported: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def violations(stages: Path, rooms: tuple[str, ...] = ROOMS) -> list[str]:
    """Imports of a later room, one line each; with the circle that it closes, where it closes one."""
    order = {GROUND: -1, **{room: at for at, room in enumerate(rooms)}}
    edges = list(crossings(stages))
    lines = [f"{e.importer} has no place in the order of the rooms: {e}" for e in edges if e.importer not in order]
    lines += [f"{e.imported} has no place in the order of the rooms: {e}" for e in edges if e.imported not in order]
    for edge in edges:
        if order.get(edge.imported, -1) > order.get(edge.importer, len(rooms)):
            back = way(edges, edge.imported, edge.importer)
            if back:
                circle = " -> ".join([edge.importer, edge.imported, *(e.imported for e in back)])
                lines.append(f"{circle} is a circle: {'; '.join(map(str, [edge, *back]))}")
            else:
                lines.append(f"{edge.importer} comes before {edge.imported}: {edge}")
    return sorted(set(lines))


def way(edges: list[Import], start: str, end: str) -> list[Import]:
    """The shortest chain of imports from one room to another; empty when there is none."""
    ways: dict[str, list[Import]] = {start: []}
    open_ = deque([start])
    while open_:
        room = open_.popleft()
        for edge in edges:
            if edge.importer == room and edge.imported not in ways:
                ways[edge.imported] = [*ways[room], edge]
                open_.append(edge.imported)
    return ways.get(end, [])


def crossings(stages: Path) -> Iterator[Import]:
    """All imports of one room by another."""
    for path in sorted(stages.rglob("*.py")):
        parts = path.relative_to(stages).parts
        importer = parts[0] if len(parts) > 1 else GROUND
        for line, module in imports(path, ".".join((PACKAGE, *parts[:-1]))):
            name = module.removeprefix(PACKAGE).strip(".").partition(".")[0]
            if module.startswith(f"{PACKAGE}.") and (stages / name).is_dir():
                imported = name
            elif module.startswith(PACKAGE):
                imported = GROUND
            else:
                continue
            if imported != importer:
                yield Import(f"stages/{'/'.join(parts)}", line, module, importer, imported)


def imports(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import of a file that runs; `package` is what its relative imports start from."""
    for node in _running(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).strip(".")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All statements but those under `if TYPE_CHECKING:`."""
    yield node
    skipped = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for block in ("orelse",) if skipped else BLOCKS:
        for child in getattr(node, block, ()):
            yield from _running(child)
