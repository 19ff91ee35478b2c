"""Which room of `stages/` and of `pipeline/` may import which: the order of the rooms, and what breaks it, spelled out.

A room imports itself, the modules that lie beside the rooms, and rooms before it, at whatever depth of the file the
import stands: one inside a function counts as well. A module beside the rooms that is named in their order is like a
room of its own, all others are below all rooms. Imports under `if TYPE_CHECKING:` do not count, since no program runs
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
"""Of `stages/`, lower ones first; docs/design.md says what each is for."""
ENGINE = (
    "host", "plugins", "expecting", "root", "commits", "result", "stage", "workers", "recipes", "planning", "output",
    "tracking", "running", "scheduling", "inspection", "cli", "__main__", "commands", "api", "python",
)  # fmt: skip
"""Of `pipeline/`, with the modules beside its rooms that import some of them."""
ORDERS = {"stages": ROOMS, "pipeline": ENGINE}


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


def violations(house: Path, rooms: tuple[str, ...] = ROOMS, package: str = "stages") -> list[str]:
    """Imports of a later room, one line each; with the circle that it closes, where it closes one. `house` is the
    folder of `hyperloom.{package}`."""
    order = {package: -1, **{room: at for at, room in enumerate(rooms)}}
    edges = list(crossings(house, rooms, package))
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


def crossings(house: Path, rooms: tuple[str, ...] = ROOMS, package: str = "stages") -> Iterator[Import]:
    """All imports of one room by another."""
    dotted = f"hyperloom.{package}"
    for path in sorted(house.rglob("*.py")):
        parts = path.relative_to(house).parts
        beside = path.stem if path.stem in rooms else package
        importer = parts[0] if len(parts) > 1 else beside
        for line, module in imports(path, ".".join((dotted, *parts[:-1]))):
            name = module.removeprefix(dotted).strip(".").partition(".")[0]
            if module.startswith(f"{dotted}.") and (name in rooms or (house / name).is_dir()):
                imported = name
            elif module == dotted or module.startswith(f"{dotted}."):
                imported = package
            else:
                continue
            if imported != importer:
                yield Import(f"{package}/{'/'.join(parts)}", line, module, importer, imported)


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
